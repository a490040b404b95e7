"""The demo's broker, judged by clients that others wrote: mosquitto's tools and paho."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.demo import packets
from edge_agent.demo.broker import LoopbackBroker
from edge_agent.demo.packets import Malformed, matches, valid_filter
from tests.programs import find_program
from tests.servers_mqtt import Sink


@pytest.fixture
async def port() -> AsyncIterator[int]:
    broker = LoopbackBroker()
    yield await broker.open()
    await broker.close()


async def tool(name: str, port: int, *arguments: str) -> tuple[int, str]:
    """Run mosquitto_pub or mosquitto_sub; exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        find_program(name),
        *("-p", str(port), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(15):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
@pytest.mark.parametrize("qos", ["0", "1"])
async def test_mosquittos_own_tools_talk_to_it(port: int, version: str, qos: str) -> None:
    async with Sink(port, "ea/#") as sink:
        code, said = await tool("mosquitto_pub", port, "-V", version, "-t", "ea/x", "-q", qos, "-m", "急停", "-r")
        assert (code, said) == (0, "")
        (received,) = await sink.wait_for(1)
        assert received.payload.decode() == "急停"
    code, said = await tool("mosquitto_sub", port, "-V", version, "-t", "ea/+", "-q", qos, "-C", "1", "-v")
    assert (code, said) == (0, "ea/x 急停\n")


async def test_an_empty_retained_message_removes_the_one_that_stood(port: int) -> None:
    await tool("mosquitto_pub", port, "-t", "a", "-m", "1", "-r")
    await tool("mosquitto_pub", port, "-t", "a", "-n", "-r")
    await tool("mosquitto_pub", port, "-t", "b", "-m", "2", "-r")
    async with Sink(port) as sink:
        await sink.wait_for(1)
        assert [one.topic for one in sink.messages] == ["b"]


async def test_properties_reach_the_subscriber(port: int) -> None:
    async with Sink(port) as sink:
        properties = ("-D", "publish", "content-type", "text/x", "-D", "publish", "user-property", "k", "v")
        await tool("mosquitto_pub", port, "-V", "mqttv5", "-t", "a", "-m", "1", *properties)
        (received,) = await sink.wait_for(1)
    assert (received.content_type, received.user) == ("text/x", {"k": "v"})


async def test_a_client_that_vanishes_leaves_its_will_and_one_that_disconnects_does_not(port: int) -> None:
    async with Sink(port) as sink:
        for vanish in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = packets.text("MQTT") + bytes([4, 0x06, 0, 60]) + packets.text("c")
            body += packets.text("will") + packets.text("gone" if vanish else "never")
            writer.write(packets.packet(packets.CONNECT, 0, body))
            await reader.readexactly(4)
            if not vanish:
                writer.write(packets.packet(packets.DISCONNECT, 0, b""))
                await reader.read()
            writer.close()
            await writer.wait_closed()
        await tool("mosquitto_pub", port, "-t", "end", "-m", "1")
        await sink.wait_for(2)
    assert [one.payload for one in sink.messages] == [b"gone", b"1"]


async def test_a_client_that_says_nothing_is_dropped_after_its_keep_alive(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = packets.text("MQTT") + bytes([5, 0x02, 0, 1, 0]) + packets.text("c")
    writer.write(packets.packet(packets.CONNECT, 0, body))
    async with asyncio.timeout(5):
        said = await reader.read()
        while chunk := await reader.read():
            said += chunk
    assert said.endswith(packets.disconnect(0x8D))
    writer.close()


async def test_a_subscriber_never_has_more_in_flight_than_it_allows(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    maximum = bytes([3, packets.RECEIVE_MAXIMUM, 0, 2])
    body = packets.text("MQTT") + bytes([5, 0x02, 0, 0]) + maximum + packets.text("slow")
    writer.write(packets.packet(packets.CONNECT, 0, body))
    writer.write(packets.packet(packets.SUBSCRIBE, 2, b"\x00\x01\x00" + packets.text("a") + b"\x01"))
    for expected in (packets.CONNACK, packets.SUBACK):
        assert (await packets.read_packet(reader, 1 << 20))[0] == expected
    code, _ = await tool("mosquitto_pub", port, "-q", "1", "-t", "a", "-m", "x", "--repeat", "5")
    assert code == 0
    ids = [packets.read_publish(5, *(await packets.read_packet(reader, 1 << 20))[1:]).packet_id for _ in range(2)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await packets.read_packet(reader, 1 << 20)
    writer.write(packets.puback(5, ids[0]))
    kind, flags, rest = await packets.read_packet(reader, 1 << 20)
    assert (kind, packets.read_publish(5, flags, rest).payload) == (packets.PUBLISH, b"x")
    writer.close()


async def test_noise_ends_its_own_connection_and_no_other(port: int) -> None:
    async with Sink(port) as sink:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\xff", b"\x10\x00", b"\xf0\x00", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(noise)
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        await tool("mosquitto_pub", port, "-t", "a", "-m", "1")
        await sink.wait_for(1)


async def test_closing_ends_every_connection_and_the_port_is_free_again() -> None:
    broker = LoopbackBroker()
    port = await broker.open()
    async with Sink(port):
        await broker.close()
        await broker.close()
        again = LoopbackBroker()
        assert await again.open(port) == port
        await again.close()


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/+/c", "a//c", True),
        ("a/b", "a/b", True),
        ("a/b", "a/B", False),
        ("a", "a/b", False),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("topic_filter", "valid"), [("#", True), ("a/#", True), ("a#", False), ("#/a", False), ("", False)]
)
def test_a_wildcard_must_be_a_whole_level(topic_filter: str, valid: bool) -> None:
    assert valid_filter(topic_filter) is valid


@given(st.sampled_from([4, 5]), st.binary(max_size=60))
def test_no_bytes_make_a_packet_reader_fail_otherwise_than_malformed(level: int, data: bytes) -> None:
    for read in (
        packets.read_connect,
        lambda body: packets.read_publish(level, 2, body),
        lambda body: packets.read_subscribe(level, body),
        lambda body: packets.read_unsubscribe(level, body),
        lambda body: packets.property_of(body.rest(), 0x21),
    ):
        try:
            read(packets.Cursor(data))
        except Malformed:
            continue


@given(st.integers(0, 268_435_455))
def test_a_length_is_read_as_it_was_written(value: int) -> None:
    assert packets.Cursor(packets.varint(value)).varint() == value
