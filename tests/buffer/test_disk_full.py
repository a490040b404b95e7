"""A disk that is full, really: a small file system of its own. The long form: EDGE_AGENT_DISK_FULL=100."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import find_program

TIMES = int(os.environ.get("EDGE_AGENT_DISK_FULL", "4"))


@pytest.mark.needs("unshare", "mount")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_DISK_FULL" in os.environ else 120)
def test_a_full_disk_stops_nothing_and_appends_go_on_within_ten_seconds_of_room(tmp_path: Path) -> None:
    inside = f'{find_program("mount")} -t tmpfs -o size=6m tmpfs "$0" && exec "$@"'
    namespace = [find_program("unshare"), "--map-root-user", "--mount", "sh", "-c", inside, str(tmp_path)]
    allowed = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no file system of one's own can be mounted here: {allowed.stderr.strip()}")
    child = [sys.executable, "-m", "tests.buffer.disk_full_child", str(tmp_path), str(TIMES)]
    out = subprocess.run([*namespace, *child], stdout=subprocess.PIPE, check=True).stdout
    print(f"longest wait after the disk was freed: {float(out):.3f} s")  # noqa: T201 - the figure of the long form
    assert float(out) < 10
