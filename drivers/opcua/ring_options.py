"""What can be written in YAML about the ring buffer of an OPC UA server: which nodes it consists of."""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import field_validator, model_validator

from config.errors import Problem
from config.kinds import Name, Options
from drivers.opcua.addresses import parse_node
from drivers.opcua.parts import Step, steps
from drivers.ring.options import RingOptions, RingSlots, RingTime

_Whole = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


SLOT = "{slot}"
"""Stands in a node for the number of the slot, where every slot has a node of its own."""


class OpcuaRingNode(Options):
    """A node of the ring."""

    node: str
    """`nsu=<namespace uri>;s=…`, as at a tag."""
    field: str | None = None
    """Which field of a structure."""

    @field_validator("node")
    @classmethod
    def _is_a_node(cls, text: str) -> str:
        try:
            parse_node(text.replace(SLOT, "0"))
        except ValueError as error:
            raise Problem("E301", str(error), fix="node: 'nsu=urn:acme:press;s=Head'") from None
        return text

    @model_validator(mode="after")
    def _leads_somewhere(self) -> "OpcuaRingNode":
        try:
            steps(None, self.field)
        except ValueError as error:
            raise Problem("E301", str(error), fix="field: Stamp", at=("field",)) from None
        return self

    @property
    def of_slot(self) -> bool:
        """Whether it is one node for every slot."""
        return SLOT in self.node

    def of(self, slot: int) -> str:
        """The node of a slot."""
        return self.node.replace(SLOT, str(slot))

    @property
    def way(self) -> tuple[Step, ...]:
        return steps(None, self.field)


class OpcuaRingIndex(OpcuaRingNode):
    """A node of the PLC that belongs to the ring: a whole number, or true and false."""

    type: Literal["bool", "int16", "uint16", "int32", "uint32"] = "uint32"
    """What the value must be. For `points_to: total` this is where it rolls over."""


class OpcuaRingField(OpcuaRingNode):
    """An array with a value for every slot, or with a structure that has it."""

    type: _Whole | Literal["bool", "float32", "float64", "string"] = "uint16"
    """What the value of an element must be."""
    scale: float | None = None
    """The raw value is multiplied by this."""
    offset: float | None = None
    """Added after `scale`."""


class OpcuaRingCode(OpcuaRingNode):
    """What happened, by its number."""

    type: _Whole = "uint16"
    """What the value of an element must be."""


class OpcuaRingSequence(OpcuaRingNode):
    """A number that the PLC writes last of an entry, one more with each."""

    type: Literal["uint16", "uint32"] = "uint16"
    """What the value of an element must be; this is where it rolls over."""


class OpcuaRingTime(OpcuaRingNode, RingTime):
    """When an entry was written."""


class OpcuaRing(RingOptions):
    """A ring buffer in which the PLC notes what happens between two scans."""

    head: OpcuaRingIndex
    """Where the PLC writes next, see `points_to`."""
    tail: OpcuaRingIndex | None = None
    """Up to where the PLC may write: the entry that is read next, numbered as `head`. Only for a PLC that waits for
    it; without one this agent remembers by itself how far it has read."""
    overflow: OpcuaRingIndex | None = None
    """A flag or a count that goes up when the PLC has no room for an entry."""
    clock: OpcuaRingNode | None = None
    """The PLC's clock as it is now: then times are right even if it is set wrongly."""
    slots: RingSlots
    code: OpcuaRingCode
    time: OpcuaRingTime | None = None
    """When it happened; without it, when it is read."""
    sequence: OpcuaRingSequence | None = None
    """Proves that an entry is whole and none is missing before it."""
    fields: Mapping[Name, OpcuaRingField] = {}
    """What else is in a slot, for `codes`."""

    def faults(self) -> Iterator[Problem]:
        """What does not fit together in the nodes."""
        for word in ("head", "tail", "overflow", "clock"):
            place: OpcuaRingNode | None = getattr(self, word)
            if place is not None and place.of_slot:
                yield Problem("E301", f"the {word} is in no slot", at=("ring", word, "node"))
        for word in ("head", "tail"):
            index: OpcuaRingIndex | None = getattr(self, word)
            if index is not None and index.type == "bool":
                yield Problem("E301", "an index is no bool", fix="type: uint32", at=("ring", word, "type"))
        if self.write_tail and self.tail is not None and self.tail.field is not None:
            yield Problem("E301", "only a node of its own can be written", at=("ring", "tail", "field"))
        if self.time is not None and self.time.form == "bcd":
            yield Problem("E303", "'bcd' is of Modbus", fix="form: datetime", at=("ring", "time", "form"))
