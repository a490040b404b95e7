"""(d): what is committed while the broker is away, and how fast it drains when the broker is back.

Twenty-five simulated machines count parts and publish a measurement set every 100 ms; the broker is away for a minute
and then comes back while collecting goes on. `rows` measurements wait from before. Measured are the rate at which the
backlog leaves, and how late the production events and the retained states arrive that are made meanwhile. Beside it,
in the same run, bare paho, in a process that does nothing else, sends the same bytes with the same window.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.peer import python
from benchmarks.proc import cpu_seconds, rss_mib
from benchmarks.report import Figure, percentile
from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox
from edge_agent.clock import SystemClock
from tests.agent_process import AgentProcess, agent
from tests.programs import find_program
from tests.servers_mqtt import Mosquitto, mosquitto

MACHINES = 25
PERIOD_MS = 100
WINDOW = 100
BARE = 20_000
"""Messages that bare paho sends."""
MOST = 30.0
"""Seconds of a drain that are measured; a long one is not waited for."""
GROUP = 500
DRY = 200
"""So few rows are what was just made."""

_MACHINE = """\
  m{0}:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    counters: {{main: {{total: total, max_rate: 10000/s}}}}
    measurements:
      all: {{tags: [a, b, c, d], every: {1}ms}}
    device:
      driver: simulated
      scan: {1}ms
      tags:
        status: {{kind: cycle, values: [2, 8], every: 3s}}
        total: {{kind: counter}}
        a: {{kind: counter}}
        b: {{kind: sine}}
        c: {{kind: random}}
        d: {{kind: sine, every: 9s}}
