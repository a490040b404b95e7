"""What can be written in YAML about the ring buffer of a Modbus device: where it is, and how a slot is laid out."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from config.errors import Problem
from config.kinds import Name
from drivers.modbus.addresses import LAST
from drivers.modbus.places import INTEGERS, Form, Order, Place, Type, Where
from drivers.ring.options import RingOptions, RingSlots, RingTime

_INDICES = ("uint16", "int16", "uint32", "int32")
_TIMES: Mapping[str, Type] = {"epoch_s": "uint32", "epoch_ms": "uint64", "uptime_ms": "uint32", "bcd": "uint64"}
_At = Annotated[int, Field(ge=0, le=124)]


class ModbusRingIndex(Place):
    """A register of the PLC that belongs to the ring."""

    WHAT: ClassVar[str] = "a register of the ring"


class ModbusRingClock(Where):
    """Where the PLC's clock is, in the form and type of `time`."""

    WHAT: ClassVar[str] = "the clock"


class ModbusRingSlots(Where, RingSlots):
    """The slots of the ring, one after the other from this address on."""

    WHAT: ClassVar[str] = "the first slot"
    size: Annotated[int, Field(ge=1, le=125)]
    """Registers of one slot, from the beginning of one to that of the next."""


class ModbusRingField(Form):
    """A value in a slot."""

    at: _At
    """Its first register, counted from 0 at the beginning of the slot."""
    scale: float | None = None
    """The raw value is multiplied by this."""
    offset: float | None = None
    """Added after `scale`."""


class ModbusRingSequence(Form):
    """A number that the PLC writes last of an entry, one more with each."""

    type: Literal["uint16", "uint32"] = "uint16"
    """This is also where it rolls over."""
    at: _At
    """Its first register, counted from 0 at the beginning of the slot."""


class ModbusRingTime(RingTime):
    """When an entry was written."""

    at: _At
    """Its first register, counted from 0 at the beginning of the slot."""
    type: Literal["uint32", "int32", "uint64", "int64", "float64"] | None = None
    """Default: uint32 for `epoch_s` and `uptime_ms`, uint64 for `epoch_ms`; BCD always takes four registers."""
    word_order: Order | None = None
    """Which register comes first; default: that of the device."""
    byte_order: Order | None = None
    """Which byte of a register comes first; default: that of the device."""

    @property
    def value(self) -> Form:
        """How the registers of a time, and of the clock, are read."""
        kind = self.type or _TIMES[self.form]
        return Form.model_construct(type=kind, word_order=self.word_order, byte_order=self.byte_order)


class ModbusRing(RingOptions):
    """A ring buffer in which the PLC notes what happens between two scans."""

    head: ModbusRingIndex
    """Where the PLC writes next, see `points_to`."""
    tail: ModbusRingIndex | None = None
    """Up to where the PLC may write: the entry that is read next, numbered as `head`. Only for a PLC that waits for
    it; without one this agent remembers by itself how far it has read."""
    overflow: ModbusRingIndex | None = None
    """A flag or a count that goes up when the PLC has no room for an entry."""
    clock: ModbusRingClock | None = None
    """The PLC's clock as it is now: then times are right even if it is set wrongly."""
    slots: ModbusRingSlots
    code: ModbusRingField
    """What happened, by its number."""
    time: ModbusRingTime | None = None
    """When it happened; without it, when it is read."""
    sequence: ModbusRingSequence | None = None
    """Proves that an entry is whole and none is missing before it."""
    fields: Mapping[Name, ModbusRingField] = {}
    """What else is in a slot, for `codes`."""

    def faults(self, max_registers: int) -> Iterator[Problem]:
        """What does not fit together in the registers."""
        for word in ("head", "tail"):
            place: ModbusRingIndex | None = getattr(self, word)
            if place is not None and place.kind not in _INDICES:
                yield Problem("E301", f"an index is no {place.kind}", fix="type: uint16", at=("ring", word, "type"))
        if self.tail is not None and self.write_tail and self.tail.address.table.word != "holding":
            yield Problem("E301", "only holding registers can be written", at=("ring", "tail"))
        if self.code.kind not in INTEGERS:
            yield Problem("E301", f"a code is no {self.code.kind}", fix="type: uint16", at=("ring", "code", "type"))
        if self.time is not None and self.time.form == "datetime":
            yield Problem("E303", "'datetime' is of OPC UA", fix="form: epoch_ms", at=("ring", "time", "form"))
            return
        (table, start), size = self.slots.address, self.slots.size
        if table.bits:
            yield Problem("E301", "slots are registers", fix="holding: …", at=("ring", "slots"))
        if size > max_registers:
            yield Problem(
                "E301", f"a slot takes {size} registers, max_registers is less", at=("ring", "slots", "size")
            )
        if start + self.slots.count * size - 1 > LAST:
            yield Problem("E301", f"the slots end beyond the last address, {LAST}", at=("ring", "slots", "count"))
        for path, at, form in self._parts():
            for text in form.mistakes():
                yield Problem("E301", text, at=("ring", *path))
            if at + form.registers > size:
                what = f"it ends at register {at + form.registers - 1} of the slot, which has {size}"
                yield Problem("E301", what, at=("ring", *path, "at"))

    def _parts(self) -> Iterator[tuple[tuple[str, ...], int, Form]]:
        yield ("code",), self.code.at, self.code
        if self.time is not None:
            yield ("time",), self.time.at, self.time.value
        if self.sequence is not None:
            yield ("sequence",), self.sequence.at, self.sequence
        for name, field in self.fields.items():
            yield ("fields", name), field.at, field

    @property
    def parts(self) -> Mapping[str, tuple[int, Form]]:
        """What is in a slot: name → (first register, form). Fields of the user are called `fields/NAME`."""
        return {"/".join(path): (at, form) for path, at, form in self._parts()}
