"""Micro-stops and parts between two scans, out of the PLC's ring buffer, while the agent is killed again."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_agent.clock import parse_rfc3339
from tests.agent_process import AgentProcess
from tests.e2e.oracle import Ledger
from tests.servers_modbus import modbus_serial
from tests.servers_mqtt import Sink, mosquitto
from tests.servers_opcua import node_opcua
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "node")

LONG = bool(os.environ.get("EDGE_AGENT_TORTURE"))

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
      backoff: {{initial: 100ms, max: 500ms}}
      tags:
        run:   {{ring: true, type: bool}}
        parts: {{ring: true, type: uint32}}
      {device}
        write_tail: true
        codes: {{1: {{run: true}}, 2: {{run: false}}, 10: {{parts: {{add: 1}}}}}}
"""
MODBUS = """
      driver: modbus
      url: tcp://127.0.0.1:{port}
      scan: 500ms
      ring:
        head: {{holding: 1000}}
        tail: {{holding: 1001}}
        overflow: {{holding: 1002}}
        slots: {{holding: 1010, count: 400, size: 6}}
        code: {{at: 0}}
        time: {{at: 1, form: epoch_ms}}
"""
OPCUA = """
      driver: opcua
      url: opc.tcp://127.0.0.1:{port}
      security: none
      insecure: true
      ring:
        head: {{node: 'nsu=urn:acme:press;s=Head', type: uint16}}
        tail: {{node: 'nsu=urn:acme:press;s=Tail', type: uint16}}
        overflow: {{node: 'nsu=urn:acme:press;s=Overflow', type: uint16}}
        slots: {{count: 400}}
        code: {{node: 'nsu=urn:acme:press;s=Codes'}}
        time: {{node: 'nsu=urn:acme:press;s=Stamps', form: datetime}}
"""
RUN, STOP, PART = (1, 0), (2, 0), (10, 0)
KILLS = 3
Entry = tuple[int, int]


class Plc(NamedTuple):
    """`push` writes entries into its ring. `truth`: (code, µs, whether there was no room) of each so far. `written`:
    what a client has written to."""

    device: str
    push: Callable[..., Awaitable[object]]
    truth: Callable[[], list[tuple[int, int, bool]]]
    written: Callable[[], Awaitable[set[str]]]


@asynccontextmanager
async def modbus(folder: Path) -> AsyncIterator[Plc]:
    async with modbus_serial(folder) as peer:
        await peer.ring(1000, 400, tail=True)

        async def written() -> set[str]:
            return {str(one["address"]).replace("1001", "Tail") for one in await peer.writes()}

        def truth() -> list[tuple[int, int, bool]]:
            return [(one["code"], one["at"], one["lost"]) for one in peer.truth() if "entry" in one]

        yield Plc(MODBUS.format(port=peer.port).strip(), peer.push, truth, written)


@asynccontextmanager
async def opcua(folder: Path) -> AsyncIterator[Plc]:
    async with node_opcua(folder / "press") as peer:
        await peer.tell("ring", slots=400, tail=True)

        async def push(*entries: Entry) -> None:
            await peer.tell("push", entries=entries)

        async def written() -> set[str]:
            return {node.rpartition("=")[2] for node, _ in (await peer.tell("writes"))["writes"]}

        def truth() -> list[tuple[int, int, bool]]:
            return [(one["value"], one["stamp"], one["lost"]) for one in peer.truth() if "entry" in one]

        yield Plc(OPCUA.format(port=peer.port).strip(), push, truth, written)


@pytest.mark.torture
@pytest.mark.parametrize("kind", [modbus, opcua] if LONG else [modbus])
async def test_no_stop_and_no_part_is_lost_or_told_twice_over_kills(
    tmp_path: Path, kind: Callable[[Path], AbstractAsyncContextManager[Plc]]
) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink, kind(tmp_path) as plc:
        config = tmp_path / "edge-agent.yaml"
        config.write_text(CONFIG.format(broker=broker.port, device=plc.device))
        agent = AgentProcess(config)
        try:
            await plc.push(RUN)
            await agent.start()
            await agent.until(lambda s: s["machines"]["press-1"].get("state") == "running")
            over = asyncio.Event()
            working = asyncio.create_task(_work(plc, over))
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0.2, 1.2))  # noqa: TID251 - killed somewhere in the middle
                await agent.kill()
                await agent.start()
                await agent.until(lambda s: s["devices"]["press-1"]["status"] == "UP")
            over.set()
            await working
            truth = plc.truth()
            assert not any(lost for _, _, lost in truth)
            made = sum(code == PART[0] for code, _, _ in truth)
            stood = [at for code, at, _ in truth if code == STOP[0]]
            again = [at for code, at, _ in truth if code == RUN[0]][1:]

            def ledger() -> Ledger:
                return Ledger().take_all(message.payload for message in sink.on("/evt/"))

            def counted() -> int:
                return sum(event["data"]["delta"]["total"] for event in ledger().of("production.counted", "press-1"))

            await until(lambda: counted() >= made, limit=60, what="all parts are told")
            told = [
                (parse_rfc3339(event["data"]["started_at"]), parse_rfc3339(event["data"]["ended_at"]))
                for event in ledger().of("downtime.ended", "press-1")
            ]
            assert len(told) == len(stood)
            pairs = zip(chain.from_iterable(told), chain.from_iterable(zip(stood, again, strict=True)), strict=True)
            late = [said - real for said, real in pairs if said != real]
            assert len(late) <= KILLS, "only what changed during the last look before a kill"
            assert all(0 < one < 500_000 for one in late), late
            assert counted() == made
            assert await plc.written() == {"Tail"}
        finally:
            await agent.kill()


async def _work(plc: Plc, over: asyncio.Event) -> None:
    """Stops of 20 to 300 ms, and parts between them faster than anybody scans."""
    while not over.is_set():
        await plc.push(STOP)
        await asyncio.sleep(random.uniform(0.02, 0.3))  # noqa: TID251 - so long the machine stands
        await plc.push(RUN)
        for _ in range(10):
            await plc.push(PART)
            await asyncio.sleep(0.02)  # noqa: TID251 - so long it makes a part
