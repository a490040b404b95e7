"""The Modbus driver against a server written by others: every table and type, and registers that do not exist."""

import asyncio

import pytest

from drivers.base import Quality
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.learned import Learned
from drivers.modbus.lines import Lines
from drivers.modbus.options import ModbusDevice
from tests.servers_modbus import HostilePeer, modbus_serial


@pytest.fixture
async def plc(tmp_path):
    async with modbus_serial(tmp_path) as running:
        yield running


def device(url: str, tags: dict[str, object], **options: object) -> ModbusDevice:
    return ModbusDevice.model_validate({"url": url, "scan": "20ms", "timeout": "5s", "tags": tags, **options})


def driver_of(options: ModbusDevice, learned: Learned | None = None, lines: Lines | None = None) -> ModbusDriver:
    return ModbusDriver("oven-1", options, (lines or Lines()).of(options), learned or Learned())


async def read_once(options: ModbusDevice, learned: Learned | None = None):
    driver = driver_of(options, learned)
    await driver.connect()
    batch = await driver.read()
    await driver.close()
    return {reading.tag: reading for reading in batch.readings}


async def test_all_tables_and_types_of_a_real_server(plc):
    await plc.set(
        coil={4: 1},
        discrete={9: 1},
        input={100: 0x4316, 101: 0},
        holding={
            0: 0xFFFE,
            2: 1,
            3: 2,
            10: 0x1234,
            12: 0x4142,
            13: 0x4300,
            20: 0x0008,
            30: 2,
            31: 1,
            40: 0x4062,
            41: 0xC000,
            200: 215,
        },
    )
    latest = await read_once(
        device(
            plc.url,
            {
                "pump_on": {"coil": 4},
                "pump_off": {"coil": 5},
                "door": {"discrete": 9},
                "temp": {"reference": 30101, "type": "float32"},
                "small": {"holding": 0, "type": "int16"},
                "large": {"holding": 2, "type": "uint32"},
                "bcd": {"holding": 10, "type": "bcd16"},
                "recipe": {"holding": 12, "type": "string", "length": 4},
                "guard": {"holding": 20, "bit": 3},
                "swapped": {"holding": 30, "type": "uint32", "word_order": "little"},
                "double": {"holding": 40, "type": "float64"},
                "pressure": {"reference": 40201, "scale": 0.1},
            },
        )
    )
    assert {tag: reading.value for tag, reading in latest.items()} == {
        "pump_on": True,
        "pump_off": False,
        "door": True,
        "temp": 150.0,
        "small": -2,
        "large": 65538,
        "bcd": 1234,
        "recipe": "ABC",
        "guard": True,
        "swapped": 65538,
        "double": 150.0,
        "pressure": 21.5,
    }


async def test_a_counter_of_32_bits_is_never_torn(plc):
    await plc.set(holding={20: 0, 21: 65530})
    driver = driver_of(device(plc.url, {"count": {"holding": 20, "type": "uint32"}}, scan="1ms"))
    await driver.connect()
    await plc.count("holding", 20, rate=500, wrap=1 << 32, words=2)
    seen: list[int] = []
    async with asyncio.timeout(20):
        while not seen or seen[-1] < 65600:
            seen.append((await driver.read()).readings[0].value)
    assert seen == sorted(seen)
    assert max(seen) < 66000
    await driver.close()


async def test_one_register_that_does_not_exist_costs_its_own_tag_only(plc):
    await plc.refuse("holding", 37)
    tags = {f"r{n}": {"holding": n} for n in range(100)}
    learned = Learned()
    latest = await read_once(device(plc.url, tags), learned)
    assert latest["r37"].quality is Quality.BAD
    assert latest["r37"].detail == "illegal data address (exception 2): C532, there is no such register"
    assert [tag for tag, reading in latest.items() if reading.quality is not Quality.GOOD] == ["r37"]

    before = await plc.requests()
    assert len(await read_once(device(plc.url, tags), learned)) == 100
    probe, below, above = 1, 1, 1
    blank_below_and_above = 2
    assert await plc.requests() - before == probe + below + above + blank_below_and_above


async def test_a_gap_that_may_not_be_read_is_left_out_from_then_on(plc):
    await plc.refuse("holding", 5)
    await plc.set(holding={4: 1, 6: 1})
    options = device(plc.url, {"below": {"holding": 4}, "above": {"holding": 6}})
    learned = Learned()
    assert all(reading.quality is Quality.GOOD for reading in (await read_once(options, learned)).values())
    before = await plc.requests()
    assert all(reading.quality is Quality.GOOD for reading in (await read_once(options, learned)).values())
    assert await plc.requests() - before == 3


