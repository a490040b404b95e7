"""Looking at devices: what browse and look tell of servers written by others, and of registers in every type."""

import struct

import pytest
from asyncua import ua

from drivers.base import Quality
from drivers.looking import Looker, NoSuchPath
from drivers.modbus.addresses import Table
from drivers.modbus.decodings import decodings
from drivers.modbus.looking import MOST, entries, span, survey
from drivers.modbus.options import ModbusDevice
from drivers.opcua.options import OpcuaDevice
from drivers.registry import Drivers
from tests.servers_modbus import modbus_serial
from tests.servers_opcua import asyncua_press, node_opcua


async def opened(name, options):
    driver = Drivers().open(name, options)
    assert isinstance(driver, Looker)
    await driver.connect()
    return driver


async def test_a_modbus_table_is_told_by_what_it_holds(tmp_path):
    async with modbus_serial(tmp_path) as plc:
        await plc.set(holding={3: 7, 90: 65535}, coil={2: 1})
        await plc.refuse("holding", 100, 65535)
        device = ModbusDevice.model_validate({"driver": "modbus", "url": plc.url, "tags": {}})
        driver = await opened("oven-1", device)
        try:
            top = await driver.browse("")
            assert [entry.path for entry in top.entries] == ["coil", "discrete", "holding", "input"]
            found = (await driver.browse("holding")).entries
            values = {entry.path: entry.reading.value for entry in found if entry.reading is not None}
            assert values == {"holding/3": 7, "holding/90": 65535}
            assert found[0][:2] == ("0-2", "holding/0-2")
            assert found[0].note == "all zero"
            assert found[-1].path.startswith("holding/100-")
            assert "illegal data address" in found[-1].note
            coils = (await driver.browse("coil/0-7")).entries
            assert [(entry.tag, entry.reading.value) for entry in coils if entry.tag] == [
                ({"coil": 2, "type": "bool"}, True)
            ]
            with pytest.raises(NoSuchPath, match="holding/200-260"):
                await driver.browse("Press/Status")
        finally:
            await driver.close()


async def test_a_modbus_tag_is_read_now_with_its_raw_registers(tmp_path):
    async with modbus_serial(tmp_path) as plc:
        await plc.set(holding={10: 0x4348, 11: 0x8000, 20: 2}, coil={4: 1})
        await plc.refuse("holding", 12)
        tags = {"temp": {"holding": 10, "type": "float32"}, "gone": {"holding": 12}, "pump": {"coil": 4}}
        device = ModbusDevice.model_validate({"driver": "modbus", "url": plc.url, "tags": tags})
        driver = await opened("oven-1", device)
        try:
            temp, gone, pump = await driver.look(["temp", "gone", "pump"])
            assert (temp.reading.value, temp.registers) == (200.5, (0x4348, 0x8000))
            assert (gone.reading.value, gone.reading.quality) == (None, Quality.BAD)
            assert gone.reading.detail == "illegal data address (exception 2): C532, there is no such register"
            assert (pump.reading.value, pump.registers) == (True, ())
            assert temp.doubt.code == ""
            assert gone.doubt.code == "C532"
            await plc.set(holding={10: 0x8000, 11: 0x4348})
            (turned,) = await driver.look(["temp"])
            assert turned.reading.quality == Quality.GOOD
            assert turned.doubt.code == "C534"
            assert turned.doubt.fix.startswith("200.5 with word_order: little or ")
            await plc.set(holding={10: 0x4348, 11: 0x8000})
            (wide,) = await driver.look(["temp"], wide=True)  # four registers are refused, two are not
            assert (wide.reading.value, wide.registers) == (200.5, (0x4348, 0x8000))
        finally:
            await driver.close()


def test_the_plausible_word_order_stands_out_among_all_decodings():
    low, high = struct.unpack(">HH", struct.pack(">f", 187.5))[::-1]
    found = {(one.word_order, one.byte_order): one for one in decodings([low, high, 0, 0]) if one.type == "float32"}
    assert found["little", "big"].value == 187.5
    assert found["little", "big"].plausible
    assert not found["big", "big"].plausible
    assert 0 < abs(found["big", "big"].value) < 1e-30  # the 9.18e-41 that people ask about


def test_decodings_go_as_far_as_the_registers_reach():
    assert {one.type for one in decodings([0x0012])} == {"uint16", "int16", "bcd16"}
    assert {one.value for one in decodings([0x0012]) if one.type == "bcd16"} == {12, 1200}
    assert next(one for one in decodings([0xFFFF]) if one.type == "bcd16").value is None


