"""(a): readings through the machine step and the commit, without a driver, in this process."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Figure
from buffer.sqlite import SqliteOutbox
from config.load import load
from drivers.base import Batch, Reading
from drivers.registry import Drivers
from edge_agent.clock import SystemClock
from edge_agent.delivery.retained import Retained
from edge_agent.events.types import AgentStarted
from edge_agent.floor import Floor
from edge_agent.machine.machine import Machine

TAGS = 1000

_CONFIG = """\
version: 1
agent: {id: bench}
site: {enterprise: acme, site: bench, area: hall}
machines:
  press-1:
    line: line1
    state: {from: status, map: {2: running, 8: fault}}
    counters:
      main: {total: total, max_rate: 10000/s}
    downtime: {microstop: 300s}
    measurements:
      all: {tags: [TAGS], on: change}
    device:
      driver: simulated
      scan: 100ms
      tags:
        status: {kind: constant, value: 2}
        total: {kind: counter}
"""


async def machine_commit(seconds: float) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "edge-agent.yaml"
        names = [f"t{i}" for i in range(TAGS)]
        file.write_text(
            _CONFIG.replace("TAGS", ", ".join(names))
            + "".join(f"        {tag}: {{kind: constant, value: 0}}\n" for tag in names)
        )
        config = load(file, Drivers().options()).config
        clock = SystemClock()
        outbox = SqliteOutbox(folder / "buffer.db", agent_id="bench", now=lambda: clock.now().wall)
        await outbox.open()
        floor = Floor(config, [Machine(config, "press-1", epoch=outbox.epoch)], outbox, Retained(), clock)
        await floor.open(AgentStarted(version="0", config_hash="", clean_stop=True))
        try:
            rate = await _feed(floor, names, seconds, changing=True)
            yield Figure("a", "readings, all changing: step and commit", rate, "readings/s", "one commit per 1002")
            rate = await _feed(floor, names, seconds, changing=False)
            yield Figure("a", "readings, none changing: step", rate, "readings/s", "nothing to commit")
            rate = await _single(floor, seconds)
            yield Figure("a", "commits of one counting machine", rate, "commits/s", "each awaited, synchronous=FULL")
        finally:
            await outbox.close()


async def _feed(floor: Floor, names: list[str], seconds: float, *, changing: bool) -> float:
    began, fed, tick = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        tick += changing
        readings = [Reading("status", 2), Reading("total", tick), *(Reading(tag, tick) for tag in names)]
        await floor.feed(Batch("press-1", readings))
        fed += len(readings)
    await asyncio.sleep(0)  # noqa: TID251 - let observers run
    return fed / (time.perf_counter() - began)


async def _single(floor: Floor, seconds: float) -> float:
    began, fed = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        fed += 1
        await floor.feed(Batch("press-1", [Reading("total", 1_000_000 + fed)]))
    return fed / (time.perf_counter() - began)
