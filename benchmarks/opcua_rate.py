"""(u): OPC UA value changes into the machine step and its commit, in the agent as a process of its own.

From a peer that sends notifications encoded before over a real session, so that the peer is not the limit; then the
most that node-opcua gives; then asyncua's own subscription on the first peer. A value is counted when it has been
acknowledged, which the driver does after its commit; node-opcua tells nothing of that, so there the agent's own count
of readings is taken. CPU is that of the receiving process alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peer import Peer, node, python
from benchmarks.proc import cpu_seconds, rss_mib
from benchmarks.report import Figure
from tests.agent_process import AgentProcess, agent
from tests.waiting import free_port

TAGS = 1000
PERIOD_MS = 100
COPIES = 10
WARM_UP = 3.0

_CONFIG = """\
version: 1
agent: {{id: bench}}
site: {{enterprise: acme, site: bench, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    measurements:
      all: {{tags: [{names}], every: 1s}}
    device:
      driver: opcua
      url: "opc.tcp://127.0.0.1:{port}"
      security: none
      insecure: true
      publishing: 100ms
      sampling: {sampling}ms
      history: false
      tags:
{tags}
"""


def config(port: int, sampling: int) -> str:
    names = ", ".join(f"t{number}" for number in range(TAGS))
    tags = "\n".join(f"        t{n}: {{node: 'nsu=urn:acme:bench;s=v{n}', type: float64}}" for n in range(TAGS))
    return _CONFIG.format(broker=free_port(), names=names, port=port, sampling=sampling, tags=tags)


async def opcua_rate(seconds: float) -> AsyncIterator[Figure]:
    offered = TAGS * COPIES * 1000 / PERIOD_MS
    async with python("publisher.py", str(PERIOD_MS), str(COPIES)) as plc:
        before = await plc.ask()
        async for figure in _agent(plc, seconds, PERIOD_MS // COPIES, "pre-encoded peer", _confirmed(plc)):
            yield figure
        after = await plc.ask()
        late = after["late"] - before["late"]
        yield Figure("u", "periods that waited for the agent", late, "", f"{offered:,.0f} values/s offered")
    with TemporaryDirectory() as folder:
        async with node("nodes.js", str(TAGS), str(PERIOD_MS // COPIES), folder) as plc:
            async for figure in _agent(plc, seconds, PERIOD_MS // COPIES, "node-opcua", None):
                yield figure
    async with python("publisher.py", str(PERIOD_MS), str(COPIES)) as plc:
        url = f"opc.tcp://127.0.0.1:{plc.ready['port']}"
        async with python("subscriber.py", url, str(TAGS), str(PERIOD_MS)) as client:

            async def received() -> int:
                values: int = (await client.ask())["values"]
                return values

            async for figure in _measure(client.process.pid, received, seconds, "asyncua's own subscription"):
                yield figure


def _confirmed(plc: Peer) -> Callable[[AgentProcess], Awaitable[int]]:
    async def count(_: AgentProcess) -> int:
        values: int = (await plc.ask())["confirmed"]
        return values

    return count


async def _readings(process: AgentProcess) -> int:
    status = await process.status()
    assert status is not None
    values: int = status["devices"]["press-1"]["readings"]
    return values


async def _agent(
    plc: Peer, seconds: float, sampling: int, name: str, count: Callable[[AgentProcess], Awaitable[int]] | None
) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "edge-agent.yaml"
        file.write_text(config(plc.ready["port"], sampling))
        async with agent(file) as process:
            await process.until(lambda status: status["devices"]["press-1"]["status"] == "UP", 60)

            async def counted() -> int:
                return await (count or _readings)(process)

            async for figure in _measure(process.pid, counted, seconds, name):
                yield figure


async def _measure(pid: int, count: Callable[[], Awaitable[int]], seconds: float, name: str) -> AsyncIterator[Figure]:
    await asyncio.sleep(WARM_UP)  # noqa: TID251 - the load must be steady
    first, cpu, began = await count(), cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)  # noqa: TID251 - the measured span
    values, spent, took = await count() - first, cpu_seconds(pid) - cpu, time.perf_counter() - began
    yield Figure("u", f"{name}: values received", values / took, "values/s")
    yield Figure("u", f"{name}: CPU per value", spent * 1e6 / max(1, values), "µs", f"{100 * spent / took:.0f} %")
    yield Figure("u", f"{name}: memory", rss_mib(pid), "MiB")
