"""How full the buffer is, while its disk answers and while it does not."""

import asyncio
import logging

import pytest

from buffer.memory import MemoryOutbox
from buffer.outbox import Depth, Lane, Message
from edge_agent.clock import SECOND, Instant
from edge_agent.gauge import SILENT_AFTER, Gauge


class Disk(MemoryOutbox):
    """Answers while `spins` is set."""

    def __init__(self) -> None:
        super().__init__(now=lambda: 0)
        self.spins = asyncio.Event()
        self.spins.set()

    async def depth(self) -> Depth:
        await self.spins.wait()
        return await super().depth()


class Hand:
    """A clock whose sleepers wait for `step`."""

    def __init__(self) -> None:
        self.at = 0
        self.asleep = asyncio.Event()
        self._over = asyncio.Event()

    def now(self) -> Instant:
        return Instant(self.at, self.at)

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self._over.wait()

    async def step(self, seconds: float) -> None:
        """Wait until somebody sleeps, let so much time pass, and wait until somebody sleeps again."""
        await self.asleep.wait()
        self.asleep.clear()
        self.at += round(seconds * SECOND)
        over, self._over = self._over, asyncio.Event()
        over.set()
        await self.asleep.wait()


async def test_while_the_disk_hangs_what_was_known_last_is_told_and_for_how_long_it_is_so() -> None:
    outbox, clock = Disk(), Hand()
    gauge = Gauge(outbox, clock, patience=0.01)
    await outbox.open()
    await outbox.append([Message("a.p", outbox.epoch, 1, Lane.PRODUCTION, "t", "t", b"x")], states={})
    before = await gauge.read()
    assert (before.depth.rows, before.silent) == (1, None)
    outbox.spins.clear()
    assert await gauge.read() == (before.depth, 0.0)
    clock.at += 7 * SECOND
    assert await gauge.read() == (before.depth, 7.0)
    outbox.spins.set()
    assert await gauge.read() == before


async def test_a_disk_that_hangs_and_one_that_answers_again_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_agent.gauge")
    outbox, clock = Disk(), Hand()
    gauge = Gauge(outbox, clock, patience=0.01)
    await outbox.open()
    running = asyncio.create_task(gauge.run())
    for seconds in (5, 5):
        await clock.step(seconds)
    outbox.spins.clear()
    for seconds in (5, SILENT_AFTER - 1, 1, 5):
        await clock.step(seconds)
    outbox.spins.set()
    for seconds in (5, 5):
        await clock.step(seconds)
    running.cancel()
    await asyncio.wait({running})
    assert [record.getMessage() for record in caplog.records] == [
        "S710 the disk of the buffer has not answered for 10 s: nothing new is stored",
        "the disk of the buffer answers again",
    ]
