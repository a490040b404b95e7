"""What the agent says about itself, beat by beat."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.memory import MemoryOutbox
from buffer.outbox import Message
from config.load import load
from drivers.base import Batch, Quality, Reading
from drivers.registry import Drivers
from edge_agent.clock import SECOND, Instant
from edge_agent.delivery.publisher import NotConnected
from edge_agent.delivery.retained import Retained
from edge_agent.floor import Floor
from edge_agent.health import BrokerHealth, Health
from edge_agent.heartbeat import STREAMS, Heartbeat
from edge_agent.machine.machine import Machine
from edge_agent.running import Running
from tests.machine.stories import START
from tests.schema_check import check_message

_CONFIG = """\
version: 1
agent: {id: whole}
site: {enterprise: acme, site: sz1, area: hall}
mqtt: {url: "mqtt://127.0.0.1:1884"}
buffer: {path: buffer.db}
machines:
  press-1:
    line: line1
    device:
      driver: simulated
      scan: 1s
      tags: {status: {kind: constant, value: 2}}
    state: {from: status, map: {2: running, 8: fault}}
"""


class Hand:
    """A clock on which so many sleeps end at once; the next one lasts for ever."""

    def __init__(self, sleeps: int) -> None:
        self.at, self.left, self.over = 0, sleeps, asyncio.Event()
        self.between: Callable[[int], None] = lambda left: None

    def now(self) -> Instant:
        return Instant(START + self.at, self.at)

    async def sleep(self, seconds: float) -> None:
        if self.left == 0:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        self.left -= 1
        self.at += round(seconds * SECOND)
        self.between(self.left)


async def beats(
    folder: Path,
    sleeps: int,
    happens: Callable[[int, BrokerHealth], None],
    readings: Sequence[Reading] = (),
    streams: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """The agent's own events over so many beats of 5 s; `happens` is called in each, with how many are left.
    `streams`: further ones, with their last numbers."""
    file = folder / "edge-agent.yaml"
    file.write_text(_CONFIG)
    loaded, clock, messages = load(file, Drivers().options()), Hand(sleeps), list[Message]()
    outbox = MemoryOutbox(now=lambda: clock.now().wall)
    await outbox.open()
    machines = [Machine(loaded.config, name, epoch=outbox.epoch) for name in loaded.config.machines]
    floor = Floor(loaded.config, machines, outbox, Retained(), clock)
    floor.observers.append(messages.extend)
    await floor.open()
    floor.last_seq.update(streams or {})
    for reading in readings:
        clock.at += SECOND
        await floor.feed(Batch("press-1", [reading]))
    health = Health.of(loaded.config.devices, clock)
    clock.between = lambda left: happens(left, health.broker)
    heartbeat = Heartbeat(floor, outbox, health, clock, disk=folder, running=Running("1.0", loaded))
    task = asyncio.create_task(heartbeat.run())
    await asyncio.wait_for(clock.over.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    for message in messages:
        check_message(message.topic, message.body)
    return [
        json.loads(message.body) for message in messages if message.type in ("connection.changed", "agent.heartbeat")
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [("B601", "auth"), ("B605", "timeout"), ("B606", "refused"), ("B604", "session_lost"), ("B699", "exception")],
)
async def test_a_broker_that_goes_and_comes_back_is_told_with_its_reason(
    tmp_path: Path, code: str, reason: str
) -> None:
    def happens(left: int, broker: BrokerHealth) -> None:
        if left in (4, 1):
            broker.connected()
        if left in (3, 2):
            broker.disconnected(NotConnected("It is gone.", code=code), 1)

    events = [event["data"] for event in await beats(tmp_path, 5, happens)]

    said = [(event["status"], event.get("reason"), event["since"][17:19]) for event in events]
    assert said == [("up", None, "05"), ("down", reason, "10"), ("up", None, "20")]
    assert {(event["endpoint"], event["protocol"]) for event in events} == {("mqtt://127.0.0.1:1884", "mqtt")}
    assert events[1]["native"] == "It is gone."
    assert events[1]["affected"] == ["acme/sz1/hall/_agents/whole"]


async def test_a_connection_that_was_never_there_is_down_and_a_flapping_one_says_nothing(tmp_path: Path) -> None:
    def happens(left: int, broker: BrokerHealth) -> None:
        broker.connected()
        broker.disconnected(NotConnected("It is gone.", code="B605"), 1)

    assert [event["data"]["status"] for event in await beats(tmp_path, 4, happens)] == ["down"]


async def test_the_heartbeat_tells_clocks_that_are_wrong_and_samples_that_came_late(tmp_path: Path) -> None:
    now = START + SECOND
    late = [
        Reading("status", 2, Quality.GOOD, now),
        Reading("status", 8, Quality.GOOD, now - SECOND // 2),
        Reading("status", 2, Quality.GOOD, now + 2 * SECOND),
    ]
    ahead = [Reading("status", 2, Quality.GOOD, START + (3600 + n) * SECOND) for n in range(2, 5)]

    def happens(left: int, broker: BrokerHealth) -> None: ...

    (in_time,) = await beats(tmp_path, 6, happens, late)
    (wrong,) = await beats(tmp_path, 6, happens, ahead)

    assert in_time["data"]["late_dropped"] == {"press-1": 1}
    assert "skew_ms" not in in_time["data"]
    assert wrong["data"]["skew_ms"] == {"press-1": 3_601_000}
    assert "late_dropped" not in wrong["data"]


async def test_heartbeats_of_a_large_plant_stay_small_and_name_every_stream_in_turn(tmp_path: Path) -> None:
    streams = {f"a-machine-with-quite-a-long-name-{number:04d}.p": 10**9 for number in range(3 * STREAMS)}

    told = await beats(tmp_path, 24, lambda *_: None, streams=streams)

    assert max(len(json.dumps(event)) for event in told) < 65_536
    assert {name for event in told for name in event["data"]["last_seq"]} >= streams.keys()
