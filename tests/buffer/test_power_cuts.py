"""The power fails at any moment: what was committed is there, the file is whole, no number is given twice.

The long form: EDGE_AGENT_POWER_CUTS=1000. See `power_cut` for what a disk is taken to do.
"""

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.buffer.crash_points import Forge, Promises, check, check_moved_aside, forge, harmed_database
from tests.buffer.power_cut import TRACE, Disk, Loss, Step, Write, steps

CUTS = int(os.environ.get("EDGE_AGENT_POWER_CUTS", "120"))
LIMIT = 0 if "EDGE_AGENT_POWER_CUTS" in os.environ else 180
pytestmark = [pytest.mark.needs("strace"), pytest.mark.torture, pytest.mark.timeout(LIMIT)]


async def record(smith: Forge, database: Path, rounds: int, *, version: str = "now") -> list[Step]:
    """All that one life with a database does to its folder, and what it says."""
    home = database.parent
    recording = home.with_name(f"{home.name}.strace")
    said = home / "said"
    said.unlink(missing_ok=True)
    await smith.run_traced(database, rounds, said, [*TRACE, "-o", str(recording)], version=version)
    return [step for step in steps(recording.read_text()) if home in (step.path, *step.path.parents)]


async def cut(
    done: list[Step],
    count: int,
    disk: Disk,
    promises: Promises,
    folder: Path,
    judge: Callable[[Path], Awaitable[None]],
) -> Counter[str]:
    """Cut the power so often, after any number of steps, and start on what is left."""
    dice = random.Random(4711)
    moments = Counter(dice.randrange(len(done)) for _ in range(count))
    counted: Counter[str] = Counter()
    home = folder / "after"
    for number, step in enumerate(done):
        if step.path.name != "said":
            disk.take(step)
        elif isinstance(step, Write):
            promises.hear(step.data.decode().splitlines())
        for _ in range(moments[number]):
            loss = dice.choice(list(Loss))
            home.mkdir()
            for file, content in disk.after_a_cut(loss, dice).items():
                (home / file).write_bytes(content)
            try:
                await judge(home / "buffer.db")
            except BaseException as error:
                error.add_note(f"cut after step {number} of {len(done)}, {loss.value}, in {home}")
                raise
            shutil.rmtree(home)
            counted[loss.value] += 1
    there = {file.name: file.read_bytes() for file in done[0].path.parent.iterdir() if file.name != "said"}
    assert disk.after_a_cut(Loss.EVERYTHING, dice) == there, "something was written that was not recorded"
    sys.stdout.write(f"{counted.total()} cuts in {len(done)} steps: {dict(counted)}\n")
    return counted


async def test_what_was_committed_survives_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with forge() as smith:
        done = [step for _ in range(3) for step in await record(smith, home / "buffer.db", 12)]
    promises = Promises()
    counted = await cut(done, CUTS, Disk(), promises, tmp_path, lambda path: check(path, promises))
    assert counted.total() == CUTS


async def test_bringing_an_old_database_up_survives_a_power_cut(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    promises = Promises()
    async with forge() as smith:
        assert await smith.run(home / "buffer.db", 16, home / "said", None) == 0
        promises.hear((home / "said").read_text().splitlines())
        disk = Disk(*home.glob("buffer.db*"))
        done = await record(smith, home / "buffer.db", 1, version="later")
    await cut(done, CUTS // 4, disk, promises, tmp_path, lambda path: check(path, promises))


async def test_moving_a_damaged_database_aside_survives_a_power_cut(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    harmed = await harmed_database(tmp_path)
    (home / "buffer.db").write_bytes(harmed)
    disk = Disk(home / "buffer.db")
    async with forge() as smith:
        done = await record(smith, home / "buffer.db", 2)
    await cut(done, CUTS // 4, disk, Promises(), tmp_path, lambda path: check_moved_aside(path, harmed))
