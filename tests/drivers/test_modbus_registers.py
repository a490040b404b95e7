import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from drivers.base import Quality
from drivers.modbus.addresses import Table
from drivers.modbus.block import Block
from drivers.modbus.encoding import Encoding
from drivers.modbus.plan import Field, Limits, plan
from drivers.modbus.registers import Layout


def decode(data: str, *encodings: Encoding, starts=None, sizes=None):
    """Values of consecutive tags over the registers written in hex."""
    sizes = sizes or [{"3": 2, "6": 4}.get(e.kind[-2:-1], 1) for e in encodings]
    starts = starts or [sum(sizes[:n]) for n in range(len(sizes))]
    fields = [Field(f"t{n:02}", Table.HOLDING, a, s) for n, (a, s) in enumerate(zip(starts, sizes, strict=True))]
    (request,) = plan(fields, Limits())
    layout = Layout(request, {f.tag: e for f, e in zip(fields, encodings, strict=True)})
    values, bad = layout.values(bytes.fromhex(data))
    return dict(zip(layout.tags, values, strict=True)), {layout.tags[at]: why for at, why in bad.items()}


def one(data: str, kind: str, size: int = 0, **how):
    values, bad = decode(data, Encoding(kind, **how), sizes=[size] if size else None)
    assert not bad
    return values["t00"]


@pytest.mark.parametrize(
    ("data", "kind", "value"),
    [
        ("0001", "bool", True),
        ("0000", "bool", False),
        ("FFFE", "int16", -2),
        ("FFFE", "uint16", 65534),
        ("FFFFFFFE", "int32", -2),
        ("00010002", "uint32", 65538),
        ("FFFFFFFFFFFFFFFE", "int64", -2),
        ("0000000100000002", "uint64", 4294967298),
        ("43160000", "float32", 150.0),
        ("4062C00000000000", "float64", 150.0),
        ("1234", "bcd16", 1234),
        ("12345678", "bcd32", 12345678),
    ],
)
def test_every_type_in_the_standard_order(data, kind, value):
    got = one(data, kind)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("data", "how"),
    [
        ("0A0B0C0D", {}),
        ("0C0D0A0B", {"word_order": "little"}),
        ("0B0A0D0C", {"byte_order": "little"}),
        ("0D0C0B0A", {"word_order": "little", "byte_order": "little"}),
    ],
)
def test_the_four_orders_of_a_32_bit_value(data, how):
    assert one(data, "uint32", **how) == 0x0A0B0C0D


def test_orders_of_neighbours_do_not_disturb_each_other():
    values, _ = decode(
        "0A0B 0C0D 0A0B 0B0A 0A0B0C0D",
        Encoding("uint32", "little"),
        Encoding("uint16"),
        Encoding("uint16", byte_order="little"),
        Encoding("uint32"),
    )
    assert list(values.values()) == [0x0C0D0A0B, 0x0A0B, 0x0A0B, 0x0A0B0C0D]


def test_a_string_ends_at_its_first_nul_and_loses_its_padding():
    assert one("41424300 4444", "string", 3) == "ABC"
    assert one("41422020", "string", 2) == "AB"
    assert one("42410043", "string", 2, byte_order="little", word_order="little") == "ABC"


def test_bits_and_masks_of_one_register_share_it():
    values, _ = decode(
        "00A5",
        Encoding("bool", bit=0),
        Encoding("bool", bit=1),
        Encoding("uint16", mask=0x00F0),
        Encoding("uint16"),
        starts=[0, 0, 0, 0],
    )
    assert list(values.values()) == [True, False, 0xA, 0xA5]


def test_values_may_overlap():
    values, _ = decode("0001 0002 0003", *[Encoding("uint32")] * 2, Encoding("uint16"), starts=[0, 1, 2])
    assert list(values.values()) == [0x10002, 0x20003, 3]


def test_a_scaled_whole_number_has_no_more_decimals_than_its_scale():
    assert one("0003", "uint16", scale=0.1) == 0.3
    assert one("0003", "uint16", scale=0.1, offset=-40.0) == -39.7
    assert one("0003", "uint16", scale=1e-06) == 0.000003
    assert one("0003", "uint16", offset=5.0) == 8.0


@pytest.mark.parametrize(
    ("data", "kind", "size", "why"),
    [
        ("7FC00000", "float32", 0, "not a number"),
        ("FF800000", "float32", 0, "not a number"),
        ("7FF0000000000000", "float64", 0, "not a number"),
        ("12A4", "bcd16", 0, "not a BCD number"),
        ("123456F8", "bcd32", 0, "not a BCD number"),
        ("FFFE", "string", 1, "not text"),
    ],
)
def test_what_is_no_value_is_bad_and_says_why(data, kind, size, why):
    values, bad = decode(data, Encoding(kind), sizes=[size] if size else None)
    assert values == {"t00": None}
    assert bad == {"t00": why}


