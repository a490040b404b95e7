"""What all parts of a step share: the state taken apart, the counters, and what goes out.

A frame lives for one call; it starts from one immutable state and `finish` puts the next one together.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Self

from drivers.base import Quality, Value
from edge_agent.clock import Instant
from edge_agent.events.types import DataGap, Downtime
from edge_agent.machine import counters, downtime
from edge_agent.machine.archive import with_downtimes
from edge_agent.machine.context import plain
from edge_agent.machine.contracts import Outcome
from edge_agent.machine.counters import Group
from edge_agent.machine.measurements import Mark
from edge_agent.machine.out import Out
from edge_agent.machine.parts import (
    Counted,
    Fact,
    Team,
)
from edge_agent.machine.plan import Plan
from edge_agent.machine.record import MachineState
from edge_agent.machine.registers import Booked
from edge_agent.machine.sample_sets import SetPlan
from edge_agent.machine.saved import dump_archive

MOST_PER_COUNT: Final = 10_000


class Frame:
    def __init__(
        self,
        plan: Plan,
        set_plans: Sequence[SetPlan],
        epoch: str,
        state: MachineState,
        now: Instant,
        team: Team,
    ) -> None:
        self.plan = plan
        self.team = team
        self.set_plans = set_plans
        self.now = now
        self.was = state
        self.epoch = epoch
        self.out = Out(now, epoch, state.seq_p, state.seq_m, state.warned)
        self.devices = state.devices
        self.held = state.held
        self.past = state.past
        self.gaps = state.gaps
        self.tracked = state.tracked
        self.groups = state.groups
        self.downtime = state.downtime
        self.sets = state.sets
        self.wake = state.wake
        self.out.ctx = state.ctx
        self.out.earlier = state.earlier
        self.out.order_totals = state.order_totals
        self.parts = state.parts
        self.causes = state.causes
        self.counted: set[tuple[str, str]] = set()
        self.marks: list[Mark] = []
        self._facts: deque[Fact] = deque()
        self._telling = False
        self._published = 0
        self._shelved = 0
        self.archive = state.archive
        self.mode = state.mode
        self.trigger = "tag"
        """What makes samples decide the state in this step."""

    def finish(self) -> Outcome:
        out, was = self.out, self.was
        self.shelve()
        state = MachineState(
            self.now,
            out.seq_p,
            out.seq_m,
            self.devices,
            self.held,
            self.past,
            self.gaps,
            self.tracked,
            self.groups,
            self.downtime,
            self.sets,
            was.orphans,
            out.warned,
            self.wake,
            out.ctx,
            out.earlier,
            out.order_totals,
            self.archive,
            self.mode,
            self.parts,
            self.causes,
            was.stretch,
        )
        store = out.store or self.gaps is not was.gaps
        rows = {} if self.archive is was.archive else {"archive": dump_archive(self.archive, self.now)}
        return Outcome(state, out.events, out.warnings, store or bool(rows), rows)

    def fork(self) -> Self:
        """A step that begins where this one is now, for a trial."""
        return type(self)(self.plan, self.set_plans, self.epoch, self.finish().state, self.now, self.team)

    def shelve(self) -> None:
        """Put downtimes that ended, or were changed after their end, into the archive."""
        if len(self.out.events) == self._shelved:
            return
        events = self.out.events[self._shelved :]
        self._shelved += len(events)
        ended = [event.data for event in events if isinstance(event.data, Downtime) and event.data.status == "ended"]
        if ended:
            self.archive = with_downtimes(self.archive, ended, self.now.wall)

    def tell(self, fact: Fact) -> None:
        """Let the parts hear a fact, after the events published before it."""
        raise NotImplementedError

    def warn(self, code: str, text: str, kind: str = "") -> None:
        self.out.warn(code, text, self.plan.subject, kind)

    def _announce(self, name: str, at: Instant, *, certain: bool = True) -> None:
        group = self.groups.get(name, Group())
        registers = {
            member: register if register.raw is None else register._replace(hint=at, certain=certain)
            for member, register in group.registers.items()
        }
        self._set_group(name, group._replace(registers=registers))
        self.out.store = True

    def _count(
        self,
        name: str,
        values: Mapping[str, Value],
        at: Instant,
        basis: str,
        since: Mapping[str, Instant | None],
        *,
        gap: bool = False,
    ) -> list[Booked]:
        """Hand good readings (member → value) to a group. `since`: the good sample before, by member."""
        self.counted.update((name, member) for member in values)
        group, booked = counters.sample(
            self.groups.get(name, Group()),
            name,
            values,
            at,
            basis,
            plan=self.plan,
            since=since,
            gap=gap,
            out=self.out,
            rejected=lambda start, end: self._rejected(name, start, end),
            reason=self._defect(name),
        )
        before = self.groups.get(name, Group()).totals
        self._set_group(name, group)
        if Counted in self.team.by_kind:
            self._tell_counted(name, before, at, since)
        episode = self.downtime
        if episode is not None and episode.pausing is not None and group.parts > episode.pausing.parts:
            self._end_pause()
        return booked

    def _defect(self, name: str) -> str | None:
        """The defect code of the part that was scrapped last; None for 0, an empty text and what cannot be seen."""
        held = self.held.get(self.plan.defects.get(name, ""))
        return None if held is None or held.stale is not None else plain(held.value)

    def _factor(self, key: str, at: Instant, basis: str) -> None:
        """Parts per count as their tag says now; counts of before are published with what it was."""
        held = self.held.get(key)
        if held is None or held.stale is not None:
            return
        factor = held.value
        if isinstance(factor, str) or not 1 <= factor <= MOST_PER_COUNT or factor != int(factor):
            self.warn(
                "parts_per_count",
                f"{self.plan.name}: {self.plan.label(key)} is {factor!r}, which is no number of parts per count; "
                "the last one stays.",
                key,
            )
            return
        for name in self.plan.factors[key]:
            group = self.groups[name]
            if group.factor == factor:
                continue
            group = counters.flush(group, name, self.plan, self.out)
            self._set_group(name, group._replace(factor=int(factor)))
            self.out.store = True
            if group.factor == 0:
                found = {member: self.held.get(one.key) for member, one in self.plan.counters[name].items()}
                good = {
                    member: one.value
                    for member, one in found.items()
                    if one is not None and one.stale is None and one.quality is Quality.GOOD
                }
                self._count(name, good, at, basis, dict.fromkeys(good))

    def _tell_counted(
        self, name: str, before: Mapping[str, int], at: Instant, since: Mapping[str, Instant | None]
    ) -> None:
        group = self.groups[name]
        delta = {
            member: made
            for member in group.registers
            if (made := group.totals.get(member, 0) - before.get(member, 0))
        }
        if delta:
            known = [since[member] or at for member in delta if member in since]
            start = min(known, key=lambda one: one.mono, default=at)
            self.tell(Counted(name, delta, start, at, group.cause if group.since is not None else "correction"))

    def _rejected(self, name: str, start: Instant, end: Instant) -> None:
        self.out.warn(
            "counter_jump",
            f"{self.plan.name}: counter {name} jumped by more than max_rate allows; the jump is not counted. "
            "Is max_rate right, or the register's type and word order?",
            self.plan.subject,
            name,
        )
        self._gap_event(start, end, "counter_jump", ("count",), "none", None)

    def _parts(self) -> int:
        """Pieces made so far by the counter that stands for the machine: `main`, or the first."""
        group = self.groups.get("main") or next(iter(self.groups.values()), None)
        return group.parts if group is not None else 0

    def _set_group(self, name: str, group: Group) -> None:
        if self.groups.get(name) is not group:
            self.groups = {**self.groups, name: group}

    def _flush(self, to: Instant | None = None) -> None:
        for name, group in self.groups.items():
            if group.since is not None:
                self._set_group(name, counters.flush(group, name, self.plan, self.out, to=to))

    def _end_pause(self) -> None:
        """The machine runs for longer than `merge_gap`, or makes pieces: the episode ended when it began to run."""
        episode = self.downtime
        assert episode is not None
        assert episode.pausing is not None
        pause = episode.pausing
        downtime.end(
            self.plan, episode, pause.since, self.out, parts=pause.parts, uncertain=False, basis=episode.basis
        )
        self.downtime = None

    def _gap_event(
        self,
        start: Instant,
        end: Instant,
        cause: str,
        affects: tuple[str, ...],
        recovered: str | None,
        delta: Mapping[str, int] | None,
        *,
        history: bool = False,
    ) -> None:
        if not affects:
            return
        self.out.production(
            end.wall,
            DataGap(
                quality="bad",
                time_unc_s=max((self.plan.uncertainty(key) for key in self.plan.periods), default=0),
                from_at=start.wall,
                to_at=end.wall,
                cause=cause,
                affects=affects,
                count_recovered=recovered,
                recovered_delta=delta,
                history_recovered=history or None,
            ),
        )
