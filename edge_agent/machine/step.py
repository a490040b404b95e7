"""One step of a machine: the parts in their order, on a state that is read once and replaced once.

Order within a batch: timers that were due before it; then per time of its samples hints, counters, reason, state;
then the sample sets; then timers that its back-dated samples made due. Timers run at their own time however late
they are called, so a process that was suspended says the same as one that was not.
"""

from collections.abc import Sequence

from drivers.base import Batch, Quality, Reading, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.commands import decide
from edge_agent.machine import counters, downtime
from edge_agent.machine.gaps import covering
from edge_agent.machine.parts import ConditionTold, Sample, Scanned
from edge_agent.machine.plan import DevicePlan
from edge_agent.machine.samples import Device, Held, Moment, arrange, fresh_readings, hold, when
from edge_agent.machine.sampling import Sampling
from edge_agent.machine.state import remember
from edge_agent.machine.timers import due
from edge_agent.machine.times import at_mono


class Step(Sampling):
    def advance(self, until: Instant | None = None) -> None:
        """Run what is due by now, or by `until` before it, oldest first, each at its own time."""
        limit = (until or self.now).mono
        while True:
            first = self._first()
            if first is None or first[0] > limit:
                self.wake = None if first is None else first[0]
                return
            self._fire(first[1], first[2], at_mono(self.now, first[0]))
            if self.team.parts:
                self.tell_all()
                if self.marks and self.set_plans:
                    self.sample()

    def _first(self) -> tuple[int, str, str] | None:
        first = due(self.plan, self)
        for part in self.team.timed:
            at = part.due(self.parts[part.name])
            if at is not None and (first is None or at < first[0]):
                first = at, "part", part.name
        return first

    def _part(self, name: str, at: Instant) -> None:
        part = next(part for part in self.team.timed if part.name == name)
        with self.hushed():
            new = part.fire(self.parts[name], at, self)
            self.parts = {**self.parts, name: new}

    def _fire(self, kind: str, key: str, at: Instant) -> None:
        if kind == "device":
            seen = self.devices[key].seen
            assert seen is not None
            self.open_gap(key, seen, "comms_loss")
        elif kind == "tag":
            self.open_tag_gap(key)
        elif kind == "settle":
            self._set_gap(key, self.gaps[key]._replace(back=at, settle=None))
            self._try_close(key, at)
        elif kind == "patience":
            self._try_close(key, at, force=True)
        elif kind == "doubt":
            assert self.tracked.doubt is not None
            self.blind(self.tracked.doubt, "quality")
        elif kind == "revisit":
            self.tracked = self.tracked._replace(revisit=None)
            self._evaluate(at, "derived", "timeout", self._parts())
        elif kind == "debounce":
            candidate = self.tracked.candidate
            assert candidate is not None
            self._commit(candidate, at)
        elif kind == "part":
            self._part(key, at)
        elif kind == "flush":
            self._set_group(key, counters.flush(self.groups[key], key, self.plan, self.out))
        elif kind == "pause":
            self._end_pause()
        elif kind == "command":
            decide.fire(self, at)
        elif kind == "promote":
            assert self.downtime is not None
            self.downtime = downtime.promote(self.plan, self.downtime, at, self.out)
        else:
            self.interval(int(key), at)

    def batch(self, batch: Batch) -> None:
        if self.wake is not None and self.wake <= self.now.mono:
            self.advance()
        plan = self.plan.devices[batch.device]
        device = self.devices.get(batch.device) or Device()
        if plan.conditions:
            self._conditions(plan, batch.readings)
        if batch.restarted and device.seen is not None:
            self._restarted(batch.device, device.seen)
        gap = self.gaps.get(batch.device)
        before = device.last
        fresh = fresh_readings(batch.readings, before if gap is None else {}, plan.used)
        moments: Sequence[Moment] = ()
        kept: Sequence[Reading] = ()
        if fresh:
            arranged = arrange(
                device,
                fresh,
                batch.readings,
                plan.essential,
                self.now,
                first=gap is not None or device.seen is None,
            )
            device, moments, kept = arranged.device, arranged.moments, arranged.fresh
            if arranged.skew is not None:
                self._skewed(batch.device, arranged.skew)
        seen = device.seen
        self.devices = {**self.devices, batch.device: _alive(device, kept, self.now)}
        if batch.overflow and seen is not None:
            self._overflowed(plan, batch.overflow, seen)
        if gap is not None:
            self._in_gap(batch.device, gap, plan, moments, kept)
        else:
            for moment in moments:
                self._moment(plan, moment, seen)
            self._confirm(plan, seen)
            for name in self.plan.checked:
                self._set_group(name, counters.check(self.groups[name], name, self.plan, self.out))
            if self.gaps:
                self._close_tag_gaps(batch.device)
            if plan.state and self.tracked.revisit is not None:
                self._evaluate(self.now, "agent", self.trigger, self._parts())
        if kept and self.set_plans:
            self.changed(batch.device, kept, before, agent_time=device.skewed)
        if self.team.parts:
            self.tell_all()
        if self.set_plans:
            if self.marks or any(plan.options.statistics for plan in self.set_plans):
                self.sample(batch.device, batch.readings, before, agent_time=device.skewed)
            self.wake_sets()
        self._set_alarm()

    def _conditions(self, plan: DevicePlan, readings: Sequence[Reading]) -> None:
        """What the device says of its own conditions is heard as it comes, in a gap and out of it."""
        for reading in readings:
            key = plan.conditions.get(reading[0])
            if key is not None and isinstance(reading[1], str):
                at, basis = when(reading, self.now, agent_time=False, first=False)
                self.tell(ConditionTold(key, reading[1], at, basis))

    def _set_alarm(self) -> None:
        """Run what back-dated samples made due. An earlier alarm is kept: waking for nothing every few seconds costs
        less than to set it again with every batch."""
        was, tracked = self.was, self.tracked
        alarm = was.wake if was.wake is not None and was.wake > self.now.mono else None
        same = (
            self.held is was.held
            and self.gaps is was.gaps
            and self.groups is was.groups
            and self.downtime is was.downtime
            and self.sets is was.sets
            and tracked is was.tracked
            and self.parts is was.parts
            and self.archive is was.archive
        )
        if alarm is None or not same:
            self.advance()
            if alarm is not None and (self.wake is None or self.wake > alarm):
                self.wake = alarm

    def _skewed(self, device: str, skew: int) -> None:
        way = "behind" if skew < 0 else "ahead"
        self.out.warn(
            "clock_skew",
            f"{device}: its clock is {abs(skew) / SECOND:.0f} s {way} of this agent's, so times are the agent's. "
            "Set the PLC's clock, or give it a time server.",
            self.plan.subject,
            device,
        )

    def _moment(self, plan: DevicePlan, moment: Moment, seen: Instant | None) -> None:
        """Samples of one time: hints first, then counters, then the reason, then the state."""
        counted: dict[str, dict[str, Value]] = {}
        since: dict[str, Instant | None] = {}
        held: dict[str, Held] | None = None
        factors: list[str] = []
        decides = excuses = False
        parts = self._parts()
        heard, told = self.team.by_key, []
        machine, before, essential = self.plan, self.held, plan.essential
        state_keys, windows, roles, excusing = (
            machine.state_keys,
            machine.windows,
            machine.roles,
            machine.planned_when,
        )
        for reading in moment.readings:
            key = essential[reading[0]]
            old = (before if held is None else held).get(key)
            if (
                old is not None
                and old.stale is None
                and old.value == reading[1]
                and old.quality == reading[2]
                and not machine.eager
            ):
                continue
            if held is None:
                held = dict(before)
            gap = covering(self.gaps, key) if self.gaps else None
            if gap is not None:
                self._read_in_tag_gap(gap, key, held, reading, moment)
                continue
            new = hold(old, reading, moment.at, moment.basis, seen)
            if new is None or new is old:
                continue
            held[key] = new
            if key in heard and (old is None or old.stale is not new.stale or old[:2] != new[:2]):
                told.append(key)
            decides = decides or key in state_keys
            excuses = excuses or (excusing is not None and key in excusing.tags)
            if key in windows:
                span = windows[key]
                self.past = remember(self.past, key, span, moment.at.mono, new.value)
            if new.stale is not None:
                continue
            self._hint(key, old, new)
            if key in machine.factors:
                factors.append(key)
            if key in roles and reading[2] is Quality.GOOD:
                known = old is not None and old.quality is not Quality.UNCERTAIN
                for group, member in roles[key]:
                    counted.setdefault(group, {})[member] = new.value
                    since[member] = (old.stale or seen) if known and old is not None else None
        if held is None:
            return
        self.held = held
        for key in factors:
            self._factor(key, moment.at, moment.basis)
        for group, values in counted.items():
            self._count(group, values, moment.at, moment.basis, since)
        if told or counted:
            self._tell_samples(told, moment)
        self._reason(moment.at)
        if decides or (counted and self._is_silent()):
            self._evaluate(moment.at, moment.basis, self.trigger, parts)
        if excuses:
            self.excuse(moment.at)

    def _is_silent(self) -> bool:
        """Whether the state is, or is about to be, that nothing is made."""
        current, candidate = self.tracked.current, self.tracked.candidate
        return (current is not None and current.silent) or (candidate is not None and candidate.verdict.silent)

    def _tell_samples(self, keys: Sequence[str], moment: Moment) -> None:
        for key in keys:
            held = self.held[key]
            value = held.value if held.stale is None else None
            self.tell(Sample(key, value, held.quality, moment.at, moment.basis))
        if Scanned in self.team.by_kind:
            self.tell(Scanned(moment.at, moment.basis))

    def _confirm(self, plan: DevicePlan, seen: Instant | None) -> None:
        """A sign of life reads a suspect register again: an unchanged value is not always in the batch."""
        for name, group in self.groups.items():
            for member, register in group.registers.items():
                suspect, found = register.suspect, self.plan.counters[name].get(member)
                if suspect is None or found is None or found.key not in plan.counters:
                    continue
                held = self.held.get(found.key)
                if held is None or held.stale is not None or (name, member) in self.counted:
                    continue
                if self.now.mono >= suspect.at.mono + found.period:
                    self._count(name, {member: held.value}, self.now, "agent", {member: seen})
                    self.tell(Scanned(self.now, "agent"))


def _alive(device: Device, readings: Sequence[Reading], now: Instant) -> Device:
    good = device.good or any(reading[2] is not Quality.BAD for reading in readings)
    return Device(now, device.last, device.newest, device.skewed, device.late, device.dropped, good)
