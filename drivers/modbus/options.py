"""What can be written in YAML for a device with `driver: modbus`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.errors import Problem
from config.model import DeviceOptions, File, Name, TagOptions, Warned
from config.units import Duration
from drivers.modbus.addresses import LAST, Address, Table, manual_number, parse_reference
from drivers.modbus.endpoint import Host, Port, parse
from drivers.modbus.tls import Tls

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
_INTEGERS = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
_NUMBERS = (*_INTEGERS, "float32", "float64", "bcd16", "bcd32")


def _fault(code: Literal["E301", "E302"], text: str) -> PydanticCustomError:
    return PydanticCustomError(code, text)


class ModbusTag(TagOptions):
    """One value: exactly one address, and how its registers are read."""

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

    @model_validator(mode="after")
    def _makes_sense(self) -> "ModbusTag":
        given = [word for word in ("coil", "discrete", "holding", "input", "reference") if self._has(word)]
        if len(given) != 1:
            have = f"this one has {' and '.join(given)}" if given else "this one has none"
            raise _fault("E302", f"a tag needs exactly one of coil, discrete, holding, input or reference: {have}")
        if self.reference is not None:
            try:
                parse_reference(self.reference)
            except ValueError as error:
                raise _fault("E302", str(error)) from None
        for text in self._mistakes():
            raise _fault("E301", text)
        return self

    def _has(self, word: str) -> bool:
        return getattr(self, word) is not None

    def _mistakes(self) -> Sequence[str]:
        kind, bits = self.kind, self.address.table.bits
        rules = (
            (bits and kind != "bool", f"a {self.address.table.word} is one bit: its type can only be bool"),
            (bits and self.bit is not None, "'bit' picks from a register; this is one bit already"),
            (self.bit is not None and self.type not in (None, "bool"), "'bit' gives a bool"),
            (self.mask is not None and kind not in _INTEGERS, "'mask' needs an integer type"),
            (self.mask is not None and self.mask >> 16 * self.registers != 0, "'mask' is wider than the type"),
            (kind == "string" and self.length is None, "a string needs 'length', its number of characters"),
            (kind != "string" and self.length is not None, "'length' is for strings"),
            (
                kind not in _NUMBERS and any(self._has(word) for word in ("scale", "offset", "deadband")),
                f"'scale', 'offset' and 'deadband' are for numbers, not for {kind}",
            ),
            (self.address.number + self.registers - 1 > LAST, f"the value ends beyond the last address, {LAST}"),
        )
        return [text for wrong, text in rules if wrong]

    @property
    def address(self) -> Address:
        if self.reference is not None:
            return parse_reference(self.reference)
        for table in Table:
            number: int | None = getattr(self, table.word)
            if number is not None:
                return Address(table, number)
        raise AssertionError("validated")

    @property
    def kind(self) -> Type:
        """The type with its default filled in."""
        return self.type or ("bool" if self.address.table.bits or self.bit is not None else "uint16")

    @property
    def registers(self) -> int:
        """How many addresses the value takes."""
        return (self.length + 1) // 2 if self.length is not None else _REGISTERS[self.kind]


class ModbusDevice(DeviceOptions):
    """One Modbus unit. Units at the same `url` share one line."""

    driver: Literal["modbus"] = "modbus"
    url: str
    """`tcp://host[:port]`, `tls://…`, `rtu+tcp://…` (RTU over TCP) or `serial:///dev/ttyUSB0?baud=19200&parity=E`.
    Default ports: 502, and 802 for TLS."""
    ca_file: File | None = None
    """For `tls://`: certificate of the CA that signed the device's; default: the system's CAs."""
    cert_file: File | None = None
    """For `tls://`: the agent's own certificate, with `key_file`."""
    key_file: File | None = None
    """Key of `cert_file`."""
    insecure: bool = False
    """For `tls://`: accept any certificate; everyone on the network can read and forge."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Unit number, formerly slave address."""
    word_order: Order = "big"
    byte_order: Order = "big"
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    """Longest request that the device answers; bits count 16 to a register."""
    max_gap: Annotated[int, Field(ge=0, le=124)] = 8
    """Registers that may be read needlessly to join two tags in one request."""
    one_tag_per_request: bool = False
    pause: Duration = 0
    """Silence after each answer, for devices that need it."""
    in_flight: Annotated[int, Field(ge=1, le=16)] = 1
    """Requests sent without waiting for the answers in between; above 1 only for devices that queue them."""
    tags: Mapping[Name, ModbusTag]

    @field_validator("url")
    @classmethod
    def _is_understood(cls, url: str) -> str:
        try:
            parse(url)
        except ValueError as error:
            raise _fault("E301", str(error)) from None
        return url

    @model_validator(mode="after")
    def _fits_the_device(self) -> "ModbusDevice":
        if self.pause and self.in_flight > 1:
            raise _fault("E301", "'pause' needs in_flight: 1")
        for name, tag in self.tags.items():
            if tag.registers > self.max_registers:
                raise _fault("E301", f"tag {name} takes {tag.registers} registers, max_registers is less")
        return self

    @model_validator(mode="after")
    def _fits_the_line(self) -> "ModbusDevice":
        rtu, tls = self.protocol == "modbus_rtu", self.url.startswith("tls:")
        if rtu and self.in_flight > 1:
            raise Problem("E301", "RTU carries one request at a time", fix="in_flight: 1", at=("in_flight",))
        if rtu and self.unit == 0:
            raise Problem("E301", "unit 0 is everybody on an RTU line, and nobody answers", at=("unit",))
        for word in ("ca_file", "cert_file", "key_file", "insecure"):
            if word in self.model_fields_set and not tls:
                raise Problem(
                    "E303", f"'{word}' is for tls://", fix=f"url: tls://… or leave '{word}' out", at=(word,)
                )
        if (self.cert_file is None) != (self.key_file is None):
            lacks, has = ("key_file", "cert_file") if self.key_file is None else ("cert_file", "key_file")
            raise Problem("E302", f"'{has}' needs '{lacks}' beside it", at=(has,))
        return self

    @property
    def place(self) -> Host | Port:
        return parse(self.url)

    @property
    def tls(self) -> Tls | None:
        if not self.url.startswith("tls:"):
            return None
        return Tls(self.ca_file, self.cert_file, self.key_file, self.insecure)

    @property
    def endpoint(self) -> str:
        return str(self.place)

    @property
    def protocol(self) -> str:
        return "modbus_tcp" if self.url.startswith(("tcp:", "tls:")) else "modbus_rtu"

    def value_type(self, tag: str) -> str:
        return self.tags[tag].kind

    def warnings(self) -> Sequence[Warned]:
        found = []
        for name, tag in self.tags.items():
            table, number = tag.address
            meant = None if tag.reference is not None else manual_number(table, number)
            if meant is not None:
                found.append(
                    Warned(
                        "W304",
                        ("tags", name, table.word),
                        f"{table.word}: {number} looks like a number from a manual, which counts from 1",
                        f"write 'reference: {number}' (wire address {meant.number}), "
                        f"or leave it if {number} is the wire address",
                    )
                )
        return found
