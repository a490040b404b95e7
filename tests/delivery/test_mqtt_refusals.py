"""What the publisher makes of a broker that refuses, lies, falls silent or breaks the line."""

import asyncio
import gc
import threading

import pytest

from buffer.outbox import Lane, Message
from config.model import Mqtt
from edge_agent.clock import SystemClock
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.publisher import Forbidden, NotConnected, PublishError, Rejected, Silence
from edge_agent.demo import packets
from edge_agent.demo.packets import Publish
from tests.hostile_broker import CUT, HostileBroker, answer, hostile_broker
from tests.waiting import until

EPOCH = "mlu4idc09c7x"


def message(seq: int, body: bytes = b"{}") -> Message:
    return Message("m.p", EPOCH, seq, Lane.PRODUCTION, "state.changed", "ea/v1/s/a/l/m/evt/state", body)


def presence(word: str) -> Message:
    return Message("$agent.h", EPOCH, 0, Lane.HEALTH, "agent.status", "ea/v1/_agents/a/status", word.encode())


WILL, BIRTH = presence("will"), presence("birth")


def publisher(broker: HostileBroker, *, protocol: str = "5", timeout: str = "10s", **more: str) -> MqttPublisher:
    mqtt = Mqtt(url=broker.url, protocol=protocol, timeout=timeout, **more)
    return MqttPublisher(mqtt, client_id="agent-1", password="secret", clock=SystemClock())


@pytest.mark.parametrize(
    ("code", "kind", "fault"),
    [
        (0x80, NotConnected, "B606"),
        (0x83, NotConnected, "B606"),
        (0x97, NotConnected, "B606"),
        (0x91, NotConnected, "B606"),
        (0x90, Rejected, "B607"),
        (0x95, Rejected, "B607"),
        (0x99, Rejected, "B607"),
        (0x87, Forbidden, "B603"),
    ],
)
async def test_a_failure_code_in_a_puback_is_never_taken_for_a_confirmation(
    code: int, kind: type[PublishError], fault: str
) -> None:
    async with hostile_broker(on_publish=answer(code)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        with pytest.raises(kind) as refused:
            await mqtt.publish(message(1))
        assert refused.value.code == fault
        assert f"0x{code:02X}" in refused.value.native
        if kind is Forbidden:
            assert "ea/v1/s/a/l/m/evt/state" in str(refused.value)
        await mqtt.close()


@pytest.mark.parametrize("code", [0x00, 0x10])
async def test_success_and_nobody_listening_are_confirmations(code: int) -> None:
    async with hostile_broker(on_publish=answer(code)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        await mqtt.publish(message(1))
        await mqtt.close()


@pytest.mark.parametrize(
    ("code", "kind", "fault"),
    [
        (0x86, Forbidden, "B601"),
        (0x87, Forbidden, "B601"),
        (0x8A, Forbidden, "B601"),
        (0x84, NotConnected, "B606"),
        (0x85, NotConnected, "B606"),
        (0x88, NotConnected, "B606"),
        (0x89, NotConnected, "B606"),
        (0x9F, NotConnected, "B606"),
    ],
)
async def test_a_refused_connect_says_what_to_do(code: int, kind: type[PublishError], fault: str) -> None:
    async with hostile_broker(connack=packets.connack(5, code)) as broker:
        mqtt = publisher(broker, username="press")
        with pytest.raises(kind) as refused:
            await mqtt.connect(WILL, BIRTH)
        assert refused.value.code == fault
        if fault == "B601":
            assert "'press'" in str(refused.value)
            assert "secret" not in str(refused.value)
        assert mqtt.lost.done()


@pytest.mark.parametrize(("code", "fault"), [(1, "B606"), (2, "B606"), (3, "B606"), (4, "B601"), (5, "B601")])
async def test_the_codes_of_mqtt_3_1_1_mean_the_same(code: int, fault: str) -> None:
    async with hostile_broker(connack=packets.packet(packets.CONNACK, 0, bytes([0, code]))) as broker:
        with pytest.raises(PublishError) as refused:
            await publisher(broker, protocol="3.1.1").connect(WILL, BIRTH)
        assert refused.value.code == fault


@pytest.mark.parametrize(
    ("code", "kind", "fault"),
    [(0x8E, NotConnected, "B604"), (0x8B, NotConnected, "B606"), (0x87, Forbidden, "B601")],
)
async def test_a_broker_that_says_goodbye_is_believed(code: int, kind: type[PublishError], fault: str) -> None:
    async with hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id) if n == 1 else b"") as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        waiting = mqtt.publish(message(1))
        await broker.got(2)
        broker.say(packets.disconnect(code))
        lost = await mqtt.lost
        assert (type(lost), lost.code) == (kind, fault)
        with pytest.raises(kind):
            await waiting
        await mqtt.close()


