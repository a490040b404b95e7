"""Messages over which a broker ends the whole connection, without a word about which: they are found and set aside,
and everything else arrives."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from buffer.outbox import Lane, Message
from edge_agent.delivery.retained import Retained
from edge_agent.demo import packets
from edge_agent.demo.packets import Publish
from tests.delivery.forwarding import event, forwarding, outbox_with
from tests.hostile_broker import HostileBroker, hostile_broker

POISON = [250, 251, 400]


def poisonous(code: int) -> AbstractAsyncContextManager[HostileBroker]:
    """A broker that ends the connection over a poisonous message; more are on their way at that time."""

    def answer(number: int, message: Publish) -> bytes:
        return packets.disconnect(code) if b"poison" in message.payload else packets.puback(5, message.packet_id)

    return hostile_broker(on_publish=answer)


def bad(seq: int) -> Message:
    one = event(Lane.PRODUCTION, seq)
    return one._replace(body=one.body + b"poison")


@pytest.mark.parametrize("code", [0x90, 0x95, 0x99], ids=hex)
async def test_a_message_that_ends_every_connection_is_found_and_set_aside(code: int) -> None:
    outbox = await outbox_with([bad(seq) if seq in POISON else event(Lane.PRODUCTION, seq) for seq in range(1, 501)])
    async with poisonous(code) as broker, forwarding(outbox, broker.url) as running:
        await running.drained()
        assert [(message.seq, reason[:4]) for message, reason in outbox.dead] == [(seq, "B607") for seq in POISON]
        assert [message.seq for message in running.notes.refused] == POISON
        assert running.notes.confirmed_count == 500 - len(POISON)
        assert max(running.waits) <= 4


async def test_a_retained_message_that_ends_every_connection_is_left_out_until_it_says_something_else() -> None:
    retained = Retained()
    places = [f"ea/v1/s/a/l/m{number}/cur/state" for number in range(5)]
    for number, topic in enumerate(places):
        retained.put(event(Lane.PRODUCTION, number)._replace(topic=topic))
    retained.put(bad(9)._replace(topic=places[2]))
    outbox = await outbox_with([event(Lane.PRODUCTION, seq) for seq in range(1, 200)])
    async with poisonous(0x95) as broker, forwarding(outbox, broker.url, retained=retained) as running:
        await running.drained()
        assert outbox.dead == []
        retained.put(event(Lane.PRODUCTION, 10)._replace(topic=places[2]))
        while not any(message.topic == places[2] and b"poison" not in message.payload for message in broker.received):
            broker.changed.clear()
            await asyncio.wait_for(broker.changed.wait(), 20)
        assert {message.topic for message in broker.received} >= set(places)


async def test_a_connection_that_ends_for_another_reason_sets_nothing_aside() -> None:
    """One message is on its way each time."""
    refusals = 5

    def answer(number: int, message: Publish) -> bytes:
        nonlocal refusals
        if b'"sequence"' in message.payload and refusals:
            refusals -= 1
            return packets.disconnect(0x97)
        return packets.puback(5, message.packet_id)

    outbox = await outbox_with([event(Lane.PRODUCTION, 1)])
    async with hostile_broker(on_publish=answer) as broker, forwarding(outbox, broker.url) as running:
        await running.drained()
        assert outbox.dead == []
        assert running.notes.log.count("B606") == 5
