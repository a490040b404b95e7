"""The agent is off, the machine stops and goes on: the server's own history tells the MOM when."""

import asyncio
import random
from pathlib import Path

import pytest

from edge_agent.clock import parse_rfc3339
from tests.agent_process import AgentProcess
from tests.e2e.oracle import Ledger
from tests.servers_mqtt import Sink, mosquitto
from tests.servers_opcua import node_opcua

pytestmark = pytest.mark.needs("mosquitto", "node")

CONFIG = """\
version: 1
agent: {{id: e2e}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    state: {{from: status, map: {{1: idle, 2: running, 8: fault}}, debounce: {{default: 100ms, fault: 0s}}}}
    counters:
      main: {{total: total, max_rate: 500/s}}
    downtime: {{microstop: 300s, reason: fault, reasons: {{12: {{text: Guard open, category: operator}}}}}}
    flush: 1s
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1:{press}
      security: none
      insecure: true
      publishing: 100ms
      tags:
        status: {{node: 'nsu=urn:acme:press;s=Status', type: int16, sampling: 50ms}}
        fault:  {{node: 'nsu=urn:acme:press;s=FaultCode', type: uint16, sampling: 50ms}}
        total:  {{node: 'nsu=urn:acme:press;s=Total', type: uint16, sampling: 50ms}}
"""


async def test_a_stop_while_the_agent_was_killed_is_told_once_with_the_right_times(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port) as sink,
        node_opcua(tmp_path / "press", history=True) as press,
    ):
        config = tmp_path / "edge-agent.yaml"
        config.write_text(CONFIG.format(broker=broker.port, press=press.port))
        agent = AgentProcess(config)
        try:
            await press.set("Status", 2)
            await agent.start()
            await agent.until(lambda s: s["machines"]["press-1"].get("state") == "running")
            await press.count("Total", rate=40)
            await agent.until(lambda s: s["machines"]["press-1"]["counters"]["main"]["totals"].get("total", 0) > 40)
            await agent.kill()
            await press.set("FaultCode", 12)
            await press.set("Status", 8)
            await asyncio.sleep(1.0)  # noqa: TID251 - so long the machine stands
            await press.set("Status", 2)
            for _ in range(2):  # killed again while it fills the gap, or soon after
                await agent.start(ready=False)
                await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: TID251 - somewhere in the middle
                await agent.kill()
            await agent.start()
            made = (await press.quiet())["Total"]
            await agent.until(
                lambda s: (
                    s["machines"]["press-1"]["counters"]["main"]["totals"].get("total") == made
                    and s["buffer"]["rows"] == 0
                )
            )
            ledger = Ledger().take_all(message.payload for message in sink.on("/evt/"))
            stops = [event["data"] for event in ledger.of("downtime.ended", "press-1")]
            truth = [line for line in press.truth() if line["node"] == "Status" and line["value"] in (2, 8)]
            stood = [stop for stop in stops if stop.get("reason", {}).get("code") == "12"]
            assert len(stood) == 1
            assert abs(parse_rfc3339(stood[0]["started_at"]) - truth[-2]["at"]) < 20_000
            assert abs(parse_rfc3339(stood[0]["ended_at"]) - truth[-1]["at"]) < 20_000
            assert "start_uncertain" not in stood[0]
            assert "end_uncertain" not in stood[0]
            gaps = [event["data"] for event in ledger.of("data.gap", "press-1")]
            off = [gap for gap in gaps if gap["cause"] == "agent_down"]
            assert off
            assert all(gap["history_recovered"] for gap in off)
            assert ledger.totals() == {"press-1": made}
        finally:
            await agent.kill()
