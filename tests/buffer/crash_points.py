"""Kill a process that uses the outbox at one system call, then compare what it was promised with what is there."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from buffer.outbox import Lane
from buffer.sqlite import SqliteOutbox
from tests.buffer.crash_child import DECLARED, STREAMS, message
from tests.programs import find_program

CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "write")
"""All with which SQLite and the process that uses it change the world."""
RUNS_PER_DATABASE = 12


class Point(NamedTuple):
    """Killed at the `n`-th `call` of a thread, before the call has an effect."""

    call: str
    n: int


class Forge:
    """Makes processes of `crash_child`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, database: Path, rounds: int, said: Path, point: Point | None, *, version: str = "now") -> int:
        """Run one until it ends or is killed at the point; the wait status."""
        options: list[str] = []
        if point is not None:
            inject = f"inject={point.call}:signal=KILL:when={point.n}"
            options = ["-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject]
        return await self.run_traced(database, rounds, said, options, version=version)

    async def run_traced(
        self, database: Path, rounds: int, said: Path, options: Sequence[str], *, version: str = "now"
    ) -> int:
        """The same under strace with these options, or without it if there are none."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{database} {rounds} {said} {version}\n".encode())
        pid = int(await self._heard("stopped"))
        tracer = await _trace(pid, options) if options else None
        os.kill(pid, signal.SIGCONT)
        status = int(await self._heard("ended"))
        if tracer is not None:
            await tracer.communicate()
        return status

    async def _heard(self, word: str) -> str:
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 30)).decode().split()
        assert line[:1] == [word], f"{line} where {word} was due"
        return line[1]


async def _trace(pid: int, options: Sequence[str]) -> asyncio.subprocess.Process:
    tracer = await asyncio.create_subprocess_exec(
        find_program("strace"), "-f", *options, "-p", str(pid), stderr=asyncio.subprocess.PIPE
    )
    assert tracer.stderr is not None
    line = await asyncio.wait_for(tracer.stderr.readline(), 30)
    assert b"attached" in line, line
    return tracer


@asynccontextmanager
async def forge() -> AsyncIterator[Forge]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.buffer.crash_child", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Forge(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


class Promises:
    """What the processes on one database were promised, over all their lives."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.stored: set[tuple[str, int]] = set()
        self.void: set[tuple[str, int]] = set()
        self.later: set[tuple[str, int]] = set()
        """What may have been made void while a copy of the database was made."""
        self.dead: set[tuple[str, int]] = set()
        self.closed = False

    def hear(self, said: Iterable[str]) -> None:
        """What one process has said, or the next lines of it."""
        for line in said:
            word, *rest = line.split()
            self.closed = word == "closed"
            if word == "open":
                assert self.epoch in (None, rest[0]), "a new epoch without need"
                self.epoch = rest[0]
            elif word != "closed":
                known = {"stored": self.stored, "acking": self.void, "rejecting": self.void, "dead": self.dead}
                known[word].add((rest[0], int(rest[1])))

    def foresee(self, said: Iterable[str]) -> None:
        """What was said since while a copy was made: it may hold that already, or not."""
        words = (line.split() for line in said)
        self.later = {(rest[0], int(rest[1])) for word, *rest in words if word in ("acking", "rejecting")}


async def check(database: Path, promises: Promises) -> None:
    """Everything promised is there, nothing else is, and the numbers go on. The database itself is not touched."""
    copy = database.parent / "check"
    copy.mkdir()
    for file in database.parent.glob(f"{database.name}*"):
        shutil.copy(file, copy)
    path = copy / database.name
    outbox = SqliteOutbox(path, agent_id="ipc01", max_size=1 << 20, keep_sent=0, now=lambda: 1_772_414_047_250_000)
    await outbox.open()
    assert outbox.broken is None, outbox.broken
    assert outbox.quarantined is None
    if promises.closed:
        assert outbox.clean_stop
    if promises.epoch is not None:
        assert outbox.epoch == promises.epoch
    waiting: dict[str, set[int]] = defaultdict(set)
    declared: set[tuple[str, int]] = set()
    for lane in Lane:
        for stored in await outbox.next_batch(100_000, lane=lane):
            stream, seq = stored.message.stream, stored.message.seq
            if stream == DECLARED:
                declared |= {(of, number) for of, number in json.loads(stored.message.body)}
            else:
                assert stored.message == message(outbox.epoch, stream, seq)
            waiting[stream].add(seq)
    last = {}
    for stream in STREAMS:
        saved = await outbox.load_state(stream)
        last[stream] = 0 if saved is None else json.loads(saved)["last"]
        await outbox.append([message(outbox.epoch, stream, last[stream] + 1)], states={})
    await outbox.close()
    dead = _dead_and_whole(path)
    still = {(stream, seq) for stream, seq in declared if seq in waiting[stream]}
    assert not still, f"{still} was declared as given up and waits"
    void = promises.void | promises.later | declared
    for stream in STREAMS:
        gone = {seq for of, seq in void if of == stream}
        assert waiting[stream] | dead[stream] | gone >= set(range(1, last[stream] + 1)), f"a hole in {stream}"
        assert max(waiting[stream] | dead[stream], default=0) <= last[stream], (
            f"{stream}: a message without its state"
        )
    for stream, seq in promises.stored | promises.void | promises.dead:
        assert seq <= last[stream], f"{stream} {seq} was given and would be given again"
    for stream, seq in promises.stored - void:
        assert seq in waiting[stream], f"{stream} {seq} was stored and is lost"
    for stream, seq in promises.dead:
        assert seq in dead[stream], f"{stream} {seq} was a dead letter and is lost"
    shutil.rmtree(copy)


def _dead_and_whole(path: Path) -> dict[str, set[int]]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        both = "SELECT position FROM pending INTERSECT SELECT position FROM sent"
        assert connection.execute(both).fetchall() == []
        loose = """SELECT position FROM message WHERE position NOT IN (SELECT position FROM pending)
            AND position NOT IN (SELECT position FROM sent)"""
        assert connection.execute(loose).fetchall() == []
        dead: dict[str, set[int]] = defaultdict(set)
        for stream, seq in connection.execute("SELECT stream, seq FROM dead"):
            dead[stream].add(seq)
        return dead
    finally:
        connection.close()


async def crash(points: Iterable[Point], folder: Path, *, rounds: int = 8) -> Counter[str]:
    """Run through the points; every database lives through some kills, with a start on what each has left.
    Returns how many processes were killed at each call, and how many ended before they came to the point."""
    counted: Counter[str] = Counter()
    async with forge() as smith:
        for index, point in enumerate(points):
            if index % RUNS_PER_DATABASE == 0:
                home = folder / str(index)
                home.mkdir(parents=True)
                promises = Promises()
            counted[await _one_more(smith, home / "buffer.db", rounds, point, promises)] += 1
    return counted


async def crash_while_migrating(points: Iterable[Point], folder: Path) -> Counter[str]:
    """Start a later version on a database of this one, killed at each point: what was there is there, for the
    version that comes next."""
    counted: Counter[str] = Counter()
    async with forge() as smith:
        made = folder / "made"
        made.mkdir()
        assert await smith.run(made / "buffer.db", 16, made / "said", None) == 0
        for index, point in enumerate(points):
            home = folder / str(index)
            shutil.copytree(made, home)
            promises = Promises()
            promises.hear((home / "said").read_text().splitlines())
            (home / "said").unlink()
            counted[await _one_more(smith, home / "buffer.db", 1, point, promises, version="later")] += 1
    return counted


async def _one_more(
    smith: Forge, database: Path, rounds: int, point: Point, promises: Promises, *, version: str = "now"
) -> str:
    """One process more on a database, judged; at which call it was killed, or that it ended."""
    said = database.with_name("said")
    said.unlink(missing_ok=True)
    status = await smith.run(database, rounds, said, point, version=version)
    assert status in (0, signal.SIGKILL), f"{point}: the process ended with wait status {status:#x}"
    promises.closed = False
    promises.hear(said.read_text().splitlines())
    try:
        await check(database, promises)
    except BaseException as error:
        error.add_note(f"{point}, in {database.parent}")
        raise
    return point.call if status else "ended"


async def harmed_database(folder: Path) -> bytes:
    """A database that cannot be opened any more."""
    whole = folder / "whole"
    whole.mkdir()
    outbox = SqliteOutbox(whole / "buffer.db", agent_id="ipc01", now=lambda: 1_772_414_047_250_000)
    await outbox.open()
    await outbox.append([message(outbox.epoch, "press07.p", seq) for seq in range(1, 100)], states={})
    await outbox.close()
    return bytes(50) + (whole / "buffer.db").read_bytes()[50:]


async def check_moved_aside(database: Path, harmed: bytes) -> None:
    """A start finishes the move of a damaged database, somebody is told of it, and the file is kept as it was."""
    outbox = SqliteOutbox(database, agent_id="ipc01", now=lambda: 1_772_414_047_250_000)
    await outbox.open()
    told = outbox.quarantined
    aside = [file.read_bytes() for file in database.parent.glob("*.damaged")]
    await outbox.close()
    assert aside == [harmed]
    assert told is not None or not outbox.fresh, "nobody was told of the quarantine"


async def crash_while_moving_aside(points: Iterable[Point], folder: Path) -> Counter[str]:
    """Start on a damaged database, killed at each point."""
    counted: Counter[str] = Counter()
    harmed = await harmed_database(folder)
    async with forge() as smith:
        for index, point in enumerate(points):
            home = folder / str(index)
            home.mkdir()
            path = home / "buffer.db"
            path.write_bytes(harmed)
            status = await smith.run(path, 1, home / "said", point)
            assert status in (0, signal.SIGKILL), f"{point}: the process ended with wait status {status:#x}"
            counted[point.call if status else "ended"] += 1
            try:
                await check_moved_aside(path, harmed)
            except BaseException as error:
                error.add_note(f"{point}, in {home}")
                raise
    return counted
