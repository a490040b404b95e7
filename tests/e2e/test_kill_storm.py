"""kill -9 at any moment of a life, again and again: no part lost or counted twice, no stop told twice, no start
that fails.

The long form: EDGE_AGENT_KILLS=10000. One kill in fifty is of a full `edge-agent run`, the others are of agents
forked with their imports made (see `zygote`), which live through the same from their first line on.
"""

import asyncio
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess
from tests.e2e.storm import ForkedAgent, Line, deliver
from tests.mom_database import MomDatabase
from tests.servers_modbus import modbus_serial
from tests.servers_mqtt import Sink, mosquitto

pytestmark = [pytest.mark.needs("mosquitto", "node"), pytest.mark.torture]
KILLS = int(os.environ.get("EDGE_AGENT_KILLS", "40"))
LONG = "EDGE_AGENT_KILLS" in os.environ
LINES = 10 if LONG else 1
ROUND = 200
"""Kills of a line between two judgements."""
FULL_IN = 50


async def live_and_die(line: Line, kills: int) -> None:
    forked = ForkedAgent(line.config)
    full = AgentProcess(line.config)
    try:
        await line.begin(forked)
        while kills > 0:
            of_these = min(kills, ROUND)
            await line.storm(forked, of_these - of_these // FULL_IN)
            if of_these >= FULL_IN:
                await line.storm(full, of_these // FULL_IN)
            await line.settle(forked)
            kills -= of_these
            if LONG:
                sys.stdout.write(f"line {line.number}: {dict(line.counted)}\n")
                sys.stdout.flush()
    finally:
        await forked.close()
        if full.running:
            await full.kill()


async def deliver_for_ever(sink: Sink, lines: dict[int, Line]) -> None:
    while True:
        deliver(sink, lines)
        await asyncio.sleep(0.05)  # noqa: TID251 - what has come is taken now and then


@pytest.mark.timeout(0 if LONG else 180)
async def test_no_kill_at_whatever_moment_loses_or_repeats_anything(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(tmp_path))
        lines = {}
        for number in range(LINES):
            folder = tmp_path / f"line-{number}"
            folder.mkdir()
            plc = await stack.enter_async_context(modbus_serial(folder))
            mom = MomDatabase(folder / "mom.db")
            stack.callback(mom.close)
            lines[number] = Line(number, folder, plc, broker.port, mom, random.Random(number))
            lines[number].write_config()
        sink = await stack.enter_async_context(Sink(broker.port))
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(deliver_for_ever(sink, lines))
            await asyncio.gather(*(live_and_die(line, KILLS // LINES) for line in lines.values()))
            taking.cancel()
        total = sum((line.counted for line in lines.values()), Counter())
        starts = sum(len(line.mom.events("agent.started")) for line in lines.values())
        events = sum(line.mom.count for line in lines.values())
        again = sum(line.mom.duplicates for line in lines.values())
        sys.stdout.write(f"{dict(total)}, {starts} starts told, {events} events, {again} of them sent twice\n")
    assert total["killed"] == KILLS // LINES * LINES
    assert starts > total["killed"] // 4, "too few lives came far enough to say anything"
