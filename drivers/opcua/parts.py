"""One value out of an array or a structure, by index and field, from the bytes of its Variant. Pure.

`steps` reads how a part is written (`index: 2`, `field: Axes[2].Position`). `Layout` is what a structure looks like
on the wire (Part 6, 5.2.6), as the server's DataTypeDefinition has it (see `layouts`). What leads nowhere is a
`NoPart` that says why; bytes that do not fit the layout are `binary.Malformed`.
"""

import math
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from drivers.opcua import binary

Step: TypeAlias = str | tuple[int, ...]
"""The name of a field, or the indices of an element (more than one in a matrix)."""

_FIELD = re.compile(r"(?P<name>[^.\[\]]+)(?P<index>(?:\[\d{1,9}(?:,\d{1,9})*\])?)")
_U32 = struct.Struct("<I")


class NoPart(ValueError):
    """The value has no such part. Says why, beginning with a symbolic status."""


class Layout(NamedTuple):
    """A structure. `form`: 0 plain, 1 with optional fields, 2 union. `encoding`: (namespace, identifier) of its
    binary encoding."""

    name: str
    form: int
    encoding: tuple[int, Any]
    fields: "tuple[LayoutField, ...]"


class LayoutField(NamedTuple):
    """`of`: a built-in type, or the layout of a structure that stands in place. `rank`: 0 for one value, dimensions
    of an array otherwise."""

    name: str
    of: "int | Layout"
    rank: int = 0
    optional: bool = False


def steps(index: int | Sequence[int] | None, field: str | None) -> tuple[Step, ...]:
    """The way to a part. Raises ValueError that says how a field is written."""
    found: list[Step] = []
    if index is not None:
        found.append((index,) if isinstance(index, int) else tuple(index))
    for part in field.split(".") if field is not None else ():
        match = _FIELD.fullmatch(part)
        if match is None:
            raise ValueError(f"a field is written Name, Name.Inner or Name[2].Inner, not {field!r}")
        found.append(match["name"])
        if match["index"]:
            found.append(tuple(int(number) for number in match["index"][1:-1].split(",")))
    return tuple(found)


def pick(data: bytes, way: Sequence[Step], layout: Layout | None) -> tuple[int, Any]:
    """(built-in type, value) of a part of the Variant `data`. Raises `NoPart`, `binary.Malformed`."""
    try:
        return _pick(data, way, layout)
    except (struct.error, IndexError) as error:
        raise binary.Malformed(f"a structure ends too early or is broken: {error}") from None


def elements(data: bytes) -> list[bytes]:
    """The Variants of an array's elements, of the array's own. Raises `NoPart`, `binary.Malformed`."""
    kind = data[0] & 0x3F
    if not data[0] & 0x80:
        raise NoPart("BadIndexRangeNoData: the value is no array")
    if data[0] & 0x40:
        raise NoPart("BadIndexRangeInvalid: the array has more than one dimension")
    head, found = bytes((kind,)), []
    try:
        count, pos = binary.length(data, 1)
        for _ in range(count):
            end = binary.skip(data, pos, kind, 1)
            found.append(head + data[pos:end])
            pos = end
    except (struct.error, IndexError) as error:
        raise binary.Malformed(f"an array ends too early or is broken: {error}") from None
    return found


def _pick(data: bytes, way: Sequence[Step], layout: Layout | None) -> tuple[int, Any]:
    kind, pos = data[0] & 0x3F, 1
    rest = list(way)
    if data[0] & 0x80:
        count, pos = binary.length(data, pos)
        dimensions = _dimensions(data, pos, kind, count) if data[0] & 0x40 else (count,)
        pos = _element(data, pos, kind, rest, dimensions)
    elif rest and isinstance(rest[0], tuple):
        raise NoPart("BadIndexRangeNoData: the value is no array")
    if kind == binary.STRUCTURE and rest:
        if layout is None:
            raise NoPart("BadDataTypeIdUnknown: the server does not say what its structure looks like")
        return _in_object(data, pos, rest, layout)
    if rest:
        raise NoPart(f"BadNoMatch: there is no field {rest[0]!r}, the value is no structure")
    return kind, binary.value_at(data, pos, kind)[0]


def _dimensions(data: bytes, pos: int, kind: int, count: int) -> tuple[int, ...]:
    size, pos = binary.length(data, binary.skip(data, pos, kind, count))
    found = struct.unpack_from(f"<{size}i", data, pos)
    return found if math.prod(found) == count else (count,)