def test_one_bad_value_leaves_its_neighbours_alone():
    values, bad = decode("7FC00000 0007", Encoding("float32"), Encoding("uint16"))
    assert values == {"t00": None, "t01": 7}
    assert set(bad) == {"t00"}


def test_a_scaled_float_that_overflows_is_bad():
    assert decode("7F7FFFFF", Encoding("float32", scale=1e300))[1] == {"t00": "not a number"}


def test_bits_come_lowest_first():
    fields = [Field(f"c{n}", Table.COIL, n, 1) for n in (3, 4, 12)]
    (request,) = plan(fields, Limits())
    values, bad = Layout(request, {f.tag: Encoding("bool") for f in fields}).values(bytes([0b10, 0b10]))
    assert list(values) == [False, True, True]
    assert not bad


_PYMODBUS = {
    "int16": ModbusClientMixin.DATATYPE.INT16,
    "uint16": ModbusClientMixin.DATATYPE.UINT16,
    "int32": ModbusClientMixin.DATATYPE.INT32,
    "uint32": ModbusClientMixin.DATATYPE.UINT32,
    "int64": ModbusClientMixin.DATATYPE.INT64,
    "uint64": ModbusClientMixin.DATATYPE.UINT64,
    "float32": ModbusClientMixin.DATATYPE.FLOAT32,
    "float64": ModbusClientMixin.DATATYPE.FLOAT64,
}


@given(st.data(), st.lists(st.tuples(st.sampled_from(sorted(_PYMODBUS)), st.sampled_from(["big", "little"]))))
def test_a_block_decodes_as_pymodbus_decodes_each_value(data, kinds):
    if not kinds:
        return
    sizes = [_PYMODBUS[kind].value[1] for kind, _ in kinds]
    registers = data.draw(st.lists(st.integers(0, 65535), min_size=sum(sizes), max_size=sum(sizes)))
    if sum(sizes) > 125:
        return
    values, bad = decode(
        struct.pack(f">{len(registers)}H", *registers).hex(),
        *[Encoding(kind, word_order=order) for kind, order in kinds],
        sizes=sizes,
    )
    at = 0
    for (tag, value), (kind, order), size in zip(values.items(), kinds, sizes, strict=True):
        expected = ModbusClientMixin.convert_from_registers(
            registers[at : at + size], _PYMODBUS[kind], word_order=order
        )
        at += size
        if isinstance(expected, float) and not math.isfinite(expected):
            assert tag in bad
        else:
            assert value == expected


def block(count: int, kind: str = "uint16", **deadbands: float) -> Block:
    fields = [Field(f"t{n}", Table.HOLDING, n, 1) for n in range(count)]
    (request,) = plan(fields, Limits())
    return Block(1, request, {f.tag: Encoding(kind) for f in fields}, deadbands, {})


def test_an_unchanged_block_gives_the_very_same_readings():
    changing = block(2)
    first = changing.take(b"\0\1\0\2")
    assert changing.take(b"\0\1\0\2") is first
    assert [reading.value for reading in changing.take(b"\0\1\0\3")] == [1, 3]
    assert [reading.value for reading in first] == [1, 2]


def test_a_change_within_the_dead_band_keeps_the_reading_reported_last():
    near = block(1, t0=3.0)
    (ten,) = near.take(b"\0\x0a")
    assert near.take(b"\0\x0c")[0] is ten
    assert near.take(b"\0\x0d")[0].value == 13
    assert near.take(b"\0\x0b")[0].value == 13
    assert near.take(b"\0\x0a")[0].value == 10


def test_a_refused_block_is_bad_and_is_decoded_again_afterwards():
    refused = block(2)
    refused.take(b"\0\1\0\2")
    bad = refused.refuse("device busy (exception 6)")
    assert [(r.value, r.quality, r.detail) for r in bad] == [(None, Quality.BAD, "device busy (exception 6)")] * 2
    assert [reading.value for reading in refused.take(b"\0\1\0\2")] == [1, 2]


@pytest.mark.parametrize("deadbands", [{}, {"nan": 0.5, "next": 0.5}])
def test_what_is_no_number_and_what_is_refused_are_readings_without_a_value(deadbands):
    fields = [Field("nan", Table.HOLDING, 0, 2), Field("next", Table.HOLDING, 2, 1)]
    (request,) = plan(fields, Limits())
    block = Block(1, request, {"nan": Encoding("float32"), "next": Encoding("uint16")}, deadbands, {})
    assert [one[:3] for one in block.take(bytes.fromhex("7FC000000007"))] == [
        ("nan", None, Quality.BAD), ("next", 7, Quality.GOOD)
    ]  # fmt: skip
    assert [one[:3] for one in block.refuse("busy")] == [("nan", None, Quality.BAD), ("next", None, Quality.BAD)]
