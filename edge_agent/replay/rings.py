"""The ring buffers of a timeline's PLCs: what was noted and not read yet, read as the running agent reads it.

A line notes entries as the PLC writes them, `{code: 2, time: 9.2s, reason: 7}`, or the cause of a loss before them.
They wait while the connection or the agent is down. Entries that are there at the first look of all say what is so
and count nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from config.model import DeviceOptions
from drivers.base import Batch, Entries, Reading
from drivers.ring import state as states
from drivers.ring.access import Slot
from drivers.ring.options import plan_of_device
from drivers.ring.plan import Plan

Micros: TypeAlias = int

LOSSES = ("queue_overflow", "plc_restart")
"""Why entries may be lost."""


class Noted(NamedTuple):
    """An entry; `stamp` in µs from the start. Or a loss, with its cause."""

    slot: Slot = Slot("", 0)
    lost: str | None = None

    def at(self, begin: Micros) -> "Noted":
        """With its time in UTC µs; `begin` is that of the start."""
        stamp = self.slot.stamp
        return self if stamp is None else self._replace(slot=self.slot._replace(stamp=begin + stamp))


def plan_of(device: DeviceOptions) -> Plan | None:
    """Of the device's ring, if it has one."""
    ring: Any = getattr(device, "ring", None)
    if ring is None:
        return None
    return plan_of_device(ring, device.tags, {tag: device.value_type(tag) for tag in device.tags})


class Ring:
    """One ring, over one timeline."""

    def __init__(self, device: str, plan: Plan) -> None:
        self._device = device
        self._plan = plan
        self._waiting: list[Noted] = []
        self._state: states.State | None = None
        self._unknown: frozenset[int] = frozenset()
        self._why = states.NOTHING_YET

    @property
    def tags(self) -> Sequence[str]:
        return self._plan.tags

    def note(self, noted: Sequence[Noted]) -> None:
        """`slot.stamp` in UTC µs."""
        self._waiting += noted

    def readings(self) -> tuple[Reading, ...]:
        """The tags as they are now; nothing before the first look."""
        return () if self._state is None else states.current(self._state, self._plan.tags, self._why)

    def read(self, *, first: bool) -> list[Batch]:
        """What the agent reads now. `first`: of this connection, when there is a batch in any case."""
        if self._state is None:
            return [self._begin()]
        batches: list[Batch] = []
        slots: list[Slot] = []
        lost: str | None = None
        for one in self._waiting:
            if one.lost is None:
                slots.append(one.slot)
                continue
            if slots or lost is not None:
                batches.append(self._batch(slots, lost, more=True))
            slots, lost = [], one.lost
        self._waiting.clear()
        if slots or lost is not None or first:
            batches.append(self._batch(slots, lost))
        return batches

    def _begin(self) -> Batch:
        zero = states.State(
            self._plan.layout, 0, "", {tag: 0 if tag in self._plan.wraps else None for tag in self.tags}
        )
        old = [one.slot for one in self._waiting if one.lost is None]
        self._waiting.clear()
        self._state = states.told(zero, old, self._plan, counts=False)[0]
        so = [reading for reading in states.current(self._state, self.tags) if reading.value is not None]
        return Batch(self._device, so, entries=self._entries(None, frozenset()))

    def _batch(self, slots: Sequence[Slot], lost: str | None, *, more: bool = False) -> Batch:
        assert self._state is not None
        before = self._state if lost is None else states.forgotten(self._state, self._plan)
        self._why = states.LOST if lost is not None else states.NOTHING_YET
        self._state, readings, unknown = states.told(before, slots, self._plan)
        return Batch(self._device, readings, entries=self._entries(lost, unknown, more=more))

    def _entries(self, lost: str | None, unknown: frozenset[int], *, more: bool = False) -> Entries:
        notes = tuple(states.unmapped(self._device, code) for code in sorted(unknown - self._unknown))
        self._unknown |= unknown
        return Entries(
            "",
            frozenset(self._plan.tags),
            lost=lost,
            counting=frozenset(self._plan.wraps),
            notes=notes,
            more=more,
        )


def fields_of(device: DeviceOptions) -> Mapping[str, Any]:
    """What an entry of the device's ring has beside its code and its time."""
    ring: Any = getattr(device, "ring", None)
    fields: Mapping[str, Any] = ring.fields
    return fields
