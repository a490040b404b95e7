"""RTU has no transaction ids: what is late, damaged or somebody else's must be known by other means."""

import asyncio
import os
import random
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from drivers.errors import ConnectionLost, DriverError
from drivers.modbus.exchange import Question, writing
from drivers.modbus.options import ModbusDevice
from drivers.modbus.rtu import LONGEST, _canary
from drivers.registry import Drivers
from tests.servers_modbus import CLOSE, SILENCE, Asked, Behaviour, HostileRtu, Pty, frame, rtu, scripted, serial_cable
from tests.waiting import until


def device(url: str, unit: int = 1, **options: object) -> ModbusDevice:
    tags = {f"r{n}": {"holding": n} for n in (1, 2, 3)}
    return ModbusDevice.model_validate(
        {"url": url, "unit": unit, "scan": "10ms", "timeout": "100ms", "tags": tags, **options}
    )


def right(asked: Asked) -> bytes:
    return rtu(asked.reply())


def damaged(asked: Asked) -> bytes:
    answer = bytearray(right(asked))
    answer[4] ^= 0x10
    return bytes(answer)


@asynccontextmanager
async def reached(behave: Behaviour, way: str) -> AsyncIterator[tuple[HostileRtu, str]]:
    """A peer and the address of it, over TCP or through a serial port."""
    async with HostileRtu(behave) as peer:
        if way == "tcp":
            yield peer, peer.url
        else:
            async with serial_cable(peer.port) as cable:
                yield peer, cable.url(baud=115200, parity="N", stop_bits=1)


ways = pytest.mark.parametrize("way", ["tcp", "serial"])


async def values(drivers: Drivers, options: ModbusDevice, name: str = "oven-1") -> list[object]:
    driver = drivers.open(name, options)
    try:
        await driver.connect()
        return [reading.value for reading in (await driver.read()).readings]
    finally:
        await driver.close()


@ways
async def test_units_on_a_line_are_read(way):
    async with reached(right, way) as (peer, url):
        drivers = Drivers()
        units = [drivers.open(f"oven-{unit}", device(url, unit, timeout="5s")) for unit in (1, 2, 3)]
        for driver in units:
            await driver.connect()
        for _ in range(3):
            for driver in units:
                assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        assert peer.connections == 1
        for driver in units:
            await driver.close()


@ways
async def test_answers_in_pieces_and_behind_stray_bytes_are_answers(way):
    def behave(asked: Asked) -> bytes:
        answer = right(asked)
        asyncio.get_running_loop().call_later(0.03, lambda: next(iter(peer._writers)).write(answer[3:]))
        return b"\xff\x00" + answer[:3]

    async with reached(behave, way) as (peer, url):
        assert await values(Drivers(), device(url, timeout="5s")) == [1, 2, 3]


@ways
async def test_an_answer_damaged_on_its_way_is_asked_for_once_more(way):
    async with reached(scripted(right, damaged, right), way) as (peer, url):
        assert await values(Drivers(), device(url)) == [1, 2, 3]
        assert len(peer.asked) == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (damaged, "checksum is wrong, twice"),
        (lambda asked: rtu(asked.reply(function=4)), "answers function 4"),
        (lambda asked: rtu(asked.reply(count=2)), "4 bytes of data instead of 6"),
        (lambda asked: rtu(asked.reply(unit=77)), "comes from unit 77"),
        (lambda asked: right(asked)[:-3], "incomplete or damaged"),
        (lambda asked: bytes(30), "noise"),
        (lambda asked: b"\xff" * 2000, "never silent"),
    ],
)
async def test_an_answer_that_does_not_fit_is_no_value(wrong, says):
    async with reached(scripted(right, right, wrong), "tcp") as (_, url):
        driver = Drivers().open("oven-1", device(url, timeout="1s"))
        await driver.connect()
        assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        with pytest.raises(ConnectionLost) as raised:
            await driver.read()
        await driver.close()
    assert (raised.value.code, raised.value.reason) == ("C502", "exception")
    assert says in str(raised.value)


