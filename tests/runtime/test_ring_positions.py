"""Up to where a ring was read is kept in the transaction of what came of it."""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from buffer.memory import MemoryOutbox
from buffer.outbox import Message, Span
from drivers.base import Batch, Entries, Quality, Reading
from edge_agent.clock import SystemClock
from edge_agent.delivery.retained import Retained
from edge_agent.floor import Floor
from edge_agent.machine.machine import Machine
from tests.machine.stories import config
from tests.machine.test_ring import PRESS, TAGS


class Watched(MemoryOutbox):
    """`kept`: the rows of state of each transaction."""

    def __init__(self) -> None:
        super().__init__(now=lambda: 0)
        self.kept: list[Mapping[str, bytes]] = []

    def append(
        self, messages: Sequence[Message], *, states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> Coroutine[Any, Any, None]:
        self.kept.append(dict(states))
        return super().append(messages, states=states, evict=evict)


def entries(position: str, *parts: int) -> Batch:
    readings = [Reading("parts", number, Quality.GOOD) for number in parts]
    return Batch("press", readings, entries=Entries(position, frozenset(TAGS), counting=frozenset(("parts",))))


async def opened(outbox: MemoryOutbox) -> Floor:
    made = config(PRESS, TAGS)
    floor = Floor(made, [Machine(made, "press", epoch=outbox.epoch)], outbox, Retained(), SystemClock())
    await floor.open()
    return floor


async def test_the_position_is_stored_with_the_state_that_came_of_it() -> None:
    outbox = Watched()
    await outbox.open()
    floor = await opened(outbox)
    assert floor.position("press") == ""
    outbox.kept.clear()
    await floor.feed(entries("one", 0))
    await floor.feed(entries("two", 1, 2))
    await floor.feed(entries("three"))
    assert [kept["ring/press"] for kept in outbox.kept] == [b"one", b"two", b"three"]
    assert all("machine/press" in kept for kept in outbox.kept)
    assert floor.position("press") == "three"
    again = await opened(outbox)
    assert again.position("press") == "three"
    assert again.describe()["press"]["counters"]["main"] == {"totals": {"total": 2}, "raw": {"total": 2}}


async def test_entries_that_no_machine_uses_are_read_once_too() -> None:
    outbox = Watched()
    await outbox.open()
    floor = await opened(outbox)
    await floor.feed(Batch("other", (), entries=Entries("one", frozenset())))
    assert floor.position("other") == "one"
    assert outbox.kept[-1] == {"ring/other": b"one"}
