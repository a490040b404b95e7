"""What is written when nothing happens: the states of a beat, and nothing between two beats."""

import asyncio
from pathlib import Path

import pytest

from buffer.outbox import Depth
from buffer.sqlite import SqliteOutbox
from config.load import load
from drivers.registry import Drivers
from edge_agent.clock import SystemClock
from edge_agent.heartbeat import STORE_EVERY
from edge_agent.runtime import Agent
from tests.waiting import free_port, until

_CONFIG = """\
version: 1
agent: {{id: quiet}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
http: false
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    device: {{driver: simulated, scan: 10ms, tags: {{status: {{kind: cycle, values: [2, 8], every: 1h}}}}}}
    state: {{from: status, map: {{2: running, 8: fault}}}}
"""
A_BEAT = 64 << 10
"""Bytes that the states of one machine may cost; several times what they do."""


class Beats(SystemClock):
    """The agent's beats come when the test says so."""

    def __init__(self) -> None:
        self.due = asyncio.Semaphore(0)
        self.begun = 0

    async def sleep(self, seconds: float) -> None:
        if seconds != STORE_EVERY:
            await super().sleep(seconds)
        else:
            self.begun += 1
            await self.due.acquire()


class Watched(SqliteOutbox):
    """The outbox that the agent opened last."""

    opened: "Watched"

    async def open(self) -> None:
        await super().open()
        Watched.opened = self


async def written() -> int:
    depth: Depth = await Watched.opened.depth()
    if depth.written is None:
        pytest.skip("this system does not count what is written")
    return depth.written


async def test_between_two_beats_nothing_is_written_while_nothing_happens(tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.yaml"
    file.write_text(_CONFIG.format(port=free_port()))
    clock, stop = Beats(), asyncio.Event()
    agent = Agent(load(file, Drivers().options()), clock=clock, buffer=Watched)
    task = asyncio.create_task(agent.run(stop))
    device = agent.health.devices["press-1"]

    async def scans(count: int) -> None:
        goal = device.batches + count
        await until(lambda: device.batches >= goal or task.done(), limit=30, what="the device is read")

    try:
        await until(lambda: clock.begun == 1, limit=30)
        await scans(50)
        before, stored = await written(), (await Watched.opened.depth()).stored
        await scans(100)
        assert await written() == before
        assert (await Watched.opened.depth()).stored == stored
        clock.due.release()
        await until(lambda: clock.begun == 2, limit=30)
        assert 0 < await written() - before < A_BEAT
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
