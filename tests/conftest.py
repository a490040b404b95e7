"""What holds for every test: programs of the system are there or the test says so; examples have no deadline."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.programs import find_program

settings.register_profile("plant", deadline=None)  # the machine that tests is shared: slow is not wrong
settings.load_profile("plant")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            find_program(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
