"""A silent unit is put aside: it is tried again, and its neighbours on the line do not wait for it."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress

import pytest

from drivers.base import Driver
from drivers.errors import DriverError
from drivers.modbus.line import SPARED
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import SILENCE, Asked, HostilePeer
from tests.waiting import until

SILENT = 9
TIMEOUT = 0.2


def device(url: str, unit: int, **options: object) -> ModbusDevice:
    tags = {f"r{n}": {"holding": n} for n in (1, 2, 3)}
    return ModbusDevice.model_validate(
        {"url": url, "unit": unit, "scan": "10ms", "timeout": f"{TIMEOUT * 1000:g}ms", "tags": tags, **options}
    )


@asynccontextmanager
async def neighbours(drivers: Drivers, url: str, count: int = 3, **options: object):
    """Units that are read for ever; yields how many batches each has brought."""
    batches: Counter[int] = Counter()

    async def read(unit: int) -> None:
        driver = drivers.open(f"oven-{unit}", device(url, unit, **options))
        await driver.connect()
        try:
            while True:
                assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
                batches[unit] += 1
        finally:
            await driver.close()

    tasks = [asyncio.create_task(read(unit)) for unit in range(1, count + 1)]
    try:
        await until(lambda: len(batches) == count, what="all are read")
        yield batches
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def probe(driver: Driver) -> float:
    """Seconds until the silent unit was found silent."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(DriverError, match=r"unit 9 .* but unit 1 does"):
        await driver.connect()
    return asyncio.get_running_loop().time() - began


async def test_neighbours_are_read_while_a_silent_unit_is_waited_for():
    drivers = Drivers()
    async with HostilePeer(lambda asked: SILENCE if asked.unit == SILENT else asked.reply()) as peer:
        silent = drivers.open("oven-9", device(peer.url, SILENT))
        async with neighbours(drivers, peer.url) as batches:
            await probe(silent)
            for _ in range(3):
                before = batches.copy()
                assert await probe(silent) > TIMEOUT * 0.9
                assert min(batches[unit] - before[unit] for unit in (1, 2, 3)) > 3
        assert peer.connections == 1


async def test_a_gateway_that_takes_one_request_at_a_time_is_spared_its_silent_unit():
    """While it waits for the silent unit it forgets whatever else it is asked."""
    busy_until = 0.0

    def gateway(asked: Asked) -> bytes:
        nonlocal busy_until
        now = asyncio.get_running_loop().time()
        if asked.unit == SILENT:
            busy_until = now + TIMEOUT * 0.9
        return SILENCE if now < busy_until else asked.reply()

    drivers = Drivers()
    async with HostilePeer(gateway) as peer:
        silent = drivers.open("oven-9", device(peer.url, SILENT))
        async with neighbours(drivers, peer.url) as batches:

            def asked() -> int:
                return sum(each.unit == SILENT for each in peer.asked)

            await probe(silent)
            await probe(silent)
            assert asked() == 2
            before = batches.copy()
            await until(lambda: len(batches - before) == 3, limit=20, what="they go on")
            began, attempts = asyncio.get_running_loop().time(), 0
            async with asyncio.timeout(20):
                while asked() == 2:
                    await probe(silent)
                    attempts += 1
            assert attempts > 3
            assert asyncio.get_running_loop().time() - began > SPARED * TIMEOUT


async def test_a_unit_that_answers_again_is_read_again():
    there = False
    drivers = Drivers()
    async with (
        HostilePeer(lambda asked: asked.reply() if there or asked.unit != SILENT else SILENCE) as peer,
        neighbours(drivers, peer.url),
    ):
        silent = drivers.open("oven-9", device(peer.url, SILENT))
        await probe(silent)
        there = True
        await silent.connect()
        assert [reading.value for reading in (await silent.read()).readings] == [1, 2, 3]
        await silent.close()