def _element(data: bytes, pos: int, kind: int, rest: list[Step], dimensions: tuple[int, ...]) -> int:
    """The position of the element that the first of `rest` means; takes it away."""
    return binary.skip(data, pos, kind, _number(rest, dimensions))


def _number(rest: list[Step], dimensions: tuple[int, ...]) -> int:
    """The place of an element in the list of all; the last index counts fastest."""
    if not rest or not isinstance(rest[0], tuple):
        raise NoPart("BadTypeMismatch: the server sends an array; write which element with 'index'")
    index = rest.pop(0)
    assert isinstance(index, tuple)
    if len(index) != len(dimensions):
        raise NoPart(f"BadIndexRangeInvalid: the array has {len(dimensions)} dimensions")
    number = 0
    for at, size in zip(index, dimensions, strict=True):
        if at >= size:
            raise NoPart(f"BadIndexRangeNoData: there is no element {at}, the array has {size}")
        number = number * size + at
    return number


def _in_object(data: bytes, pos: int, rest: list[Step], layout: Layout) -> tuple[int, Any]:
    """A part of an ExtensionObject."""
    encoding = binary.node_id_of(data, pos)
    _, start, end = binary.extension_at(data, pos)
    if start == end:
        raise NoPart("BadNoData: the structure is empty")
    if encoding != layout.encoding:
        raise NoPart(f"BadTypeMismatch: the server sends another structure than {layout.name}")
    return _in_structure(data, start, rest, layout)


def _in_structure(data: bytes, pos: int, rest: list[Step], layout: Layout) -> tuple[int, Any]:
    wanted = rest.pop(0) if rest else None
    if not isinstance(wanted, str):
        raise NoPart(f"BadTypeMismatch: the server sends a structure {layout.name}; write its 'field'")
    there, pos = _there(data, pos, layout)
    for field, here in zip(layout.fields, there, strict=True):
        if field.name == wanted:
            if not here:
                raise NoPart(f"BadNoData: the field {wanted} is not there")
            return _in_field(data, pos, rest, field)
        if here:
            pos = _skip_field(data, pos, field)
    names = ", ".join(field.name for field in layout.fields)
    raise NoPart(f"BadNoMatch: {layout.name} has no field {wanted!r}; it has {names}")


def _there(data: bytes, pos: int, layout: Layout) -> tuple[list[bool], int]:
    """Which fields are encoded, and where they begin."""
    if layout.form == 0:
        return [True] * len(layout.fields), pos
    (mask,) = _U32.unpack_from(data, pos)
    if layout.form == 2:
        return [number == mask for number in range(1, len(layout.fields) + 1)], pos + 4
    found, bit = [], 1
    for field in layout.fields:
        found.append(not field.optional or bool(mask & bit))
        bit <<= field.optional
    return found, pos + 4


def _in_field(data: bytes, pos: int, rest: list[Step], field: LayoutField) -> tuple[int, Any]:
    if field.rank:
        dimensions, pos = _array(data, pos, field.rank)
        pos = _skip_values(data, pos, field.of, _number(rest, dimensions))
    if isinstance(field.of, Layout):
        return _in_structure(data, pos, rest, field.of)
    if field.of == 24:
        kind, value, end = binary.variant_at(data, pos, 0)
        return _pick(data[pos:end], rest, None) if rest else (kind, value)
    if rest:
        raise NoPart(f"BadNoMatch: {field.name} is no structure and no array")
    return field.of, binary.value_at(data, pos, field.of)[0]


def _array(data: bytes, pos: int, rank: int) -> tuple[tuple[int, ...], int]:
    """(dimensions, position of the first element) of an array in a structure."""
    count, pos = binary.length(data, pos)
    if rank == 1:
        return (count,), pos
    dimensions = struct.unpack_from(f"<{count}i", data, pos)
    if any(size < 0 for size in dimensions) or math.prod(dimensions) > len(data):
        raise binary.Malformed("an array with impossible dimensions")
    return dimensions, pos + 4 * count


def _skip_field(data: bytes, pos: int, field: LayoutField) -> int:
    count = 1
    if field.rank:
        dimensions, pos = _array(data, pos, field.rank)
        count = math.prod(dimensions)
    return _skip_values(data, pos, field.of, count)


def _skip_values(data: bytes, pos: int, of: int | Layout, count: int) -> int:
    if not isinstance(of, Layout):
        return binary.skip(data, pos, of, count)
    for _ in range(count):
        there, pos = _there(data, pos, of)
        for field, here in zip(of.fields, there, strict=True):
            if here:
                pos = _skip_field(data, pos, field)
    return pos