@ways
async def test_an_answer_that_is_late_is_not_taken_for_the_next_one(way):
    """Every answer tells its question's number: one that is taken for another is one behind."""
    delays = random.Random(7)

    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        data = asked.number.to_bytes(4, "big")[: 2 * asked.count] + bytes(max(0, 2 * asked.count - 4))
        answer = rtu(frame(0, asked.unit, bytes([3, 2 * asked.count]) + data))
        return (delays.uniform(0.1, 0.29), answer) if delays.random() < 0.2 else answer

    tags = {"number": {"holding": 7, "type": "uint32"}}
    async with reached(behave, way) as (peer, url):
        drivers, read, lost = Drivers(), 0, 0
        while read < 15 or lost < 2:
            driver = drivers.open("oven-1", device(url, tags=tags))
            try:
                await driver.connect()
                while True:
                    (reading,) = (await driver.read()).readings
                    assert reading.value == len(peer.asked) - 1
                    read += 1
            except ConnectionLost:
                lost += 1
            finally:
                await driver.close()


async def test_a_late_answer_among_those_of_a_neighbour_is_dropped():
    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        first = asked.unit == 2 and sum(each.unit == 2 for each in peer.asked) == 1
        return (0.15, right(asked)) if first else right(asked)

    async with reached(behave, "tcp") as (peer, url):
        drivers = Drivers()
        neighbour = drivers.open("oven-1", device(url, 1))
        await neighbour.connect()
        with pytest.raises(DriverError, match=r"unit 2 .* but unit 1 does"):
            await values(drivers, device(url, 2), "oven-2")
        for _ in range(5):
            assert [reading.value for reading in (await neighbour.read()).readings] == [1, 2, 3]
        assert await values(drivers, device(url, 2), "oven-2") == [1, 2, 3]
        assert [asked.count for asked in peer.asked if asked.unit == 2] == [1, 1, 3]
        await neighbour.close()


async def test_a_unit_that_never_answered_is_asked_for_another_length_first():
    asked_at: list[float] = []

    def behave(asked: Asked) -> bytes:
        asked_at.append(asyncio.get_running_loop().time())
        return SILENCE if asked.number == 0 else right(asked)

    async with reached(behave, "tcp") as (peer, url):
        drivers = Drivers()
        with pytest.raises(DriverError):
            await values(drivers, device(url))
        assert await values(drivers, device(url)) == [1, 2, 3]
        assert [asked.count for asked in peer.asked] == [1, 2, 1, 3]
        assert asked_at[1] - asked_at[0] >= LONGEST * 0.1 - 0.001


async def test_a_canary_that_fails_too_is_followed_by_one_of_a_third_length():
    """Its wrong answer looks like that to the question before, so one of its own length would prove nothing."""
    answers = scripted(lambda asked: SILENCE, lambda asked: rtu(asked.reply(count=asked.count + 1)), right)
    async with reached(answers, "tcp") as (peer, url):
        drivers, options = Drivers(), device(url, tags={"number": {"holding": 7, "type": "uint32"}})
        for _ in range(2):
            with pytest.raises(DriverError):
                await values(drivers, options)
        assert await values(drivers, options) == [7 << 16 | 8]
        assert [asked.count for asked in peer.asked] == [2, 1, 3, 2, 2]


@pytest.mark.parametrize("function", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17, 125])
def test_a_canary_is_of_another_length_than_all_that_may_still_be_answered(function, count):
    def asking(count: int) -> Question:
        size = (count + 7) // 8 if function < 3 else count * 2
        return Question(5, struct.pack(">BHH", function, 100, count), size)

    doubtful: list[Question] = []
    for _ in range(12):
        canary = _canary(asking(count), doubtful)
        assert canary.unit == 5
        assert canary.size not in {asking(count).size, *(each.size for each in doubtful)}
        assert canary == asking(int.from_bytes(canary.pdu[3:], "big"))
        assert 1 <= int.from_bytes(canary.pdu[3:], "big") <= (2000 if function < 3 else 125)
        doubtful.append(canary)


