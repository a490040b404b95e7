"""The parts hear what happens, in its order, and work at the desk of the step meanwhile.

What a part tells waits until the fact being told has been heard by all.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from edge_agent.clock import Instant
from edge_agent.events.types import Data
from edge_agent.machine import counters, downtime, explaining, firstout
from edge_agent.machine.calendar import Calendar
from edge_agent.machine.frame import Frame
from edge_agent.machine.measurements import Mark
from edge_agent.machine.out import Counts, Ctx, Revision
from edge_agent.machine.parts import (
    Boundary,
    Cause,
    ContextBegan,
    CycleBegan,
    CycleEnded,
    Fact,
    OrderBegan,
    Published,
    Rescheduled,
    StateBegan,
)
from edge_agent.machine.plan import with_calendar
from edge_agent.machine.state import View

REVISIONS: Final = 8
"""Older contexts that are kept for events dated back over a change."""


class Telling(Frame):
    def tell(self, fact: Fact) -> None:
        """Let the parts hear a fact, after the events published before it."""
        if self.team.parts:
            if len(self.out.events) > self._published:
                self._note_published()
            self._facts.append(fact)
            self.tell_all()

    def tell_all(self) -> None:
        """Let the parts hear what waits: events published since, and what parts told each other."""
        if self._telling or not self.team.parts:
            return
        if not self._facts and len(self.out.events) == self._published:
            return
        self._telling = True
        self._note_published()
        while self._facts:
            fact = self._facts.popleft()
            if type(fact) is Cause:
                self._first_out(fact)
            elif self.set_plans:
                self._mark(fact)
            for part in self.team.hearing(fact):
                old = self.parts[part.name]
                new = part.take(old, fact, self)
                if new is not old:
                    self.parts = {**self.parts, part.name: new}
            if type(fact) is Boundary or type(fact) is OrderBegan:
                self.expect(fact.at)
            self._note_published()
        self._telling = False

    def _mark(self, fact: Fact) -> None:
        """Where sample sets are to be taken."""
        if isinstance(fact, CycleEnded):
            self.marks.append(Mark("cycle", fact.at, cycle_id=fact.cycle_id))
        elif isinstance(fact, CycleBegan):
            self.marks.append(Mark("cycle", fact.at, began=True))
        elif isinstance(fact, ContextBegan):
            before = fact.before or {}
            if (fact.ctx or {}).get("batch") != before.get("batch"):
                self.marks.append(Mark("batch", fact.at, began="batch" not in before, ctx=before))

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """While a part works outside of `take`, what it tells waits, or it would be told of it in its old state."""
        before, self._telling = self._telling, True
        try:
            yield
        finally:
            self._telling = before

    def _first_out(self, cause: Cause) -> None:
        """An alarm that may be why the machine stands, or why it is about to."""
        self.causes = firstout.remember(self.causes, cause, self.plan.patience)
        episode = self.downtime
        if episode is None or cause.snapshot or not firstout.within(cause, episode.started):
            return
        self.out.store = True
        first = not episode.alarms
        episode = self.downtime = episode._replace(alarms=(*episode.alarms, cause.alarm_id))
        if first:
            reason = downtime.alarm(self.plan, cause, cause.at.wall)
            self.downtime = downtime.explain(self.plan, episode, reason, self.now, self.out)

    def expect(self, at: Instant) -> None:
        """Production may be expected from now on; the state decides what that means."""
        raise NotImplementedError

    def _note_published(self) -> None:
        events, heard = self.out.events, self.team.by_kind
        while self._published < len(events):
            event = events[self._published]
            self._published += 1
            if type(event.data) in heard:
                self._facts.append(Published(event))

    def production(
        self,
        time: int,
        data: Data,
        correlation: str | None = None,
        causation: str | None = None,
        ctx: Ctx | None = None,
    ) -> None:
        self.out.production(time, data, correlation, causation, ctx)

    def measurement(self, time: int, data: Data) -> None:
        self.out.measurement(time, data)

    def production_id(self, ahead: int = 0) -> str:
        return self.out.production_id(ahead)

    def keep(self) -> None:
        self.out.store = True

    def view(self, at: Instant) -> View:
        return View(self.held, self.devices, self.past, at)

    def flush(self, to: Instant | None = None) -> None:
        self._flush(to)

    @property
    def calendar(self) -> Calendar:
        return self.plan.calendar

    def set_calendar(self, calendar: str | None) -> None:
        self._flush()
        self.archive = self.archive._replace(calendar=calendar)
        self.plan = with_calendar(self.plan, calendar)
        self.tell(Rescheduled(self.now))

    @property
    def ctx(self) -> Ctx | None:
        return self.out.ctx

    @property
    def coming(self) -> StateBegan | None:
        candidate, current = self.tracked.candidate, self.tracked.current
        if candidate is None or current is None:
            return None
        verdict = candidate.verdict
        return StateBegan(str(verdict.state), candidate.since, str(current.state), str(verdict.mode))

    @property
    def order_totals(self) -> Counts | None:
        return self.out.order_totals

    def set_order_totals(self, totals: Counts | None) -> None:
        self.out.order_totals = totals

    def flush_for_order(self) -> None:
        for name, group in self.groups.items():
            fresh = self.plan.options.counters[name].resets == "order" and "reset" in group.flags
            if group.since is not None and not fresh:
                self._set_group(name, counters.flush(group, name, self.plan, self.out))

    def correct(self, group: str, delta: Mapping[str, int], since: Instant) -> None:
        known = self.groups[group]
        self._set_group(group, counters.declare(known, group, delta, self.out, "correction", since))

    def set_mode(self, mode: str | None, at: Instant) -> None:
        """The mode as the MOM sets it, None for no more."""
        raise NotImplementedError

    def set_up_between(self, start: Instant, end: Instant) -> None:
        explaining.set_up_between(self, start, end)

    def set_context(self, at: Instant, ctx: Ctx | None) -> None:
        self.flush_for_order()
        before, self.out.ctx = self.out.ctx, ctx
        self.out.earlier = (Revision(at, before), *self.out.earlier)[:REVISIONS]
        self.out.store = True
        if self.downtime is not None:
            self.downtime = downtime.relabel(self.downtime, at, ctx)
        self.tell(ContextBegan(at, ctx, before))

    def tell_state(self, previous: str | None) -> None:
        """The parts hear of the state that is current now."""
        current = self.tracked.current
        if current is not None:
            self.tell(StateBegan(str(current.state), current.since, previous, str(current.mode), blind=current.blind))
