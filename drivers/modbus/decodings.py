"""The same registers in every type and order, so that a person sees which one is plausible. Pure.

Most guesses about word order fail in one way: a float32 in the wrong order is a number of no meaning, mostly tiny
(9.18e-41) or enormous. A decoding is called plausible when it is a number people measure or count.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple, get_args

from drivers.base import Value
from drivers.modbus.addresses import Table
from drivers.modbus.encoding import Encoding
from drivers.modbus.places import Order, Type
from drivers.modbus.plan import Field, Request
from drivers.modbus.registers import Layout

SIZES: dict[Type, int] = {
    "uint16": 1,
    "int16": 1,
    "bcd16": 1,
    "uint32": 2,
    "int32": 2,
    "float32": 2,
    "bcd32": 2,
    "uint64": 4,
    "int64": 4,
    "float64": 4,
}
"""Registers of each type, in the order they are shown."""
WIDEST = max(SIZES.values())
_TINY, _HUGE = 1e-6, 1e9


class Decoding(NamedTuple):
    """A reading of the registers; `value` is None where they make none."""

    type: Type
    word_order: Order
    byte_order: Order
    value: Value | None
    plausible: bool


def decodings(registers: Sequence[int]) -> list[Decoding]:
    """All of them, as far as the registers reach."""
    data = struct.pack(f">{len(registers)}H", *registers)
    found = []
    for kind, size in SIZES.items():
        if size > len(registers):
            continue
        for word_order in get_args(Order) if size > 1 else ("big",):
            for byte_order in get_args(Order):
                value = decode(data[: size * 2], Encoding(kind, word_order, byte_order))
                found.append(Decoding(kind, word_order, byte_order, value, plausible(kind, value)))
    return found


def decode(data: bytes, encoding: Encoding) -> Value | None:
    """The value of an encoding that fills the data; None for none."""
    size = len(data) // 2
    field = Field("value", Table.HOLDING, 0, size)
    values, _ = Layout(Request(Table.HOLDING, 0, size, (field,)), {"value": encoding}).values(data)
    return values[0]


def plausible(kind: Type, value: Value | None) -> bool:
    """Whether the number is one that people measure or count. Zero is, in every type."""
    if value is None or isinstance(value, str):
        return False
    if kind.startswith("float"):
        return value == 0 or _TINY <= abs(value) <= _HUGE
    return abs(value) <= _HUGE
