"""A broker that sends broken packets: the sending ends or goes on, never in a way it should not, and what waits is
sent when the broker is well again. The long form: EDGE_AGENT_MQTT_FRAMES=100000.
"""

import gc
import logging
import os
import random
import sys
import threading
from collections import Counter

import pytest

from buffer.outbox import Lane
from edge_agent.demo import packets
from edge_agent.demo.packets import Publish
from tests.delivery.forwarding import event, forwarding, outbox_with
from tests.drivers.test_opcua_fuzz import mutated
from tests.hostile_broker import CUT, HostileBroker, hostile_broker
from tests.waiting import until

FRAMES = int(os.environ.get("EDGE_AGENT_MQTT_FRAMES", "1500"))
LONG = "EDGE_AGENT_MQTT_FRAMES" in os.environ
BLOCKS = 20_000
"""Blocks of Python's memory that may be kept; one for each broken packet would be more in the long form."""
A_CONNECTION = 25
"""Broken packets after which the broker ends a connection that is still there."""


class Fuzzer:
    """Answers that are broken one time in two."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.sent: Counter[str] = Counter()
        self._left = A_CONNECTION

    @property
    def frames(self) -> int:
        return self.sent.total()

    def connack(self) -> bytes:
        """For the next connection."""
        self._left = A_CONNECTION
        grants = bytes([packets.RECEIVE_MAXIMUM, 0, self._chance.choice((1, 7, 100))])
        whole = packets.connack(5, 0, self._chance.choice((b"", grants)))
        return self._broken("connack", whole) if self._chance.random() < 0.2 else whole

    def answer(self, number: int, message: Publish) -> bytes:
        whole = packets.puback(5, message.packet_id)
        if number == 1 or self._chance.random() < 0.5:
            return whole
        if self._left == 0:
            return CUT
        self._left -= 1
        other = Publish("ea/v1/x", b"{}" * self._chance.randrange(50), 1, False, number, b"")
        kind, packet = self._chance.choice(
            (
                ("puback", whole),
                ("puback with a code", packets.puback(5, message.packet_id, self._chance.randrange(256))),
                ("suback", packets.suback(5, message.packet_id, [0])),
                ("publish", packets.publish(5, other)),
                ("disconnect", packets.disconnect(self._chance.randrange(256))),
                ("connack", packets.connack(5, 0)),
                ("pingresp", packets.packet(packets.PINGRESP, 0, b"")),
            )
        )
        return whole + self._broken(kind, packet) if self._chance.random() < 0.7 else self._broken(kind, packet)

    def _broken(self, kind: str, packet: bytes) -> bytes:
        self.sent[kind] += 1
        return mutated(packet, self._chance)


@pytest.mark.torture
@pytest.mark.timeout(7200 if LONG else 180)
async def test_broken_packets_never_end_the_sending_and_the_rest_arrives_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest keeps every line of the log
    fuzzer = Fuzzer(random.Random(4711))
    seq = 0
    before = 0
    async with hostile_broker(on_publish=fuzzer.answer) as broker:
        outbox = await outbox_with()
        async with forwarding(outbox, broker.url, timeout="100ms") as running:
            while fuzzer.frames < FRAMES:
                if before == 0 and fuzzer.frames > FRAMES // 5:
                    gc.collect()
                    before = sys.getallocatedblocks()
                if (await outbox.depth()).rows < 200:
                    await outbox.append([event(Lane.PRODUCTION, n) for n in range(seq + 1, seq + 101)], states={})
                    seq += 100
                seen = len(running.notes.errors)
                broker.connack = fuzzer.connack()
                await running.notes.until(lambda seen=seen: len(running.notes.errors) > seen, 40)
                assert not running.task.done()
                forget(broker, running.notes.errors, running.notes.log)
            gc.collect()
            grown = sys.getallocatedblocks() - before
            broker.connack, broker.on_publish = packets.connack(5, 0), whole
            if broker._writers:
                broker.cut()
            last = [event(Lane.PRODUCTION, n) for n in range(seq + 1, seq + 101)]
            await outbox.append(last, states={})
            await running.drained(40)
            arrived = [message.payload for message in broker.received if "/evt/" in message.topic]
            assert arrived[-100:] == [message.body for message in last]
    sys.stdout.write(
        f"{fuzzer.frames} broken packets, {seq} events, {grown:+} blocks of memory: {dict(fuzzer.sent)}\n"
    )
    assert grown < BLOCKS
    await until(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("mqtt-agent-1")], 20, "threads end"
    )


def whole(number: int, message: Publish) -> bytes:
    return packets.puback(5, message.packet_id)


def forget(broker: HostileBroker, errors: list[Exception], log: list[str]) -> None:
    """What the test itself would keep for ever. B699 is a fault of ours."""
    faults = [error for error in errors if getattr(error, "code", "") == "B699"]
    assert not faults, faults
    del errors[:-1], log[:-1]
    broker.received.clear()
    broker.connects.clear()
    del broker._writers[:-5]