async def test_a_line_on_which_nobody_answers_is_opened_anew():
    """A PLC that lost its power says nothing at all; only a new connection can tell that it is back."""
    drivers = Drivers()
    answers = True
    async with HostilePeer(lambda asked: asked.reply() if answers else SILENCE) as peer:
        units = [drivers.open(f"oven-{unit}", device(peer.url, unit)) for unit in (1, 2, 3)]
        for driver in units:
            await driver.connect()
        answers = False
        results = await asyncio.gather(*(driver.read() for driver in units), return_exceptions=True)
        assert all(isinstance(result, DriverError) for result in results)
        answers = True
        again = drivers.open("oven-4", device(peer.url, 4))
        await again.connect()
        assert peer.connections > 1
        for driver in (*units, again):
            await driver.close()


async def test_a_connection_that_has_died_without_a_word_is_given_up_although_a_unit_was_silent_before():
    """As when a gateway loses its power: nothing more comes on the old connection, not even its end."""
    dead = False

    def behave(asked: Asked) -> bytes:
        return SILENCE if asked.unit == SILENT or (dead and peer.connections == 1) else asked.reply()

    drivers = Drivers()
    async with HostilePeer(behave) as peer:
        good = drivers.open("oven-1", device(peer.url, 1))
        await good.connect()
        silent = drivers.open("oven-9", device(peer.url, SILENT))
        await probe(silent)
        users = [drivers.open(f"oven-{unit}", device(peer.url, unit)) for unit in (2, 3)]
        for driver in users:
            await driver.connect()
        dead = True
        connected = False
        async with asyncio.timeout(20):
            while not connected:
                with suppress(DriverError):
                    await good.connect()
                    connected = True
        assert peer.connections == 2
        assert [reading.value for reading in (await good.read()).readings] == [1, 2, 3]
        for driver in (good, *users):
            await driver.close()


async def test_a_late_answer_of_one_unit_is_dropped_and_costs_the_others_nothing():
    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        return (1.5 * TIMEOUT, asked.reply()) if asked.unit == SILENT else asked.reply()

    drivers = Drivers()
    async with HostilePeer(behave) as peer:
        late = drivers.open("oven-9", device(peer.url, SILENT))
        async with neighbours(drivers, peer.url) as batches:
            for _ in range(3):
                await probe(late)
            before = batches.copy()
            await until(lambda: min(batches[unit] - before[unit] for unit in (1, 2, 3)) > 30, what="they are read")
        assert peer.connections == 1


@pytest.mark.parametrize("ends", ["cancelled", "answered wrongly"])
async def test_a_neighbour_is_asked_again_when_the_silent_unit_costs_it_its_connection(ends: str) -> None:
    """Both wait for an answer on one connection; what becomes of the silent unit's question closes it."""
    slow, wrong, before = False, False, 0

    def asked_of(unit: int) -> int:
        return sum(each.unit == unit for each in peer.asked)

    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        if asked.unit == SILENT:
            return (0.1, asked.reply(function=asked.function + 1)) if wrong else SILENCE
        return (0.3, asked.reply()) if slow and asked_of(1) == before + 1 else asked.reply()

    drivers = Drivers()
    async with HostilePeer(behave) as peer:
        silent = drivers.open("oven-9", device(peer.url, SILENT).model_copy(update={"timeout": 5_000_000}))
        near = drivers.open("oven-1", device(peer.url, 1).model_copy(update={"timeout": 5_000_000}))
        await near.connect()
        await near.read()
        await probe(drivers.open("oven-9", device(peer.url, SILENT)))
        before, slow, wrong = asked_of(1), True, ends == "answered wrongly"
        tried = asyncio.create_task(silent.connect())
        await until(lambda: asked_of(SILENT) == 2, limit=20, what="the silent unit is asked again")
        reading = asyncio.create_task(near.read())
        await until(lambda: asked_of(1) == before + 1, limit=20, what="its neighbour is asked")
        if ends == "cancelled":
            tried.cancel()
        with suppress(asyncio.CancelledError, DriverError):
            await tried
        assert [one.value for one in (await reading).readings] == [1, 2, 3]
        assert asked_of(1) == before + 2
        assert peer.connections == 2
        await near.close()
        await silent.close()
