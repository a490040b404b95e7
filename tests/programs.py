"""Programs of the system that tests talk to."""

import os
import shutil
from typing import NoReturn

import pytest

PACKAGES = {
    "mosquitto_passwd": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "cc": "gcc libc6-dev",
    "node": "nodejs",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "mkfs.xfs": "xfsprogs",
    "mkfs.ext4": "e2fsprogs",
}
"""Program → Debian package, where the names differ."""


def find_program(name: str) -> str:
    """Path of a program. Without it the test is skipped, and fails in CI."""
    places = (os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        missing(name, PACKAGES.get(name, name))
    return found


def missing(what: str, packages: str) -> NoReturn:
    """End the test: skipped, failed in CI."""
    text = f"{what} is missing: sudo apt-get install --yes {packages}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
