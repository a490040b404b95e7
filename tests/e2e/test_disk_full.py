"""The whole agent on a disk that is filled and freed. The long form: EDGE_AGENT_DISK_FULL=100."""

import os
from pathlib import Path

import pytest

from tests.small_disk import run_on_small_disk

TIMES = os.environ.get("EDGE_AGENT_DISK_FULL", "2")


@pytest.mark.needs("unshare", "mount", "mosquitto")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_DISK_FULL" in os.environ else 240)
def test_an_agent_outlives_a_full_disk_and_every_number_comes_or_is_declared(tmp_path: Path) -> None:
    small, beside = tmp_path / "small", tmp_path / "beside"
    small.mkdir()
    beside.mkdir()
    longest = float(run_on_small_disk(small, "tests.e2e.disk_full_child", str(beside), TIMES))
    print(f"{TIMES} times; longest from room to the next event stored: {longest:.3f} s")  # noqa: T201 - the figure
    assert longest < 10
