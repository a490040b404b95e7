"""What the floor does with machines that a bug makes fail: the others go on, and it is said."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message
from drivers.base import Batch, Entries, Quality, Reading
from edge_agent.clock import Instant, SystemClock
from edge_agent.delivery.retained import Retained
from edge_agent.floor import Floor
from edge_agent.machine.contracts import Outcome, State
from edge_agent.machine.machine import Machine
from tests.machine.stories import PRESS, config
from tests.waiting import until

NUMBERS = ("status", "fault", "total", "reject")


class Fragile(Machine):
    """Fails while its fault is 66, and whenever a timer is due."""

    timers = 0

    def step(self, state: State, batch: Batch, now: Instant) -> Outcome:
        if any(reading[:2] == ("fault", 66) for reading in batch.readings):
            raise RuntimeError("a bug")
        return super().step(state, batch, now)

    def tick(self, state: State, now: Instant) -> Outcome:
        self.timers += 1
        raise RuntimeError("a bug in a timer")


async def begin(*, fragile_last: bool = False) -> tuple[Floor, list[Message]]:
    outbox = MemoryOutbox(now=lambda: 0)
    await outbox.open()
    made = config({**PRESS, "flush": "1s"})
    made = made.model_copy(update={"machines": {"saw": made.machines["press"], **made.machines}})
    machines = [Fragile(made, "saw", epoch=outbox.epoch), Machine(made, "press", epoch=outbox.epoch)]
    floor = Floor(made, machines[::-1] if fragile_last else machines, outbox, Retained(), SystemClock())
    told: list[Message] = []
    floor.observers.append(told.extend)
    await floor.open()
    return floor, told


class Damaged(MemoryOutbox):
    """Gives no state of a machine, as where its row is damaged."""

    async def load_states(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {}


@pytest.mark.parametrize("kind", [MemoryOutbox, Damaged])
async def test_a_machine_whose_state_cannot_be_read_goes_on_after_its_last_number(kind: type[MemoryOutbox]) -> None:
    outbox = kind(now=lambda: 0)
    await outbox.open()
    made = config(PRESS)
    for status in (2, 8):
        floor = Floor(made, [Machine(made, "press", epoch=outbox.epoch)], outbox, Retained(), SystemClock())
        await floor.open()
        await floor.feed(batch(status, 0, 100, 0))
        await outbox.append((), states={"machine/press": b"[99]"})
    numbers = [one.message.seq for one in await outbox.next_batch(50, lane=Lane.PRODUCTION)]
    assert numbers == [1, 2, 3]
    (warning,) = await outbox.next_batch(50, lane=Lane.HEALTH)
    assert b"state_unreadable" in warning.message.body


def batch(*values: int, **more: Any) -> Batch:
    return Batch("press", [Reading(*pair, Quality.GOOD) for pair in zip(NUMBERS, values, strict=True)], **more)


async def test_a_machine_that_fails_stays_as_it_was_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    floor, told = await begin()
    await floor.feed(batch(2, 0, 100, 0))
    with caplog.at_level(logging.ERROR):
        for total in (101, 102, 103):
            await floor.feed(batch(2, 66, total, 0))
    totals = {name: one["counters"]["main"]["totals"]["total"] for name, one in floor.describe().items()}
    assert totals == {"saw": 0, "press": 3}

    await floor.feed(batch(2, 0, 104, 0))
    totals = {name: one["counters"]["main"]["totals"]["total"] for name, one in floor.describe().items()}
    assert totals == {"saw": 4, "press": 4}
    assert [one.type for one in told if one.stream == "$agent.h"] == ["agent.warning"]
    assert len(caplog.records) == 1


async def test_a_timer_that_fails_is_not_tried_over_and_over() -> None:
    floor, told = await begin()
    await floor.feed(batch(2, 0, 100, 0))
    await floor.feed(batch(2, 0, 101, 0))
    ticking = asyncio.create_task(floor.tick())
    await until(lambda: any(one.type == "production.counted" for one in told), limit=20)
    ticking.cancel()
    saw = floor.machines["saw"]
    assert isinstance(saw, Fragile)
    assert saw.timers == 1


@pytest.mark.parametrize("fragile_last", [False, True])
async def test_what_comes_only_once_is_not_passed_over(fragile_last: bool) -> None:
    floor, told = await begin(fragile_last=fragile_last)
    await floor.feed(batch(2, 0, 100, 0))
    before = floor.describe()
    with pytest.raises(RuntimeError, match="a bug"):
        await floor.feed(batch(8, 66, 101, 0, entries=Entries("1", frozenset(NUMBERS))))
    assert floor.position("press") == "", "so it is asked for again"
    assert floor.describe() == before, "and nothing of it is counted twice then"
    await floor.feed(batch(8, 0, 101, 0))
    numbers = [one.seq for one in told if one.stream == "press.p"]
    assert numbers == list(range(1, len(numbers) + 1))
