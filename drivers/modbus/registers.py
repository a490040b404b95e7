"""From the bytes of an answer to the values of tags. Pure.

A block (the data of one request) is decoded as a whole: the layout is compiled once into `struct` formats, so a
value costs one slot of one `unpack`, and what remains to be done (see `encoding`) is done for all alike at once. Byte
and word orders other than big-endian are one reordering of the block's bytes before that.
"""

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from drivers.base import Value
from drivers.modbus.encoding import Convert, Encoding, conversion
from drivers.modbus.places import Order, Type
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
_Raw: TypeAlias = tuple[Any, ...]
_Pick: TypeAlias = Callable[[_Raw], _Raw]


class Layout:
    """A compiled request: `values` turns the data bytes of its answer into one value per field, in their order."""

    def __init__(self, request: Request, encodings: Mapping[str, Encoding]) -> None:
        self.tags = tuple(field.tag for field in request.fields)
        kinds = [encodings[tag] for tag in self.tags]
        self.size = (request.length + 7) // 8 if request.table.bits else request.length * 2
        """Bytes that the answer must have."""
        if request.table.bits:
            self._unpack = _bits_of([field.start - request.start for field in request.fields])
            self._conversions: list[tuple[list[int], _Pick, Convert]] = []
        else:
            self._unpack = _registers_of(request, kinds)
            self._conversions = _conversions_of(kinds)

    def values(self, data: bytes) -> tuple[Sequence[Value | None], Bad]:
        """(a value or None per field, reasons of those without). `data` has `size` bytes."""
        raw = self._unpack(data)
        if not self._conversions:
            return raw, {}
        values: list[Value | None] = list(raw)
        bad: dict[int, str] = {}
        for positions, pick, convert in self._conversions:
            try:
                for at, value in zip(positions, convert(pick(raw)), strict=True):
                    values[at] = value
            except ValueError:
                _convert_each(positions, raw, convert, values, bad)
        return values, bad


def _convert_each(
    positions: Sequence[int], raw: _Raw, convert: Convert, values: list[Value | None], bad: dict[int, str]
) -> None:
    """One by one, to tell the values from those that are none."""
    for at in positions:
        try:
            (values[at],) = convert((raw[at],))
        except ValueError as error:
            values[at] = None
            bad[at] = str(error)


def _conversions_of(kinds: Sequence[Encoding]) -> list[tuple[list[int], _Pick, Convert]]:
    """Fields that are converted alike are converted together."""
    groups: dict[Encoding, list[int]] = {}
    for at, kind in enumerate(kinds):
        groups.setdefault(kind._replace(word_order="big", byte_order="big"), []).append(at)
    return [
        (positions, _picker(positions), convert)
        for kind, positions in groups.items()
        if (convert := conversion(kind)) is not None
    ]


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


def _picker(positions: Sequence[int]) -> _Pick:
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return operator.itemgetter(*positions)
