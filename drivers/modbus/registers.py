"""From the bytes of an answer to the values of tags. Pure.

A block (the data of one request) is decoded as a whole: the layout is compiled once into `struct` formats, so a
value costs one slot of one `unpack` and no Python call unless it needs scaling, text, BCD or a look at NaN. Byte
and word orders other than big-endian are one reordering of the block's bytes before that.
"""

import math
import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from drivers.base import Value
from drivers.modbus.options import ModbusTag, Order, Type
from drivers.modbus.plan import Field, Request

_FORMATS: Mapping[Type, str] = {
    "bool": "H",
    "int16": "h",
    "uint16": "H",
    "bcd16": "H",
    "int32": "i",
    "uint32": "I",
    "bcd32": "I",
    "float32": "f",
    "int64": "q",
    "uint64": "Q",
    "float64": "d",
}
_BITS = [tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256)]

Bad: TypeAlias = Mapping[int, str]
"""Position of a tag in the request → why its value is no value."""
_Finish: TypeAlias = Callable[[Any], Value]
_Raw: TypeAlias = tuple[Any, ...]


class Encoding(NamedTuple):
    """How one tag's registers become a value: everything of the tag but its address."""

    kind: Type = "uint16"
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: int | None = None
    mask: int | None = None
    scale: float | None = None
    offset: float | None = None


def encoding(tag: ModbusTag, word_order: Order, byte_order: Order) -> Encoding:
    """The tag's encoding; the orders are the device's, for a tag that names none."""
    return Encoding(
        tag.kind,
        tag.word_order or word_order,
        tag.byte_order or byte_order,
        tag.bit,
        tag.mask,
        tag.scale,
        tag.offset,
    )


class Layout:
    """A compiled request: `values` turns the data bytes of its answer into one value per field, in their order."""

    def __init__(self, request: Request, encodings: Mapping[str, Encoding]) -> None:
        self.tags = tuple(field.tag for field in request.fields)
        kinds = [encodings[tag] for tag in self.tags]
        self.size = (request.length + 7) // 8 if request.table.bits else request.length * 2
        """Bytes that the answer must have."""
        if request.table.bits:
            self._unpack = _bits_of([field.start - request.start for field in request.fields])
            self._finish: list[tuple[int, _Finish]] = []
        else:
            self._unpack = _registers_of(request, kinds)
            self._finish = [(at, how) for at, kind in enumerate(kinds) if (how := _finisher(kind)) is not None]

    def values(self, data: bytes) -> tuple[Sequence[Value | None], Bad]:
        """(a value or None per field, reasons of those without). `data` has `size` bytes."""
        raw = self._unpack(data)
        if not self._finish:
            return raw, {}
        values: list[Value | None] = list(raw)
        bad: dict[int, str] = {}
        for at, finish in self._finish:
            try:
                values[at] = finish(raw[at])
            except ValueError as error:
                values[at] = None
                bad[at] = str(error)
        return values, bad


def _bits_of(positions: Sequence[int]) -> Callable[[bytes], _Raw]:
    pick = _picker(positions)

    def unpack(data: bytes) -> _Raw:
        return pick(tuple(chain.from_iterable(map(_BITS.__getitem__, data))))

    return unpack


def _registers_of(request: Request, kinds: Sequence[Encoding]) -> Callable[[bytes], _Raw]:
    """Fields that overlap cannot be in one format: they go to further layers. Equal ones are unpacked once."""
    layers: list[_Layer] = []
    slots: dict[tuple[int, int, str, Order, Order], tuple[int, int]] = {}
    where: list[tuple[int, int]] = []
    for field, kind in zip(request.fields, kinds, strict=True):
        form = f"{field.size * 2}s" if kind.kind == "string" else _FORMATS[kind.kind]
        key = (field.start, field.size, form, kind.word_order, kind.byte_order)
        if key not in slots:
            at = next((n for n, layer in enumerate(layers) if layer.end <= field.start), len(layers))
            if at == len(layers):
                layers.append(_Layer(request.start, request.length))
            slots[key] = (at, layers[at].add(field, form, kind))
        where.append(slots[key])
    unpacks = [layer.compile() for layer in layers]
    if len(unpacks) == 1 and where == [(0, n) for n in range(len(slots))]:
        return unpacks[0]
    starts = [sum(layer.fields for layer in layers[:n]) for n in range(len(layers))]
    pick = _picker([starts[layer] + slot for layer, slot in where])

    def unpack(data: bytes) -> _Raw:
        return pick(tuple(chain.from_iterable([each(data) for each in unpacks])))

    return unpack


