"""What the registers of a tag mean, and what turns unpacked numbers into its value. Pure.

A conversion takes the raw values of many tags of equal meaning and gives as many values, without a Python call for
each. It raises ValueError, with the reason for BAD, if any of them is no value.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from drivers.base import Value
from drivers.modbus.places import Form, Order, Type
from drivers.scaling import decimals

Convert: TypeAlias = Callable[[Sequence[Any]], Sequence[Value]]
_FLOATS = ("float32", "float64")


class Encoding(NamedTuple):
    """How one tag's registers become a value: everything of the tag but its address."""

    kind: Type = "uint16"
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: int | None = None
    mask: int | None = None
    scale: float | None = None
    offset: float | None = None


def of_form(form: Form, word_order: Order, byte_order: Order) -> Encoding:
    """How a tag or another value is encoded; the orders are the device's, for one that names none."""
    return Encoding(
        form.kind,
        form.word_order or word_order,
        form.byte_order or byte_order,
        form.bit,
        form.mask,
        getattr(form, "scale", None),
        getattr(form, "offset", None),
    )


def conversion(encoding: Encoding) -> Convert | None:
    """What remains to be done after unpacking; None if the number is the value."""
    steps: list[Convert] = []
    if encoding.bit is not None:
        steps.append(_bits(encoding.bit))
    elif encoding.kind == "bool":
        steps.append(lambda words: [word != 0 for word in words])
    elif encoding.kind == "string":
        steps.append(lambda texts: [_text(text) for text in texts])
    elif encoding.kind in ("bcd16", "bcd32"):
        steps.append(lambda words: [_bcd(word) for word in words])
    elif encoding.kind in _FLOATS:
        steps.append(_finite)
    if encoding.mask is not None:
        steps.append(_masked(encoding.mask))
    if encoding.scale is not None or encoding.offset is not None:
        scale = 1 if encoding.scale is None else encoding.scale
        steps.append(_scaled(scale, encoding.offset or 0, exact=encoding.kind not in _FLOATS))
    if len(steps) < 2:
        return steps[0] if steps else None

    def convert(raw: Sequence[Any]) -> Sequence[Value]:
        for step in steps:
            raw = step(raw)
        return raw

    return convert


def _bits(number: int) -> Convert:
    return lambda words: [word >> number & 1 == 1 for word in words]


def _masked(mask: int) -> Convert:
    shift = (mask & -mask).bit_length() - 1
    return lambda words: [(word & mask) >> shift for word in words]


def _text(raw: bytes) -> str:
    try:
        return raw.split(b"\0", 1)[0].decode().rstrip(" ")
    except UnicodeDecodeError:
        raise ValueError("not text") from None


def _bcd(word: int) -> int:
    try:
        return int(f"{word:x}")
    except ValueError:
        raise ValueError("not a BCD number") from None


def _finite(numbers: Sequence[float]) -> Sequence[float]:
    if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
        raise ValueError("not a number")
    return numbers


def _scaled(scale: float, offset: float, *, exact: bool) -> Convert:
    if not exact:
        return lambda numbers: _finite([number * scale + offset for number in numbers])
    digits = decimals(scale, offset)
    return lambda numbers: [round(number * scale + offset, digits) for number in numbers]
