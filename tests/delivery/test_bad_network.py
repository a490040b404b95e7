"""Networks that swallow, reset and crawl between the forwarder and mosquitto: late, perhaps twice, never lost.

The long form goes through `EDGE_AGENT_NETWORK_ROUNDS` faults in a row (200 with `make torture`).
"""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from buffer.outbox import Lane, Message
from tests.bad_cable import Fault, bad_cable
from tests.delivery.forwarding import event, forwarding, outbox_with
from tests.e2e.oracle import Ledger
from tests.servers_mqtt import Received, Sink, mosquitto

pytestmark = pytest.mark.needs("mosquitto")
ROUNDS = int(os.environ.get("EDGE_AGENT_NETWORK_ROUNDS", "5"))
FAULTS = [fault for fault in Fault if fault is not Fault.NONE]
LIMIT = 40
"""Seconds, on a machine that has other work."""


def three_streams(first: int, count: int) -> list[Message]:
    return [event(lane, seq, size=100) for seq in range(first, first + count) for lane in Lane]


async def received(sink: Sink, count: int) -> Ledger:
    """Judged by the oracle: whole, in order, the same id with the same bytes."""
    ledger = Ledger()
    taken = 0

    def whole(messages: Sequence[Received]) -> bool:
        nonlocal taken
        fresh = messages[taken:]
        taken += len(fresh)
        ledger.take_all(message.payload for message in fresh if "/evt/" in message.topic)
        return len(ledger.events) >= count

    await sink.wait_for(whole, limit=LIMIT)
    assert len(ledger.events) == count
    return ledger


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
async def test_a_connection_that_dies_without_a_word_is_left_and_everything_arrives(
    tmp_path: Path, fault: Fault
) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink, bad_cable(broker.port) as cable:
        outbox = await outbox_with(three_streams(1, 20))
        async with forwarding(outbox, f"mqtt://127.0.0.1:{cable.port}", timeout="500ms") as running:
            await running.drained(LIMIT)
            cable.bring(fault)
            await outbox.append(three_streams(21, 100), states={})
            await running.notes.until(lambda: running.notes.errors, LIMIT)
            cable.bring(Fault.NONE)
            await running.drained(LIMIT)
            await received(sink, 360)


@pytest.mark.torture
@pytest.mark.timeout(1800 if ROUNDS > 10 else 120)
async def test_faults_in_a_row_lose_nothing(tmp_path: Path) -> None:
    dice = random.Random(4711)
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink, bad_cable(broker.port) as cable:
        outbox = await outbox_with()
        async with forwarding(outbox, f"mqtt://127.0.0.1:{cable.port}", timeout="500ms") as running:
            seq = 1
            for _ in range(ROUNDS):
                seen, count = len(running.notes.errors), dice.randint(10, 150)
                await outbox.append(three_streams(seq, count), states={})
                seq += count
                enough = running.notes.confirmed_count + dice.randint(0, 3 * count - 1)
                await running.notes.until(lambda enough=enough: running.notes.confirmed_count >= enough, LIMIT)
                cable.bring(dice.choice(FAULTS))
                await outbox.append(three_streams(seq, 100), states={})
                seq += 100
                await running.notes.until(lambda seen=seen: len(running.notes.errors) > seen, LIMIT)
                cable.bring(Fault.NONE)
            await running.drained(LIMIT)
            ledger = await received(sink, 3 * (seq - 1))
    sys.stdout.write(f"{ROUNDS} faults, {len(ledger.events)} events, 0 lost, {ledger.duplicates} sent twice\n")


async def test_a_line_too_slow_for_a_window_within_the_time_limit_gets_everything_through(tmp_path: Path) -> None:
    """100 messages in flight take 0.9 s here, and the limit is 0.5 s: progress counts, not the age of a message."""
    async with (
        mosquitto(tmp_path, receive_maximum=100) as broker,
        Sink(broker.port, "ea/v1/s/#") as sink,
        bad_cable(broker.port, rate=40_000) as cable,
    ):
        outbox = await outbox_with(three_streams(1, 150))
        async with forwarding(outbox, f"mqtt://127.0.0.1:{cable.port}", timeout="500ms") as running:
            await running.drained(LIMIT)
            ledger = await received(sink, 450)
            assert running.notes.log.count("connected") <= 2, running.notes.log
            assert ledger.duplicates <= 100


async def test_a_message_that_the_line_takes_longer_for_than_the_time_limit_gets_through(tmp_path: Path) -> None:
    """40 kB take 2 s here, and the limit is 0.3 s: without time for its length it would be begun again for ever."""
    large = event(Lane.MEASUREMENT, 1, size=40_000)
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port, "ea/v1/s/#") as sink,
        bad_cable(broker.port, rate=20_000) as cable,
    ):
        outbox = await outbox_with([large, event(Lane.MEASUREMENT, 2)])
        async with forwarding(outbox, f"mqtt://127.0.0.1:{cable.port}", timeout="300ms") as running:
            await running.drained(LIMIT)
            await received(sink, 2)
            assert running.notes.log == ["connected"]
