"""What `drivers.base.Driver` promises, held against every driver that is found."""

import asyncio
from collections.abc import Callable

import pytest

from drivers.base import Batch, Driver, Quality, Reading
from drivers.errors import ConnectionLost, DriverError
from drivers.registry import Drivers
from tests.contracts.driver_peers import PEERS

REASONS = {"timeout", "refused", "auth", "session_lost", "bad_quality", "exception"}


@pytest.fixture(params=sorted(PEERS))
async def peer(request, tmp_path):
    async with PEERS[request.param](tmp_path) as running:
        yield running


@pytest.fixture
def drivers() -> Drivers:
    return Drivers()


@pytest.fixture
async def driver(peer, drivers):
    opened = drivers.open("press-1", peer.options)
    yield opened
    await opened.close()


async def read_until(driver: Driver, enough: Callable[[dict[str, Reading]], object]) -> dict[str, Reading]:
    """The latest reading per tag once they are `enough`."""
    latest: dict[str, Reading] = {}
    async with asyncio.timeout(20):
        while not enough(latest):
            batch = await driver.read()
            latest.update({reading.tag: reading for reading in batch.readings})
    return latest


async def read_for_ever(driver: Driver, limit: float = 30) -> None:
    async with asyncio.timeout(limit):
        while True:
            await driver.read()


def test_every_driver_found_is_in_the_suite():
    assert set(Drivers().options()) == set(PEERS)


async def test_close_before_connect_and_twice_is_safe(driver):
    await driver.close()
    await driver.close()
    await driver.connect()
    await driver.close()
    await driver.close()


async def test_a_driver_can_be_closed_and_another_opened(driver, drivers, peer):
    for _ in range(3):
        again = drivers.open("press-1", peer.options)
        await again.connect()
        await read_until(again, lambda latest: "good" in latest)
        await again.close()


async def test_a_bad_tag_is_bad_and_the_others_go_on(driver):
    await driver.connect()
    latest = await read_until(driver, lambda latest: {"good", "bad"} <= set(latest))
    assert latest["good"].quality is Quality.GOOD
    assert latest["good"].value == 5
    assert latest["good"].detail == ""
    assert latest["bad"].quality is Quality.BAD
    assert latest["bad"].value is None
    assert latest["bad"].detail


async def test_a_batch_names_the_device_and_only_its_tags(driver, peer):
    await driver.connect()
    batch = await driver.read()
    assert isinstance(batch, Batch)
    assert batch.device == "press-1"
    assert {reading.tag for reading in batch.readings} <= set(peer.options.tags)
    assert all((reading.value is None) == (reading.quality is Quality.BAD) for reading in batch.readings)


async def test_reading_without_a_connection_is_an_error_and_no_wait(driver):
    with pytest.raises(DriverError):
        async with asyncio.timeout(5):
            await driver.read()


async def test_connecting_to_nothing_says_what_where_and_why(peer, drivers):
    if peer.nowhere is None:
        return  # nothing to connect to
    driver = drivers.open("press-1", peer.nowhere)
    with pytest.raises(DriverError) as raised:
        async with asyncio.timeout(20):
            await driver.connect()
    await driver.close()
    assert raised.value.code.startswith("C5")
    assert raised.value.reason in REASONS
    assert raised.value.native
    assert "press-1" in str(raised.value)
    assert peer.nowhere.endpoint in str(raised.value)


async def test_one_cancel_ends_a_pending_read(driver, peer):
    await driver.connect()
    await read_until(driver, lambda latest: "good" in latest)
    if peer.silence is not None:
        await peer.silence()

    reading = asyncio.create_task(read_for_ever(driver))
    done, _ = await asyncio.wait([reading], timeout=0.2)
    assert not done
    reading.cancel()
    done, _ = await asyncio.wait([reading], timeout=0.5)
    assert done
    assert reading.cancelled()


async def test_a_server_that_ends_is_a_lost_connection(driver, peer):
    if peer.stop is None:
        return  # nothing to lose
    await driver.connect()
    await read_until(driver, lambda latest: "good" in latest)

    async def stop() -> None:
        assert peer.stop is not None
        await peer.stop()

    async with asyncio.TaskGroup() as group:
        group.create_task(stop())
        with pytest.raises(ConnectionLost) as raised:
            await read_for_ever(driver)
    assert raised.value.reason in REASONS
    assert "press-1" in str(raised.value)


async def test_a_silent_server_is_a_lost_connection(driver, peer):
    if peer.silence is None:
        return  # nothing to wait for
    await driver.connect()
    await read_until(driver, lambda latest: "good" in latest)
    await peer.silence()
    with pytest.raises(ConnectionLost) as raised:
        await read_for_ever(driver)
    assert raised.value.reason in REASONS


async def test_no_task_is_left_behind(driver, peer):
    before = asyncio.all_tasks()
    await driver.connect()
    await read_until(driver, lambda latest: "good" in latest)
    reading = asyncio.create_task(driver.read())
    await asyncio.wait([reading], timeout=0.01)
    reading.cancel()
    await asyncio.wait([reading])
    await driver.close()
    assert asyncio.all_tasks() - before == set()
