"""Devices that answer late, wrongly or not at all must never put a value where it does not belong."""

import asyncio
import random

import pytest

from drivers.base import Quality
from drivers.errors import ConnectionLost, DriverError
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import CLOSE, SILENCE, Asked, HostilePeer, frame, scripted


def device(url: str, **options: object) -> ModbusDevice:
    tags = {f"r{n}": {"holding": n} for n in (1, 2, 3)}
    return ModbusDevice.model_validate({"url": url, "scan": "10ms", "timeout": "200ms", "tags": tags, **options})


def right(asked: Asked) -> bytes:
    return asked.reply()


async def failure(peer: HostilePeer, **options: object) -> ConnectionLost:
    """What the second read raises; the first one and the connection are fine."""
    driver = Drivers().open("oven-1", device(peer.url, **options))
    await driver.connect()
    assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
    with pytest.raises(ConnectionLost) as raised:
        await driver.read()
    await driver.close()
    return raised.value


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda asked: asked.reply(function=4), "answers function 4"),
        (lambda asked: asked.reply(count=2), "4 bytes of data instead of 6"),
        (lambda asked: asked.reply(count=4), "8 bytes of data instead of 6"),
        (
            lambda asked: asked.reply(unit=2),
            "comes from unit 2; a device that always answers so is read with 'unit: 2'",
        ),
        (lambda asked: asked.reply(transaction=asked.transaction - 1), "transaction 2"),
        (lambda asked: asked.reply(transaction=0), "transaction 0"),
        (lambda asked: frame(asked.transaction, asked.unit, b"\3\6\0\1\0\2"), "bytes of data instead of 6"),
        (lambda asked: asked.exception(2)[:-1] + b"\2\2", "not a Modbus TCP frame"),
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n", "not a Modbus TCP frame"),
    ],
)
async def test_an_answer_that_does_not_fit_is_dropped_with_its_connection(wrong, says):
    async with HostilePeer(scripted(right, right, wrong)) as peer:
        error = await failure(peer)
    assert (error.code, error.reason) == ("C502", "exception")
    assert says in str(error)


async def test_two_answers_to_one_question_end_the_connection_and_not_the_device():
    async with HostilePeer(scripted(right, lambda asked: asked.reply() * 2, right)) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        for _ in range(3):
            assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        await driver.close()
        assert peer.connections == 2


async def test_a_device_that_always_answers_with_transaction_zero_is_read():
    async with HostilePeer(lambda asked: asked.reply(transaction=0)) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        for _ in range(3):
            assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        await driver.close()


async def test_a_late_answer_is_never_taken_for_the_next_question():
    """All registers of a reading tell when they were asked for: the late ones would be one behind."""

    def stamped(asked: Asked) -> bytes:
        return frame(0, asked.unit, bytes([3, 2]) + asked.number.to_bytes(2, "big"))

    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        late = random.Random(asked.number).uniform(0.03, 0.15)
        return (late, stamped(asked)) if asked.number % 4 == 3 else stamped(asked)

    drivers = Drivers()
    read = 0
    async with HostilePeer(behave) as peer:
        while read < 20:
            driver = drivers.open("oven-1", device(peer.url, timeout="50ms", tags={"n": {"holding": 7}}))
            try:
                await driver.connect()
                while True:
                    (reading,) = (await driver.read()).readings
                    assert reading.value == len(peer.asked) - 1
                    read += 1
            except ConnectionLost:
                pass
            finally:
                await driver.close()


async def test_silence_is_noticed_after_the_time_out_and_named():
    async with HostilePeer(scripted(right, right, lambda asked: SILENCE)) as peer:
        started = asyncio.get_running_loop().time()
        error = await failure(peer)
    assert asyncio.get_running_loop().time() - started < 1
    assert (error.code, error.reason) == ("C531", "timeout")
    assert "unit 1 at 127.0.0.1" in str(error)


async def test_an_answer_that_trickles_in_ends_at_the_time_out():
    def trickle(asked: Asked) -> bytes:
        writer = next(iter(peer._writers))
        for n, byte in enumerate(asked.reply()):
            asyncio.get_running_loop().call_later(0.05 * n, writer.write, bytes([byte]))
        return SILENCE

    async with HostilePeer(scripted(right, right, trickle)) as peer:
        error = await failure(peer)
    assert error.code == "C531"


