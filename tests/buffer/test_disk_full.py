"""A disk that is full, really: a small file system of its own. The long form: EDGE_AGENT_DISK_FULL=100."""

import os
from pathlib import Path

import pytest

from tests.small_disk import run_on_small_disk

TIMES = int(os.environ.get("EDGE_AGENT_DISK_FULL", "4"))


@pytest.mark.needs("unshare", "mount")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_DISK_FULL" in os.environ else 120)
def test_a_full_disk_stops_nothing_and_appends_go_on_within_ten_seconds_of_room(tmp_path: Path) -> None:
    out = run_on_small_disk(tmp_path, "tests.buffer.disk_full_child", str(TIMES))
    print(f"longest wait after the disk was freed: {float(out):.3f} s")  # noqa: T201 - the figure of the long form
    assert float(out) < 10
