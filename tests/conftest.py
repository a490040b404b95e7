"""What holds for every test: programs of the system are there or the test says so; examples have no deadline; the
processes that are started find what a user's shell gives them, whoever started the tests and how."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.programs import find_program

settings.register_profile("plant", deadline=None)  # the machine that tests is shared: slow is not wrong
settings.load_profile("plant")

for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # images of containers set them; nobody's shell does
    os.environ.pop(name, None)
sys.dont_write_bytecode = False  # a thousand processes load the same modules
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `make test &`, and what is started would be deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            find_program(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
