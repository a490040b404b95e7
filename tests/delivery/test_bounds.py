"""The bounds of the outbox: what goes first, that every drop is declared, and that collecting goes on."""

import asyncio
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buffer.outbox import Lane, Message, Outbox
from buffer.sqlite import SqliteOutbox
from config.load import load
from config.model import Buffer
from drivers.registry import Drivers
from edge_agent.clock import Instant, SystemClock
from edge_agent.delivery import declarations
from edge_agent.delivery.bounds import COUNTS, STRETCH, Bounds
from edge_agent.delivery.retained import Retained
from edge_agent.events.types import AgentStarted
from edge_agent.floor import Floor
from tests.small_disk import run_on_small_disk

AT = 1_772_414_047_250_000
BODY = b"x" * 2000
_CONFIG = """\
version: 1
agent: {id: whole}
site: {enterprise: acme, site: sz1, area: hall}
machines:
  press-1:
    line: line1
    device: {driver: simulated, scan: 20ms, tags: {status: {kind: cycle, values: [2, 8], every: 200ms}}}
    state: {from: status, map: {2: running, 8: fault}}
"""
STREAMS = {Lane.PRODUCTION: "saw2.p", Lane.MEASUREMENT: "saw2.m"}


class Clock(SystemClock):
    """Wall time as the test says, and no waiting."""

    wall = AT
    mono = 0

    def now(self) -> Instant:
        return Instant(self.wall, self.mono)

    def go_on(self, micros: int) -> None:
        self.wall += micros
        self.mono += micros

    async def sleep(self, seconds: float) -> None:
        self.go_on(int(seconds * 1e6))
        await asyncio.sleep(0.001)  # noqa: TID251 - this is the test's clock


class Filling:
    """An outbox of 1 MiB with its bounds; `seqs` are the newest numbers that the test has stored."""

    def __init__(self, outbox: SqliteOutbox, floor: Floor, clock: Clock, options: Buffer) -> None:
        self.outbox, self.floor, self.clock = outbox, floor, clock
        self.bounds = Bounds(floor, outbox, clock, options)
        self.seqs: Counter[Lane] = Counter()

    async def append(self, lane: Lane, count: int = 1) -> None:
        for _ in range(count):
            self.seqs[lane] += 1
            message = Message(STREAMS[lane], self.outbox.epoch, self.seqs[lane], lane, "a.b", "ea/v1/evt", BODY)
            await self.outbox.append([message], states={})

    async def give_up(self, lane: Lane) -> None:
        oldest = await self.outbox.oldest(lane, 1 << 20, with_bodies=COUNTS)
        declared = declarations.given_up({"drop_oldest": oldest}, "buffer_full")
        await self.floor.give_up([each.span for each in oldest], declared)

    async def fill(self) -> float:
        return (await self.outbox.room()).fill

    async def waiting(self, lane: Lane) -> list[int]:
        rows = await all_of(self.outbox, lane)
        return [message.seq for message in rows if message.stream == STREAMS[lane]]

    async def declared(self) -> dict[str, set[int]]:
        """Numbers named by data.loss, by stream."""
        named = defaultdict[str, set[int]](set)
        for data in await self.losses():
            named[data["lost_stream"]] |= set(range(data["seq_from"], data["seq_to"] + 1))
        return named

    async def losses(self) -> list[dict[str, object]]:
        rows = await all_of(self.outbox, Lane.HEALTH)
        return [json.loads(message.body)["data"] for message in rows if message.type == "data.loss"]


async def all_of(outbox: Outbox, lane: Lane) -> list[Message]:
    return [stored.message for stored in await outbox.next_batch(10_000, lane=lane)]


