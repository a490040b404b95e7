"""What can be written in YAML for a device with `driver: modbus`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from config.errors import Problem
from config.model import DeviceOptions, File, Name, TagOptions, Warned
from config.units import Duration
from drivers.modbus.addresses import manual_number
from drivers.modbus.endpoint import Host, Port, parse
from drivers.modbus.places import Order, Place, Type, fault
from drivers.modbus.ring_options import ModbusRing
from drivers.modbus.tls import Tls
from drivers.ring import options as ring_options


class ModbusTag(Place, TagOptions):
    """One value: exactly one address, and how its registers are read."""

    WHAT: ClassVar[str] = "a tag"
    ring: bool = False
    """In place of an address: the entries of the device's ring tell the value."""

    def check(self) -> None:
        if not self.ring:
            super().check()
            return
        if self.type is None:
            raise Problem("E302", "a tag of the ring needs 'type'", fix="type: bool", at=())
        for word in sorted(self.model_fields_set.difference(ring_options.OF_A_TAG)):
            raise Problem("E303", f"a tag of the ring has no '{word}'", at=(word,))

    @property
    def kind(self) -> Type:
        return self.type or "uint16" if self.ring else super().kind


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
    ring: ModbusRing | None = None
    """A ring buffer in which the PLC notes what happens between two scans."""
    tags: Mapping[Name, ModbusTag]

    @field_validator("url")
    @classmethod
    def _is_understood(cls, url: str) -> str:
        try:
            parse(url)
        except ValueError as error:
            raise fault("E301", str(error)) from None
        return url

    @model_validator(mode="after")
    def _fits_the_device(self) -> "ModbusDevice":
        if self.pause and self.in_flight > 1:
            raise fault("E301", "'pause' needs in_flight: 1")
        for name, tag in self.polled.items():
            if tag.registers > self.max_registers:
                raise fault("E301", f"tag {name} takes {tag.registers} registers, max_registers is less")
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

    @model_validator(mode="after")
    def _has_a_ring_that_works(self) -> "ModbusDevice":
        kinds = {name: tag.kind for name, tag in self.tags.items()}
        places = [] if self.ring is None else self.ring.faults(self.max_registers)
        bits = None if self.ring is None else self.ring.head.kind
        Problem.raise_all((*places, *ring_options.faults(self.ring, self.tags, kinds, bits)))
        return self

    @property
    def polled(self) -> Mapping[str, ModbusTag]:
        """The tags that have an address."""
        return {name: tag for name, tag in self.tags.items() if not tag.ring}

    def period(self, tag: str) -> int:
        return self.ring_period if self.tags[tag].ring else super().period(tag)

    @property
    def ring_period(self) -> int:
        """Microseconds between two looks at the ring."""
        return self.scan if self.ring is None or self.ring.scan is None else self.ring.scan

    def sampling_of(self, tag: str) -> int:
        return ring_options.SURE if self.tags[tag].ring else super().sampling_of(tag)

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
        found = list(ring_options.warnings(self.ring))
        for name, tag in self.polled.items():
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
