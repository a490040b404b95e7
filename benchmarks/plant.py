"""(e): a plant of 5,000 machines, each a Modbus unit polled every second, behind 100 gateways, by one agent.

Every machine has its state and its counter from three registers that are read in one request; one in ten makes a
part in any second. Whether a scan was missed is told by the agent (`missed_scans`), and how regularly units were
asked by the peer, a small server in C, so that it is not what limits.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peer import Peer, compiled
from benchmarks.proc import cpu_seconds, rss_mib
from benchmarks.report import Figure
from tests.agent_process import agent
from tests.servers_mqtt import mosquitto

UNITS = 5000
GATEWAYS = 100
SETTLE = 20.0

_HEAD = """\
version: 1
agent: {{id: bench}}
site: {{enterprise: acme, site: bench, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
templates:
  press:
    vars: [port, unit]
    device:
      driver: modbus
      url: "tcp://127.0.0.1:${{port}}"
      unit: ${{unit}}
      scan: 1s
      tags:
        status: {{holding: 0}}
        total: {{holding: 1, type: uint32}}
    state: {{from: status, map: {{1: idle, 2: running, 8: fault}}}}
    counters:
      main: {{total: total, max_rate: 2/s}}
machines_from: {{csv: plant.csv, template: press, line: line1}}
"""


async def plant(seconds: float) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with mosquitto(folder) as broker, compiled("units.c", str(GATEWAYS)) as peer:
            file = folder / "edge-agent.yaml"
            file.write_text(_HEAD.format(broker=broker.port))
            rows = [f"m{n},{peer.ready['ports'][n % GATEWAYS]},{1 + n // GATEWAYS}\n" for n in range(UNITS)]
            (folder / "plant.csv").write_text("name,port,unit\n" + "".join(rows))
            began = time.perf_counter()
            async with agent(file, ready=False) as process:
                await process.until(lambda status: True, limit=120)
                await _all_read(peer)
                ready = time.perf_counter() - began
                await asyncio.sleep(SETTLE)  # noqa: TID251 - the load must be steady
                first = await process.until(lambda status: True)
                await peer.ask()
                cpu, start = cpu_seconds(process.pid), time.perf_counter()
                await asyncio.sleep(seconds)  # noqa: TID251 - the measured span
                spent, took = cpu_seconds(process.pid) - cpu, time.perf_counter() - start
                seen = await peer.ask()
                last = await process.until(lambda status: True)
                memory = rss_mib(process.pid)
    missed = _missed(last) - _missed(first)
    events = last["broker"]["confirmed"] - first["broker"]["confirmed"]
    share = 100 * spent / took
    load = f"load {os.getloadavg()[0]:.1f}"
    yield Figure("e", "Modbus units polled every second", seen["units"], "", f"{GATEWAYS} gateways, {UNITS} wanted")
    yield Figure("e", "scans per second", seen["requests"] / took, "", load)
    yield Figure("e", "scans missed", missed, "", f"in {took:.0f} s")
    yield Figure("e", "between two scans of a unit, p99", seen["p99_ms"], "ms", f"p50 {seen['p50_ms']} ms")
    yield Figure("e", "between two scans of a unit, longest", seen["max_ms"], "ms", f"{seen['late']} above 1.5 s")
    yield Figure("e", "CPU of the agent", share, "% of a core", f"{share / os.cpu_count():.0f} % of this machine")
    yield Figure("e", "CPU of the agent per scan", spent * 1e6 / max(1, seen["requests"]), "µs")
    yield Figure("e", "events confirmed", events / took, "events/s")
    yield Figure("e", "memory of the agent", memory, "MiB")
    yield Figure("e", "from the start until all are read", ready, "s")


async def _all_read(peer: Peer) -> None:
    async with asyncio.timeout(120):
        while (await peer.ask())["units"] < UNITS:  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(0.5)  # noqa: TID251 - the same


def _missed(status: dict) -> int:  # type: ignore[type-arg]
    return sum(device["missed_scans"] for device in status["devices"].values())
