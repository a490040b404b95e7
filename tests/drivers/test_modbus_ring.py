"""The ring buffer of a Modbus PLC, on a server written by others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Batch, Quality, Reading
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.encoding import Encoding
from drivers.modbus.exchange import Answer
from drivers.modbus.options import ModbusDevice
from drivers.modbus.ring import ModbusAccess, _registers
from tests.drivers.test_modbus_driver import device, driver_of
from tests.servers_modbus import ModbusSerial, modbus_serial

TAGS = {
    "speed": {"holding": 20},
    "run": {"ring": True, "type": "bool"},
    "parts": {"ring": True, "type": "uint32"},
    "cause": {"ring": True, "type": "uint16"},
}
RING = {
    "head": {"holding": 1000},
    "slots": {"holding": 1010, "count": 16, "size": 6},
    "code": {"at": 0},
    "time": {"at": 1, "form": "epoch_ms"},
    "fields": {"cause": {"at": 5}},
    "codes": {
        1: {"run": True, "cause": 0},
        2: {"run": False, "cause": {"field": "cause"}},
        10: {"parts": {"add": 1}},
    },
}
TAIL = {"tail": {"holding": 1001}, "overflow": {"holding": 1002}}


@pytest.fixture
async def plc(tmp_path: Path) -> AsyncIterator[ModbusSerial]:
    async with modbus_serial(tmp_path) as running:
        yield running


def options(url: str, **ring: Any) -> ModbusDevice:
    return device(url, TAGS, ring={**RING, **ring})


async def until(driver: ModbusDriver, number: int) -> list[Reading]:
    """Read until so many entries have come."""
    found: list[Reading] = []
    async with asyncio.timeout(30):
        while len(found) < number:
            batch = await driver.read()
            if batch.entries is not None:
                found += [reading for reading in batch.readings if reading.source_time is not None]
    return found


async def one(driver: ModbusDriver, *, entries: bool) -> Batch:
    async with asyncio.timeout(30):
        while True:
            batch = await driver.read()
            if (batch.entries is not None) is entries:
                return batch


async def test_entries_come_in_order_with_their_own_times_and_nothing_is_written(plc: ModbusSerial) -> None:
    await plc.ring(1000, 16)
    driver = driver_of(options(plc.url))
    driver.resume("")
    await driver.connect()
    first = await driver.read()
    assert [(reading.tag, reading.value) for reading in first.readings] == [("parts", 0)]
    await plc.push((1, 0), (10, 0), (10, 0), (2, 17))
    found = await until(driver, 6)
    assert [(reading.tag, reading.value) for reading in found] == [
        ("run", True),
        ("cause", 0),
        ("parts", 1),
        ("parts", 2),
        ("run", False),
        ("cause", 17),
    ]
    written = [line["at"] for line in plc.truth() if "entry" in line]
    assert [reading.source_time for reading in found] == [
        written[0],
        written[0],
        *written[1:3],
        written[3],
        written[3],
    ]
    polled = await one(driver, entries=False)
    assert {reading.tag: reading.value for reading in polled.readings} == {
        "speed": 0,
        "run": False,
        "parts": 2,
        "cause": 17,
    }
    await driver.close()
    assert await plc.writes() == []


async def test_a_tail_is_never_written_unless_it_is_allowed(plc: ModbusSerial) -> None:
    await plc.ring(1000, 16, tail=True)
    driver = driver_of(options(plc.url, **TAIL))
    driver.resume("")
    await driver.connect()
    await driver.read()
    await plc.push(*[(10, 0)] * 3)
    assert len(await until(driver, 3)) == 3
    for _ in range(5):
        await driver.read()
    await driver.close()
    assert await plc.writes() == []


async def test_an_allowed_tail_is_written_behind_what_was_kept_and_nothing_else(plc: ModbusSerial) -> None:
    await plc.ring(1000, 16, tail=True)
    driver = driver_of(options(plc.url, **TAIL, write_tail=True))
    driver.resume("")
    await driver.connect()
    await driver.read()
    await plc.push(*[(10, 0)] * 3)
    await until(driver, 3)
    assert await plc.writes() == []
    await driver.read()
    assert await plc.writes() == [{"table": "holding", "address": 1001, "value": 3}]
    for _ in range(5):
        await driver.read()
    await driver.close()
    assert len(await plc.writes()) == 1


async def test_a_recording_neither_reads_nor_confirms_entries(plc: ModbusSerial) -> None:
    await plc.ring(1000, 16, tail=True)
    await plc.push((10, 0))
    driver = driver_of(options(plc.url, **TAIL, write_tail=True))
    await driver.connect()
    for _ in range(3):
        batch = await driver.read()
        assert batch.entries is None
    assert {one.tag: one.quality for one in batch.readings}["parts"] is Quality.BAD
    (looked,) = await driver.look(["parts"])
    assert looked.reading.quality is Quality.BAD
    await driver.close()
    assert await plc.writes() == []


async def test_a_ring_that_the_plc_refuses_makes_its_tags_bad_and_no_others(plc: ModbusSerial) -> None:
    await plc.refuse("holding", 1000)
    driver = driver_of(options(plc.url))
    driver.resume("")
    await driver.connect()
    batch = await driver.read()
    assert batch.entries is None
    said = {one.tag: one.detail for one in batch.readings}
    assert said.pop("speed") == ""
    assert all(why.startswith("its indices cannot be read: illegal data address") for why in said.values())
    assert said.keys() == {"run", "parts", "cause"}
    await plc.refuse("holding", 1000, code=0)
    assert (await one(driver, entries=True)).entries is not None
    await driver.close()


async def test_a_head_that_leads_nowhere_is_said(plc: ModbusSerial) -> None:
    await plc.set(holding={1000: 77})
    driver = driver_of(options(plc.url))
    driver.resume("")
    await driver.connect()
    batch = await driver.read()
    assert batch.readings[-1].detail == "it points to slot 77, and there are 0 to 15"
    await driver.close()


async def test_a_device_may_have_nothing_but_a_ring(plc: ModbusSerial) -> None:
    await plc.ring(1000, 16)
    tags = {name: tag for name, tag in TAGS.items() if name != "speed"}
    driver = driver_of(device(plc.url, tags, ring=RING))
    driver.resume("")
    await driver.connect()
    await driver.read()
    await plc.push((10, 0))
    assert [(one.tag, one.value) for one in await until(driver, 1)] == [("parts", 1)]
    await driver.close()


async def test_a_large_ring_is_read_in_requests_that_the_device_takes(plc: ModbusSerial) -> None:
    await plc.ring(1000, 200)
    driver = driver_of(
        device(plc.url, TAGS, max_registers=20, ring={**RING, "slots": {**RING["slots"], "count": 200}})
    )
    driver.resume("")
    await driver.connect()
    await driver.read()
    await plc.push(*[(10, 0)] * 150)
    assert [reading.value for reading in await until(driver, 150)] == list(range(1, 151))
    await plc.push(*[(10, 0)] * 150)
    assert [reading.value for reading in await until(driver, 150)] == list(range(151, 301))
    await driver.close()


@pytest.mark.parametrize(
    ("kind", "word_order", "byte_order", "written"),
    [
        ("uint16", "big", "big", "0102"),
        ("uint16", "big", "little", "0201"),
        ("uint32", "big", "big", "00000102"),
        ("uint32", "little", "big", "01020000"),
    ],
)
def test_a_tail_is_written_in_its_own_order(kind: Any, word_order: Any, byte_order: Any, written: str) -> None:
    assert _registers(0x0102, Encoding(kind, word_order, byte_order)).hex() == written


@pytest.mark.parametrize(
    ("form", "extra", "registers", "at"),
    [
        ("epoch_s", {}, "69a4d580", 1_772_410_240_000_000),
        ("epoch_ms", {"word_order": "little"}, None, 1_772_410_240_250_000),
        ("bcd", {}, "2603020010402501", 1_772_410_240_250_000),
        ("bcd", {"timezone": "Asia/Shanghai"}, "2603020810402501", 1_772_410_240_250_000),
        ("uptime_ms", {}, "000003e8", 1_000_000),
        ("bcd", {}, "2613020010402501", None),
        ("bcd", {}, "26a3020010402501", None),
    ],
)
async def test_forms_of_time(form: str, extra: dict[str, str], registers: str | None, at: int | None) -> None:
    if registers is None:
        words = (1_772_410_240_250).to_bytes(8, "big")
        registers = b"".join(words[place : place + 2] for place in (6, 4, 2, 0)).hex()
    time = {"at": 0, "form": form, **extra}
    clock = {"clock": {"holding": 5}} if form == "uptime_ms" else {}
    slots = {"holding": 10, "count": 2, "size": 5}
    made = device(
        "tcp://127.0.0.1:1",
        TAGS,
        ring={**RING, "slots": slots, "code": {"at": 4}, "time": time, "fields": {"cause": {"at": 4}}, **clock},
    )

    async def ask(questions: Any) -> list[Answer]:
        return [bytes.fromhex(registers.ljust(16, "0") + "0001")]

    assert made.ring is not None
    (slot,) = await ModbusAccess(made, made.ring, ask).slots(0, 1)
    assert (slot.stamp, slot.code) == (at, 1)


async def test_a_sequence_is_read_where_it_is() -> None:
    sequence = {"at": 1, "type": "uint32", "word_order": "little"}
    made = device(
        "tcp://127.0.0.1:1",
        TAGS,
        ring={
            **{word: RING[word] for word in ("head", "code", "codes")},
            "slots": {"holding": 10, "count": 2, "size": 4},
            "sequence": sequence,
            "fields": {"cause": {"at": 3}},
        },
    )

    async def ask(questions: Any) -> list[Answer]:
        return [bytes.fromhex("0001 0002 0001 0007")]

    assert made.ring is not None
    (slot,) = await ModbusAccess(made, made.ring, ask).slots(0, 1)
    assert (slot.sequence, slot.fields) == (0x10002, {"cause": 7})
