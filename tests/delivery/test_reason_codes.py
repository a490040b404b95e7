"""Every reason code of MQTT 5 that a broker may send in CONNACK, PUBACK or DISCONNECT: what is made of it, and that
it is told in words. The tables are those of the standard (3.2.2.2, 3.4.2.1, 3.14.2.1)."""

import pytest

from edge_agent.delivery import refusals
from edge_agent.delivery.publisher import Forbidden, NotConnected, Poisoned, PublishError, Rejected, Silence
from edge_agent.demo import packets
from tests.delivery.test_mqtt_refusals import BIRTH, WILL, message, publisher
from tests.hostile_broker import answer, hostile_broker

REFUSED_US = {0x86, 0x87, 0x8A, 0x8C}
CONNACK = [
    *(0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B),
    *(0x9C, 0x9D, 0x9F),
]
PUBACK = {
    0x80: NotConnected,
    0x83: NotConnected,
    0x87: Forbidden,
    0x90: Rejected,
    0x91: NotConnected,
    0x97: NotConnected,
    0x99: Rejected,
}
DISCONNECT = [
    *(0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98),
    *(0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2),
]
POISONED = {0x90, 0x95, 0x99}


def assert_told(error: PublishError, code: int) -> None:
    assert f"(0x{code:02X})" in error.native
    assert "unknown" not in error.native
    assert not isinstance(error, Silence), "it has said something"


@pytest.mark.parametrize("code", CONNACK, ids=hex)
async def test_a_refused_connection(code: int) -> None:
    async with hostile_broker(connack=packets.connack(5, code)) as broker:
        with pytest.raises(PublishError) as refused:
            await publisher(broker).connect(WILL, BIRTH)
    assert type(refused.value) is (Forbidden if code in REFUSED_US else NotConnected)
    assert_told(refused.value, code)


@pytest.mark.parametrize(("code", "kind"), PUBACK.items(), ids=lambda value: hex(value) if type(value) is int else "")
async def test_a_refused_message(code: int, kind: type[PublishError]) -> None:
    async with hostile_broker(on_publish=answer(code)) as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        with pytest.raises(PublishError) as refused:
            await mqtt.publish(message(1))
        await mqtt.close()
    assert type(refused.value) is kind
    assert_told(refused.value, code)


@pytest.mark.parametrize("code", DISCONNECT, ids=hex)
async def test_a_connection_that_the_broker_ends(code: int) -> None:
    async with hostile_broker() as broker:
        mqtt = publisher(broker)
        await mqtt.connect(WILL, BIRTH)
        broker.say(packets.disconnect(code))
        lost = await mqtt.lost
        await mqtt.close()
    assert type(lost) is (Forbidden if code == 0x87 else Poisoned if code in POISONED else NotConnected)
    assert lost.code == {0x8E: "B604", 0x87: "B601"}.get(code, "B606")
    assert_told(lost, code)


@pytest.mark.parametrize("code", [0x05, 0x7F, 0x8B, 0xA5, 0xFF], ids=hex)
async def test_a_code_that_is_not_in_the_standard_ends_the_connection_and_is_no_confirmation(code: int) -> None:
    async with hostile_broker(on_publish=answer(code)) as broker:
        mqtt = publisher(broker, timeout="500ms")
        await mqtt.connect(WILL, BIRTH)
        if code >= 0x80:
            with pytest.raises(NotConnected):
                await mqtt.publish(message(1))
        broker.say(packets.disconnect(code))
        assert isinstance(await mqtt.lost, NotConnected)
        await mqtt.close()


@pytest.mark.parametrize("code", [0x84, 0x85, 0x90, 0x9A, 0x9B, 0x9C, 0x9D], ids=hex)
def test_what_can_be_mended_says_how(code: int) -> None:
    told = str(refusals.connack_refused(code, broker="b", user=None, client_id="press-1"))
    assert "mqtt." in told or "in the broker" in told
    assert "{" not in told
