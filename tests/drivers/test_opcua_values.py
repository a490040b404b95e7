"""A value of the server as a reading of a tag."""

import math
import uuid
from typing import Any

import pytest

from drivers.base import Quality, Reading
from drivers.opcua import binary
from drivers.opcua.options import OpcuaTag
from drivers.opcua.values import TagValues, micros, overflowed, status_name

BOOL, BYTE, INT16, UINT16, INT32, INT64, UINT64, FLOAT, DOUBLE = 1, 3, 4, 5, 6, 8, 9, 10, 11
NOON = 134_169_552_000_000_000, 1_772_481_600_000_000


def tag(kind: str, **settings: Any) -> TagValues:
    return TagValues("t", OpcuaTag.model_validate({"node": "i=1", "type": kind} | settings))


def read(values: TagValues, kind: int, value: Any, status: int = 0, ticks: int | None = None) -> Reading:
    reading = values.read((1, kind, value, status, ticks))
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("declared", "kind", "sent", "value"),
    [
        ("bool", BOOL, True, True),
        ("uint16", UINT16, 65535, 65535),
        ("uint16", INT32, 7, 7),
        ("int64", UINT64, (1 << 63) - 1, (1 << 63) - 1),
        ("float32", FLOAT, 1.5, 1.5),
        ("float32", DOUBLE, 0.1, 0.1),
        ("float64", INT32, 3, 3.0),
        ("string", binary.STRING, "你好".encode(), "你好"),
        ("string", binary.STRING, None, ""),
        ("string", binary.LOCALIZED_TEXT, b"run", "run"),
        ("string", binary.GUID, uuid.UUID(int=7).bytes_le, str(uuid.UUID(int=7))),
        ("string", binary.DATE_TIME, NOON[0], "2026-03-02T20:00:00+00:00"),
    ],
)
def test_a_value_that_fits_the_declared_type_is_good(declared: str, kind: int, sent: Any, value: Any) -> None:
    reading = read(tag(declared), kind, sent)
    assert reading == Reading("t", value)
    assert type(reading.value) is type(value)


@pytest.mark.parametrize(
    ("declared", "kind", "sent", "detail"),
    [
        ("uint16", INT32, 70_000, "BadOutOfRange: 70000 is not a uint16"),
        ("uint16", INT16, -1, "BadOutOfRange: -1 is not a uint16"),
        ("uint16", DOUBLE, 5.0, "BadTypeMismatch: the server sends Double, the tag is declared uint16"),
        ("uint16", BOOL, True, "BadTypeMismatch: the server sends Boolean, the tag is declared uint16"),
        ("bool", BYTE, 1, "BadTypeMismatch: the server sends Byte, the tag is declared bool"),
        ("string", INT32, 1, "BadTypeMismatch: the server sends Int32, the tag is declared string"),
        ("string", binary.STRING, b"\xff", "BadDecodingError: the String is not valid"),
        ("string", binary.STRING, b"x" * 2001, "BadOutOfRange: a text of 2001 bytes, and 2000 are the most"),
        ("string", binary.DATE_TIME, 0, "BadDecodingError: the DateTime is not valid"),
        ("float64", binary.STRING, b"1.5", "BadTypeMismatch: the server sends String, the tag is declared float64"),
        ("float64", INT64, (1 << 53) + 1, "BadOutOfRange: 9007199254740993 is not a float64"),
        ("float64", DOUBLE, math.nan, "BadOutOfRange: nan"),
        ("float32", FLOAT, math.inf, "BadOutOfRange: inf"),
        (
            "float64",
            binary.ARRAY | DOUBLE,
            None,
            "BadTypeMismatch: the server sends an array of Double, the tag is one float64",
        ),
        (
            "float64",
            binary.STRUCTURE,
            None,
            "BadTypeMismatch: the server sends Structure, the tag is declared float64",
        ),
        ("float64", binary.NOTHING, None, "BadNoData: the server sends no value"),
        ("string", binary.NOTHING, None, "BadNoData: the server sends no value"),
        ("float64", 63, b"", "BadTypeMismatch: the server sends an unknown type, the tag is declared float64"),
    ],
)
def test_a_value_that_does_not_fit_is_bad_and_says_why(declared: str, kind: int, sent: Any, detail: str) -> None:
    assert read(tag(declared), kind, sent) == Reading("t", None, Quality.BAD, None, detail)


def test_a_bad_status_leaves_no_value_and_its_name_as_the_detail() -> None:
    assert read(tag("uint16"), UINT16, 5, 0x808A0000) == Reading("t", None, Quality.BAD, None, "BadNotConnected")
    assert read(tag("float64"), DOUBLE, 5.0, 0xC0000000).quality is Quality.BAD


def test_an_uncertain_value_is_kept_with_the_name_of_its_doubt() -> None:
    reading = read(tag("float64"), DOUBLE, 5.0, 0x40900000, NOON[0])
    assert reading == Reading("t", 5.0, Quality.UNCERTAIN, NOON[1], "UncertainLastUsableValue")


def test_a_good_value_with_info_bits_or_a_subcode_is_good_without_detail() -> None:
    assert read(tag("uint16"), UINT16, 5, 0x480) == Reading("t", 5)
    assert read(tag("uint16"), UINT16, 5, 0x00960000) == Reading("t", 5)
    assert overflowed(0x480)
    assert not overflowed(0x400)
    assert not overflowed(0x80)


def test_scale_and_offset_give_the_tags_own_unit() -> None:
    assert read(tag("int16", scale=0.1, offset=-5.0), INT16, 100).value == pytest.approx(5.0)
    assert [read(tag("int16", scale=0.1), INT16, raw).value for raw in (3, 7, 12)] == [0.3, 0.7, 1.2]
    assert read(tag("float64", scale=0.1), DOUBLE, 1.234).value == 1.234 * 0.1
    assert read(tag("float64", scale=1e300), DOUBLE, 1e300).quality is Quality.BAD


def test_a_change_inside_the_deadband_is_not_reported_until_it_adds_up() -> None:
    values = tag("float64", deadband=1.0)
    sent = [10.0, 10.5, 10.9, 11.0, 11.5, 9.9]
    assert [value for value in sent if values.read((1, DOUBLE, value, 0, None))] == [10.0, 11.0, 9.9]


def test_after_a_bad_value_the_next_good_one_is_reported_whatever_the_deadband() -> None:
    values = tag("float64", deadband=1.0)
    read(values, DOUBLE, 10.0)
    read(values, DOUBLE, 10.0, 0x80000000)
    assert read(values, DOUBLE, 10.0).value == 10.0


@pytest.mark.parametrize("ticks", [None, 0, -1, 1, 1 << 62, (1 << 63) - 1, 2_650_467_743_990_000_000])
def test_no_time_and_the_protocols_extremes_are_no_source_time(ticks: int | None) -> None:
    assert micros(ticks) is None
    assert read(tag("float64"), DOUBLE, 1.0, 0, ticks).source_time is None


def test_a_source_time_is_in_microseconds() -> None:
    assert read(tag("float64"), DOUBLE, 1.0, 0, NOON[0] + 19).source_time == micros(NOON[0]) + 1  # type: ignore[operator]


def test_a_status_has_its_symbolic_name_also_with_info_bits() -> None:
    assert status_name(0x80340000) == status_name(0x80340480) == "BadNodeIdUnknown"
    assert status_name(0x8FFF0000) == "Bad (0x8FFF0000)"
    assert status_name(0x80000000) == "Bad"
