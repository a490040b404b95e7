"""A program on a disk of its own that is small: a file system in memory, which goes away with the program."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import find_program


def run_on_small_disk(folder: Path, module: str, *arguments: str) -> str:
    """What `python -m module FOLDER ARGUMENTS…` prints; a file system of 6 MB is mounted on the folder for it."""
    inside = f'{find_program("mount")} -t tmpfs -o size=6m tmpfs "$0" && exec "$@"'
    namespace = [find_program("unshare"), "--map-root-user", "--mount", "sh", "-c", inside, str(folder)]
    allowed = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no file system of one's own can be mounted here: {allowed.stderr.strip()}")
    child = [sys.executable, "-m", module, str(folder), *arguments]
    return subprocess.run([*namespace, *child], stdout=subprocess.PIPE, check=True, text=True).stdout
