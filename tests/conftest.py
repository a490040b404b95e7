"""What holds for every test: programs of the system are there or the test says so; examples have no deadline."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("plant", deadline=None)  # the machine that tests is shared: slow is not wrong
settings.load_profile("plant")

PACKAGES = {"mosquitto_sub": "mosquitto-clients", "mosquitto_pub": "mosquitto-clients", "node": "nodejs"}
"""Program → Debian package, where the names differ."""


def find_program(name: str) -> str:
    """Path of a program of the system. Without it the test is skipped, and fails in CI."""
    found = shutil.which(
        name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    )
    if found:
        return found
    missing = f"{name} is missing: sudo apt-get install --yes {PACKAGES.get(name, name)}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            find_program(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
