"""(e): what a backlog costs: start, stop, memory and append rate with no rows waiting and with many. (f): how many
bytes reach the disk per event.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.proc import rss_mib, written_bytes
from benchmarks.report import Figure
from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox
from edge_agent.clock import SystemClock
from tests.agent_process import agent
from tests.waiting import free_port

GROUP = 500
AT_ONCE = 32
BODY = b'{"specversion":"1.0","type":"dev.edgeagent.production.counted.v1",'.ljust(800, b"x")
"""As long as a count with order and shift."""
_CONFIG = """\
version: 1
agent: {{id: bench}}
site: {{enterprise: acme, site: bench, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
buffer: {{path: buffer.db, max_size: 64GiB}}
machines:
  press-1:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    counters: {{main: {{total: total, max_rate: 10000/s}}}}
    device:
      driver: simulated
      scan: 100ms
      tags: {{status: {{kind: cycle, values: [2, 8], every: 5s}}, total: {{kind: counter}}}}
"""


class Filling:
    """An outbox and the newest number stored in it."""

    def __init__(self, file: Path) -> None:
        clock = SystemClock()
        self.outbox = SqliteOutbox(file, agent_id="bench", max_size=64 << 30, now=lambda: clock.now().wall)
        self.seq = 0

    def append(self, count: int) -> "asyncio.Future[None]":
        first, self.seq = self.seq + 1, self.seq + count
        epoch = self.outbox.epoch
        messages = [
            Message("backlog.p", epoch, seq, Lane.PRODUCTION, "production.counted", "ea/v1/acme/evt/count", BODY)
            for seq in range(first, self.seq + 1)
        ]
        return asyncio.ensure_future(self.outbox.append(messages, states={"backlog": b"x" * 600}))

    async def rate(self, seconds: float) -> float:
        """Appends of one message per second, some at the same time as from that many devices."""
        began, first = time.perf_counter(), self.seq
        while time.perf_counter() - began < seconds:
            await asyncio.gather(*(self.append(1) for _ in range(AT_ONCE)))
        return (self.seq - first) / (time.perf_counter() - began)


async def backlog(rows: int, seconds: float) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        file = Path(name) / "edge-agent.yaml"
        file.write_text(_CONFIG.format(port=free_port()))
        filling = Filling(Path(name) / "buffer.db")
        async for figure in _life(file, "none waiting"):
            yield figure
        await filling.outbox.open()
        began = time.perf_counter()
        while filling.seq < rows:
            await asyncio.gather(*(filling.append(GROUP) for _ in range(10)))
        yield Figure("e", "filled", rows / (time.perf_counter() - began), "rows/s", f"in groups of {GROUP}")
        size = _size(Path(name))
        async for figure in _side_by_side(filling, seconds):
            yield figure
        yield Figure("e", "disk per waiting event of 800 bytes", size / rows, "bytes")
        await filling.outbox.close()
        async for figure in _life(file, f"{rows:,} waiting"):
            yield figure


async def _side_by_side(full: Filling, seconds: float) -> AsyncIterator[Figure]:
    """Appends to an empty outbox and to a full one by turns, so that both meet the same machine."""
    with TemporaryDirectory() as name:
        empty = Filling(Path(name) / "buffer.db")
        await empty.outbox.open()
        waiting, rates = full.seq, []
        for _ in range(max(2, int(seconds))):
            rates.append((await empty.rate(1), await full.rate(1)))
        await empty.outbox.close()
    none, many = (statistics.median(each) for each in zip(*rates, strict=True))
    yield Figure("e", "appends, none waiting", none, "appends/s", f"{AT_ONCE} at the same time, {len(rates)} turns")
    share = statistics.median(many / none for none, many in rates)
    yield Figure("e", f"appends, {waiting:,} waiting", many, "appends/s", f"{share:.2f} of that at none")


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.glob("buffer.db*"))


async def _life(file: Path, waiting: str) -> AsyncIterator[Figure]:
    """One life of the agent, its broker away."""
    began = time.perf_counter()
    async with agent(file, ready=False) as process:
        status = await process.until(lambda status: status["devices"]["press-1"]["batches"] > 0)
        took = time.perf_counter() - began
        yield Figure("e", f"start to collecting, {waiting}", took, "s", f"{status['buffer']['rows']:,} rows counted")
        await asyncio.sleep(15)  # noqa: TID251 - the counting of the rows and the checkpoints are over
        yield Figure("e", f"memory of the agent, {waiting}", rss_mib(process.pid), "MiB")
        began = time.perf_counter()
        code = await process.terminate()
        yield Figure("e", f"SIGTERM to exit {code}, {waiting}", time.perf_counter() - began, "s")


_PLANT = """\
version: 1
agent: {{id: bench}}
site: {{enterprise: acme, site: bench, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
http: false
buffer: {{path: buffer.db, commit_interval: {interval}}}
machines:
"""
_PRESS = """\
  press-{number}:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    counters: {{main: {{total: total, max_rate: 100/s}}}}
    device:
      driver: simulated
      scan: 500ms
      tags:
        status: {{kind: {kind}, values: [2, 2, 2, 8], every: 30s, value: 2}}
        total: {{kind: counter, rate: {rate}}}
"""


async def wear() -> AsyncIterator[Figure]:
    """Bytes that reach the disk: by appends of so many events, and by agents that are idle or busy."""
    async for figure in _appended():
        yield figure
    for machines in (1, 10, 50):
        written, _ = await _plant(machines, "constant", "0.000001/s", "0s")
        yield Figure("f", f"written, {machines} idle machines", written * 60 * 24 / (1 << 20), "MiB/day")
        for interval in ("0s", "1s"):
            written, events = await _plant(machines, "cycle", "0.5/s", interval)
            yield Figure(
                "f",
                f"written, {machines} machines at work, commit_interval {interval}",
                written * 60 * 24 / (1 << 20),
                "MiB/day",
                f"{written / events:,.0f} bytes for each of {events} events a minute",
            )


async def _plant(machines: int, kind: str, rate: str, interval: str) -> tuple[int, int]:
    """Bytes written and events stored in a minute."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        file = Path(name) / "edge-agent.yaml"
        presses = [_PRESS.format(number=n, kind=kind, rate=rate) for n in range(1, machines + 1)]
        file.write_text(_PLANT.format(port=free_port(), interval=interval) + "".join(presses))
        async with agent(file) as process:
            await asyncio.sleep(10)  # noqa: TID251 - it has started
            before = (await process.until(lambda _: True))["buffer"]
            await asyncio.sleep(60)  # noqa: TID251 - the measured minute
            after = (await process.until(lambda _: True))["buffer"]
            await process.terminate()
    return after["written_bytes"] - before["written_bytes"], after["stored"] - before["stored"]


async def _appended() -> AsyncIterator[Figure]:
    """By how many events share a transaction."""
    for together, turns in ((1, 2000), (10, 500), (100, 100), (500, 40)):
        with TemporaryDirectory(dir=Path.cwd()) as name:
            filling = Filling(Path(name) / "buffer.db")
            await filling.outbox.open()
            before = written_bytes()
            for _ in range(turns):
                await filling.append(together)
            written = written_bytes() - before
            await filling.outbox.close()
            remark = f"events of {len(BODY)} bytes and one state of 600"
            yield Figure(
                "f", f"written per event, {together} in a commit", written / (together * turns), "bytes", remark
            )