async def test_a_gap_is_tried_again_when_its_time_has_come(plc):
    await plc.refuse("holding", 5)
    await plc.set(holding={4: 1, 6: 1})
    driver = driver_of(device(plc.url, {"below": {"holding": 4}, "above": {"holding": 6}}), Learned(gaps_for=0))
    await driver.connect()
    await driver.read()
    await plc.refuse("holding", 5, code=0)
    await driver.read()
    before = await plc.requests()
    assert [reading.value for reading in (await driver.read()).readings] == [1, 1]
    assert await plc.requests() - before == 1
    await driver.close()


async def test_a_device_that_takes_shorter_requests_than_it_should_is_read_in_shorter_ones():
    async with HostilePeer(lambda asked: asked.exception(3) if asked.count > 30 else asked.reply()) as peer:
        driver = driver_of(device(peer.url, {f"r{n}": {"holding": n} for n in range(1, 100)}))
        await driver.connect()
        for _ in range(4):
            before = len(peer.asked)
            readings = (await driver.read()).readings
            assert {reading.tag: reading.value for reading in readings} == {f"r{n}": n for n in range(1, 100)}
        assert [asked.count for asked in peer.asked[before:]] == [24, 25, 25, 25]
        await driver.close()


async def test_a_refused_tag_is_asked_for_again_and_comes_back(plc):
    await plc.set(holding={10: 1, 11: 2})
    await plc.refuse("holding", 11)
    driver = driver_of(device(plc.url, {"good": {"holding": 10}, "bad": {"holding": 11}}), Learned(retry=0))
    await driver.connect()
    for _ in range(3):
        assert {r.tag: r.value for r in (await driver.read()).readings} == {"good": 1, "bad": None}
    await plc.refuse("holding", 11, code=0)
    for _ in range(3):
        assert {r.tag: r.value for r in (await driver.read()).readings} == {"good": 1, "bad": 2}
    before = await plc.requests()
    await driver.read()
    assert await plc.requests() - before == 1
    await driver.close()


async def test_a_refused_tag_is_left_alone_for_a_while(plc):
    await plc.refuse("holding", 11)
    await plc.set(holding={10: 1})
    driver = driver_of(device(plc.url, {"good": {"holding": 10}, "bad": {"holding": 11}}))
    await driver.connect()
    await driver.read()
    await driver.read()
    before = await plc.requests()
    for _ in range(5):
        await driver.read()
    assert await plc.requests() - before == 5
    await driver.close()


async def test_tags_are_read_at_their_own_scan(plc):
    tags = {"fast": {"holding": 1}, "slow": {"holding": 2, "scan": "100ms"}}
    driver = driver_of(device(plc.url, tags))
    await driver.connect()
    seen = [{reading.tag for reading in (await driver.read()).readings} for _ in range(4)]
    assert seen[0] == {"fast", "slow"}
    assert {"fast"} in seen
    assert all("fast" in tags for tags in seen)
    await driver.close()


async def test_ticks_that_a_slow_device_missed_are_counted(plc):
    driver = driver_of(device(plc.url, {"r": {"holding": 1}}))
    await driver.connect()
    await driver.read()
    await plc.delay(1, 150)
    await driver.read()
    assert (await driver.read()).missed >= 5
    await driver.close()


async def test_when_nothing_changed_the_batch_holds_the_same_readings(plc):
    await plc.set(holding={1: 1, 300: 1})
    driver = driver_of(device(plc.url, {"a": {"holding": 1}, "b": {"holding": 300}}))
    await driver.connect()
    first = await driver.read()
    second = await driver.read()
    await plc.set(holding={300: 2})
    third = await driver.read()
    assert second.readings is first.readings
    assert third.readings[0] is first.readings[0]
    assert [reading.value for reading in third.readings] == [1, 2]
    await driver.close()


async def test_requests_in_flight_together_bring_the_same_values(plc):
    await plc.set(holding={n: n + 1 for n in range(300)})
    tags = {f"r{n}": {"holding": n} for n in range(300)}
    latest = await read_once(device(plc.url, tags, in_flight=4, max_registers=10))
    assert {tag: reading.value for tag, reading in latest.items()} == {f"r{n}": n + 1 for n in range(300)}


async def test_a_device_without_tags_waits_and_can_be_cancelled(plc):
    driver = driver_of(device(plc.url, {}))
    await driver.connect()
    reading = asyncio.create_task(driver.read())
    done, _ = await asyncio.wait([reading], timeout=0.05)
    assert not done
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    await driver.close()
