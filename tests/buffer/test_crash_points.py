"""A kill at any write or sync loses nothing that was promised. The long form: EDGE_AGENT_CRASH_POINTS=2000."""

import os
from pathlib import Path

import pytest

from tests.buffer.crash_points import CALLS, Point, crash, crash_while_moving_aside

SHORT = 45


def points(count: int) -> list[Point]:
    """Spread over the calls and over the life of a process: starts are short, so low numbers come more often."""
    spread = {"pwrite64": 330, "fdatasync": 26, "fsync": 3, "ftruncate": 2, "unlink": 2, "write": 90}
    calls = ["pwrite64"] * 6 + ["fdatasync"] * 3 + ["write"] * 2 + ["unlink", "ftruncate", "fsync"]
    assert set(calls) == set(CALLS)
    found = []
    for index in range(count):
        call = calls[index % len(calls)]
        found.append(Point(call, 1 + (index * index * 7 + index * 13) % spread[call]))
    return found


@pytest.mark.needs("strace")
async def test_a_start_killed_while_it_moves_a_damaged_database_aside_is_finished_by_the_next(tmp_path: Path) -> None:
    moving = [Point("fsync", n) for n in (1, 2, 3)] + [Point("rename", 1), Point("write", 1)]
    creating = [Point("pwrite64", n) for n in (1, 5, 20, 26, 30, 36, 45)] + [
        Point("fdatasync", n) for n in (2, 4, 5, 6)
    ]
    counted = await crash_while_moving_aside([*moving, *creating, Point("unlink", 1)], tmp_path)
    assert counted.total() - counted["ended"] >= 14


@pytest.mark.needs("strace")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_CRASH_POINTS" in os.environ else 120)
async def test_a_process_killed_at_any_write_or_sync_has_lost_nothing_that_was_promised(tmp_path: Path) -> None:
    count = int(os.environ.get("EDGE_AGENT_CRASH_POINTS", SHORT))
    counted = await crash(points(count), tmp_path)
    print(dict(counted))  # noqa: T201 - the figure of the long form
    assert counted.total() == count
    assert counted["pwrite64"] + counted["fdatasync"] >= count // 3
