"""Hours of events in minutes: memory, threads and open files stay as they are, and every event arrives.

The long form: EDGE_AGENT_SOAK_MINUTES=30.
"""

import asyncio
import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.agent_process import AgentProcess
from tests.mom_database import MomDatabase
from tests.reconcile import check_numbers, check_order
from tests.servers_mqtt import Sink, mosquitto

MINUTES = float(os.environ.get("EDGE_AGENT_SOAK_MINUTES", "0.1"))
LONG = MINUTES >= 5
MACHINES = 20
ARENA = 512
"""KiB by which an allocator may grow for good; besides, memory may grow by 1 MiB an hour."""
LATE = 180
"""Seconds by which a receiver on a busy machine may be behind."""
_CONFIG = """\
version: 1
agent: {{id: soak}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db, keep_sent: 1min}}
http: false
templates:
  press:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}, debounce: {{default: 0s}}}}
    counters:
      main: {{total: total, max_rate: 500/s}}
    downtime: {{microstop: 1s}}
    flush: 1s
machines:
"""
_MACHINE = """\
  press-{number}:
    template: press
    device:
      driver: simulated
      scan: 50ms
      tags:
        status: {{kind: cycle, values: [2, 8], every: {every}ms}}
        total: {{kind: counter, rate: 50/s}}
"""


class Sample(NamedTuple):
    kib: int
    threads: int
    files: int


def sample(pid: int) -> Sample:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    kib = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    return Sample(kib, len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())))


@pytest.mark.torture
@pytest.mark.needs("mosquitto")
@pytest.mark.timeout(MINUTES * 60 + 300)
async def test_memory_threads_and_files_stay_as_they_are_and_every_event_arrives(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        config = tmp_path / "edge-agent.yaml"
        machines = [_MACHINE.format(number=n, every=300 + 10 * n) for n in range(MACHINES)]
        config.write_text(_CONFIG.format(broker=broker.port) + "".join(machines))
        agent, mom = AgentProcess(config), MomDatabase(tmp_path / "mom.db")
        samples: list[Sample] = []
        loop = asyncio.get_running_loop()
        try:
            await agent.start()
            end = loop.time() + MINUTES * 60
            while loop.time() < end:
                samples.append(sample(agent.pid))
                mom.take((message.topic, message.payload) for message in sink.taken())
                await asyncio.sleep(1 if LONG else 0.2)  # noqa: TID251 - a sample every second
            assert agent.running
            assert await agent.terminate(30) == 0
        finally:
            await agent.kill()
        await sink.wait_for(lambda messages: any(b"agent.stopped" in m.payload for m in messages), LATE)
        mom.take((message.topic, message.payload) for message in sink.taken())
    check_order(mom)
    assert check_numbers(mom) == 0
    settled = samples[len(samples) // 3 :]
    half = len(settled) // 2
    first, last = (statistics.median(s.kib for s in part) for part in (settled[:half], settled[half:]))
    shape = [
        statistics.median(s.kib for s in samples[n * len(samples) // 10 :][: max(len(samples) // 10, 1)])
        for n in range(10)
    ]
    sys.stdout.write(f"{mom.count} events in {MINUTES:g} min; KiB by tenths of it: {[round(kib) for kib in shape]}\n")
    assert last - first < ARENA + (1024 * MINUTES / 60 / 3 if LONG else 4096), f"{first} KiB became {last}"
    for what in ("threads", "files"):
        seen = [getattr(one, what) for one in settled]
        assert max(seen) <= statistics.median(seen) + 2, f"{what}: {sorted(set(seen))}"
    mom.close()