async def test_a_table_that_ends_is_found_out_in_few_requests():
    asked = []

    async def ask(request):
        asked.append(request)
        return bytes(request.length * 2) if request.start + request.length <= 100 else 2

    parts, whole = await survey(ask, Table.HOLDING, 0, 999, 125)
    assert whole
    assert sum(part.size for part in parts) == 1000
    assert sum(part.size for part in parts if not part.refused) == 100
    assert len(asked) < 60
    assert [entry.name for entry in entries(Table.HOLDING, parts)] == ["0-99", "100-999"]


async def test_a_unit_without_a_table_is_asked_once_for_each_long_request():
    async def ask(request):
        return 1

    parts, _ = await survey(ask, Table.INPUT, 0, 999, 125)
    assert {part.refused for part in parts} == {"illegal function (exception 1)"}
    assert len(parts) == 8


async def test_a_survey_ends_even_when_everything_is_refused():
    asked = 0

    async def ask(request):
        nonlocal asked
        asked += 1
        return 2

    _, whole = await survey(ask, Table.COIL, 0, 65535, 16)
    assert not whole
    assert asked < MOST + 30


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("holding", (Table.HOLDING, 0, 999)),
        ("/input/100", (Table.INPUT, 100, 100)),
        ("coil:0-63", (Table.COIL, 0, 63)),
    ],
)
def test_a_place_in_a_modbus_device_is_a_table_and_addresses(path, found):
    assert span(path) == found


@pytest.mark.parametrize("path", ["holding/9-3", "holding/70000", "40001", "holding/x"])
def test_a_place_that_is_none_is_refused(path):
    with pytest.raises(NoSuchPath):
        span(path)


def opcua(url, tags=None):
    settings = {"driver": "opcua", "url": url, "security": "none", "insecure": True, "tags": tags or {}}
    return OpcuaDevice.model_validate(settings)


async def test_an_opcua_server_is_listed_with_values_and_nodes_by_namespace_uri(tmp_path):
    async with node_opcua(tmp_path) as press:
        await press.set("Status", 2)
        driver = await opened("press-1", opcua(press.url))
        try:
            top = await driver.browse("")
            assert [(entry.name, entry.branch) for entry in top.entries] == [("Press", True)]
            assert "standard objects" in top.note
            inside = {entry.name: entry for entry in (await driver.browse("Press")).entries}
            status = inside["Status"]
            assert status.reading.value == 2
            assert status.reading.quality is Quality.GOOD
            assert status.tag == {"node": "nsu=urn:acme:press;s=Status", "type": "int16"}
            assert (status.path, status.key, status.note) == ("Press/Status", "nsu=urn:acme:press;s=Status", "Int16")
            assert inside["Tonnage"].tag["type"] == "float32"
            assert inside["Order"].reading.value == ""
            by_node = await driver.browse("nsu=urn:acme:press;s=Press")
            assert {entry.key for entry in by_node.entries} == {entry.key for entry in inside.values()}
            assert (await driver.browse("Server")).entries  # what is left out at the top is found by name
        finally:
            await driver.close()


async def test_a_path_that_is_not_there_is_answered_with_near_names():
    async with asyncua_press() as press:
        driver = await opened("press-1", opcua(press.url))
        try:
            with pytest.raises(NoSuchPath, match="there is no 'Pres' below the top; there is Press"):
                await driver.browse("Pres")
            with pytest.raises(NoSuchPath, match=r"no namespace urn:other; it has .*urn:acme:press"):
                await driver.browse("nsu=urn:other;s=Press")
        finally:
            await driver.close()


async def test_an_opcua_tag_is_read_as_production_reads_it_and_told_in_the_servers_words():
    tags = {
        "status": {"node": "nsu=urn:acme:press;s=Status", "type": "int16"},
        "scaled": {"node": "nsu=urn:acme:press;s=Total", "type": "uint16", "scale": 0.5},
        "missing": {"node": "nsu=urn:acme:press;s=Nix", "type": "int16"},
        "wrong": {"node": "nsu=urn:acme:press;s=Order", "type": "int16"},
        "moved": {"node": "nsu=urn:gone;s=Status", "type": "int16"},
    }
    async with asyncua_press() as press:
        await press.set("Total", ua.Variant(7, ua.VariantType.UInt16))
        driver = await opened("press-1", opcua(press.url, tags))
        try:
            status, scaled, missing, wrong, moved = await driver.look(list(tags))
            assert status.native == "Int16, Good"
            assert scaled.reading.value == 3.5
            assert missing.reading.detail == "BadNodeIdUnknown"
            assert "the server sends String, the tag is declared int16" in wrong.reading.detail
            assert "no namespace urn:gone" in moved.reading.detail
            assert all(one.reading.value is None for one in (missing, wrong, moved))
        finally:
            await driver.close()
