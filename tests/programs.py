"""Programs of the system that tests talk to."""

import os
import shutil

import pytest

PACKAGES = {
    "mosquitto_passwd": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "node": "nodejs",
}
"""Program → Debian package, where the names differ."""


def find_program(name: str) -> str:
    """Path of a program. Without it the test is skipped, and fails in CI."""
    places = (os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found:
        return found
    missing = f"{name} is missing: sudo apt-get install --yes {PACKAGES.get(name, name)}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