class _Layer:
    """Fields of a block that do not overlap, as one `struct` format over reordered bytes."""

    def __init__(self, start: int, count: int) -> None:
        self.end = start
        self.fields = 0
        self._start = start
        self._count = count
        self._format = ">"
        self._order = list(range(count * 2))

    def add(self, field: Field, form: str, kind: Encoding) -> int:
        """Append a field that starts at or after `end`; returns its slot."""
        self._format += f"{(field.start - self.end) * 2}x{form}"
        self.end = field.end
        first = (field.start - self._start) * 2
        words = [[at, at + 1] for at in range(first, first + field.size * 2, 2)]
        if kind.word_order == "little" and kind.kind != "string":
            words.reverse()
        if kind.byte_order == "little":
            words = [word[::-1] for word in words]
        self._order[first : first + field.size * 2] = chain.from_iterable(words)
        self.fields += 1
        return self.fields - 1

    def compile(self) -> Callable[[bytes], _Raw]:
        plain = struct.Struct(f"{self._format}{(self._start + self._count - self.end) * 2}x").unpack
        if self._order == sorted(self._order):
            return plain
        reorder = operator.itemgetter(*self._order)
        return lambda data: plain(bytes(reorder(data)))


def _picker(positions: Sequence[int]) -> Callable[[_Raw], _Raw]:
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return operator.itemgetter(*positions)


def _finisher(kind: Encoding) -> _Finish | None:
    """What remains to be done for one value after unpacking; it raises ValueError with the reason for BAD."""
    steps: list[_Finish] = []
    if kind.bit is not None:
        steps.append(_bit(kind.bit))
    elif kind.kind == "bool":
        steps.append(bool)
    elif kind.kind == "string":
        steps.append(_text)
    elif kind.kind in ("bcd16", "bcd32"):
        steps.append(_bcd)
    elif kind.kind in ("float32", "float64"):
        steps.append(_finite)
    if kind.mask is not None:
        steps.append(_masked(kind.mask))
    if kind.scale is not None or kind.offset is not None:
        steps.append(_scaled(kind.scale, kind.offset, exact=kind.kind not in ("float32", "float64")))
    if len(steps) < 2:
        return steps[0] if steps else None

    def finish(raw: Any) -> Value:
        value: Value = raw
        for step in steps:
            value = step(value)
        return value

    return finish


def _bit(number: int) -> _Finish:
    return lambda word: bool(word >> number & 1)


def _masked(mask: int) -> _Finish:
    shift = (mask & -mask).bit_length() - 1
    return lambda word: (word & mask) >> shift


def _text(raw: Any) -> str:
    try:
        text: str = raw.split(b"\0", 1)[0].decode().rstrip(" ")
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    return text


def _bcd(raw: Any) -> int:
    try:
        return int(f"{raw:x}")
    except ValueError:
        raise ValueError("not a BCD number") from None


def _finite(raw: Any) -> float:
    value: float = raw
    if not math.isfinite(value):
        raise ValueError("not a number")
    return value


def _scaled(scale: float | None, offset: float | None, *, exact: bool) -> _Finish:
    """`raw × scale + offset`. For whole numbers the result has the decimals that scale and offset are written with:
    3 × 0.1 is 0.3 and not 0.30000000000000004."""
    factor, shift = 1 if scale is None else scale, 0 if offset is None else offset
    if not exact:
        return lambda raw: _finite(raw * factor + shift)
    decimals = max(_decimals(factor), _decimals(shift))
    return lambda raw: round(raw * factor + shift, decimals)


def _decimals(number: float) -> int:
    digits, _, exponent = repr(float(number)).partition("e")
    fraction = digits.partition(".")[2].rstrip("0")
    return max(0, len(fraction) - int(exponent or 0))
