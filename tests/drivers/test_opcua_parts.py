"""One value out of arrays and structures: against asyncua's encoder, and from a server that describes its types."""

import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.structures104 import new_struct, new_struct_field
from asyncua.ua.ua_binary import variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Quality, Reading
from drivers.opcua import Opcua, binary
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.parts import Layout, LayoutField, NoPart, pick, steps
from drivers.opcua.ring import OpcuaAccess
from drivers.opcua.session import Session
from tests.servers_opcua import AsyncuaPress, asyncua_press

DOUBLE, INT32, STRING = 11, 6, 12
POINT = Layout("Point", 0, (2, 7), (LayoutField("X", DOUBLE), LayoutField("Y", DOUBLE)))
AXIS = Layout(
    "Axis",
    0,
    (2, 8),
    (
        LayoutField("Name", STRING),
        LayoutField("Load", DOUBLE, rank=1),
        LayoutField("At", POINT),
        LayoutField("Path", POINT, rank=1),
        LayoutField("Grid", INT32, rank=2),
        LayoutField("Any", 24),
        LayoutField("Speed", INT32),
    ),
)


def text(value: str) -> bytes:
    return struct.pack("<i", len(value)) + value.encode()


def structure(encoding: tuple[int, int], body: bytes) -> bytes:
    """A Variant with an ExtensionObject."""
    return b"\x16" + struct.pack("<BBHBi", 1, *encoding, 1, len(body)) + body


AXIS_BYTES = structure(
    (2, 8),
    text("spindle")
    + struct.pack("<idd", 2, 0.5, 0.75)
    + struct.pack("<dd", 1.0, 2.0)
    + struct.pack("<idddd", 2, 3.0, 4.0, 5.0, 6.0)
    + struct.pack("<iii6i", 2, 2, 3, *range(6))
    + variant_to_binary(ua.Variant([7, 8], ua.VariantType.Int32))
    + struct.pack("<i", 1500),
)


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=20),
    st.integers(0, 30),
)
def test_an_element_of_an_array_is_the_one_with_that_index(values: list[float], index: int) -> None:
    data = variant_to_binary(ua.Variant(values, ua.VariantType.Double))
    if index < len(values):
        assert pick(data, steps(index, None), None) == (DOUBLE, values[index])
    else:
        with pytest.raises(NoPart, match="BadIndexRangeNoData"):
            pick(data, steps(index, None), None)


def test_a_matrix_takes_one_index_for_each_dimension() -> None:
    data = variant_to_binary(ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32))
    assert pick(data, steps([1, 2], None), None) == (INT32, 6)
    with pytest.raises(NoPart, match="2 dimensions"):
        pick(data, steps(1, None), None)


def test_texts_are_passed_over_one_by_one() -> None:
    data = variant_to_binary(ua.Variant(["a", None, "long"], ua.VariantType.String))
    assert pick(data, steps(2, None), None) == (STRING, b"long")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Name", (STRING, b"spindle")),
        ("Load[1]", (DOUBLE, 0.75)),
        ("At.Y", (DOUBLE, 2.0)),
        ("Path[1].X", (DOUBLE, 5.0)),
        ("Grid[1,0]", (INT32, 3)),
        ("Any[1]", (INT32, 8)),
        ("Speed", (INT32, 1500)),
    ],
)
def test_a_field_is_found_behind_fields_of_every_kind(field: str, expected: tuple[int, Any]) -> None:
    assert pick(AXIS_BYTES, steps(None, field), AXIS) == expected


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("Torque", "no field 'Torque'; it has Name, Load"),
        ("At", "write its 'field'"),
        ("Load", "write which element"),
        ("Load[9]", "no element 9, the array has 2"),
        ("Speed.Unit", "no structure"),
    ],
)
def test_a_field_that_is_not_there_is_told_with_what_is(field: str, why: str) -> None:
    with pytest.raises(NoPart, match=why):
        pick(AXIS_BYTES, steps(None, field), AXIS)


def test_another_structure_than_was_described_is_never_read() -> None:
    with pytest.raises(NoPart, match="another structure than Axis"):
        pick(structure((2, 9), bytes(100)), steps(None, "Speed"), AXIS)


def test_optional_fields_and_unions_are_where_their_mask_says() -> None:
    optional = Layout("O", 1, (2, 1), (LayoutField("A", INT32, optional=True), LayoutField("B", INT32)))
    with_a, without = struct.pack("<Iii", 1, 5, 6), struct.pack("<Ii", 0, 6)
    assert pick(structure((2, 1), with_a), steps(None, "B"), optional) == (INT32, 6)
    assert pick(structure((2, 1), without), steps(None, "B"), optional) == (INT32, 6)
    with pytest.raises(NoPart, match="the field A is not there"):
        pick(structure((2, 1), without), steps(None, "A"), optional)
    union = Layout("U", 2, (2, 1), (LayoutField("A", INT32), LayoutField("B", DOUBLE)))
    assert pick(structure((2, 1), struct.pack("<Id", 2, 1.5)), steps(None, "B"), union) == (DOUBLE, 1.5)