async def test_a_birth_that_is_not_allowed_is_told_by_connect() -> None:
    async with hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id, 0x87)) as broker:
        with pytest.raises(Forbidden, match="ea/v1/_agents/a/status") as refused:
            await publisher(broker).connect(WILL, BIRTH)
        assert refused.value.code == "B603"


async def test_a_birth_that_is_never_accepted_is_no_connection() -> None:
    async with hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id, 0x99)) as broker:
        with pytest.raises(NotConnected):
            await publisher(broker).connect(WILL, BIRTH)


async def test_a_broker_that_confirms_nothing_is_given_up_after_the_time_out() -> None:
    async with hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id) if n == 1 else b"") as broker:
        mqtt = publisher(broker, timeout="200ms")
        await mqtt.connect(WILL, BIRTH)
        waiting = [mqtt.publish(message(seq)) for seq in (1, 2)]
        lost = await mqtt.lost
        assert (type(lost), lost.code, lost.native) == (Silence, "B605", "no PUBACK")
        for one in waiting:
            with pytest.raises(NotConnected):
                await one
        await mqtt.close()


async def test_one_confirmation_that_is_left_out_is_noticed_though_others_come() -> None:
    def skip_the_second(number: int, message: Publish) -> bytes:
        return b"" if number == 2 else packets.puback(5, message.packet_id)

    async with hostile_broker(on_publish=skip_the_second) as broker:
        mqtt = publisher(broker, timeout="100ms")
        await mqtt.connect(WILL, BIRTH)
        forgotten = mqtt.publish(message(1))
        seq = 1
        while not mqtt.lost.done():
            seq += 1
            await asyncio.wait([mqtt.publish(message(seq)), mqtt.lost], return_when=asyncio.FIRST_COMPLETED)
        assert seq > 2
        with pytest.raises(NotConnected):
            await forgotten
        await mqtt.close()


async def test_a_slow_broker_that_goes_on_confirming_is_not_given_up() -> None:
    held: list[int] = []

    def hold(number: int, message: Publish) -> bytes:
        if number > 1:
            held.append(message.packet_id)
        return packets.puback(5, message.packet_id) if number == 1 else b""

    async with hostile_broker(on_publish=hold) as broker:
        mqtt = publisher(broker, timeout="300ms")
        await mqtt.connect(WILL, BIRTH)
        waiting = [mqtt.publish(message(seq)) for seq in range(1, 5)]
        await broker.got(5)
        for packet_id, one in zip(held, waiting, strict=True):
            await asyncio.wait([mqtt.lost], timeout=0.15)
            broker.say(packets.puback(5, packet_id))
            await one
        assert not mqtt.lost.done()
        await mqtt.close()


async def test_a_line_cut_in_mid_flight_fails_exactly_what_was_not_confirmed() -> None:
    def cut_at_the_fourth(number: int, message: Publish) -> bytes:
        return CUT if number == 4 else packets.puback(5, message.packet_id)

    async with hostile_broker(on_publish=cut_at_the_fourth) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        first = mqtt.publish(message(1))
        await first
        rest = [mqtt.publish(message(seq)) for seq in range(2, 8)]
        results = await asyncio.gather(*rest, return_exceptions=True)
        assert isinstance(results[-1], NotConnected)
        assert all(result is None or isinstance(result, NotConnected) for result in results)
        await mqtt.close()


async def test_a_line_that_is_dead_while_nothing_is_sent_is_noticed_by_the_keep_alive() -> None:
    async with hostile_broker(answers_pings=False) as broker:
        mqtt = publisher(broker, keepalive="1s")
        await mqtt.connect(WILL, BIRTH)
        async with asyncio.timeout(6):
            assert (await mqtt.lost).code == "B605"
        await mqtt.close()


