"""An agent and its broker on two ends of a link that loses packets, is slow, late, or swallows everything: nothing is
lost, the connection is back within seconds after the link is, and what is stuck is noticed.

The long form goes through `EDGE_AGENT_NETWORK_ROUNDS` spells of bad weather (200 with `make torture`).
"""

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.agent_process import AgentProcess, agent
from tests.bad_cable import bad_cable
from tests.bad_link import FAR, BadLink, bad_link
from tests.e2e.oracle import Ledger
from tests.programs import find_program
from tests.servers_mqtt import Sink
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "unshare", "nsenter", "ip")
ROUNDS = int(os.environ.get("EDGE_AGENT_NETWORK_ROUNDS", "4"))
LIMIT = 60.0
"""Seconds, on a machine that has other work."""
DEFAULTS = "timeout: 10s, keepalive: 15s"
CREEPING = 2_000
"""Bytes a second: 16 kbit/s."""
_CONFIG = f"""\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://{FAR}:1883", insecure: true, LIMITS}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    state: {{from: status, map: {{2: running, 8: fault}}}}
    counters: {{main: {{total: total, max_rate: 10000/s}}}}
    device:
      driver: simulated
      scan: 50ms
      tags: {{status: {{kind: cycle, values: [2, 8], every: 250ms}}, total: {{kind: counter}}}}
"""


@asynccontextmanager
async def plant(folder: Path, limits: str) -> AsyncIterator[tuple[BadLink, AgentProcess, Sink]]:
    """`limits`: time limits of `mqtt:`. The sink sits beside the broker, where the network is good."""
    file, beside = folder / "edge-agent.yaml", folder / "mosquitto.sock"
    file.write_text(_CONFIG.replace("LIMITS", limits))
    (folder / "mosquitto.conf").write_text(
        f"listener 1883 {FAR}\nlistener 0 {beside}\nallow_anonymous true\nuser root\nmax_queued_messages 0\n"
    )
    async with bad_link() as link:
        broker = await asyncio.create_subprocess_exec(
            *link.far.prefix,
            find_program("mosquitto"),
            "-c",
            str(folder / "mosquitto.conf"),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await until(beside.exists, limit=LIMIT)
            async with (
                bad_cable(beside) as relay,
                Sink(relay.port, "ea/v1/#") as sink,
                agent(file, prefix=link.near.prefix) as process,
            ):
                await process.until(up, limit=LIMIT)
                yield link, process, sink
        finally:
            broker.kill()
            await broker.wait()


def up(status: dict) -> bool:  # type: ignore[type-arg]  # JSON
    return bool(status["broker"]["status"] == "UP")


def down(status: dict) -> bool:  # type: ignore[type-arg]  # JSON
    return not up(status)


async def confirmed(process: AgentProcess, more: int) -> None:
    before = (await process.until(lambda status: True))["broker"]["confirmed"]
    await process.until(lambda status: status["broker"]["confirmed"] >= before + more, limit=LIMIT)


async def swallowed(link: BadLink, process: AgentProcess, seconds: float) -> tuple[float, float]:
    """Seconds until a black hole was noticed, and from its end to the new connection."""
    clock = asyncio.get_running_loop().time
    began, link.hole = clock(), True
    await process.until(down, limit=LIMIT)
    noticed = clock() - began
    await asyncio.sleep(seconds)  # noqa: TID251 - for so long there is no network
    link.heal()
    healed = clock()
    await process.until(up, limit=LIMIT)
    return noticed, clock() - healed


async def all_there(folder: Path, process: AgentProcess, sink: Sink) -> Ledger:
    """Stop the agent, and hold what it stored against what the sink has."""
    await process.until(lambda status: status["buffer"]["rows"] < 20, limit=LIMIT)
    assert await process.terminate(LIMIT) == 0
    with sqlite3.connect(folder / "buffer.db") as database:
        stored = {
            (stream, epoch, seq)
            for stream, epoch, seq in database.execute(
                "SELECT stream, epoch, seq FROM message JOIN stream ON stream.id = stream_id"
            )
        }
        assert database.execute("SELECT count(*) FROM pending").fetchone() == (0,)
    database.close()
    await sink.wait_for(lambda messages: len(sink.events()) >= len(stored), limit=LIMIT)
    ledger = Ledger()
    ledger.take_all(message.payload for message in sink.on("/evt/"))
    got = {(e["source"].rpartition(":")[2], e["epoch"], int(e["sequence"])) for e in sink.events()}
    assert got == stored
    assert sink.disorder() == []
    return ledger


async def test_lost_and_late_packets_a_black_hole_and_16_kbit_s_lose_no_event(tmp_path: Path) -> None:
    async with plant(tmp_path, "timeout: 2s, keepalive: 3s") as (link, process, sink):
        link.loss, link.delay = 0.1, 0.05
        await confirmed(process, 6)
        assert link.dropped > 0
        link.heal()
        noticed, back = await swallowed(link, process, 0.2)
        link.rate = CREEPING
        await confirmed(process, 3)
        link.heal()
        await all_there(tmp_path, process, sink)
    assert noticed < LIMIT / 2
    assert back < LIMIT / 4


if "EDGE_AGENT_NETWORK_ROUNDS" in os.environ:

    @pytest.mark.torture
    @pytest.mark.timeout(14_400)
    async def test_spells_of_bad_weather_lose_no_event(tmp_path: Path) -> None:
        dice = random.Random(4711)
        noticed, back = [0.0], [0.0]
        async with plant(tmp_path, DEFAULTS) as (link, process, sink):
            for spell in range(ROUNDS):
                match spell % 4:
                    case 0:
                        one, other = await swallowed(link, process, dice.uniform(0, 60))
                        noticed.append(one)
                        back.append(other)
                    case 1:
                        link.loss, link.delay = dice.uniform(0.02, 0.3), dice.uniform(0, 0.5)
                        await confirmed(process, 20)
                    case 2:
                        link.rate = CREEPING
                        await confirmed(process, 20)
                    case 3:
                        link.hole = True
                        await asyncio.sleep(dice.uniform(0, 2))  # noqa: TID251 - shorter than anybody notices
                link.heal()
                await process.until(up, limit=LIMIT)
            ledger = await all_there(tmp_path, process, sink)
        sys.stdout.write(
            f"{ROUNDS} spells, {link.dropped} packets dropped, {len(ledger.events)} events, 0 lost, "
            f"{ledger.duplicates} sent twice; "
            f"noticed within {max(noticed):.1f} s, connected again within {max(back):.1f} s\n"
        )
