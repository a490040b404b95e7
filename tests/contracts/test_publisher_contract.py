"""One suite for every broker and version that the publisher must work with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from buffer.outbox import Lane, Message
from config.model import Mqtt
from edge_agent.clock import SystemClock
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.publisher import NotConnected, Rejected, Silence
from edge_agent.demo.broker import LoopbackBroker
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import free_port

EPOCH = "mlu4idc09c7x"
STATUS = "ea/v1/_agents/a1/status"


def message(seq: int, body: bytes = b"", topic: str = "ea/v1/s/a/l/m/evt/state") -> Message:
    return Message("m.p", EPOCH, seq, Lane.PRODUCTION, "state.changed", topic, body or b'{"n":%d}' % seq)


def presence(word: str) -> Message:
    return Message("$agent.h", EPOCH, 0, Lane.HEALTH, "agent.status", STATUS, word.encode())


WILL, BIRTH = presence("will"), presence("birth")


@dataclass
class Broker:
    port: int
    protocol: str
    window: int
    says_why: bool = False
    """It sends DISCONNECT with the reason; mosquitto 2.0.11 just closes on a take-over."""

    def publisher(
        self,
        client_id: str = "agent-1",
        *,
        on_former: Callable[[bytes], Awaitable[None]] | None = None,
        **options: object,
    ) -> MqttPublisher:
        mqtt = Mqtt(url=f"mqtt://127.0.0.1:{self.port}", protocol=self.protocol, **options)
        return MqttPublisher(mqtt, client_id=client_id, password=None, clock=SystemClock(), on_former=on_former)


@pytest.fixture(params=["mosquitto-5", "mosquitto-3.1.1", "loopback-5", "loopback-3.1.1"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    kind, _, protocol = request.param.partition("-")
    window = 7 if protocol == "5" else 100
    if kind == "mosquitto":
        async with mosquitto(tmp_path, receive_maximum=7) as server:
            yield Broker(server.port, protocol, window)
    else:
        loopback = LoopbackBroker(receive_maximum=7)
        yield Broker(await loopback.open(), protocol, window, says_why=protocol == "5")
        await loopback.close()


async def test_messages_arrive_byte_for_byte_in_the_order_of_the_calls(broker: Broker) -> None:
    publisher = broker.publisher()
    async with Sink(broker.port, "ea/v1/s/#") as sink:
        await publisher.connect(WILL, BIRTH)
        sent = [message(seq, "急停".encode() + bytes([seq])) for seq in range(1, 51)]
        for one in sent:
            await publisher.publish(one)
        received = await sink.wait_for(50)
    await publisher.close()
    assert [one.payload for one in received] == [one.body for one in sent]
    assert not any(one.retained for one in received)


async def test_a_window_full_of_messages_is_confirmed(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.connect(WILL, BIRTH)
    assert publisher.window == broker.window
    for start in range(0, 5 * publisher.window, publisher.window):
        await asyncio.gather(*[publisher.publish(message(start + n + 1)) for n in range(publisher.window)])
    assert not publisher.lost.done()
    await publisher.close()


async def test_a_large_message_arrives_whole(broker: Broker) -> None:
    publisher = broker.publisher()
    body = bytes(range(256)) * 1024
    async with Sink(broker.port, "ea/v1/s/#") as sink:
        await publisher.connect(WILL, BIRTH)
        await asyncio.gather(*[publisher.publish(message(n, body)) for n in range(1, 4)])
        received = await sink.wait_for(3)
    await publisher.close()
    assert all(one.payload == body for one in received)


async def test_the_birth_is_retained_and_a_clean_end_leaves_it(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.connect(WILL, BIRTH)
    await publisher.close()
    async with Sink(broker.port, STATUS) as sink:
        (birth,) = await sink.wait_for(1)
    assert (birth.payload, birth.retained) == (b"birth", True)


async def test_the_birth_of_before_is_shown_before_it_is_replaced(broker: Broker) -> None:
    seen: list[bytes] = []

    async def look(former: bytes) -> None:
        seen.append(former)
        if former == b"newer":
            raise ValueError

    publisher = broker.publisher(on_former=look)
    await publisher.connect(WILL, BIRTH)
    assert seen == []
    await publisher.connect(WILL, presence("newer"))
    assert seen == []  # it may be that of a twin
    await publisher.close()
    with pytest.raises(ValueError):  # noqa: PT011 - the test's own
        await broker.publisher(on_former=look).connect(WILL, BIRTH)
    assert seen == [b"newer"]
    async with Sink(broker.port, STATUS) as sink:
        assert [one.payload for one in await sink.wait_for(1)] == [b"newer"]


async def test_a_retained_message_is_there_for_who_comes_later(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.connect(WILL, BIRTH)
    await publisher.publish(message(1, topic="ea/v1/s/a/l/m/cur/state"), retain=True)
    await publisher.publish(message(2, topic="ea/v1/s/a/l/m/evt/state"))
    async with Sink(broker.port, "ea/v1/s/#") as sink:
        received = await sink.wait_for(1)
    await publisher.close()
    assert [(one.topic, one.payload) for one in received] == [("ea/v1/s/a/l/m/cur/state", b'{"n":1}')]


async def test_a_message_nobody_wants_is_confirmed(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.connect(WILL, BIRTH)
    assert await publisher.publish(message(1)) is None
    await publisher.close()


async def test_a_second_agent_with_the_same_id_is_noticed_and_the_will_is_published(broker: Broker) -> None:
    first, second = broker.publisher(), broker.publisher()
    async with Sink(broker.port, STATUS) as sink:
        await first.connect(WILL, BIRTH)
        await second.connect(WILL, BIRTH)
        lost = await first.lost
        received = await sink.wait_for(3)
    assert isinstance(lost, NotConnected)
    if broker.says_why:
        assert lost.code == "B604"
        assert "agent-1" in str(lost)
    assert [one.payload for one in received] == [b"birth", b"will", b"birth"]
    await first.close()
    await second.close()


async def test_what_is_published_without_a_connection_is_refused_at_once(broker: Broker) -> None:
    publisher = broker.publisher()
    with pytest.raises(NotConnected):
        await publisher.publish(message(1))
    await publisher.connect(WILL, BIRTH)
    await publisher.close()
    assert publisher.lost.done()
    with pytest.raises(NotConnected):
        await publisher.publish(message(1))


async def test_closing_twice_and_connecting_again_are_fine(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.close()
    for _ in range(3):
        await publisher.connect(WILL, BIRTH)
        assert not publisher.lost.done()
        await publisher.publish(message(1))
        await publisher.close()
        await publisher.close()


async def test_a_topic_with_a_wildcard_is_rejected_and_the_connection_goes_on(broker: Broker) -> None:
    publisher = broker.publisher()
    await publisher.connect(WILL, BIRTH)
    with pytest.raises(Rejected):
        await publisher.publish(message(1, topic="ea/+/x"))
    await publisher.publish(message(2))
    await publisher.close()


async def test_kind_of_content_and_lateness_are_told_on_mqtt_5(broker: Broker) -> None:
    publisher = broker.publisher()
    async with Sink(broker.port, "ea/v1/#") as sink:
        await publisher.connect(WILL, BIRTH)
        await publisher.publish(message(1))
        await publisher.publish(message(2), replay=True)
        birth, live, late = await sink.wait_for(3)
    await publisher.close()
    if broker.protocol == "5":
        assert birth.content_type == "application/json"
        assert live.content_type == "application/cloudevents+json; charset=utf-8"
        assert (live.user["replay"], late.user["replay"]) == ("false", "true")
        assert live.user["published"].endswith("Z")
    else:
        assert live.user == {}


async def test_a_broker_that_ends_is_noticed(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server:
        publisher = Broker(server.port, "5", 100).publisher()
        await publisher.connect(WILL, BIRTH)
        await server.kill()
        lost = await publisher.lost
        assert (lost.code, type(lost)) == ("B605", Silence)
        with pytest.raises(NotConnected):
            await publisher.publish(message(1))
        await publisher.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_nothing_that_listens_is_said_in_words(protocol: str) -> None:
    port = free_port()
    publisher = Broker(port, protocol, 100).publisher()
    with pytest.raises(NotConnected, match=f"Nothing listens on 127.0.0.1:{port}") as refused:
        await publisher.connect(WILL, BIRTH)
    assert refused.value.code == "B605"


async def test_a_connect_that_is_cancelled_leaves_nothing_connected(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server:
        server.pause()
        publisher = Broker(server.port, "5", 100).publisher()
        task = asyncio.create_task(publisher.connect(WILL, BIRTH))
        await asyncio.wait([task], timeout=0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert publisher.lost.done()
        server.resume()
        await publisher.connect(WILL, BIRTH)
        await publisher.close()