@given(st.integers(0, len(AXIS_BYTES) - 1), st.integers(0, 255), st.sampled_from(["Speed", "Any[1]", "Path[1].X"]))
def test_a_flipped_byte_in_a_structure_is_read_or_refused(place: int, byte: int, field: str) -> None:
    data = bytearray(AXIS_BYTES)
    data[place] = byte
    with contextlib.suppress(NoPart, binary.Malformed):
        pick(bytes(data), steps(None, field), AXIS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press() -> AsyncIterator[AsyncuaPress]:
    """With a structure of its own, Ram, as one node and as an array."""
    async with asyncua_press() as running:
        index = await running.server.get_namespace_index("urn:acme:press")
        field = new_struct_field("Inner", ua.VariantType.Double, array=True)
        await new_struct(running.server, index, "Ram", [new_struct_field("Id", ua.VariantType.Int32), field])
        await running.server.load_data_type_definitions()
        await running.add("Ram", ua.Ram(Id=4, Inner=[1.5, 2.5]))  # type: ignore[attr-defined]  # made just now
        await running.add("Rams", [ua.Ram(Id=5), ua.Ram(Id=6, Inner=[9.0])])  # type: ignore[attr-defined]
        yield running


def wanted(press: AsyncuaPress, **tags: dict[str, Any]) -> OpcuaDevice:
    return OpcuaDevice.model_validate(
        {"url": press.url, "security": "none", "insecure": True, "publishing": "20ms", "tags": tags}
    )


async def readings(options: OpcuaDevice, count: int) -> dict[str, Reading]:
    opened = Opcua().open("press-1", options)
    found: dict[str, Reading] = {}
    try:
        await opened.connect()
        while len(found) < count:
            found |= {reading.tag: reading for reading in (await opened.read()).readings}
    finally:
        await opened.close()
    return found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("polling", [False, True])
async def test_structures_that_the_server_describes_are_read_by_field(press: AsyncuaPress, polling: bool) -> None:
    node = "nsu=urn:acme:press;s="
    tags: dict[str, dict[str, Any]] = {
        "id": {"node": node + "Ram", "field": "Id", "type": "int32"},
        "second": {"node": node + "Ram", "field": "Inner[1]", "type": "float64"},
        "other": {"node": node + "Rams", "index": 1, "field": "Inner[0]", "type": "float64"},
        "none": {"node": node + "Ram", "field": "Torque", "type": "float64"},
    }
    found = await readings(wanted(press, **tags).model_copy(update={"polling": polling}), 4)
    assert [found[tag].value for tag in ("id", "second", "other")] == [4, 2.5, 9.0]
    assert found["none"].quality is Quality.BAD
    assert "it has Id, Inner" in found["none"].detail


@pytest.mark.asyncio(loop_scope="module")
async def test_the_slots_of_a_ring_may_be_structures(press: AsyncuaPress) -> None:
    rams = {"node": "nsu=urn:acme:press;s=Rams"}
    settings = {"url": press.url, "security": "none", "insecure": True}
    ring = {
        "head": {"node": "i=2267"},
        "slots": {"count": 2},
        "points_to": "total",
        "code": {**rams, "field": "Id", "type": "int32"},
        "fields": {"torque": {**rams, "field": "Inner[0]", "type": "float64", "scale": 2.0}},
        "codes": {5: {"seen": {"field": "torque"}}},
    }
    tags = {"seen": {"ring": True, "type": "float64"}}
    device = OpcuaDevice.model_validate({**settings, "tags": tags, "ring": ring})
    assert device.ring is not None
    session = Session(press.url, "ring", 20_000_000, 60_000_000)
    await session.open()
    try:
        namespaces = [str(uri) for uri in (await session.read((2255,)))[0]]
        slots = await OpcuaAccess(device.ring, session, namespaces, 1).slots(1, 2)
    finally:
        await session.close()
    assert [(slot.code, slot.fields) for slot in slots] == [(6, {"torque": 18.0}), (5, {"torque": None})]
    assert slots[0].digest != slots[1].digest


@pytest.mark.asyncio(loop_scope="module")
async def test_an_element_of_what_is_no_array_is_bad(press: AsyncuaPress) -> None:
    node = "nsu=urn:acme:press;s=Order"
    found = await readings(wanted(press, order={"node": node, "index": 0, "type": "string"}), 1)
    assert found["order"].detail == "BadTypeMismatch: the server sends String, which has no parts"
