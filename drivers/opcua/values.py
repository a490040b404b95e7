"""What a server sent, as a `Reading`: type, scale, quality and time of one tag. Pure.

The declared type is a promise: a value of another kind, or outside its range, is BAD and says so, so that no rule
or counter ever works on something it was not written for. Accepted without loss are: any integer type that fits
the declared range, integers for a float, Float and Double for each other, and for `string` also LocalizedText,
XML, Guid and DateTime. NaN and infinity are BAD, and arrays and structures of which no part is named.
"""

import math
import uuid
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from asyncua.ua.status_codes import get_name_and_doc

from drivers.base import Micros, Quality, Reading, Value
from drivers.opcua import binary
from drivers.opcua.options import OpcuaTag
from drivers.opcua.parts import Layout, NoPart, Step, pick
from drivers.scaling import decimals

_EPOCH = 116_444_736_000_000_000
"""1970-01-01 in 100 ns since 1601-01-01."""
_FAR = 2_650_466_880_000_000_000
"""9999-12-31 in the same unit; the protocol's word for "for ever"."""

_NAMES = (
    "Null",
    "Boolean",
    "SByte",
    "Byte",
    "Int16",
    "UInt16",
    "Int32",
    "UInt32",
    "Int64",
    "UInt64",
    "Float",
    "Double",
    "String",
    "DateTime",
    "Guid",
    "ByteString",
    "XmlElement",
    "NodeId",
    "ExpandedNodeId",
    "StatusCode",
    "QualifiedName",
    "LocalizedText",
    "Structure",
    "DataValue",
    "Variant",
    "DiagnosticInfo",
)
_INTEGERS = frozenset(range(2, 10))
_FLOATS = frozenset((10, 11))
_TEXTS = frozenset((binary.STRING, binary.XML, binary.LOCALIZED_TEXT))
_RANGES = {
    f"{sign}int{bits}": (low, high)
    for bits in (8, 16, 32, 64)
    for sign, low, high in (("", -(1 << bits - 1), (1 << bits - 1) - 1), ("u", 0, (1 << bits) - 1))
}
LONGEST_TEXT = 2000
"""Bytes of a text: it may stand several times in each event of the machine, and an event has at most 64 KiB."""
_EXACT = 1 << 53
"""Up to here every integer is a float."""

GONE = frozenset((0x80330000, 0x80340000, 0x80350000, 0x80420000))
"""The item's node or item is not there any more: BadNodeIdInvalid, BadNodeIdUnknown, BadAttributeIdInvalid,
BadMonitoredItemIdInvalid."""


@cache
def status_name(code: int) -> str:
    """Symbolic name of a status code without its info bits, e.g. `BadNodeIdUnknown`."""
    plain = code & 0xFFFF0000
    name = get_name_and_doc(plain)[0]
    return f"{name} (0x{plain:08X})" if name in ("Good", "Uncertain", "Bad") and plain & 0x0FFF0000 else name


def type_name(kind: int) -> str:
    """Of a value's built-in type, or of its elements."""
    return _NAMES[kind & 0x1F] if kind & 0x3F < len(_NAMES) else "an unknown type"


def overflowed(code: int) -> bool:
    """True if the status says that values were lost in the server's queue (InfoType DataValue, bit Overflow)."""
    return code & 0x480 == 0x480


def micros(ticks: int | None) -> Micros | None:
    """100 ns since 1601 as UTC microseconds since 1970; None for no time, and for the protocol's extremes."""
    return None if ticks is None or not _EPOCH < ticks < _FAR else (ticks - _EPOCH) // 10


