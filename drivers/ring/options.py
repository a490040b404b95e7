"""What can be written in YAML about a ring buffer, whatever the protocol; drivers add where it is.

Checks that need the device's tags are in `faults`, and `plan_of` is what the reader works with.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field

from config.errors import Problem, did_you_mean, listed
from config.kinds import Name, Options, Scalar, time_zone
from config.model import Warned
from config.units import Duration, between
from drivers.base import Value
from drivers.ring.plan import MOST, Change, Numbering, Plan, Points
from drivers.ring.stamps import Form

_BITS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
SURE = 1_000
"""Microseconds between two entries that are told apart: nothing between two looks at a ring is missed."""
OF_A_TAG = ("ring", "type", "unit", "target", "lo", "hi")
"""What a tag of the ring may have."""
_WHOLE = ("uint16", "uint32", "uint64")


class Added(Options):
    """The tag goes up."""

    add: Annotated[int, Field(ge=1, le=1_000_000)] | str
    """By how much, or the field of the entry that says so."""


class Taken(Options):
    """The tag becomes what the entry says."""

    field: str
    """A name under `fields`."""


class RingTime(Options):
    """When an entry was written."""

    form: Form
    """`epoch_s`, `epoch_ms`: seconds or milliseconds since 1970; `bcd`: DATE_AND_TIME in BCD; `datetime`: of OPC UA;
    `uptime_ms`: milliseconds since the PLC started, which needs `clock`."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """What the PLC's clock shows, if that is not UTC."""


class RingSlots(Options):
    """The slots of the ring."""

    count: Annotated[int, Field(ge=2, le=MOST)]
    """How many there are."""
    first: Annotated[int, Field(ge=0, le=1)] = 0
    """Number of the first one: 0 for ARRAY[0..63], 1 for ARRAY[1..64]."""


class RingOptions(Options):
    """A ring buffer in which the PLC notes what happens between two scans. Where it is, is the driver's."""

    points_to: Points = "next"
    """What `head` holds: the slot that is written next, the slot that was written last, or the total of entries
    written so far."""
    scan: Annotated[Duration, between("1ms", "1d")] | None = None
    """How often it is looked at; default: that of the device."""
    write_tail: bool = False
    """Allows this agent to write `tail`, and nothing else: behind every entry that it has stored."""
    erases: bool = False
    """The PLC empties slots behind the tail. Then it is not always noticed that it began anew."""
    codes: Annotated[Mapping[int, Mapping[Name, Scalar | Added | Taken]], Field(min_length=1)]
    """What an entry means, by its code: `1: {run: true}` sets a tag, `{parts: {add: 1}}` counts, `{fault: {field:
    cause}}` takes a field of the entry. `{}` for a code that means nothing here."""


class _Tag(Protocol):
    @property
    def ring(self) -> bool: ...


def faults(
    ring: Any | None, tags: Mapping[str, _Tag], kind: "Mapping[str, str]", bits: str | None
) -> Iterator[Problem]:
    """What does not go together. `kind`: type of each tag; `bits`: type of the head."""
    own = [name for name, tag in tags.items() if tag.ring]
    if ring is None:
        for name in own:
            yield Problem("E302", "the device has no ring", fix="ring: {head: …}", at=("tags", name, "ring"))
        return
    yield from _of_layout(ring, bits)
    told = {tag for changes in ring.codes.values() for tag in changes}
    for name in own:
        if name not in told:
            why = "no code under 'codes' tells of it"
            yield Problem("E302", f"the tag {name} never gets a value", why=why, at=("tags", name, "ring"))
    for code, changes in ring.codes.items():
        at = ("ring", "codes", code)
        if code == 0:
            yield Problem("E301", "code 0 is that of an empty slot", fix="number the codes from 1 on", at=at)
        for name, change in changes.items():
            if name not in tags or not tags[name].ring:
                what = f"'{name}' is no tag of the ring"
                fix = did_you_mean(name, own) or f"tags: {{{name}: {{ring: true, type: bool}}}}"
                yield Problem("E401", what, fix=fix, at=(*at, name))
                continue
            yield from _of_change(ring, change, name, kind[name], (*at, name))


def warnings(ring: Any | None) -> Iterator[Warned]:
    """What is allowed and probably not meant."""
    if ring is not None and ring.tail is not None and not ring.write_tail:
        yield Warned(
            "W306",
            ("ring", "tail"),
            "this agent does not move the tail, so the PLC's ring fills up",
            "write 'write_tail: true' beside it, or let the PLC write over what is old and leave 'tail' out",
        )