@pytest.mark.parametrize("registers", [b"\0\7", b"\0\7\0\1"])
def test_a_canary_for_what_writes_reads(registers: bytes) -> None:
    asked = writing(5, 100, registers)
    canary = _canary(asked, [asked])
    assert (canary.pdu[0], canary.echo) == (3, b"")


async def test_a_line_stuck_at_ff_costs_little_and_nobody_else():
    """A broken adapter sends 0xFF as fast as it can; the line is given up, and what else runs goes on running."""
    port = Pty()
    loop = asyncio.get_running_loop()

    def pour() -> None:
        with suppress(BlockingIOError):
            os.write(port.master, b"\xff" * 4096)

    loop.add_writer(port.master, pour)
    try:
        driver = Drivers().open("oven-1", device(port.url(), timeout="10s"))
        began = time.process_time()
        with pytest.raises(DriverError, match="never silent"):
            await driver.connect()
        assert time.process_time() - began < 2
        await driver.close()
    finally:
        loop.remove_writer(port.master)
        port.close()


async def test_a_port_that_is_not_there_says_so_and_one_that_comes_is_used():
    with pytest.raises(DriverError, match="there is no such port") as raised:
        await Drivers().open("oven-1", device("serial:///dev/ttyNowhere")).connect()
    assert raised.value.code == "C501"


async def test_a_port_that_another_program_uses_says_so():
    async with reached(right, "serial") as (_, url):
        one = Drivers().open("oven-1", device(url, timeout="5s"))
        await one.connect()
        with pytest.raises(DriverError, match="another program uses the port"):
            await Drivers().open("oven-2", device(url, 2)).connect()
        await one.close()


async def test_a_port_that_is_pulled_out_is_a_lost_connection():
    port = Pty()
    loop = asyncio.get_running_loop()
    driver = Drivers().open("oven-1", device(port.url(), timeout="20s"))
    connecting = asyncio.create_task(driver.connect())
    asked = loop.create_future()
    loop.add_reader(port.master, lambda: asked.done() or asked.set_result(os.read(port.master, 100)))
    await asyncio.wait_for(asked, 20)
    loop.remove_reader(port.master)
    port.close()
    with pytest.raises(ConnectionLost) as raised:
        await asyncio.wait_for(connecting, 15)
    assert raised.value.reason == "session_lost"
    await driver.close()


async def test_a_converter_that_closes_is_connected_to_again():
    async with reached(scripted(right, right, lambda asked: CLOSE, right), "tcp") as (peer, url):
        drivers = Drivers()
        driver = drivers.open("oven-1", device(url))
        await driver.connect()
        await driver.read()
        with pytest.raises(ConnectionLost) as raised:
            await driver.read()
        assert raised.value.reason == "session_lost"
        await driver.close()
        assert await values(drivers, device(url)) == [1, 2, 3]
        assert peer.connections == 2


@ways
async def test_a_cancelled_question_leaves_its_unit_in_doubt(way):
    async with reached(scripted(right, lambda asked: (0.2, right(asked)), right), way) as (peer, url):
        drivers = Drivers()
        driver = drivers.open("oven-1", device(url, timeout="300ms"))
        await driver.connect()
        reading = asyncio.create_task(driver.read())
        await until(lambda: len(peer.asked) == 2)
        reading.cancel()
        await asyncio.wait([reading])
        await driver.close()
        assert await values(drivers, device(url, timeout="300ms")) == [1, 2, 3]


async def test_no_thread_is_left_when_the_last_unit_leaves():
    def readers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("serial ")]

    async with reached(right, "serial") as (_, url):
        driver = Drivers().open("oven-1", device(url, timeout="5s"))
        await driver.connect()
        assert len(readers()) == 1
        await driver.close()
        await until(lambda: not readers(), what="the thread ends")
