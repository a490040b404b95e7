"""A message that the broker never takes: set aside and declared in one transaction, by the floor."""

import json

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message, Stored
from drivers.base import Batch, Reading
from edge_agent.clock import SystemClock
from edge_agent.delivery.retained import Retained
from edge_agent.floor import Floor
from edge_agent.machine.machine import Machine
from tests.machine.stories import PRESS, config

VALUES = {"status": 2, "fault": 0, "total": 0, "reject": 0}
FIRST = Batch("press", [Reading(tag, value) for tag, value in VALUES.items()])


class Noting(MemoryOutbox):
    """`together`: how many messages each reject declared."""

    def __init__(self) -> None:
        super().__init__(now=lambda: 0)
        self.together: list[int] = []

    def reject(self, position, reason, declared_by=()):  # type: ignore[no-untyped-def]  # as in the base
        self.together.append(len(declared_by))
        return super().reject(position, reason, declared_by)


async def shop() -> tuple[Noting, Floor, list[Message]]:
    outbox, told = Noting(), []
    await outbox.open()
    made = config(PRESS)
    floor = Floor(made, [Machine(made, "press", epoch=outbox.epoch)], outbox, Retained(), SystemClock())
    floor.observers.append(told.extend)
    await floor.open()
    return outbox, floor, told


async def rows(outbox: Noting, lane: Lane) -> list[Stored]:
    return list(await outbox.next_batch(100, lane=lane))


async def test_a_dead_letter_is_declared_in_the_transaction_that_sets_it_aside() -> None:
    outbox, floor, told = await shop()
    await floor.feed(FIRST)
    poison = (await rows(outbox, Lane.PRODUCTION))[0]

    await floor.set_aside(poison, "B607 the payload is not accepted (0x99)")

    assert outbox.together == [1]
    assert [message for message, _ in outbox.dead] == [poison.message]
    lost = json.loads((await rows(outbox, Lane.HEALTH))[-1].message.body)["data"]
    assert (lost["lost_stream"], lost["lost_epoch"]) == (poison.message.stream, poison.message.epoch)
    assert int(lost["seq_from"]) == int(lost["seq_to"]) == poison.message.seq
    assert (lost["cause"], lost["extent"]) == ("poison_event", "exact")
    assert lost["count_by_type"] == {poison.message.type: 1}
    assert told[-1].type == "data.loss"
    assert floor.last_seq["$agent.h"] == told[-1].seq


async def test_a_declaration_that_is_not_taken_either_is_not_declared_for_ever() -> None:
    outbox, floor, _ = await shop()
    await floor.feed(FIRST)
    await floor.set_aside((await rows(outbox, Lane.PRODUCTION))[0], "no")
    declaration = (await rows(outbox, Lane.HEALTH))[-1]
    before = len(await rows(outbox, Lane.HEALTH))

    await floor.set_aside(declaration, "no")

    assert len(await rows(outbox, Lane.HEALTH)) == before - 1
    assert [message.type for message, _ in outbox.dead][-1] == "data.loss"
