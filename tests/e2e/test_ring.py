"""Micro-stops and parts between two scans, out of the PLC's ring buffer, while the agent is killed again."""

import asyncio
import random
from pathlib import Path

import pytest

from edge_agent.clock import parse_rfc3339
from tests.agent_process import AgentProcess
from tests.e2e.oracle import Ledger
from tests.servers_modbus import ModbusSerial, modbus_serial
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import until

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
    state: {{rules: [{{state: running, when: run}}, {{state: idle}}], debounce: {{default: 0s}}}}
    counters: {{main: {{total: parts, max_rate: 500/s}}}}
    downtime: {{microstop: 300s}}
    flush: 1s
    device:
      driver: modbus
      url: tcp://127.0.0.1:{plc}
      scan: 500ms
      backoff: {{initial: 100ms, max: 500ms}}
      tags:
        run:   {{ring: true, type: bool}}
        parts: {{ring: true, type: uint32}}
      ring:
        head: {{holding: 1000}}
        tail: {{holding: 1001}}
        write_tail: true
        overflow: {{holding: 1002}}
        slots: {{holding: 1010, count: 400, size: 6}}
        code: {{at: 0}}
        time: {{at: 1, form: epoch_ms}}
        codes: {{1: {{run: true}}, 2: {{run: false}}, 10: {{parts: {{add: 1}}}}}}
"""
RUN, STOP, PART = (1, 0), (2, 0), (10, 0)


async def test_no_stop_and_no_part_is_lost_or_told_twice_over_kills(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port) as sink,
        modbus_serial(tmp_path) as plc,
    ):
        config = tmp_path / "edge-agent.yaml"
        config.write_text(CONFIG.format(broker=broker.port, plc=plc.port))
        agent = AgentProcess(config)
        try:
            await plc.ring(1000, 400, tail=True)
            await plc.push(RUN)
            await agent.start()
            await agent.until(lambda s: s["machines"]["press-1"].get("state") == "running")
            over = asyncio.Event()
            working = asyncio.create_task(_work(plc, over))
            for _ in range(3):
                await asyncio.sleep(random.uniform(0.2, 1.2))  # noqa: TID251 - killed somewhere in the middle
                await agent.kill()
                await agent.start()
                await agent.until(lambda s: s["devices"]["press-1"]["status"] == "UP")
            over.set()
            await working
            truth = [line for line in plc.truth() if "entry" in line]
            assert not any(line["lost"] for line in truth)
            made = sum(line["code"] == PART[0] for line in truth)
            stood = [line["at"] for line in truth if line["code"] == STOP[0]]
            again = [line["at"] for line in truth if line["code"] == RUN[0]][1:]

            def ledger() -> Ledger:
                return Ledger().take_all(message.payload for message in sink.on("/evt/"))

            def counted() -> int:
                return sum(event["data"]["delta"]["total"] for event in ledger().of("production.counted", "press-1"))

            await until(lambda: counted() >= made, limit=60, what="all parts are told")
            told = [
                (parse_rfc3339(event["data"]["started_at"]), parse_rfc3339(event["data"]["ended_at"]))
                for event in ledger().of("downtime.ended", "press-1")
            ]
            assert told == list(zip(stood, again, strict=True))
            assert counted() == made
            assert {one["address"] for one in await plc.writes()} == {1001}
        finally:
            await agent.kill()


async def _work(plc: ModbusSerial, over: asyncio.Event) -> None:
    """Stops of 20 to 300 ms, and parts between them faster than anybody scans."""
    while not over.is_set():
        await plc.push(STOP)
        await asyncio.sleep(random.uniform(0.02, 0.3))  # noqa: TID251 - so long the machine stands
        await plc.push(RUN)
        await plc.push(PART, every=10, times=10)
        await asyncio.sleep(0.3)  # noqa: TID251 - it makes its parts meanwhile
