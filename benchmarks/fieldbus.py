"""(b) and (c): 1000 tags of one PLC that all change every 100 ms, published as measurements to mosquitto.

The PLC is a server written by others, the agent a process of its own, the subscriber this process. Latency is from
the agent's read (the event's `recordedtime`) to the arrival at the subscriber, on one clock. CPU is that of the
agent process alone, user and system, over the measured span.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.peer import Peer, node
from benchmarks.proc import cpu_seconds, rss_mib
from benchmarks.report import Figure, percentile
from edge_agent.clock import parse_rfc3339
from tests.agent_process import agent
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import free_port

TAGS = 1000
PERIOD_MS = 100
WARM_UP = 5.0

_HEAD = """\
version: 1
agent: {{id: bench}}
site: {{enterprise: acme, site: bench, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    measurements:
      all: {{tags: [{names}], on: change}}
    device:
"""


class Measured(NamedTuple):
    values: int
    seconds: float
    cpu: float
    rss: float
    latencies_ms: list[float]


def modbus_config(port: int, broker: int) -> str:
    names = ", ".join(f"t{i}" for i in range(TAGS))
    tags = "\n".join(f"        t{i}: {{holding: {i}, type: uint16}}" for i in range(TAGS))
    return _HEAD.format(broker=broker, names=names) + (
        f"      driver: modbus\n      url: tcp://127.0.0.1:{port}\n      unit: 1\n"
        f"      scan: {PERIOD_MS}ms\n      tags:\n{tags}\n"
    )


def opcua_config(port: int, broker: int) -> str:
    names = ", ".join(f"t{i}" for i in range(TAGS))
    node_id = "nsu=urn:acme:bench;s=v{}"
    tags = "\n".join(
        f"        t{i}: {{node: '{node_id.format(i)}', type: float64, sampling: {PERIOD_MS}ms}}" for i in range(TAGS)
    )
    return _HEAD.format(broker=broker, names=names) + (
        f'      driver: opcua\n      url: "opc.tcp://127.0.0.1:{port}"\n      security: none\n      insecure: true\n'
        f"      publishing: {PERIOD_MS}ms\n      tags:\n{tags}\n"
    )


async def modbus(seconds: float) -> AsyncIterator[Figure]:
    async with node("registers.js", str(PERIOD_MS), str(free_port())) as plc:
        requests = 0

        async def counted() -> None:
            nonlocal requests
            requests = (await plc.ask())["requests"] - requests

        measured = await _measure(plc, modbus_config, seconds, counted)
    scans = measured.seconds * 1000 / PERIOD_MS
    for figure in _figures("b", measured):
        yield figure
    yield Figure("b", "Modbus requests per scan", requests / scans, "", f"{TAGS} uint16 in one device")


async def opcua(seconds: float) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as folder:
        async with node("nodes.js", str(TAGS), str(PERIOD_MS), folder) as plc:
            measured = await _measure(plc, opcua_config, seconds, None)
    for figure in _figures("c", measured):
        yield figure


def _figures(section: str, measured: Measured) -> list[Figure]:
    ordered = sorted(measured.latencies_ms)
    offered = TAGS * 1000 / PERIOD_MS
    name = {"b": "Modbus", "c": "OPC UA"}[section]
    rate = measured.values / measured.seconds
    per_value = measured.cpu * 1e6 / max(1, measured.values)
    return [
        Figure(section, f"{name}: values at the subscriber", rate, "values/s", f"{offered:,.0f} offered"),
        Figure(section, f"{name}: read to received, p50", percentile(ordered, 0.5), "ms", "committed, then sent"),
        Figure(section, f"{name}: read to received, p99", percentile(ordered, 0.99), "ms"),
        Figure(section, f"{name}: CPU of the agent per value", per_value, "µs"),
        Figure(section, f"{name}: CPU of the agent", 100 * measured.cpu / measured.seconds, "% of a core"),
        Figure(section, f"{name}: memory of the agent", measured.rss, "MiB"),
    ]


async def _measure(plc: Peer, config, seconds: float, at_edges) -> Measured:  # type: ignore[no-untyped-def]
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with mosquitto(folder) as broker, Sink(broker.port, "+/+/+/+/+/+/evt/measurement") as sink:
            file = folder / "edge-agent.yaml"
            file.write_text(config(plc.ready["port"], broker.port))
            async with agent(file) as process:
                await sink.wait_for(1, limit=60)
                await asyncio.sleep(WARM_UP)  # noqa: TID251 - the load must be steady
                if at_edges:
                    await at_edges()
                first, cpu, began = len(sink.messages), cpu_seconds(process.pid), time.perf_counter()
                offset = time.time() - asyncio.get_running_loop().time()  # noqa: TID251 - wall clock of arrivals
                await asyncio.sleep(seconds)  # noqa: TID251 - the measured span
                messages = sink.messages[first:]
                spent, took = cpu_seconds(process.pid) - cpu, time.perf_counter() - began
                if at_edges:
                    await at_edges()
                memory = rss_mib(process.pid)
    values, latencies = 0, []
    for message in messages:
        event = json.loads(message.payload)
        values += len(event["data"]["values"])
        latencies.append((message.at + offset) * 1e3 - parse_rfc3339(event["recordedtime"]) / 1e3)
    return Measured(values, took, spent, memory, latencies)