async def test_a_connection_closed_in_mid_request_is_noticed_at_once():
    async with HostilePeer(scripted(right, right, lambda asked: CLOSE)) as peer:
        async with asyncio.timeout(5):
            error = await failure(peer, timeout="60s")
    assert (error.code, error.reason) == ("C502", "session_lost")


async def test_a_connection_closed_between_requests_is_opened_again_without_loss():
    async with HostilePeer(right) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        await driver.read()
        await peer.stop()
        again = HostilePeer(right, port=peer.port)
        async with again:
            assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
            await driver.close()


async def test_a_cancelled_read_leaves_no_answer_behind_for_the_next_one():
    async with HostilePeer(scripted(right, right, lambda asked: (0.05, asked.reply()), right)) as peer:
        driver = Drivers().open("oven-1", device(peer.url, timeout="60s"))
        await driver.connect()
        await driver.read()
        reading = asyncio.create_task(driver.read())
        await asyncio.wait([reading], timeout=0.03)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        assert peer.connections == 2
        await driver.close()


@pytest.mark.parametrize("zeros", [b"\0", b"\xff"])
async def test_a_blank_block_straight_after_connecting_is_confirmed_by_a_second_read(zeros):
    def blank(asked: Asked) -> bytes:
        return frame(asked.transaction, asked.unit, bytes([3, 6]) + zeros * 6)

    async with HostilePeer(scripted(right, blank, right, blank)) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        value = int.from_bytes(zeros * 2, "big")
        assert [reading.value for reading in (await driver.read()).readings] == [value] * 3
        await driver.close()


async def test_answers_in_another_order_find_their_questions():
    held: list[Asked] = []

    def behave(asked: Asked) -> bytes:
        if asked.number == 0:
            return asked.reply()
        held.append(asked)
        if len(held) < 3:
            return SILENCE
        answers = b"".join(each.reply() for each in reversed(held))
        held.clear()
        return answers

    async with HostilePeer(behave) as peer:
        driver = Drivers().open("oven-1", device(peer.url, in_flight=4, one_tag_per_request=True))
        await driver.connect()
        for _ in range(3):
            assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        await driver.close()


async def test_answers_in_pieces_are_put_together():
    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        reply = asked.reply()
        asyncio.get_running_loop().call_later(0.01, lambda: next(iter(peer._writers)).write(reply[3:]))
        return reply[:3]

    async with HostilePeer(behave) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        await driver.close()


@pytest.mark.parametrize(("code", "says"), [(1, "illegal function"), (4, "device failure"), (6, "device busy")])
async def test_a_refused_block_is_bad_for_this_scan_only(code, says):
    async with HostilePeer(scripted(right, right, lambda asked: asked.exception(code), right)) as peer:
        driver = Drivers().open("oven-1", device(peer.url))
        await driver.connect()
        first = (await driver.read()).readings
        bad = (await driver.read()).readings
        assert {(reading.value, reading.quality) for reading in bad} == {(None, Quality.BAD)}
        assert all(reading.detail.startswith(f"{says} (exception {code})") for reading in bad)
        assert (await driver.read()).readings == first
        await driver.close()


async def test_a_unit_that_the_gateway_cannot_reach_is_lost_and_its_neighbour_is_named():
    def gateway(asked: Asked) -> bytes:
        return asked.reply() if asked.unit == 1 else asked.exception(11)

    drivers = Drivers()
    async with HostilePeer(gateway) as peer:
        neighbour = drivers.open("oven-1", device(peer.url))
        await neighbour.connect()
        with pytest.raises(DriverError) as raised:
            await drivers.open("oven-9", device(peer.url, unit=9)).connect()
        assert (raised.value.code, raised.value.reason) == ("C531", "timeout")
        assert "unit 9" in str(raised.value)
        assert "but unit 1 does" in str(raised.value)
        await neighbour.read()
        await neighbour.close()
        assert peer.connections == 1
