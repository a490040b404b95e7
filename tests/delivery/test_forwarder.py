"""The forwarder against mosquitto that comes and goes, and against brokers that do what they should not."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message, Stored
from edge_agent.delivery.publisher import Forbidden, NotConnected
from edge_agent.demo import packets
from edge_agent.demo.packets import Publish
from tests.delivery.forwarding import EPOCH, STATUS, event, forwarding, outbox_with, presence
from tests.hostile_broker import CUT, hostile_broker
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import until

P, H, M = Lane.PRODUCTION, Lane.HEALTH, Lane.MEASUREMENT


def three_streams(count: int) -> list[Message]:
    return [event(lane, seq) for seq in range(1, count + 1) for lane in (M, H, P)]


def wire(received: list[Publish]) -> list[str]:
    """Topic ends and numbers in the order they were sent: `state 3`."""
    return [
        one.topic.rpartition("/")[2]
        + (f" {int(one.payload.split(b'sequence')[1][3:23])}" if b"sequence" in one.payload else "")
        for one in received
    ]


async def test_everything_arrives_in_order_and_is_let_go(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        outbox = await outbox_with(three_streams(400))
        async with forwarding(outbox, broker.url) as running:
            await running.drained()
            await sink.wait_for(1200)
        assert (sink.disorder(), sink.holes()) == ([], [])
        assert len(sink.messages) == 1200
        assert running.notes.confirmed_count == 1200


async def test_an_outbox_that_hands_out_short_pages_is_emptied_all_the_same(tmp_path: Path) -> None:
    class ShortPages(MemoryOutbox):
        async def next_batch(self, limit: int, *, lane: Lane, after: int = 0) -> Sequence[Stored]:
            return await super().next_batch(min(limit, 7), lane=lane, after=after)

    outbox = ShortPages(now=lambda: 0, epoch=EPOCH)
    await outbox.open()
    await outbox.append(three_streams(50), states={})
    async with hostile_broker() as broker, forwarding(outbox, broker.url) as running:
        await running.drained()
        assert running.notes.confirmed_count == 150


async def test_what_is_committed_while_connected_is_sent_at_once(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        outbox = await outbox_with()
        async with forwarding(outbox, broker.url) as running:
            await running.notes.until(lambda: "connected" in running.notes.log)
            for seq in range(1, 21):
                await outbox.append([event(P, seq), event(M, seq)], states={})
                await sink.wait_for(2 * seq)
            assert {one.user["replay"] for one in sink.messages} == {"false"}
        assert sink.disorder() == []


async def test_production_goes_before_health_before_measurements() -> None:
    grants = bytes([packets.RECEIVE_MAXIMUM, 0, 1])
    async with hostile_broker(connack=packets.connack(5, 0, grants)) as broker:
        outbox = await outbox_with(three_streams(3))
        async with forwarding(outbox, broker.url) as running:
            await running.drained()
        assert wire(broker.received)[:10] == [
            "status",
            "state 1",
            "state 2",
            "state 3",
            "agent 1",
            "agent 2",
            "agent 3",
            "measurement 1",
            "measurement 2",
            "measurement 3",
        ]


async def test_what_is_produced_while_measurements_drain_does_not_wait_for_them() -> None:
    outbox = await outbox_with([event(M, seq) for seq in range(1, 3001)])
    later: list[asyncio.Task[None]] = []

    def produce(number: int, message: Publish) -> bytes:
        if number == 200:
            later.append(asyncio.ensure_future(outbox.append([event(P, 1)], states={})))
        return packets.puback(5, message.packet_id)

    async with hostile_broker(on_publish=produce) as broker, forwarding(outbox, broker.url) as running:
        await running.drained()
        assert wire(broker.received).index("state 1") < 1000


@pytest.mark.parametrize("window", [1, 5, 100])
async def test_never_more_is_in_flight_than_the_broker_grants(window: int) -> None:
    held: list[int] = []
    most = 0

    def hold(number: int, message: Publish) -> bytes:
        nonlocal most
        if number == 1:
            return packets.puback(5, message.packet_id)
        held.append(message.packet_id)
        most = max(most, len(held))
        if len(held) < window and number < 1 + 200:
            return b""
        answer = b"".join(packets.puback(5, packet_id) for packet_id in held)
        held.clear()
        return answer

    grants = bytes([packets.RECEIVE_MAXIMUM, 0, window])
    async with hostile_broker(connack=packets.connack(5, 0, grants), on_publish=hold) as broker:
        outbox = await outbox_with([event(P, seq) for seq in range(1, 201)])
        async with forwarding(outbox, broker.url) as running:
            await running.drained()
    assert most == window


async def test_after_a_cut_everything_from_the_oldest_unconfirmed_is_sent_again_in_order() -> None:
    connections = 0

    def cut_once(number: int, message: Publish) -> bytes:
        nonlocal connections
        connections += number == 1
        if connections == 1 and number > 6:
            return CUT if number == 10 else b""
        return packets.puback(5, message.packet_id)

    grants = bytes([packets.RECEIVE_MAXIMUM, 0, 4])
    async with hostile_broker(connack=packets.connack(5, 0, grants), on_publish=cut_once) as broker:
        outbox = await outbox_with([event(P, seq) for seq in range(1, 13)])
        async with forwarding(outbox, broker.url) as running:
            await running.drained()
        sent = wire(broker.received)
        flags = [b"\x00\x06replay\x00\x04true" in one.properties for one in broker.received]
    again = sent.index("status", 1)
    assert sent[:again] == ["status", *[f"state {seq}" for seq in range(1, 10)]]
    assert sent[again : again + 8] == ["status", *[f"state {seq}" for seq in range(6, 13)]]
    assert all(flags[again + 1 : again + 8])


async def test_a_broker_stopped_and_started_again_loses_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, persistence=True) as broker, Sink(broker.port, "ea/v1/s/#", session="mom") as sink:
        outbox = await outbox_with(three_streams(500))
        async with forwarding(outbox, broker.url) as running:
            await running.notes.until(lambda: running.notes.confirmed_count >= 200)
            await broker.stop()
            await outbox.append([event(P, seq, "m2") for seq in range(1, 101)], states={})
            await running.notes.until(lambda: "B605" in running.notes.log)
            await broker.start()
            await running.drained()
            await sink.wait_for(lambda _: len(sink.events()) == 1600)
        assert (sink.disorder(), sink.holes()) == ([], [])


async def test_a_killed_broker_is_come_back_to_and_nothing_is_sent_out_of_order(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        outbox = await outbox_with([event(P, seq, size=500) for seq in range(1, 2001)])
        async with forwarding(outbox, broker.url) as running:
            for confirmed in (200, 900, 1500):
                await running.notes.until(lambda confirmed=confirmed: running.notes.confirmed_count >= confirmed)
                running.clock.gate.clear()
                await broker.kill()
                await broker.start()
                await sink.subscribed()
                running.clock.gate.set()
            await running.drained()
            await sink.wait_for(lambda _: any(e["id"] == f"{EPOCH}.2000" for e in sink.events()))
        assert sink.disorder() == []
        assert running.notes.log.count("connected") == 4


async def test_a_broker_that_hangs_is_left_and_come_back_to(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, persistence=True) as broker, Sink(broker.port, "ea/v1/s/#", session="mom") as sink:
        outbox = await outbox_with()
        async with forwarding(outbox, broker.url, timeout="300ms") as running:
            await running.notes.until(lambda: "connected" in running.notes.log)
            broker.pause()
            await outbox.append(three_streams(50), states={})
            await running.notes.until(lambda: "B605" in running.notes.log)
            broker.resume()
            await running.drained()
            await sink.wait_for(lambda _: len(sink.events()) == 150)
        assert (sink.disorder(), sink.holes()) == ([], [])


async def test_a_rejected_message_is_set_aside_and_the_others_go_on() -> None:
    def refuse_the_third(number: int, message: Publish) -> bytes:
        return packets.puback(5, message.packet_id, 0x99 if wire([message]) == ["state 3"] else 0)

    async with hostile_broker(on_publish=refuse_the_third) as broker:
        outbox = await outbox_with([event(P, seq) for seq in range(1, 6)])
        async with forwarding(outbox, broker.url) as running:
            await running.drained()
            assert running.notes.log == ["connected"]
    assert [(message.seq, reason[:4]) for message, reason in outbox.dead] == [(3, "B607")]
    assert [message.seq for message in running.notes.refused] == [3]
    assert running.notes.confirmed_count == 4


async def test_a_message_that_also_ends_the_connection_is_set_aside_once(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, persistence=True, extra=["message_size_limit 1000"]) as broker:
        async with Sink(broker.port, "ea/v1/s/#", session="mom") as sink:
            outbox = await outbox_with([event(P, seq, size=2000 if seq == 3 else 0) for seq in range(1, 8)])
            async with forwarding(outbox, broker.url) as running:
                await running.drained()
                await sink.wait_for(lambda _: len(sink.events()) == 6)
        assert [message.seq for message, _ in outbox.dead] == [3]


async def test_a_broker_that_forbids_is_asked_again_slowly_and_nothing_is_lost(tmp_path: Path) -> None:
    acl = ["topic write ea/v1/_agents/#", "topic read #"]
    async with mosquitto(tmp_path, acl=acl) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        outbox = await outbox_with([event(P, seq) for seq in range(1, 11)])
        async with forwarding(outbox, broker.url) as running:
            await running.notes.until(lambda: "B603" in running.notes.log)
            running.clock.gate.clear()
            assert isinstance(running.notes.errors[0], Forbidden)
            assert (await outbox.depth()).rows == 10
            assert running.waits[0] >= 10
            (broker.folder / "acl").write_text("topic readwrite #\n")
            broker.reload()
            running.clock.gate.set()
            await running.drained()
            await sink.wait_for(10)
        assert (sink.disorder(), sink.holes(), list(outbox.dead)) == ([], [], [])


async def test_a_refused_login_stores_and_tries_again_slowly(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, users={"press": "old", "mom": "x"}) as broker:
        outbox = await outbox_with([event(P, 1)])
        async with forwarding(outbox, broker.url, username="press", secret="new") as running:
            await running.notes.until(lambda: running.notes.log.count("B601") >= 2)
            assert min(running.waits) >= 10
            assert (await outbox.depth()).rows == 1


async def test_an_agent_that_loses_every_connection_at_once_suspects_its_twin() -> None:
    async with hostile_broker() as broker:
        outbox = await outbox_with()
        async with forwarding(outbox, broker.url) as running:
            for lost in (1, 2, 3):
                await running.notes.until(lambda lost=lost: running.notes.log.count("connected") == lost)
                broker.cut()
            await running.notes.until(lambda: len(running.notes.errors) >= 3)
        assert [error.code for error in running.notes.errors] == ["B605", "B605", "B604"]
        assert isinstance(running.notes.errors[2], NotConnected)
        assert "client id" in str(running.notes.errors[2])


async def test_two_agents_with_one_client_id_are_both_told_and_everything_of_both_arrives(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        one = await outbox_with([event(P, seq, "m1") for seq in range(1, 101)])
        async with forwarding(one, broker.url) as first:
            await first.drained()
            other = await outbox_with([event(P, seq, "m2") for seq in range(1, 101)])
            async with forwarding(other, broker.url) as second:
                await second.drained()
                await first.notes.until(lambda: "B604" in first.notes.log)
                await second.notes.until(lambda: "B604" in second.notes.log)
                await one.append([event(P, 101, "m1")], states={})
                await first.drained()
        await sink.wait_for(lambda _: len(sink.events()) == 201)
        assert (sink.disorder(), sink.holes()) == ([], [])


async def test_a_fault_of_our_own_is_told_and_sending_starts_again() -> None:
    class Stumbling(MemoryOutbox):
        stumbled = False

        async def next_batch(self, limit: int, *, lane: Lane, after: int = 0) -> Sequence[Stored]:
            if not self.stumbled:
                self.stumbled = True
                raise ValueError("a row that cannot be read")
            return await super().next_batch(limit, lane=lane, after=after)

    outbox = Stumbling(now=lambda: 0, epoch=EPOCH)
    await outbox.open()
    await outbox.append([event(P, 1)], states={})
    async with hostile_broker() as broker, forwarding(outbox, broker.url) as running:
        await running.drained()
        assert running.notes.log == ["connected", "B699", "connected"]


async def test_a_stop_waits_for_what_is_in_flight_sends_nothing_new_and_says_goodbye() -> None:
    held: list[int] = []

    def hold(number: int, message: Publish) -> bytes:
        if number == 1 or message.topic == STATUS:
            return packets.puback(5, message.packet_id)
        held.append(message.packet_id)
        return b""

    grants = bytes([packets.RECEIVE_MAXIMUM, 0, 3])
    async with hostile_broker(connack=packets.connack(5, 0, grants), on_publish=hold) as broker:
        outbox = await outbox_with([event(P, seq) for seq in range(1, 11)])
        async with forwarding(outbox, broker.url) as running:
            await broker.got(4)
            assert running.task is not None
            running.task.cancel()
            await asyncio.wait([running.task], timeout=0.1)
            assert not running.task.done()
            for packet_id in held:
                broker.say(packets.puback(5, packet_id))
            await asyncio.wait([running.task], timeout=5)
            assert running.task.cancelled()
        assert wire(broker.received) == ["status", "state 1", "state 2", "state 3", "status"]
        assert broker.received[-1].payload == presence("null").body
        assert (await outbox.depth()).rows == 7


async def test_a_stop_ends_in_seconds_though_nothing_is_confirmed() -> None:
    silent = hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id) if n == 1 else b"")
    async with silent as broker:
        outbox = await outbox_with([event(P, 1)])
        async with forwarding(outbox, broker.url) as running:
            await broker.got(2)
            began = asyncio.get_running_loop().time()
            await running.stop()
            assert asyncio.get_running_loop().time() - began < 5
        assert (await outbox.depth()).rows == 1


async def test_a_stop_while_connecting_is_at_once(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        broker.pause()
        outbox = await outbox_with([event(P, 1)])
        async with forwarding(outbox, broker.url) as running:
            await until(lambda: running.publisher._connection is not None)
            began = asyncio.get_running_loop().time()
            await running.stop()
            assert asyncio.get_running_loop().time() - began < 3