async def test_silence_instead_of_a_connack_is_told_from_a_dead_port() -> None:
    async with hostile_broker(connack=b"") as broker:
        with pytest.raises(NotConnected, match="does not answer MQTT") as refused:
            await publisher(broker, timeout="150ms").connect(WILL, BIRTH)
        assert refused.value.code == "B605"


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x02\x00",
        b"\x20\x01\x00",
        b"\x20\x06\x00\x00\x03\x21\x00\x00",
        b"\x40\x02\x00\x01",
        b"\xf0\x00",
        b"\x00\x00",
    ],
)
async def test_an_answer_that_is_not_mqtt_is_a_lost_connection_and_kills_nothing(noise: bytes) -> None:
    async with hostile_broker(connack=noise) as broker:
        mqtt = publisher(broker, timeout="300ms")
        with pytest.raises(NotConnected):
            await mqtt.connect(WILL, BIRTH)
        broker.connack = packets.connack(5, 0)
        await mqtt.connect(WILL, BIRTH)
        await mqtt.close()


@pytest.mark.parametrize(
    "noise", [b"\x40\x05\x00\x01\x00\x7f\x01", b"\x40\x02\xff\xff", b"\xb0\x00", b"\x30\x03\x00\x09a"]
)
async def test_noise_after_the_connect_does_not_leave_a_dead_connection_looking_alive(noise: bytes) -> None:
    async with hostile_broker(on_publish=lambda n, m: packets.puback(5, m.packet_id) if n == 1 else noise) as broker:
        mqtt = publisher(broker, timeout="300ms")
        await mqtt.connect(WILL, BIRTH)
        with pytest.raises(NotConnected):
            await mqtt.publish(message(1))
        await mqtt.close()


async def test_a_receive_maximum_of_one_sends_one_at_a_time() -> None:
    grants = bytes([packets.RECEIVE_MAXIMUM, 0, 1])
    async with hostile_broker(connack=packets.connack(5, 0, grants)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        assert mqtt.window == 1
        await mqtt.close()


async def test_a_message_larger_than_the_broker_takes_is_rejected_before_it_is_sent() -> None:
    grants = bytes([packets.MAXIMUM_PACKET_SIZE]) + (2000).to_bytes(4, "big")
    async with hostile_broker(connack=packets.connack(5, 0, grants)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        with pytest.raises(Rejected):
            await mqtt.publish(message(1, b"x" * 2000))
        await mqtt.publish(message(2, b"x" * 1000))
        assert [len(one.payload) for one in broker.received[1:]] == [1000]
        await mqtt.close()


async def test_topics_are_written_out_whatever_aliases_the_broker_offers() -> None:
    offers = bytes([0x22, 0, 10])
    async with hostile_broker(connack=packets.connack(5, 0, offers)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        for seq in (1, 2):
            await mqtt.publish(message(seq))
        await mqtt.close()
        assert packets.property_of(broker.connects[0].properties, 0x22) is None, "none may be sent to us"
        assert [one.topic for one in broker.received[1:3]] == ["ea/v1/s/a/l/m/evt/state"] * 2
        assert {packets.property_of(one.properties, packets.TOPIC_ALIAS) for one in broker.received[:3]} == {None}


async def test_it_asks_for_a_clean_start_without_a_session() -> None:
    async with hostile_broker() as broker:
        mqtt = publisher(broker, username="press", keepalive="20s")
        await mqtt.connect(WILL, BIRTH)
        await mqtt.close()
        (connect,) = broker.connects
    assert (connect.clean, connect.keepalive, connect.client_id) == (True, 20, "agent-1")
    assert (connect.username, connect.password) == ("press", b"secret")
    assert packets.property_of(connect.properties, packets.SESSION_EXPIRY) == 0
    assert connect.will is not None
    assert (connect.will.payload, connect.will.qos, connect.will.retain) == (b"will", 1, True)


async def test_no_thread_and_no_socket_outlives_its_connection() -> None:
    async with hostile_broker(on_publish=lambda n, m: CUT if n == 2 else packets.puback(5, m.packet_id)) as broker:
        mqtt = publisher(broker)
        for _ in range(20):
            await mqtt.connect(WILL, BIRTH)
            with pytest.raises(NotConnected):
                await mqtt.publish(message(1))
        await mqtt.close()
    await until(lambda: not [t for t in threading.enumerate() if t.name == "mqtt-agent-1"], what="threads end")
    gc.collect()  # a socket left open would warn, and a warning is an error here