def _of_layout(ring: Any, bits: str | None) -> Iterator[Problem]:
    if ring.time is not None and ring.time.form == "uptime_ms" and ring.clock is None:
        what = "times since the PLC started mean nothing without its clock"
        yield Problem("E302", what, fix="clock: where the PLC's milliseconds are now", at=("ring", "time"))
    if ring.clock is not None and ring.time is None:
        yield Problem("E302", "'clock' needs 'time': it is read in the same form", at=("ring", "clock"))
    for word in ("write_tail", "erases"):
        if getattr(ring, word) and ring.tail is None:
            yield Problem("E302", f"'{word}' needs 'tail'", at=("ring", word))
    if ring.points_to == "total" and ring.slots.first:
        yield Problem("E303", "a total has no first slot", at=("ring", "slots", "first"))
    if ring.points_to == "total" and bits in _BITS and (1 << _BITS[bits]) % ring.slots.count:
        what = f"a total of type {bits} rolls over in the middle of {ring.slots.count} slots"
        yield Problem("E301", what, fix="a power of two as the number of slots", at=("ring", "slots", "count"))
    if ring.points_to != "total" and ring.time is None and ring.tail is None and ring.sequence is None:
        why = "slot numbers alone look the same after one round"
        fix = "a time or a sequence in every entry, or points_to: total"
        yield Problem("E302", "lost entries could not be noticed", why=why, fix=fix, at=("ring",))


def _of_change(ring: Any, change: Any, tag: str, kind: str, at: tuple[Any, ...]) -> Iterator[Problem]:
    field = change.field if isinstance(change, Taken) else change.add if isinstance(change, Added) else None
    if isinstance(field, str) and field not in ring.fields:
        known = f"known: {listed(ring.fields)}" if ring.fields else "there are none"
        yield Problem("E401", f"no field '{field}'", why=known, fix=did_you_mean(field, ring.fields), at=at)
    elif isinstance(field, str) and _sort(told := kind_of(ring.fields[field])) != _sort(kind):
        yield Problem("E410", f"'{tag}' is {kind}, and the field '{field}' {told}", at=at)
    if isinstance(change, Added) and kind not in _WHOLE:
        yield Problem("E410", f"'{tag}' is {kind} and cannot be counted", fix=f"type: {_WHOLE[1]}", at=at)
    if not isinstance(change, Added | Taken) and not _fits(change, kind):
        yield Problem("E307", f"{change!r} is no {kind}", at=at)


def kind_of(field: Any) -> str:
    """Type word of a place or field of either driver."""
    return str(getattr(field, "kind", field.type))


def _sort(kind: str) -> str:
    return kind if kind in ("bool", "string") else "number"


def _fits(value: Value, kind: str) -> bool:
    if kind in ("bool", "string"):
        return isinstance(value, bool if kind == "bool" else str)
    return not isinstance(value, bool | str) and (kind.startswith("float") or isinstance(value, int))


def plan_of_device(ring: Any, tags: Mapping[str, _Tag], kind: Mapping[str, str]) -> Plan:
    """`plan_of` for a device of any driver."""
    return plan_of(ring, tags, kind, kind_of(ring.head))


def plan_of(ring: Any, tags: Mapping[str, _Tag], kind: Mapping[str, str], bits: str) -> Plan:
    """What the reader works with, of options without `faults`."""
    told = tuple(name for name, tag in tags.items() if tag.ring)
    changes = [pair for changes in ring.codes.values() for pair in changes.items()]
    counting = {tag for tag, change in changes if isinstance(change, Added)}
    modulo = 1 << _BITS[bits] if ring.points_to == "total" else ring.slots.count
    since_boot = ring.time is not None and ring.time.form == "uptime_ms"
    layout = repr(ring.model_copy(update={"codes": {}, "write_tail": False, "scan": None}))
    return Plan(
        Numbering(ring.slots.count, ring.slots.first, ring.points_to, modulo, ring.tail is not None),
        {code: tuple(_change(tag, one) for tag, one in changes.items()) for code, changes in ring.codes.items()},
        told,
        {tag: 1 << _BITS[kind[tag]] for tag in counting},
        ring.time is not None,
        1 << 32 if since_boot else 0,
        ring.write_tail,
        ring.erases,
        hashlib.blake2b(layout.encode(), digest_size=8).hexdigest(),
        0 if ring.sequence is None else 1 << _BITS[ring.sequence.type],
    )


def _change(tag: str, change: Any) -> Change:
    if isinstance(change, Taken):
        return Change(tag, False, field=change.field)
    if isinstance(change, Added):
        by = change.add
        return Change(tag, True, field=by) if isinstance(by, str) else Change(tag, True, by)
    return Change(tag, False, change)
