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
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from buffer.outbox import Lane
from buffer.sqlite import SqliteOutbox
from tests.buffer.crash_child import STREAMS, message
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

    async def run(self, database: Path, rounds: int, said: Path, point: Point | None) -> int:
        """Run one until it ends or is killed at the point; the wait status."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{database} {rounds} {said}\n".encode())
        pid = int(await self._heard("stopped"))
        tracer = None if point is None else await _trace(pid, point)
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


async def _trace(pid: int, point: Point) -> asyncio.subprocess.Process:
    inject = f"inject={point.call}:signal=KILL:when={point.n}"
    tracer = await asyncio.create_subprocess_exec(
        find_program("strace"), "-f", "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject, "-p", str(pid),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
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
        self.dead: set[tuple[str, int]] = set()
        self.closed = False

    def hear(self, said: Path) -> None:
        self.closed = False
        for line in said.read_text().splitlines():
            word, *rest = line.split()
            if word == "open":
                assert self.epoch in (None, rest[0]), "a new epoch without need"
                self.epoch = rest[0]
            elif word == "closed":
                self.closed = True
            else:
                known = {"stored": self.stored, "acking": self.void, "rejecting": self.void, "dead": self.dead}
                known[word].add((rest[0], int(rest[1])))


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
    for lane in Lane:
        for stored in await outbox.next_batch(100_000, lane=lane):
            stream, seq = stored.message.stream, stored.message.seq
            assert stored.message == message(outbox.epoch, stream, seq)
            waiting[stream].add(seq)
    last = {}
    for stream in STREAMS:
        saved = await outbox.load_state(stream)
        last[stream] = 0 if saved is None else json.loads(saved)["last"]
        await outbox.append([message(outbox.epoch, stream, last[stream] + 1)], states={})
    await outbox.close()
    dead = _dead_and_whole(path)
    for stream in STREAMS:
        gone = {seq for of, seq in promises.void if of == stream}
        assert waiting[stream] | dead[stream] | gone >= set(range(1, last[stream] + 1)), f"a hole in {stream}"
        assert max(waiting[stream] | dead[stream], default=0) <= last[stream], (
            f"{stream}: a message without its state"
        )
    for stream, seq in promises.stored - promises.void:
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
            said = home / f"said-{index}"
            status = await smith.run(home / "buffer.db", rounds, said, point)
            assert status in (0, signal.SIGKILL), f"{point}: the process ended with wait status {status:#x}"
            counted[point.call if status else "ended"] += 1
            promises.hear(said)
            try:
                await check(home / "buffer.db", promises)
            except BaseException as error:
                error.add_note(f"{point}, run {index}, in {home}")
                raise
    return counted


async def crash_while_moving_aside(points: Iterable[Point], folder: Path) -> Counter[str]:
    """Start on a damaged database and its WAL, killed at each point: the next start finishes the move and tells it,
    and the damaged file is kept as it was."""
    counted: Counter[str] = Counter()
    whole = folder / "whole"
    whole.mkdir()
    outbox = SqliteOutbox(whole / "buffer.db", agent_id="ipc01", now=lambda: 1_772_414_047_250_000)
    await outbox.open()
    await outbox.append([message(outbox.epoch, "press07.p", seq) for seq in range(1, 100)], states={})
    await outbox.close()
    harmed = bytes(50) + (whole / "buffer.db").read_bytes()[50:]
    async with forge() as smith:
        for index, point in enumerate(points):
            home = folder / str(index)
            home.mkdir()
            path = home / "buffer.db"
            path.write_bytes(harmed)
            status = await smith.run(path, 1, home / "said", point)
            assert status in (0, signal.SIGKILL), f"{point}: the process ended with wait status {status:#x}"
            counted[point.call if status else "ended"] += 1
            outbox = SqliteOutbox(path, agent_id="ipc01", now=lambda: 1_772_414_047_250_000)
            await outbox.open()
            told = outbox.quarantined
            aside = [file.read_bytes() for file in home.glob("*.damaged")]
            await outbox.close()
            assert aside == [harmed], point
            assert told is not None or not outbox.fresh, f"{point}: nobody was told of the quarantine"
    return counted
