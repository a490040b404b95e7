"""A kill at any write or sync loses nothing that was promised: while a process starts, stores, sends, confirms, sets
aside, gives up what is oldest, tidies, gives room back, closes; while it moves a damaged database aside; while it
brings a database of an older version up to its own. The long form: EDGE_AGENT_CRASH_POINTS=2000.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.buffer.crash_points import CALLS, Point, crash, crash_while_migrating, crash_while_moving_aside

COUNT = int(os.environ.get("EDGE_AGENT_CRASH_POINTS", "45"))
LIMIT = 0 if "EDGE_AGENT_CRASH_POINTS" in os.environ else 180
pytestmark = [pytest.mark.needs("strace"), pytest.mark.torture, pytest.mark.timeout(LIMIT)]


def points(count: int) -> list[Point]:
    """Spread over the calls and over the life of a process: starts are short, so low numbers come more often."""
    spread = {"pwrite64": 330, "fdatasync": 40, "fsync": 3, "ftruncate": 2, "unlink": 2, "write": 110}
    calls = ["pwrite64"] * 6 + ["fdatasync"] * 3 + ["write"] * 2 + ["unlink", "ftruncate", "fsync"]
    assert set(calls) == set(CALLS)
    found = []
    for index in range(count):
        call = calls[index % len(calls)]
        found.append(Point(call, 1 + (index * index * 7 + index * 13) % spread[call]))
    return found


def every(spread: dict[str, int], count: int) -> list[Point]:
    """The first so many of each call, or `count` of them spread evenly."""
    every_one = [Point(call, n) for call, last in spread.items() for n in range(1, last + 1)]
    return every_one[:: max(len(every_one) // count, 1)]


def tell(what: str, counted: Counter[str]) -> None:
    sys.stdout.write(f"{what}: {counted.total() - counted['ended']} killed, {dict(counted)}\n")


async def test_a_start_killed_while_it_moves_a_damaged_database_aside_is_finished_by_the_next(tmp_path: Path) -> None:
    moving = [Point("fsync", n) for n in (1, 2, 3)] + [Point("rename", 1), Point("write", 1)]
    creating = every({"pwrite64": 60, "fdatasync": 8}, max(COUNT // 4, 10))
    counted = await crash_while_moving_aside([*moving, *creating, Point("unlink", 1)], tmp_path)
    tell("moving aside", counted)
    assert counted.total() - counted["ended"] >= 14


async def test_a_start_killed_while_it_brings_an_old_database_up_is_finished_by_the_next(tmp_path: Path) -> None:
    spread = {"pwrite64": 110, "fdatasync": 12, "ftruncate": 1, "unlink": 1, "write": 16}
    counted = await crash_while_migrating(every(spread, max(COUNT // 4, 10)), tmp_path)
    tell("bringing up", counted)
    assert counted.total() - counted["ended"] >= 10


async def test_a_process_killed_at_any_write_or_sync_has_lost_nothing_that_was_promised(tmp_path: Path) -> None:
    counted = await crash(points(COUNT), tmp_path)
    tell("at work", counted)
    assert counted.total() == COUNT
    assert counted["pwrite64"] + counted["fdatasync"] >= COUNT // 3