@asynccontextmanager
async def filling(folder: Path, **options: object) -> AsyncIterator[Filling]:
    file = folder / "edge-agent.yaml"
    file.write_text(_CONFIG)
    config = load(file, Drivers().options()).config
    clock = Clock()
    ticks = itertools.count()
    outbox = SqliteOutbox(
        folder / "buffer.db", agent_id="whole", max_size=1 << 20, now=lambda: clock.wall + next(ticks)
    )
    await outbox.open()
    try:
        floor = Floor(config, [], outbox, Retained(), clock)
        await floor.record(AgentStarted(version="1", config_hash="x", clean_stop=True))
        yield Filling(outbox, floor, clock, Buffer.model_construct(max_size=1 << 20, **options))
    finally:
        await outbox.close()


async def test_nothing_is_given_up_while_there_is_room(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        await filled.append(Lane.MEASUREMENT, 50)
        await filled.bounds.make_room()
        assert await filled.losses() == []


async def test_from_seventy_percent_on_less_is_sampled_until_there_is_room_again(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        while await filled.fill() < 0.7:
            await filled.bounds.make_room()
            assert filled.floor._stretch == 1
            await filled.append(Lane.PRODUCTION, 5)
        await filled.bounds.make_room()
        assert filled.floor._stretch == STRETCH
        assert await filled.losses() == []
        rows = await filled.outbox.next_batch(1000, lane=Lane.PRODUCTION)
        await filled.outbox.ack([stored.position for stored in rows])
        await filled.append(Lane.PRODUCTION)  # with it the confirmations are committed: what is kept may go
        await filled.bounds.make_room()
        assert filled.floor._stretch == 1


async def test_measurements_go_before_production_and_are_declared(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        await filled.append(Lane.MEASUREMENT, 100)
        while await filled.fill() < 0.9:
            await filled.append(Lane.PRODUCTION)
        await filled.bounds.make_room()
        assert await filled.fill() < 0.85
        left = await filled.waiting(Lane.MEASUREMENT)
        gone = (await filled.declared())["saw2.m"]
        assert 0 < len(left) < 100
        assert gone == set(range(1, left[0]))
        assert left == list(range(left[0], 101))
        assert await filled.waiting(Lane.PRODUCTION) == list(range(1, filled.seqs[Lane.PRODUCTION] + 1))
        losses = await filled.losses()
        assert {(loss["cause"], loss["policy"]) for loss in losses} == {("buffer_full", "shed_measurements")}
        assert sum(loss["count_by_type"]["a.b"] for loss in losses) == len(gone)


async def test_with_drop_oldest_storing_goes_on_for_ever_and_every_hole_is_named(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        watching = asyncio.create_task(filled.bounds.run())
        for _ in range(400):
            await asyncio.wait_for(filled.append(Lane.PRODUCTION, 5), 10)
        watching.cancel()
        left = await filled.waiting(Lane.PRODUCTION)
        assert 200 < len(left) < 500
        assert left[-1] == 2000
        assert (await filled.declared())["saw2.p"] == set(range(1, 2001)) - set(left)
        assert {loss["policy"] for loss in await filled.losses()} == {"drop_oldest"}


async def test_with_stop_reading_production_waits_and_nothing_of_it_is_given_up(tmp_path: Path) -> None:
    async with filling(tmp_path, when_full="stop_reading") as filled:
        watching = asyncio.create_task(filled.bounds.run())
        storing = asyncio.create_task(filled.append(Lane.PRODUCTION, 1000))
        while not filled.outbox.full:  # noqa: ASYNC110 - set by the thread of the outbox
            await asyncio.sleep(0.01)  # noqa: TID251
        stored = await filled.waiting(Lane.PRODUCTION)
        assert stored == list(range(1, len(stored) + 1))
        assert len(stored) < 1000
        rows = await filled.outbox.next_batch(10_000, lane=Lane.PRODUCTION)
        while not storing.done():
            await filled.outbox.ack([stored.position for stored in rows])
            rows = await filled.outbox.next_batch(10_000, lane=Lane.PRODUCTION)
            await asyncio.wait({storing}, timeout=0.05)
        watching.cancel()
        assert (await filled.declared())["saw2.p"] == set()


async def test_confirmed_messages_go_before_anything_that_waits(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        await filled.append(Lane.MEASUREMENT, 20)
        while (await filled.outbox.depth()).fill < 0.9:
            await filled.append(Lane.PRODUCTION, 5)
            rows = await filled.outbox.next_batch(100, lane=Lane.PRODUCTION)
            await filled.outbox.ack([stored.position for stored in rows])
        async with asyncio.timeout(20):
            while await filled.fill() > 0.8:
                await filled.bounds.make_room()
        assert len(await filled.waiting(Lane.MEASUREMENT)) == 20
        assert await filled.losses() == []


async def test_what_has_waited_too_long_is_given_up_in_every_lane(tmp_path: Path) -> None:
    async with filling(tmp_path, max_age=3_600_000_000) as filled:
        await filled.append(Lane.PRODUCTION, 3)
        await filled.append(Lane.MEASUREMENT, 2)
        filled.clock.go_on(3_000_000_000)
        await filled.append(Lane.PRODUCTION, 2)
        await filled.bounds.drop_too_old()
        assert await filled.losses() == []
        filled.clock.go_on(700_000_000)
        await filled.bounds.drop_too_old()
        assert await filled.waiting(Lane.PRODUCTION) == [4, 5]
        assert await filled.waiting(Lane.MEASUREMENT) == []
        assert await filled.declared() == {"saw2.p": {1, 2, 3}, "saw2.m": {1, 2}}
        assert {loss["cause"] for loss in await filled.losses()} == {"expired_retention"}


async def test_a_wall_clock_that_jumps_ahead_makes_nothing_old(tmp_path: Path) -> None:
    async with filling(tmp_path, max_age=3_600_000_000) as filled:
        await filled.append(Lane.PRODUCTION, 3)
        filled.clock.wall += 365 * 24 * 3_600_000_000
        await filled.bounds.drop_too_old()
        assert await filled.waiting(Lane.PRODUCTION) == [1, 2, 3]


async def test_counts_that_are_given_up_leave_their_last_totals(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        messages = [
            Message("saw2.p", filled.outbox.epoch, seq, Lane.PRODUCTION, "production.counted", "t", body.encode())
            for seq, body in enumerate(
                [
                    '{"data": {"counter": "main", "totals": {"total": 7}}}',
                    '{"data": {"counter": "main", "totals": {"total": 9, "scrap": 1}}}',
                    '{"data": {"counter": "second", "totals": {"total": 2}}}',
                ],
                1,
            )
        ]
        await filled.outbox.append(messages, states={})
        await filled.give_up(Lane.PRODUCTION)
        (loss,) = await filled.losses()
        assert loss["totals_after"] == {"main": {"total": 9, "scrap": 1}, "second": {"total": 2}}


@pytest.mark.needs("unshare", "mount")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_DISK_FULL" in os.environ else 120)
def test_a_full_disk_ends_nothing_and_every_event_is_stored_or_declared(tmp_path: Path) -> None:
    times = os.environ.get("EDGE_AGENT_DISK_FULL", "1")
    out = run_on_small_disk(tmp_path, "tests.delivery.disk_full_child", times)
    print(f"longest wait of an append: {float(out):.3f} s")  # noqa: T201 - the figure of the long form
    assert float(out) < 10


@pytest.mark.parametrize("lost", ["saw2.p", "saw2.m"])
async def test_a_start_after_a_drop_goes_on_with_the_numbers(tmp_path: Path, lost: str) -> None:
    lane = next(lane for lane, stream in STREAMS.items() if stream == lost)
    async with filling(tmp_path) as filled:
        await filled.append(lane, 3)
        await filled.give_up(lane)
    outbox = SqliteOutbox(tmp_path / "buffer.db", agent_id="whole", now=lambda: AT)
    await outbox.open()
    assert outbox.broken is None
    await outbox.append([Message(lost, outbox.epoch, 4, lane, "a.b", "ea/v1/evt", BODY)], states={})
    await outbox.close()
