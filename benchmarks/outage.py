"""(d): what is committed while the broker is away, and how fast it drains when the broker is back.

Twenty-five simulated machines publish a measurement set every 100 ms; the broker is away for a minute and then
comes back while collecting goes on. Beside it, in the same run, bare paho sends the same bytes with the same window.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.proc import cpu_seconds, rss_mib
from benchmarks.report import Figure
from tests.agent_process import agent
from tests.servers_mqtt import Received, Sink, mosquitto

MACHINES = 25
PERIOD_MS = 100
WINDOW = 100

_MACHINE = """\
  m{0}:
    line: line1
    measurements:
      all: {{tags: [a, b, c, d], every: {1}ms}}
    device:
      driver: simulated
      scan: {1}ms
      tags: {{a: {{kind: counter}}, b: {{kind: sine}}, c: {{kind: random}}, d: {{kind: sine, every: 9s}}}}
"""


async def outage(away: float) -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with mosquitto(folder, extra=["max_inflight_messages 0"]) as broker:
            file = folder / "edge-agent.yaml"
            file.write_text(
                "version: 1\nagent: {id: bench}\nsite: {enterprise: acme, site: bench, area: hall}\n"
                f'mqtt: {{url: "mqtt://127.0.0.1:{broker.port}"}}\nbuffer: {{path: buffer.db}}\nmachines:\n'
                + "".join(_MACHINE.format(i, PERIOD_MS) for i in range(MACHINES))
            )
            async with agent(file) as process:
                await process.until(lambda status: status["broker"]["status"] == "UP")
                await broker.stop()
                start = await process.until(lambda status: status["broker"]["status"] == "DOWN", limit=60)
                began, cpu = time.perf_counter(), cpu_seconds(process.pid)
                await asyncio.sleep(away)  # noqa: TID251 - the outage
                end = await process.until(lambda status: True)
                took = time.perf_counter() - began
                stored = end["buffer"]["rows"] - start["buffer"]["rows"]
                spent = cpu_seconds(process.pid) - cpu
                yield Figure(
                    "d", "committed while the broker is away", stored / took, "events/s", f"{MACHINES} machines"
                )
                yield Figure("d", "CPU per committed event", spent * 1e6 / stored, "µs")
                await broker.start()
                async with Sink(broker.port, "+/+/+/+/+/+/evt/#") as sink:
                    backlog = end["buffer"]["rows"]
                    received = await sink.wait_for(backlog, limit=300)
                    rate = (len(received) - 1) / (received[-1].at - received[0].at)
                    yield Figure(
                        "d", f"drained after {away:.0f} s", rate, "events/s", f"{backlog} rows, collecting on"
                    )
                    await process.until(lambda status: status["buffer"]["rows"] < 200, limit=120)
                    yield Figure("d", "memory of the agent after the drain", rss_mib(process.pid), "MiB")
            async with Sink(broker.port, "+/+/+/+/+/+/evt/#") as sink:
                bare = await asyncio.to_thread(_bare_paho, broker.port, received[:20_000])
            yield Figure("d", "bare paho, same bytes and window", bare, "messages/s", "from memory")
            yield Figure("d", "drain against bare paho", rate / bare, "of its rate")


def _bare_paho(port: int, messages: list[Received]) -> float:
    """Messages per second, QoS 1, at most WINDOW unconfirmed."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    client.connect("127.0.0.1", port)
    client.loop_start()
    began = time.perf_counter()
    sent = [client.publish(message.topic, message.payload, qos=1) for message in messages]
    for info in sent:
        info.wait_for_publish(60)
    took = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return len(messages) / took
