"""One step of a machine: the parts in their order, on a state that is read once and replaced once.

Order within a batch: timers that were due before it; then per time of its samples hints, counters, state; then the
sample sets; then timers that its back-dated samples made due. Timers run at their own time however late they are
called, so a process that was suspended says the same as one that was not.
"""

from collections.abc import Iterator, Mapping, Sequence

from drivers.base import Batch, Quality, Reading, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import DataGap, Raw, StateChanged
from edge_agent.machine import counters, downtime, gaps, measurements
from edge_agent.machine.contracts import Outcome
from edge_agent.machine.counters import Group
from edge_agent.machine.gaps import Gap
from edge_agent.machine.measurements import SetPlan
from edge_agent.machine.out import Out
from edge_agent.machine.plan import DevicePlan, Plan
from edge_agent.machine.record import MachineState
from edge_agent.machine.registers import Booked
from edge_agent.machine.samples import Device, Held, Moment, arrange, fresh_readings, hold
from edge_agent.machine.state import GROUPS, Candidate, Interval, Verdict, View, debounce, judge, remember
from edge_agent.machine.times import at_mono, later, seconds


class Step:
    """Mutable for the time of one call only."""

    def __init__(self, plan: Plan, sets: Sequence[SetPlan], epoch: str, state: MachineState, now: Instant) -> None:
        self.plan = plan
        self.sets = sets
        self.now = now
        self.was = state
        self.out = Out(now, epoch, state.seq_p, state.seq_m, state.warned)
        self.devices = state.devices
        self.held = state.held
        self.past = state.past
        self.gaps = state.gaps
        self.tracked = state.tracked
        self.groups = state.groups
        self.downtime = state.downtime
        self.set_states = state.sets

    def finish(self) -> Outcome:
        out, was = self.out, self.was
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
            self.set_states,
            was.orphans,
            out.warned,
        )
        store = out.store or self.gaps is not was.gaps
        return Outcome(state, out.events, out.warnings, store)

    # --- timers

    def deadlines(self) -> Iterator[tuple[int, str, str]]:
        """Every timer: (monotonic µs, kind, of what)."""
        plan = self.plan
        for name, device in self.devices.items():
            if device.seen is not None and name not in self.gaps:
                yield device.seen.mono + plan.devices[name].timeout, "device", name
        for name, gap in self.gaps.items():
            if gap.settle is not None and gap.back is None:
                if gap.read:
                    yield gap.settle.mono, "settle", name
            elif gap.back is not None:
                yield gap.back.mono + gaps.PATIENCE, "patience", name
        for key, held in self.held.items():
            if held.stale is not None and not self._covered(key):
                yield held.stale.mono + plan.timeout(key), "tag", key
        tracked = self.tracked
        if tracked.doubt is not None:
            yield tracked.doubt.mono + max(plan.timeout(key) for key in plan.state_keys), "doubt", ""
        if tracked.revisit is not None:
            yield tracked.revisit, "revisit", ""
        if tracked.candidate is not None:
            yield tracked.candidate.since.mono + debounce(plan, tracked.candidate.verdict.state), "debounce", ""
        for name, group in self.groups.items():
            if group.since is not None and group.cause != "gap_recovery":
                yield group.since.mono + plan.options.flush, "flush", name
        episode = self.downtime
        if episode is not None:
            if episode.pausing is not None:
                yield episode.pausing.since.mono + plan.downtime.merge_gap, "pause", ""
            promotion = downtime.promote_at(plan, episode)
            if promotion is not None and not self._running_next():
                yield promotion, "promote", ""
        for index, state in enumerate(self.set_states):
            if state.next is not None:
                yield state.next, "interval", str(index)

    def advance(self) -> None:
        """Run what is due by now, oldest first, each at its own time."""
        while True:
            due = min(self.deadlines(), default=None, key=lambda timer: timer[0])
            if due is None or due[0] > self.now.mono:
                return
            self._fire(due[1], due[2], at_mono(self.now, due[0]))

    def _fire(self, kind: str, key: str, at: Instant) -> None:
        if kind == "device":
            seen = self.devices[key].seen
            assert seen is not None
            self.open_gap(key, seen, "comms_loss")
        elif kind == "tag":
            stale = self.held[key].stale
            assert stale is not None
            self._open(key, Gap(stale, "bad_quality", (key,)))
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
        elif kind == "flush":
            self._set_group(key, counters.flush(self.groups[key], key, self.plan, self.out))
        elif kind == "pause":
            self._end_pause()
        elif kind == "promote":
            assert self.downtime is not None
            self.downtime = downtime.promote(self.plan, self.downtime, at, self.out)
        else:
            self._interval(int(key), at)

    def _running_next(self) -> bool:
        candidate = self.tracked.candidate
        return candidate is not None and candidate.verdict.state == "running"

    # --- a batch

    def batch(self, batch: Batch) -> None:
        self.advance()
        plan = self.plan.devices[batch.device]
        device = self.devices.get(batch.device) or Device()
        if batch.restarted and device.seen is not None:
            self._restarted(batch.device, device.seen)
        gap = self.gaps.get(batch.device)
        before = device.last
        fresh = fresh_readings(batch.readings, before, plan.used)
        moments: Sequence[Moment] = ()
        kept: Sequence[Reading] = ()
        if fresh:
            arranged = arrange(device, fresh, plan.essential, self.now, first=gap is not None or device.seen is None)
            device, moments, kept = arranged.device, arranged.moments, arranged.fresh
            if arranged.skew is not None:
                self._skewed(batch.device, arranged.skew)
        seen = device.seen
        self.devices = {**self.devices, batch.device: device._replace(seen=self.now)}
        if batch.overflow and seen is not None:
            self._overflowed(plan, batch.overflow, seen)
        if gap is not None:
            self._in_gap(batch.device, gap, plan, moments, kept)
        else:
            for moment in moments:
                self._moment(plan, moment, seen)
            self._confirm(plan, moments, seen)
            self._alive(plan)
        if kept and self.sets:
            self._changed(batch.device, kept, before, agent_time=device.skewed)
        if self.sets:
            self._wake()
        self.advance()

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
        held = dict(self.held)
        touched = False
        parts = self._parts()
        for reading in moment.readings:
            key = plan.essential[reading[0]]
            old = held.get(key)
            if (
                old is not None
                and old.stale is None
                and old.value == reading[1]
                and old.quality == reading[2]
                and not self.plan.rules
            ):
                continue
            if key in self.gaps:
                self._tag_gap(key, reading, moment)
                held = dict(self.held)
                touched = True
                continue
            new = hold(old, reading, moment.at, moment.basis, seen)
            if new is None or new is old:
                continue
            held[key] = new
            touched = True
            if key in self.plan.windows:
                span = self.plan.windows[key]
                self.past = remember(self.past, key, span, moment.at.mono, new.value)
            if new.stale is None:
                self._hint(key, old, new)
            if key in self.plan.roles and reading[2] is Quality.GOOD:
                for group, member in self.plan.roles[key]:
                    counted.setdefault(group, {})[member] = new.value
                    since[group] = old.stale or seen if old is not None else None
        if not touched:
            return
        self.held = held
        for group, values in counted.items():
            self._count(group, values, moment.at, moment.basis, since[group])
        self._reason(moment.at)
        self._evaluate(moment.at, moment.basis, "tag", parts)

    def _hint(self, key: str, old: Held | None, new: Held) -> None:
        """A hint tag announces a reset: a bit that rises, a number that falls, a text that changes."""
        groups = self.plan.hint_roles.get(key)
        if groups is None or old is None:
            return
        if isinstance(new.value, bool) or isinstance(old.value, bool):
            hinted = bool(new.value) and not old.value
        elif isinstance(new.value, str) or isinstance(old.value, str):
            hinted = new.value != old.value
        else:
            hinted = new.value < old.value
        if hinted:
            for group in groups:
                self._announce(group, new.at)

    def _announce(self, name: str, at: Instant) -> None:
        group = self.groups.get(name, Group())
        registers = {
            member: register if register.raw is None else register._replace(hint=at)
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
        since: Instant | None,
        *,
        gap: bool = False,
    ) -> list[Booked]:
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
        )
        self._set_group(name, group)
        episode = self.downtime
        if episode is not None and episode.pausing is not None and group.parts > episode.pausing.parts:
            self._end_pause()
        return booked

    def _rejected(self, name: str, start: Instant, end: Instant) -> None:
        self.out.warn(
            "counter_jump",
            f"{self.plan.name}: counter {name} jumped by more than max_rate allows; the jump is not counted. "
            "Is max_rate right, or the register's type and word order?",
            self.plan.subject,
            name,
        )
        self._gap_event(start, end, "counter_jump", ("count",), "none", None)

    def _confirm(self, plan: DevicePlan, moments: Sequence[Moment], seen: Instant | None) -> None:
        """A sign of life reads a suspect register again: an unchanged value is not always in the batch."""
        for name, group in self.groups.items():
            for member, register in group.registers.items():
                suspect, found = register.suspect, self.plan.counters[name].get(member)
                if suspect is None or found is None or found.key not in plan.counters:
                    continue
                held = self.held.get(found.key)
                due = suspect.at.mono + found.period
                if held is None or held.stale is not None or self.now.mono < due or suspect.at == self.now:
                    continue
                self._count(name, {member: held.value}, self.now, "agent", seen)
                return self._confirm(plan, moments, seen)
        return None

    def _alive(self, plan: DevicePlan) -> None:
        """The tags say the same as before, up to now; rules that depend on time are asked again."""
        tracked = self.tracked
        if not plan.state or tracked.current is None or tracked.doubt is not None:
            return
        if tracked.revisit is not None:
            self._evaluate(self.now, "agent", "tag", self._parts())
            tracked = self.tracked
        if tracked.doubt is None:
            seen = [self.devices[name].seen for name, one in self.plan.devices.items() if one.state]
            known = [at for at in seen if at is not None]
            self.tracked = tracked._replace(certain=min(known, key=lambda at: at.mono))

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

    # --- state

    def _evaluate(self, at: Instant, basis: str, trigger: str, parts_before: int) -> None:
        if not self.plan.state_keys and not self.plan.rules:
            return
        view = View(self.held, self.devices, self.past, at)
        verdict = judge(self.plan, view, self.held)
        tracked = self.tracked
        if view.next != tracked.revisit:
            tracked = tracked._replace(revisit=view.next)
        if verdict is None:
            if tracked.current is not None and not tracked.current.blind and tracked.doubt is None:
                tracked = tracked._replace(doubt=tracked.certain or at)
            self.tracked = tracked
            return
        if verdict.unmapped is not None:
            self._unmapped(verdict)
        tracked = tracked._replace(certain=at, doubt=None)
        current = tracked.current
        if current is not None and verdict.state == current.state and not current.blind:
            self.tracked = tracked._replace(candidate=None) if tracked.candidate is not None else tracked
            return
        candidate = tracked.candidate
        if candidate is not None and candidate.verdict.state == verdict.state:
            self.tracked = tracked
            return
        self._flush(at)
        parts = parts_before if verdict.state == "running" else self._parts()
        candidate = Candidate(verdict, at, basis, trigger, parts, self._reason_code())
        self.tracked = tracked._replace(candidate=candidate)
        self.out.store = True
        if current is None or current.blind or debounce(self.plan, verdict.state) == 0:
            self._commit(candidate, at)

    def _unmapped(self, verdict: Verdict) -> None:
        raw = verdict.raw
        assert raw is not None
        self.out.warn(
            "unmapped_value",
            f"{self.plan.name}: {raw.tag} is {raw.value!r}, which `map` does not name; the state is "
            f"{verdict.state}. Add the value to `map`.",
            self.plan.subject,
            repr(raw.value),
        )

    def _commit(self, candidate: Candidate, at: Instant) -> None:
        """The candidate becomes the state, from its first sample on."""
        verdict, previous = candidate.verdict, self.tracked.current
        if previous is not None and previous.state == verdict.state:
            self.tracked = self.tracked._replace(current=previous._replace(blind=False), candidate=None)
            return
        since = candidate.since if previous is None else later(candidate.since, previous.since)
        self.tracked = self.tracked._replace(current=Interval(verdict.state, since), candidate=None)
        self._emit_state(previous, since, candidate, at)
        self._episode(previous, since, candidate)

    def _emit_state(self, previous: Interval | None, since: Instant, candidate: Candidate, at: Instant) -> None:
        verdict = candidate.verdict
        debounced = seconds(since, at) if candidate.trigger != "validity" else 0
        self.out.production(
            since.wall,
            StateChanged(
                quality=verdict.quality,
                quality_detail=(verdict.detail,) if verdict.detail else None,
                time_basis=candidate.basis,
                time_unc_s=max((self.plan.uncertainty(key) for key in self.plan.state_keys), default=0),
                state=str(verdict.state),
                group=GROUPS[verdict.state],
                prev_state=None if previous is None else str(previous.state),
                prev_duration_s=None if previous is None else seconds(previous.since, since),
                raw=None if verdict.raw is None else Raw(tag=verdict.raw.tag, value=verdict.raw.value),
                rule=verdict.rule,
                trigger=candidate.trigger,
                debounced_s=debounced or None,
            ),
            self._story(verdict.state),
        )

    def _story(self, state: str) -> str | None:
        """The downtime that a change to the state belongs to, also one that it is about to open."""
        episode = self.downtime
        if episode is None:
            return f"dt-{self.out.production_id(1)}" if downtime.stops(state) else None
        if downtime.stops(state) and episode.blind is not None and self._parts() > episode.blind.parts:
            return f"dt-{self.out.production_id(2)}"
        return episode.id

    def blind(self, since: Instant, trigger: str) -> None:
        """Nothing valid is seen: unknown, from the last good sample on."""
        current = self.tracked.current
        self.tracked = self.tracked._replace(candidate=None, doubt=None, revisit=None)
        if current is None or current.blind:
            return
        self._flush()
        since = later(since, current.since)
        verdict = Verdict("unknown", "validity", quality="bad")
        candidate = Candidate(verdict, since, "agent", trigger, self._parts())
        self.tracked = self.tracked._replace(current=Interval("unknown", since, True))
        self.out.store = True
        if current.state == "unknown":
            return
        self._emit_state(current, since, candidate, since)
        self._episode(current, since, candidate)

    # --- downtime

    def _reason_code(self) -> Value | None:
        held = self.held.get(self.plan.reason_key) if self.plan.reason_key is not None else None
        return held.value if held is not None and held.stale is None and held.value else None

    def _reason(self, at: Instant) -> None:
        code = self._reason_code()
        if code is None:
            return
        candidate, episode = self.tracked.candidate, self.downtime
        if candidate is not None and candidate.reason is None and downtime.stops(candidate.verdict.state):
            self.tracked = self.tracked._replace(candidate=candidate._replace(reason=code))
        if episode is not None and episode.cause is None and episode.pausing is None:
            cause = downtime.cause_of(self.plan, code, None, at.wall)
            if cause is not None:
                self.downtime = downtime.explain(self.plan, episode, cause, at, self.out)

    def _episode(self, previous: Interval | None, since: Instant, candidate: Candidate) -> None:
        """What a change of state means for the open downtime, or whether it opens one."""
        state, episode, plan, out = candidate.verdict.state, self.downtime, self.plan, self.out
        parts = self._parts()
        if episode is not None and episode.pausing is not None:
            if state == "unknown":
                self._end_pause()
                return
            self.downtime = downtime.enter(episode._replace(pausing=None), state, since)
            return
        if state == "unknown":
            if episode is not None:
                unseen = downtime.Blind(since, parts)
                self.downtime = downtime.enter(episode._replace(blind=episode.blind or unseen), state, since)
            return
        if episode is not None and episode.blind is not None:
            blind = episode.blind
            if parts > blind.parts:
                downtime.end(plan, episode, blind.since, out, parts=blind.parts, uncertain=True, basis="agent")
                episode = None
            elif state == "running":
                downtime.end(plan, episode, since, out, parts=parts, uncertain=True, basis=candidate.basis)
                episode = None
            else:
                episode = episode._replace(blind=None)
            self.downtime = episode
            if episode is None and state == "running":
                return
        if state == "running":
            if episode is None:
                return
            if plan.downtime.merge_gap > 0:
                running = downtime.Blind(since, candidate.parts)
                self.downtime = downtime.enter(episode._replace(pausing=running), state, since)
                return
            downtime.end(plan, episode, since, out, parts=candidate.parts, uncertain=False, basis=candidate.basis)
            self.downtime = None
            return
        if episode is not None:
            self.downtime = downtime.enter(episode, state, since)
            return
        code = candidate.reason if candidate.reason is not None else self._reason_code()
        self.downtime = downtime.start(
            plan,
            state,
            since,
            out,
            cause=downtime.cause_of(plan, code, candidate.verdict.reason, since.wall),
            parts=candidate.parts,
            uncertain=previous is None or previous.state == "unknown",
            quality=candidate.verdict.quality,
            basis=candidate.basis,
        )

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

    # --- gaps

    def _covered(self, key: str) -> bool:
        return key in self.gaps or key.partition("/")[0] in self.gaps

    def _set_gap(self, key: str, gap: Gap) -> None:
        self.gaps = {**self.gaps, key: gap}

    def open_gap(self, device: str, since: Instant, cause: str, settle: Instant | None = None) -> None:
        """A device is not seen since then: its tags are stale, the state is unknown if it hung on them."""
        known = self.gaps.get(device)
        if known is not None:
            if settle is not None:
                self._set_gap(device, Gap(known.since, cause, known.tags, settle))
            return
        tags = tuple(key for key in self.plan.devices[device].essential.values() if key not in self.gaps)
        self._open(device, Gap(since, cause, tags, settle))

    def _open(self, key: str, gap: Gap) -> None:
        self._flush()
        held = dict(self.held)
        for tag in gap.tags:
            one = held.get(tag)
            if one is not None and one.stale is None:
                held[tag] = one._replace(stale=gap.since)
        self.held = held
        before = {name: group.totals for name, group in self.groups.items()}
        self._set_gap(key, gap._replace(before=before))
        trigger = gaps.TRIGGERS[gap.cause]
        view = View(self.held, self.devices, self.past, self.now)
        if any(tag in self.plan.state_keys for tag in gap.tags) and judge(self.plan, view, self.held) is None:
            since = gap.since
            if "/" in key and self.tracked.certain is not None:
                since = later(since, self.tracked.certain)
            self.blind(since, trigger)

    def _restarted(self, device: str, seen: Instant) -> None:
        settle = Instant(self.now.wall + self.plan.settle, self.now.mono + self.plan.settle)
        self.open_gap(device, seen, "plc_restart", settle)
        for name, registers in self.plan.counters.items():
            if any(register.key.partition("/")[0] == device for register in registers.values()):
                self._announce(name, settle)

    def _in_gap(
        self, device: str, gap: Gap, plan: DevicePlan, moments: Sequence[Moment], fresh: Sequence[Reading]
    ) -> None:
        held = dict(self.held)
        read = set()
        for moment in moments:
            for reading in moment.readings:
                key = plan.essential[reading[0]]
                if key in self.gaps:
                    self.held = held
                    self._tag_gap(key, reading, moment)
                    held = dict(self.held)
                    continue
                read.add(key)
                old = held.get(key)
                new = hold(old, reading, self.now, "agent", gap.since)
                if new is not None:
                    if new.stale is None:
                        self._hint(key, old, new)
                    held[key] = new._replace(stale=gap.since)
        self.held = held
        good = any(reading[2] is not Quality.BAD for reading in fresh)
        self._set_gap(device, gaps.seen(gap, self.now, read, good=good))
        self._try_close(device, self.now)

    def _tag_gap(self, key: str, reading: Reading, moment: Moment) -> None:
        """A reading of a tag that was BAD for longer than the comms time-out."""
        gap = self.gaps[key]
        new = hold(self.held.get(key), reading, moment.at, moment.basis, None)
        if new is None or reading[2] is Quality.BAD:
            return
        self.held = {**self.held, key: new._replace(stale=gap.since)}
        self._set_gap(key, gaps.seen(gap, self.now, (key,), good=True))
        if key.partition("/")[0] not in self.gaps:
            self._try_close(key, moment.at)

    def _try_close(self, key: str, at: Instant, *, force: bool = False) -> None:
        gap = self.gaps[key]
        if gap.settling(self.now) or not (force or gap.ready(self.held)) or gap.back is None:
            return
        gap = self._recover(gap, at, force=force)
        self._set_gap(key, gap)
        if not force and self._suspects(gap):
            return
        self.gaps = {name: other for name, other in self.gaps.items() if name != key}
        held = dict(self.held)
        for tag in gap.tags:
            one = held.get(tag)
            if one is not None:
                held[tag] = one._replace(stale=gap.back if one.quality is Quality.BAD else None)
        self.held = held
        self._close(key, gap)

    def _suspects(self, gap: Gap) -> bool:
        for tag in gap.tags:
            for name, member in self.plan.roles.get(tag, ()):
                group = self.groups.get(name)
                register = group.registers.get(member) if group is not None else None
                if register is not None and register.suspect is not None:
                    return True
        return False

    def _recover(self, gap: Gap, at: Instant, *, force: bool) -> Gap:
        """Read the registers over the gap; `force` believes a suspect reading now."""
        values: dict[str, dict[str, Value]] = {}
        for tag in gap.tags:
            one = self.held.get(tag)
            if one is not None and one.quality is Quality.GOOD:
                for name, member in self.plan.roles.get(tag, ()):
                    values.setdefault(name, {})[member] = one.value
        worst = gap.worst
        for name, members in values.items():
            for attempt in range(4 if force else 1):
                if attempt and not self._suspects(gap):
                    break
                booked = self._count(name, members, at, "agent", gap.since, gap=True)
                result = counters.recovered(self.groups[name], {}, booked)
                worst = gaps.worse(worst, result.quality)
        return gap._replace(worst=worst)

    def _close(self, key: str, gap: Gap) -> None:
        assert gap.back is not None
        device = self.plan.devices[key.partition("/")[0]]
        affects = device.affects if "/" not in key else self._affects(key)
        delta: dict[str, int] = {}
        touched = {name for tag in gap.tags for name, _ in self.plan.roles.get(tag, ())}
        for name in sorted(touched):
            group = self.groups.get(name, Group())
            for member, total in group.totals.items():
                made = total - gap.before.get(name, {}).get(member, 0)
                delta[member] = delta.get(member, 0) + made
        quality = gap.worst or "none"
        counted = "count" in affects
        self._gap_event(gap.since, gap.back, gap.cause, affects, quality if counted else None, delta or None)
        self._flush()
        self._evaluate(gap.back, "agent", gaps.TRIGGERS[gap.cause], self._parts())

    def _affects(self, key: str) -> tuple[str, ...]:
        words = []
        if key in self.plan.state_keys:
            words.append("state")
        if key in self.plan.roles:
            words.append("count")
        return tuple(words)

    def _gap_event(
        self,
        start: Instant,
        end: Instant,
        cause: str,
        affects: tuple[str, ...],
        recovered: str | None,
        delta: Mapping[str, int] | None,
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
            ),
        )

    def _overflowed(self, plan: DevicePlan, tags: frozenset[str], seen: Instant) -> None:
        """Values were lost in the device's queue: registers still tell the count, edges and states are gone."""
        words: set[str] = set()
        recovered = "exact"
        for tag in tags & plan.used:
            key = plan.essential.get(tag)
            words |= set(self._affects(key)) if key is not None else {"measurement"}
            held = self.held.get(key) if key is not None else None
            if key in self.plan.roles and held is not None and isinstance(held.value, bool):
                recovered = "none"
        affects = tuple(word for word in ("state", "count", "measurement") if word in words)
        self._gap_event(seen, self.now, "queue_overflow", affects, recovered if "count" in words else None, None)

    # --- sample sets

    def _changed(
        self, device: str, fresh: Sequence[Reading], before: Mapping[str, Reading], *, agent_time: bool
    ) -> None:
        states = self.set_states
        for index, plan in enumerate(self.sets):
            if plan.options.on != "change":
                continue
            old = states[index]
            new = measurements.changed(plan, old, fresh, before, device, self.now, self.out, agent_time=agent_time)
            if new is not old:
                states = (*states[:index], new, *states[index + 1 :])
        self.set_states = states

    def _wake(self) -> None:
        """Start the timers of interval sets when there is something to sample."""
        for index, plan in enumerate(self.sets):
            if plan.options.every is not None and self.set_states[index].next is None:
                self._interval(index, self.now)

    def _interval(self, index: int, at: Instant) -> None:
        states = self.set_states
        new = measurements.interval(self.sets[index], states[index], self.devices, self.gaps, at, self.out)
        if new is not states[index]:
            self.set_states = (*states[:index], new, *states[index + 1 :])