class TagValues:
    """Turns the items of one tag into readings. `read` keeps the last value for the deadband and nothing else.
    `layout`: of the structure that the node holds, for a tag that is one of its fields."""

    __slots__ = (
        "_deadband",
        "_decimals",
        "_declared",
        "_high",
        "_kinds",
        "_last",
        "_low",
        "_offset",
        "_plain",
        "_scale",
        "_scaled",
        "_way",
        "layout",
        "tag",
    )

    def __init__(self, tag: str, options: OpcuaTag) -> None:
        self.tag = tag
        self._declared = options.type
        self._kinds = _kinds(options.type)
        self._low, self._high = _RANGES.get(options.type, (-_EXACT, _EXACT))
        self._scaled = options.scale is not None or options.offset is not None
        self._scale = 1.0 if options.scale is None else options.scale
        self._offset = options.offset or 0.0
        self._decimals = decimals(self._scale, self._offset)
        self._deadband = options.deadband
        self._plain = not self._scaled and self._deadband is None and options.type in ("float32", "float64")
        self._last: float | None = None
        self._way = options.way
        self.layout: Layout | None = None
        self._plain = self._plain and not self._way

    @property
    def structured(self) -> bool:
        """Whether the layout of a structure is needed."""
        return any(isinstance(step, str) for step in self._way)

    def anew(self) -> "TagValues":
        """The same, with no value seen yet."""
        other = copy(self)
        other._last = None
        return other

    def read(self, item: binary.Item) -> Reading | None:
        """The item as a reading; None if it is inside the deadband."""
        _, kind, value, status, ticks = item
        at = None if ticks is None or not _EPOCH < ticks < _FAR else (ticks - _EPOCH) // 10
        if self._plain and status == 0 and kind in _FLOATS and math.isfinite(value):
            return Reading(self.tag, value, Quality.GOOD, at)
        severity = status >> 30
        if severity > 1:
            return self._bad(status_name(status), at)
        if self._way:
            try:
                kind, value = _part(kind, value, self._way, self.layout)
            except NoPart as why:
                return self._bad(str(why), at)
            except binary.Malformed as why:
                return self._bad(f"BadDecodingError: {why}", at)
        found = self._value(kind, value)
        if found is None:
            return self._bad(self._why(kind, value), at)
        if severity == 0:
            if self._deadband is not None and self._inside(found):
                return None
            return Reading(self.tag, found, Quality.GOOD, at)
        self._last = None
        return Reading(self.tag, found, Quality.UNCERTAIN, at, status_name(status))

    def _bad(self, detail: str, at: Micros | None) -> Reading:
        self._last = None
        return Reading(self.tag, None, Quality.BAD, at, detail)

    def _value(self, kind: int, value: Any) -> Value | None:
        """The value in the tag's own type and unit; None if it is none."""
        if kind not in self._kinds or (value is None and kind not in _TEXTS):
            return None
        if self._declared == "string":
            return _text(kind, value)
        if self._declared == "bool":
            return bool(value)
        if kind in _INTEGERS:
            if not self._low <= value <= self._high:
                return None
            if self._declared in ("float32", "float64"):
                value = float(value)
        elif not math.isfinite(value):
            return None
        if self._scaled:
            value = value * self._scale + self._offset
            if kind in _INTEGERS:
                value = round(value, self._decimals)
        return value if math.isfinite(value) else None

    def _why(self, kind: int, value: Any) -> str:
        name = type_name(kind)
        if kind & binary.ARRAY:
            return f"BadTypeMismatch: the server sends an array of {name}, the tag is one {self._declared}"
        if kind == binary.NOTHING:
            return "BadNoData: the server sends no value"
        if kind not in self._kinds:
            return f"BadTypeMismatch: the server sends {name}, the tag is declared {self._declared}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"BadOutOfRange: {value}"
        if kind in _TEXTS and len(value) > LONGEST_TEXT:
            return f"BadOutOfRange: a text of {len(value)} bytes, and {LONGEST_TEXT} are the most"
        if self._declared == "string":
            return f"BadDecodingError: the {name} is not valid"
        return f"BadOutOfRange: {value} is not a {self._declared}"

    def _inside(self, value: Value) -> bool:
        assert isinstance(value, (int, float))
        assert self._deadband is not None
        if self._last is not None and abs(value - self._last) < self._deadband:
            return True
        self._last = value
        return False


def _part(kind: int, value: Any, way: tuple[Step, ...], layout: Layout | None) -> tuple[int, Any]:
    """(type, value) of a part of what the server sent. Raises `NoPart`, `binary.Malformed`."""
    if kind == binary.NOTHING:
        return kind, value
    if not kind & binary.ARRAY and kind != binary.STRUCTURE:
        name = _NAMES[kind] if kind < len(_NAMES) else "an unknown type"
        raise NoPart(f"BadTypeMismatch: the server sends {name}, which has no parts")
    return pick(value, way, layout)


def _kinds(declared: str) -> frozenset[int]:
    """Built-in types that a tag of the declared type accepts."""
    if declared == "bool":
        return frozenset((binary.BOOLEAN,))
    if declared == "string":
        return _TEXTS | {binary.GUID, binary.DATE_TIME}
    return _INTEGERS | _FLOATS if declared in ("float32", "float64") else _INTEGERS


def _text(kind: int, value: Any) -> str | None:
    if value is None:
        return ""  # a null string is an empty one (Part 6, 5.2.2.4)
    if kind == binary.GUID:
        return str(uuid.UUID(bytes_le=value)) if len(value) == 16 else None
    if kind == binary.DATE_TIME:
        at = micros(value)
        return None if at is None else (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat()
    if len(value) > LONGEST_TEXT:
        return None
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return None
