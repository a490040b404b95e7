"""A program that cuts a machine off again and again while the outbox is used on its disk, and judges what is left.

Prints how often it was cut off, and in which part of a life.
"""

import asyncio
import copy
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from tests.buffer.crash_points import Forge, Promises, check, check_moved_aside, forge, harmed_database
from tests.reflink_images import Machine, machine

ROUNDS: Final = 12
REAL_ONE_IN: Final = 6
"""So often a cut is real: the machine goes on with what it has left."""


class Life(NamedTuple):
    """One process on a database."""

    kind: str
    version: str = "now"


LIVES: Final = (Life("new"), Life("at work"), Life("at work"), Life("bringing up", "later"), Life("moving aside"))
"""What a database lives through; the last begins with a damaged one."""


class Story:
    """`cuts` so far, by the kind of life; `looked_at`: promises that were held against what was there."""

    def __init__(self, disk: Machine, smith: Forge, said: Path, harmed: bytes, count: int) -> None:
        self._disk = disk
        self._smith = smith
        self._said = said
        self._harmed = harmed
        self._count = count
        self._dice = random.Random(4711)
        self.cuts: Counter[str] = Counter()
        self.looked_at = 0

    @property
    def over(self) -> bool:
        return self.cuts.total() >= self._count

    async def tell(self) -> None:
        number = 0
        while not self.over:
            number += 1
            for home in self._disk.home.glob("[0-9]*"):
                shutil.rmtree(home)
            promises = Promises()
            for life in LIVES:
                if self.over:
                    break
                if life.kind == "moving aside":
                    await self._live(life, f"{number}-damaged", Promises())
                else:
                    promises = await self._live(life, f"{number}", promises)

    async def _live(self, life: Life, home: str, promises: Promises) -> Promises:
        """One life with cuts in it; what is promised at its end."""
        folder = self._disk.home / home
        folder.mkdir(exist_ok=True)
        if life.kind == "moving aside":
            (folder / "buffer.db").write_bytes(self._harmed)
            os.sync()
        self._said.unlink(missing_ok=True)
        life_long = self._smith.run(folder / "buffer.db", ROUNDS, self._said, None, version=life.version)
        running = asyncio.create_task(life_long)
        longest = self._dice.choice((0.03, 0.3))
        real: tuple[Path, Promises] | None = None
        while not (running.done() or self.over or real is not None):
            await asyncio.wait({running}, timeout=self._dice.uniform(0, longest))
            promised = copy.deepcopy(promises)
            promised.hear(self._heard())
            disk = self._disk.cut()
            promised.foresee(self._heard())
            promised.closed = False
            await self._judge(life, disk, home, promised)
            if self._dice.randrange(REAL_ONE_IN):
                disk.unlink()
            else:
                real = disk, promised
        status = await running
        assert status == 0, f"{life.kind}: the process ended with wait status {status:#x}"
        promises.hear(self._heard())
        if real is None:
            return promises
        self._disk.go_on_from(real[0])
        return real[1]

    def _heard(self) -> list[str]:
        return self._said.read_text().splitlines() if self._said.exists() else []

    async def _judge(self, life: Life, disk: Path, home: str, promises: Promises) -> None:
        with self._disk.after(disk) as root:
            database = root / home / "buffer.db"
            database.parent.mkdir(exist_ok=True)
            if life.kind == "moving aside":
                await check_moved_aside(database, self._harmed)
            else:
                await check(database, promises)
        self.cuts[life.kind] += 1
        self.looked_at += len(promises.stored)


async def main(folder: Path, count: int) -> None:
    harmed = await harmed_database(folder)
    with machine(folder) as disk:
        async with forge() as smith:
            story = Story(disk, smith, folder / "said", harmed, count)
            await story.tell()
    sys.stdout.write(f"{story.cuts.total()} cuts: {dict(story.cuts)}, {story.looked_at} promises looked at\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
