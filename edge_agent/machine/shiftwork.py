"""When a shift, a break or planned maintenance begins or ends: the calendar's boundaries told as facts.

Counts are flushed before a shift changes, so that each belongs to the shift in which it was made. A boundary is told
at its own time however late the machine is woken; between boundaries it looks at the wall clock now and then, because
that may be set.
"""

from typing import ClassVar, Final, NamedTuple

from edge_agent.clock import SECOND, Instant
from edge_agent.machine.calendar import DAY, Slice
from edge_agent.machine.parts import Boundary, Desk, Fact, Part, Rescheduled, Wiring
from edge_agent.machine.plan import digest

LOOK: Final = 60 * SECOND
"""Longest time without a look at the wall clock."""
_LONG: Final = 31 * DAY
"""Boundaries that were missed for longer are not told one by one."""


class Told(NamedTuple):
    """`until`: the next boundary (UTC µs), None if there will be none. `shift` and `planned`: what was told last.
    `wake`: the next look at the clock."""

    begun: bool = False
    until: int | None = None
    shift: str | None = None
    planned: str | None = None
    wake: Instant | None = None


class Shiftwork(Part[Told]):
    name: ClassVar[str] = "calendar"
    kind = Told
    timed: ClassVar[bool] = True
    heeds = frozenset({Rescheduled})

    def __init__(self, wiring: Wiring) -> None:
        written = wiring.config.calendar
        self.fingerprint = digest(f"{wiring.config.site.timezone} {written}")

    def initial(self, now: Instant) -> Told:
        return Told(wake=now)

    def take(self, state: Told, fact: Fact, out: Desk) -> Told:
        if not isinstance(fact, Rescheduled):
            return state
        state = self._begin(state, out.calendar.at(fact.at.wall), fact.at, out)
        return state._replace(wake=look(state.until, fact.at, out.now))

    def due(self, state: Told) -> int | None:
        return None if state.wake is None else state.wake.mono

    def fire(self, state: Told, at: Instant, out: Desk) -> Told:
        if not state.begun or (state.until is not None and at.wall - state.until > _LONG):
            state = self._begin(state, out.calendar.at(at.wall), at, out)
        while state.until is not None and state.until <= at.wall:
            moment = Instant(state.until, at.mono - (at.wall - state.until))
            state = self._begin(state, out.calendar.at(state.until), moment, out)
        return state._replace(wake=look(state.until, at, out.now))

    def _begin(self, state: Told, found: Slice, at: Instant, out: Desk) -> Told:
        shift = None if found.shift is None else found.shift.id
        if shift != state.shift or not state.begun:
            out.flush(at)
            out.tell(Boundary(at, "shift", shift))
        if found.planned != state.planned:
            ends = found.planned is None
            kind = (state.planned if ends else found.planned) or ""
            out.tell(Boundary(at, kind.removeprefix("planned_"), None if ends else kind, not ends))
        out.keep()
        return Told(True, out.calendar.next(at.wall), shift, found.planned)


def look(wall: int | None, at: Instant, now: Instant) -> Instant | None:
    """When to look at the clock for the wall time; None if it never comes."""
    if wall is None:
        return None
    mono = min(at.mono + max(1, wall - at.wall), max(at.mono + LOOK, now.mono))
    return Instant(at.wall + mono - at.mono, mono)


def build(wiring: Wiring) -> Part[Told]:
    """Every machine has one: the MOM may send a calendar at any time."""
    return Shiftwork(wiring)
