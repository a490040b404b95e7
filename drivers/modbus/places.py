"""Where a value is on a Modbus device, and how its registers are read."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from config.kinds import Options
from drivers.modbus.addresses import LAST, Address, Table, parse_reference

Type = Literal[
    "bool",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "bcd16",
    "bcd32",
    "string",
]
Order = Literal["big", "little"]
_Wire = Annotated[int, Field(ge=0, le=LAST)]
_REGISTERS: Mapping[str, int] = {
    "bool": 1,
    "int16": 1,
    "uint16": 1,
    "bcd16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "bcd32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
    "string": 1,
}
INTEGERS = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
_NUMBERS = (*INTEGERS, "float32", "float64", "bcd16", "bcd32")


def fault(code: Literal["E301", "E302"], text: str) -> PydanticCustomError:
    return PydanticCustomError(code, text)


class Where(Options):
    """Exactly one address."""

    WHAT: ClassVar[str] = "a place"
    coil: _Wire | None = None
    """Read-write bit; counts from 0 as on the wire."""
    discrete: _Wire | None = None
    """Read-only bit; counts from 0 as on the wire."""
    holding: _Wire | None = None
    """Read-write register; counts from 0 as on the wire."""
    input: _Wire | None = None
    """Read-only register; counts from 0 as on the wire."""
    reference: int | str | None = None
    """The manual's number; counts from 1: 30101 is `input: 100`, 400201 is `holding: 200`."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raises what a validator raises."""
        given = [word for word in ("coil", "discrete", "holding", "input", "reference") if self._has(word)]
        if len(given) != 1:
            have = f"this one has {' and '.join(given)}" if given else "this one has none"
            what = f"{self.WHAT} needs exactly one of coil, discrete, holding, input or reference: {have}"
            raise fault("E302", what)
        if self.reference is not None:
            try:
                parse_reference(self.reference)
            except ValueError as error:
                raise fault("E302", str(error)) from None

    def _has(self, word: str) -> bool:
        return getattr(self, word, None) is not None

    @property
    def address(self) -> Address:
        if self.reference is not None:
            return parse_reference(self.reference)
        for table in Table:
            number: int | None = getattr(self, table.word)
            if number is not None:
                return Address(table, number)
        raise AssertionError("validated")


class Form(Options):
    """How registers are read."""

    type: Type | None = None
    """Default: bool for bits, uint16 for registers."""
    length: Annotated[int, Field(ge=1, le=250)] | None = None
    """Characters of a string, two per register."""
    bit: Annotated[int, Field(ge=0, le=15)] | None = None
    """One bit of a register as a bool; 0 is the lowest."""
    mask: Annotated[int, Field(ge=1)] | None = None
    """Only these bits of an integer, moved down so that the lowest of them is bit 0: `0x00F0` gives 0 to 15."""
    word_order: Order | None = None
    """Which register of a 32 or 64 bit value comes first; default: that of the device."""
    byte_order: Order | None = None
    """Which byte of a register comes first; default: that of the device."""

    def mistakes(self) -> list[str]:
        kind = self.kind
        scaled = any(getattr(self, word, None) is not None for word in ("scale", "offset", "deadband"))
        rules = (
            (self.bit is not None and self.type not in (None, "bool"), "'bit' gives a bool"),
            (self.mask is not None and kind not in INTEGERS, "'mask' needs an integer type"),
            (self.mask is not None and self.mask >> 16 * self.registers != 0, "'mask' is wider than the type"),
            (kind == "string" and self.length is None, "a string needs 'length', its number of characters"),
            (kind != "string" and self.length is not None, "'length' is for strings"),
            (
                kind not in _NUMBERS and scaled,
                f"'scale', 'offset' and 'deadband' are for numbers, not for {kind}",
            ),
        )
        return [text for wrong, text in rules if wrong]

    @property
    def kind(self) -> Type:
        """The type with its default filled in."""
        return self.type or ("bool" if self.bit is not None else "uint16")

    @property
    def registers(self) -> int:
        """How many registers the value takes."""
        return (self.length + 1) // 2 if self.length is not None else _REGISTERS[self.kind]


class Place(Form, Where):
    """A value: exactly one address, and how its registers are read."""

    def check(self) -> None:
        super().check()
        for text in self.mistakes():
            raise fault("E301", text)

    def mistakes(self) -> list[str]:
        table, number = self.address
        bits = table.bits
        rules = (
            (bits and self.kind != "bool", f"a {table.word} is one bit: its type can only be bool"),
            (bits and self.bit is not None, "'bit' picks from a register; this is one bit already"),
        )
        ends = number + self.registers - 1 > LAST
        found = [text for wrong, text in rules if wrong] + super().mistakes()
        return [*found, f"the value ends beyond the last address, {LAST}"] if ends else found

    @property
    def kind(self) -> Type:
        return self.type or ("bool" if self.address.table.bits else super().kind)
