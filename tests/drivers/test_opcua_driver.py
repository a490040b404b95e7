"""The OPC UA driver against a server in this process, and against what goes wrong with connections."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.crypto.security_policies import SecurityPolicyNone

from drivers.base import Batch, Quality, Reading
from drivers.errors import ConnectionLost, DriverError
from drivers.opcua import Opcua, subscription
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.session import _Protocol
from tests.drivers.opcua_reading import connections, latest
from tests.servers_opcua import AsyncuaPress, asyncua_press, cable, stranger
from tests.waiting import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPES = {"Status": "int16", "Total": "uint16", "Order": "string", "Tonnage": "float32"}


def device(url: str, *names: str, **settings: Any) -> OpcuaDevice:
    tags = {name: {"node": f"nsu=urn:acme:press;s={name}", "type": TYPES.get(name, "float64")} for name in names}
    return OpcuaDevice.model_validate(
        {
            "url": url,
            "security": "none",
            "insecure": True,
            "publishing": "20ms",
            "sampling": "10ms",
            "timeout": "1s",
            "tags": tags or {"Total": {"node": "nsu=urn:acme:press;s=Total", "type": "uint16"}},
        }
        | settings
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[AsyncuaPress]:
    async with asyncua_press(namespaces=2) as press:  # it takes seconds to start
        yield press


@pytest_asyncio.fixture(loop_scope="module")
async def press(running: AsyncuaPress) -> AsyncuaPress:
    """A press as it came from the works."""
    for name in set(running.nodes) - set(TYPES):
        await running.remove(name)
    await running.set("Total", ua.DataValue(ua.Variant(0, ua.VariantType.UInt16)))
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def connect() -> AsyncIterator[Callable[..., Any]]:
    async with connections() as connected:
        yield connected


async def batch_with(opened: Any, enough: Callable[[Batch], object]) -> Batch:
    async with asyncio.timeout(15):
        while not enough(batch := await opened.read()):
            pass
    return batch


async def failure(url: str, **settings: Any) -> DriverError:
    opened = Opcua().open("press-1", device(url, **settings))
    with pytest.raises(DriverError) as raised:
        async with asyncio.timeout(10):
            await opened.connect()
    await opened.close()
    assert "press-1" in str(raised.value)
    assert url in str(raised.value)
    return raised.value


async def test_values_come_with_quality_and_source_time(press: AsyncuaPress, connect: Any) -> None:
    opened = await connect(device(press.url, *TYPES))
    at = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)
    await press.set("Total", ua.DataValue(ua.Variant(7, ua.VariantType.UInt16), SourceTimestamp=at))
    await press.set("Order", "WO-260302-017")
    found = await latest(opened, lambda r: len(r) == 4 and r["Total"].value == 7 and r["Order"].value)
    assert found["Total"] == Reading("Total", 7, Quality.GOOD, 1_772_452_800_250_000)
    assert found["Order"].value == "WO-260302-017"
    assert found["Status"].value == 1
    assert found["Tonnage"].value == 0.0


async def test_a_tag_of_bad_quality_says_why_and_comes_back(press: AsyncuaPress, connect: Any) -> None:
    opened = await connect(device(press.url, "Total"))
    bad = ua.DataValue(ua.Variant(7, ua.VariantType.UInt16), StatusCode=ua.StatusCode(ua.StatusCodes.BadNotConnected))
    await press.set("Total", bad)
    found = await latest(opened, lambda r: "Total" in r and r["Total"].quality is Quality.BAD)
    assert found["Total"][1:3] == (None, Quality.BAD)
    assert found["Total"].detail == "BadNotConnected"
    await press.set("Total", ua.DataValue(ua.Variant(8, ua.VariantType.UInt16)))
    assert (await latest(opened, lambda r: "Total" in r and r["Total"].value))["Total"].value == 8


async def test_an_array_or_another_type_is_bad_and_the_others_go_on(press: AsyncuaPress, connect: Any) -> None:
    await press.add("List", [1.0, 2.0])
    await press.add("Text", "x")
    opened = await connect(device(press.url, "Total", "List", "Text"))
    found = await latest(opened, lambda r: len(r) == 3)
    assert found["Total"].quality is Quality.GOOD
    assert "array of Double" in found["List"].detail
    assert "sends String" in found["Text"].detail


async def test_queued_values_come_in_order_and_none_is_missing(press: AsyncuaPress, connect: Any) -> None:
    opened = await connect(device(press.url, "Total"))
    await latest(opened, lambda r: "Total" in r)
    for value in range(1, 11):
        await press.set("Total", ua.DataValue(ua.Variant(value, ua.VariantType.UInt16)))
    seen: list[Any] = []
    async with asyncio.timeout(10):
        while seen[-1:] != [10]:
            seen += [reading.value for reading in (await opened.read()).readings]
    assert seen == list(range(1, 11))


async def test_a_missing_node_is_bad_at_once_and_good_soon_after_it_appears(
    press: AsyncuaPress, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "RETRY", 0.1)
    opened = await connect(device(press.url, "Total", "Speed"))
    batch = await opened.read()
    assert batch.readings == [Reading("Speed", None, Quality.BAD, None, "BadNodeIdUnknown")]
    await latest(opened, lambda r: "Total" in r)
    await batch_with(opened, lambda b: b.readings and b.readings[0].detail == "BadNodeIdUnknown")  # it is said again
    await press.add("Speed", 1.5)
    found = await latest(opened, lambda r: "Speed" in r and r["Speed"].quality is Quality.GOOD)
    assert found["Speed"].value == 1.5
    await press.set("Total", ua.DataValue(ua.Variant(5, ua.VariantType.UInt16)))
    assert await latest(opened, lambda r: "Total" in r and r["Total"].value == 5)


async def test_a_namespace_that_does_not_exist_yet_is_looked_up_again(
    press: AsyncuaPress, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "RETRY", 0.1)
    tags = {
        "total": {"node": "nsu=urn:acme:press;s=Total", "type": "uint16"},
        "late": {"node": "nsu=urn:acme:late;s=Late", "type": "float64"},
    }
    opened = await connect(device(press.url, tags=tags))
    found = await latest(opened, lambda r: len(r) == 2)
    assert found["late"].detail == "BadNodeIdUnknown: the server has no namespace urn:acme:late"
    assert found["total"].quality is Quality.GOOD
    index = await press.server.register_namespace("urn:acme:late")
    await press.server.nodes.objects.add_variable(ua.NodeId("Late", index), "Late", 2.5)
    found = await latest(opened, lambda r: "late" in r and r["late"].value)
    assert found["late"].value == 2.5


async def test_namespaces_that_move_end_the_connection(press: AsyncuaPress, connect: Any) -> None:
    opened = await connect(device(press.url))
    await latest(opened, lambda r: "Total" in r)
    array = press.server.get_node(ua.NodeId(2255))
    names = await array.read_value()
    await array.write_value([*names[:1], "urn:acme:new", *names[1:]])
    with pytest.raises(ConnectionLost) as raised:
        await latest(opened, lambda r: False)
    await array.write_value(names)
    assert raised.value.code == "C522"


async def test_without_news_there_is_a_sign_of_life(
    press: AsyncuaPress, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "SIGN_OF_LIFE", 0.1)
    opened = await connect(device(press.url))
    await latest(opened, lambda r: "Total" in r)
    for _ in range(3):
        async with asyncio.timeout(2):
            assert (await opened.read()).readings == []


async def test_a_server_that_says_nothing_is_lost_although_the_socket_is_up(
    press: AsyncuaPress, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "SIGN_OF_LIFE", 0.1)
    async with cable(int(press.url.rpartition(":")[2])) as relay:
        opened = await connect(device(relay.url, timeout="300ms"))
        await latest(opened, lambda r: "Total" in r)
        relay.stall()
        with pytest.raises(ConnectionLost) as raised:
            async with asyncio.timeout(3):
                await latest(opened, lambda r: False)
        assert raised.value.code == "C502"
        async with asyncio.timeout(1):
            await opened.close()


async def test_a_server_that_never_publishes_is_lost_from_the_creation_on(
    press: AsyncuaPress, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "SIGN_OF_LIFE", 0.1)
    async with cable(int(press.url.rpartition(":")[2])) as relay:
        opened = await connect(device(relay.url, timeout="300ms"))
        relay.stall()
        with pytest.raises(ConnectionLost):
            async with asyncio.timeout(3):
                await latest(opened, lambda r: False)


async def test_a_cut_cable_is_noticed_at_once_and_a_new_driver_reads_again(press: AsyncuaPress, connect: Any) -> None:
    async with cable(int(press.url.rpartition(":")[2])) as relay:
        opened = await connect(device(relay.url))
        await latest(opened, lambda r: "Total" in r)
        await relay.cut()
        with pytest.raises(ConnectionLost) as raised:
            async with asyncio.timeout(1):
                await latest(opened, lambda r: False)
        assert raised.value.code == "C504"
        await opened.close()
        await relay.plug()
        again = await connect(device(relay.url))
        first = await again.read()
        assert not first.restarted  # the PLC was there all the time
        assert (await latest(again, lambda r: "Total" in r))["Total"].quality is Quality.GOOD


async def test_nothing_that_listens_is_told_with_the_address() -> None:
    error = await failure(f"opc.tcp://127.0.0.1:{free_port()}")
    assert (error.code, error.reason) == ("C501", "refused")


async def test_a_black_hole_is_told_within_the_time_limit() -> None:
    async with stranger(b"") as url:
        async with asyncio.timeout(2):
            error = await failure(url, timeout="500ms")
    assert (error.code, error.reason) == ("C502", "timeout")
    assert "0.5 s" in str(error)


async def test_a_name_that_cannot_be_resolved_is_told() -> None:
    error = await failure("opc.tcp://no-such-plc.invalid:4840")
    assert (error.code, error.reason) == ("C503", "refused")


async def test_a_server_that_hangs_up_is_told() -> None:
    async with stranger(None) as url:
        error = await failure(url)
    assert (error.code, error.reason) == ("C504", "session_lost")


@pytest.mark.parametrize("size", [0, 60_000_000, 0xFFFFFFFF])
async def test_a_chunk_larger_than_agreed_is_refused_before_it_is_received(size: int) -> None:
    async with stranger(b"ACKF" + struct.pack("<I", size) + bytes(20)) as url:
        error = await failure(url, timeout="5s")
    assert error.code == "C509"


class Wire:
    """The other side of a transport, which keeps nothing."""

    closed = False

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


async def test_a_message_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    protocol, wire = _Protocol(5.0, SecurityPolicyNone()), Wire()
    protocol.connection_made(wire)  # type: ignore[arg-type]  # as much of one as is used
    hello = asyncio.create_task(protocol.send_hello("opc.tcp://x"))
    await asyncio.wait([hello], timeout=0.01)
    protocol.data_received(b"ACKF" + struct.pack("<IIIIII", 28, 0, 65535, 65535, 0, 0))
    await hello
    received = 0
    while not wire.closed and received < 100_000_000:
        number = received // 60_000 + 1
        received += 60_000
        protocol.data_received(b"MSGC" + struct.pack("<IIIII", 60_000, 0, 0, number, 1) + bytes(60_000 - 24))
    assert received < 20_000_000


async def test_something_else_that_listens_is_no_opc_ua_server() -> None:
    async with stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        error = await failure(url, timeout="5s")
    assert error.code == "C509"


async def test_a_server_that_does_not_offer_security_is_told_what_it_offers(
    press: AsyncuaPress, tmp_path: Any
) -> None:
    error = await failure(press.url, security={"pki": str(tmp_path)}, insecure=False)
    assert error.code == "C512"
    assert "it offers None/None" in str(error)


async def test_one_cancel_ends_a_pending_read(press: AsyncuaPress, connect: Any) -> None:
    opened = await connect(device(press.url))
    await latest(opened, lambda r: "Total" in r)

    async def read_for_ever() -> None:
        while True:
            await opened.read()

    reading = asyncio.create_task(read_for_ever())
    await asyncio.wait([reading], timeout=0.1)
    reading.cancel()
    await asyncio.wait([reading], timeout=0.5)
    assert reading.cancelled()


async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    async with stranger(b"") as url:
        before = asyncio.all_tasks()
        opened = Opcua().open("press-1", device(url, timeout="30s"))
        connecting = asyncio.create_task(opened.connect())
        await asyncio.wait([connecting], timeout=0.2)
        connecting.cancel()
        await asyncio.wait([connecting], timeout=0.5)
        assert connecting.cancelled()
        async with asyncio.timeout(1):
            await opened.close()
        assert {task.get_name() for task in asyncio.all_tasks() - before if "serve" not in repr(task)} == set()


async def test_closing_frees_the_session_and_leaves_no_task(press: AsyncuaPress) -> None:
    subscriptions = press.server.iserver.subscription_service.subscriptions
    there, before = set(subscriptions), asyncio.all_tasks()
    opened = Opcua().open("press-1", device(press.url))
    await opened.connect()
    await latest(opened, lambda r: "Total" in r)
    assert set(subscriptions) - there
    reading = asyncio.create_task(opened.read())
    await asyncio.wait([reading], timeout=0.01)
    reading.cancel()
    await asyncio.wait([reading])
    await opened.close()
    await opened.close()
    assert [task for task in asyncio.all_tasks() - before if "opcua publish" in task.get_name()] == []
    assert set(subscriptions) - there == set()