"""


class Received(NamedTuple):
    """`at`: UTC seconds."""

    at: float
    topic: str
    payload: str


@dataclass
class Drain:
    """`back`: when the first was confirmed, UTC seconds; from then on `events` in `seconds`."""

    back: float = 0.0
    events: int = 0
    seconds: float = 0.0


async def outage(away: float, rows: int) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with mosquitto(folder, extra=["max_inflight_messages 0"]) as broker:
            file = folder / "edge-agent.yaml"
            file.write_text(
                "version: 1\nagent: {id: bench}\nsite: {enterprise: acme, site: bench, area: hall}\n"
                f'mqtt: {{url: "mqtt://127.0.0.1:{broker.port}"}}\n'
                "buffer: {path: buffer.db, max_size: 64GiB}\nmachines:\n"
                + "".join(_MACHINE.format(i, PERIOD_MS) for i in range(MACHINES))
            )
            await broker.stop()
            if rows:
                await _fill(folder / "buffer.db", rows)
            async with agent(file) as process:
                async for figure in _away(process, away, rows):
                    yield figure
                await broker.start()
                async with _sink(broker.port, folder / "received") as sink:
                    drain = Drain()
                    async for figure in _drain(process, drain):
                        yield figure
                for figure in _lateness(await asyncio.to_thread(_received, sink), drain):
                    yield figure
            messages = [one for one in await asyncio.to_thread(_received, sink) if "/evt/" in one.topic][:BARE]
            async with _sink(broker.port, folder / "again"):
                bare = await _bare_paho(broker, folder, messages)
            rate = drain.events / drain.seconds
            yield Figure(
                "d", "bare paho, same bytes and window", bare, "messages/s", "from memory, nothing else to do"
            )
            yield Figure("d", "drain against bare paho", rate / bare, "of its rate", f"load {os.getloadavg()[0]:.1f}")


async def _fill(file: Path, rows: int) -> None:
    clock = SystemClock()
    outbox = SqliteOutbox(file, agent_id="bench", max_size=64 << 30, now=lambda: clock.now().wall)
    await outbox.open()
    body = json.dumps(
        {"specversion": "1.0", "type": "dev.edgeagent.measurement.recorded.v1", "pad": "x" * 500}
    ).encode()
    for first in range(1, rows, 10 * GROUP):
        await asyncio.gather(
            *(
                outbox.append(
                    [
                        Message(
                            "old.m",
                            outbox.epoch,
                            seq,
                            Lane.MEASUREMENT,
                            "measurement.recorded",
                            "ea/v1/acme/bench/line1/old/evt/measurement",
                            body,
                        )
                        for seq in range(start, start + GROUP)
                    ],
                    states={},
                )
                for start in range(first, first + 10 * GROUP, GROUP)
            )
        )
    await outbox.close()


async def _away(process: AgentProcess, away: float, rows: int) -> AsyncIterator[Figure]:
    start = await process.until(
        lambda status: status["broker"]["status"] == "DOWN" and status["buffer"]["rows"] >= rows, limit=60
    )
    began, cpu = time.perf_counter(), cpu_seconds(process.pid)
    await asyncio.sleep(away)  # noqa: TID251 - the outage
    end = await process.until(lambda status: True)
    took = time.perf_counter() - began
    stored = end["buffer"]["rows"] - start["buffer"]["rows"]
    spent = cpu_seconds(process.pid) - cpu
    yield Figure("d", "committed while the broker is away", stored / took, "events/s", f"{MACHINES} machines")
    yield Figure("d", "CPU per committed event", spent * 1e6 / stored, "µs")
    yield Figure("d", "memory of the agent before the drain", rss_mib(process.pid), "MiB")


@asynccontextmanager
async def _sink(port: int, file: Path) -> AsyncIterator[Path]:
    """mosquitto_sub, which is not what limits; it writes when, where and what it received, line by line."""
    with file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(find_program("mosquitto_sub"), "-p", str(port), "-V", "5", "-q", "1"),
            *("-D", "CONNECT", "receive-maximum", "65535", "-F", "%U\\t%t\\t%p"),
            *("-t", "+/+/+/+/+/+/evt/#", "-t", "+/+/+/+/+/+/cur/state"),
            stdout=output,
        )
    try:
        yield file
    finally:
        process.terminate()
        await process.wait()


async def _drain(process: AgentProcess, drain: "Drain") -> AsyncIterator[Figure]:
    """Until nothing waits, or for so long."""
    first = await process.until(lambda status: status["broker"]["confirmed"] > 0, limit=60)
    drain.back = SystemClock().now().wall / 1e6
    cpu, began, last = cpu_seconds(process.pid), time.perf_counter(), first
    while last["buffer"]["rows"] > DRY and time.perf_counter() - began < MOST:
        await asyncio.sleep(0.2)  # noqa: TID251 - another process is watched
        last = await process.until(lambda status: True)
    drain.seconds = time.perf_counter() - began
    drain.events = last["broker"]["confirmed"] - first["broker"]["confirmed"]
    spent = cpu_seconds(process.pid) - cpu
    rate, share = drain.events / drain.seconds, 100 * spent / drain.seconds
    yield Figure("d", "drained while collecting", rate, "events/s", f"{first['buffer']['rows']:,} rows waiting")
    yield Figure("d", "CPU per drained event", spent * 1e6 / drain.events, "µs", f"{share:.0f} % of a core")
    yield Figure("d", "memory of the agent after the drain", rss_mib(process.pid), "MiB")


def _received(file: Path) -> list[Received]:
    lines = (line.split("\t") for line in file.read_text().splitlines())
    return [Received(float(at), topic, payload) for at, topic, payload in lines]


def _lateness(received: Sequence[Received], drain: "Drain") -> Iterator[Figure]:
    """From recorded to received, of what was made since the broker is back."""
    events, states = "live production events", "retained states"
    late: dict[str, list[float]] = {events: [], states: []}
    for message in received:
        if "/evt/measurement" in message.topic or "/evt/agent" in message.topic:
            continue
        recorded = datetime.fromisoformat(json.loads(message.payload)["recordedtime"]).timestamp()
        if recorded > drain.back:
            late[states if "/cur/" in message.topic else events].append(message.at - recorded)
    for what, seconds in late.items():
        seconds.sort()
        for share in (0.5, 0.95):
            name = f"lag of {what}, p{100 * share:.0f}"
            yield Figure("d", name, percentile(seconds, share) * 1e3, "ms", f"{len(seconds)} messages")


async def _bare_paho(broker: Mosquitto, folder: Path, messages: Sequence[Received]) -> float:
    """Messages per second."""
    file = folder / "messages"
    file.write_text("".join(json.dumps([one.topic, one.payload]) + "\n" for one in messages))
    async with python("bare_paho.py", str(broker.port), str(WINDOW), str(file)) as peer:
        return len(messages) / float(peer.ready["seconds"])
