"""State and downtime within a step: judge the tags, hold the candidate, accept it, tell the downtime.

Before a boundary the counts are flushed, when its candidate appears: debounce finds the boundary only later, and a
published count cannot be cut (event model §7.1).
"""

from collections.abc import Sequence

from config.presets import Mode
from drivers.base import Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import Raw, StateChanged
from edge_agent.machine import downtime, firstout
from edge_agent.machine.judging import in_mode, judge, supervise
from edge_agent.machine.operations import Uncertain
from edge_agent.machine.parts import Cause
from edge_agent.machine.state import GROUPS, Candidate, Interval, Verdict, View, debounce
from edge_agent.machine.telling import Telling
from edge_agent.machine.times import later, seconds


class Deciding(Telling):
    def _evaluate(self, at: Instant, basis: str, trigger: str, parts_before: int) -> None:
        how = self.plan.mapping
        if how is None:
            return
        view = View(self.held, self.devices, self.past, at)
        verdict = judge(self.plan, view, self.groups)
        if self.mode is not None and how.mode is None and verdict is not None:
            verdict = in_mode(how, verdict, self.mode, "command")
        tracked = self.tracked
        if how.watchdog is not None and verdict is not None:
            claimed = (tracked.claimed or at) if verdict.state == "running" else None
            if claimed is not tracked.claimed:
                tracked = tracked._replace(claimed=claimed)
            if claimed is not None:
                verdict = supervise(self.plan, view, verdict, claimed, self.groups)
        if view.next != tracked.revisit:
            tracked = tracked._replace(revisit=view.next)
        if verdict is None:
            if tracked.current is not None and not tracked.current.blind and tracked.doubt is None:
                tracked = tracked._replace(doubt=self.last_seen() or at)
            self.tracked = tracked
            return
        if verdict.unmapped is not None or verdict.strange is not None:
            self._unmapped(verdict)
        if tracked.doubt is not None:
            tracked = tracked._replace(doubt=None)
        current = tracked.current
        if current is not None and not current.blind and verdict.same(current):
            self.tracked = tracked._replace(candidate=None) if tracked.candidate is not None else tracked
            if tracked.candidate is not None:
                self.expect(at)
            return
        candidate = tracked.candidate
        if candidate is not None and verdict.same(candidate.verdict):
            self.tracked = tracked
            return
        since = at
        if verdict.since is not None and verdict.since.mono < at.mono:
            known = current is None or not current.blind or verdict.rule == "activity"
            since, basis = (verdict.since, "derived") if known else (at, basis)
        self._flush(at)
        parts = parts_before if verdict.state == "running" else self._parts()
        candidate = Candidate(verdict, since, basis, trigger, parts, self._reason_code())
        self.tracked = tracked._replace(candidate=candidate)
        self.out.store = True
        if verdict.silent:
            self._no_output(verdict)
        if current is None or current.blind or since.mono + debounce(self.plan, verdict.state) <= at.mono:
            self._commit(candidate, at)

    def set_mode(self, mode: str | None, at: Instant) -> None:
        self._flush()
        self.mode = mode
        self.out.store = True
        self._evaluate(at, "agent", "command", self._parts())

    def remap(self, at: Instant) -> None:
        """The state is made in another way from now on."""
        if self.plan.mapping is None:
            self.blind(at, "config")
        else:
            self._evaluate(at, "agent", "config", self._parts())

    def last_seen(self) -> Instant | None:
        """The last time all devices that the state hangs on had been seen before this step."""
        devices = [self.was.devices.get(name) for name, plan in self.plan.devices.items() if plan.state]
        seen = [device.seen for device in devices if device is not None and device.seen is not None]
        return min(seen, key=lambda at: at.mono, default=None)

    def _unmapped(self, verdict: Verdict) -> None:
        for raw, made in ((verdict.unmapped, f"state is {verdict.state}"), (verdict.strange, "mode is unknown")):
            if raw is not None:
                self.out.warn(
                    "unmapped_value",
                    f"{self.plan.name}: {raw.tag} is {raw.value!r}, which `map` does not name; the {made}. Add the "
                    "value to `map`.",
                    self.plan.subject,
                    f"{raw.tag} {raw.value!r}",
                )

    def _no_output(self, verdict: Verdict) -> None:
        how = self.plan.mapping
        assert how is not None
        assert how.watchdog is not None
        silence = how.watchdog.silence(self.groups[how.watchdog.group].factor)
        now = "it counts as stopped" if how.enforce else "it counts as running all the same"
        self.out.warn(
            "no_output",
            f"{self.plan.name} says it is running but made nothing for {silence / SECOND:g} s; {now}. "
            "Does its counter count, and is ideal_cycle right?",
            self.plan.subject,
        )

    def _commit(self, candidate: Candidate, at: Instant) -> None:
        """The candidate becomes the state, from its first sample on."""
        verdict, previous = candidate.verdict, self.tracked.current
        if previous is not None and verdict.same(previous):
            self.tracked = self.tracked._replace(current=previous._replace(blind=False), candidate=None)
            return
        since = candidate.since if previous is None else later(candidate.since, previous.since)
        current = Interval(verdict.state, since, False, verdict.mode, verdict.silent)
        self.tracked = self.tracked._replace(current=current, candidate=None)
        self._emit_state(previous, since, candidate, at)
        if previous is None or previous.state != verdict.state:
            self._episode(previous, since, candidate)
        self.tell_state(None if previous is None else str(previous.state))

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
                mode=str(verdict.mode),
                planned=self._is_planned(verdict.state, since, candidate),
                prev_state=None if previous is None else str(previous.state),
                prev_duration_s=None if previous is None else seconds(previous.since, since),
                raw=None if verdict.raw is None else Raw(**verdict.raw._asdict()),
                rule=verdict.rule,
                trigger=candidate.trigger,
                debounced_s=debounced or None,
                cause_alarm=self._cause_alarm(verdict.state, since),
            ),
            self._story(verdict.state, since),
        )

    def _is_planned(self, state: str, since: Instant, candidate: Candidate) -> bool | None:
        """Whether a stop is planned from its start on, as its segment of the downtime says; None if undecided."""
        if not downtime.stops(state):
            return None
        if not self._expected(since) or self.plan.calendar.at(since.wall).planned is not None or self._planned():
            return True
        episode = self.downtime
        if episode is None or self._ends_blind(episode):
            cause, _ = self._why(candidate, since)
            mode = str(candidate.verdict.mode)
            category, _ = downtime.judged(self.plan, str(state), mode, since, self.out, cause, None)
            word = downtime.planned_by(category)
        else:
            word = episode.planned
        return None if word == "undecided" else word == "planned"

    def _ends_blind(self, episode: downtime.Downtime) -> bool:
        """Whether parts were made while the downtime was not seen: it ended then."""
        return episode.blind is not None and self._parts() > episode.blind.parts

    def _cause_alarm(self, state: str, since: Instant) -> str | None:
        if not downtime.stops(state):
            return None
        if self.downtime is not None and self.downtime.blind is None:
            return next(iter(self.downtime.alarms), None)
        return next((cause.alarm_id for cause in firstout.causes(self.causes, since)), None)

    def _story(self, state: str, since: Instant) -> str | None:
        """The downtime that a change to the state belongs to, also one that it is about to open."""
        episode = self.downtime
        if episode is None:
            return f"dt-{self.out.production_id(1)}" if downtime.stops(state) and self._expected(since) else None
        if downtime.stops(state) and self._ends_blind(episode):
            return f"dt-{self.out.production_id(2)}"
        return episode.id

    def blind(self, since: Instant, trigger: str) -> None:
        """Nothing valid is seen: unknown, from the last good sample on."""
        current = self.tracked.current
        self.tracked = self.tracked._replace(candidate=None, doubt=None, revisit=None, claimed=None)
        if current is None or current.blind:
            return
        self._flush()
        self.out.store = True
        if current.state == "unknown":
            self.tracked = self.tracked._replace(current=current._replace(blind=True))
            return
        since = later(since, current.since)
        mode = self.mode or (Mode.PRODUCTION if self.plan.options.mode is None else Mode.UNKNOWN)
        verdict = Verdict("unknown", "validity", quality="bad", mode=mode)
        candidate = Candidate(verdict, since, "agent", trigger, self._parts())
        self.tracked = self.tracked._replace(current=Interval("unknown", since, True, mode))
        self._emit_state(current, since, candidate, since)
        self._episode(current, since, candidate)
        self.tell_state(str(current.state))

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
        elif self._expected(since):
            uncertain = previous is None or previous.state == "unknown"
            self._begin_stop(state, since, candidate, uncertain=uncertain)

    def _begin_stop(self, state: str, since: Instant, candidate: Candidate, *, uncertain: bool) -> None:
        """A downtime begins."""
        cause, alarms = self._why(candidate, since)
        self.downtime = downtime.start(
            self.plan,
            state,
            str(candidate.verdict.mode),
            since,
            self.out,
            cause=cause,
            parts=candidate.parts,
            uncertain=uncertain,
            quality=candidate.verdict.quality,
            basis=candidate.basis,
            alarms=tuple(one.alarm_id for one in alarms),
            planned=self._planned(),
        )

    def _why(self, candidate: Candidate, since: Instant) -> tuple[downtime.Cause | None, Sequence[Cause]]:
        """The machine's reason for a stop, and the alarms that stopped it, first-out first."""
        alarms = firstout.causes(self.causes, since)
        if alarms:
            return downtime.alarm(self.plan, alarms[0], alarms[0].at.wall), alarms
        code = candidate.reason if candidate.reason is not None else self._reason_code()
        return downtime.cause_of(self.plan, code, candidate.verdict.reason, since.wall), alarms

    def _expected(self, at: Instant) -> bool:
        """Whether something should be made: a shift is on, an order is active, or there is no calendar."""
        return self.plan.calendar.at(at.wall).on or "order_run_id" in (self.out.context_at(at.wall) or {})

    def expect(self, at: Instant) -> None:
        """A machine that stands when production begins to be expected is down from then on."""
        current, candidate = self.tracked.current, self.tracked.candidate
        if self.downtime is not None or current is None or not downtime.stops(current.state):
            return
        if not self._expected(at) or (candidate is not None and not downtime.stops(candidate.verdict.state)):
            return
        since = later(current.since, at)
        shift = self.plan.calendar.shift(at.wall)
        if shift is not None and shift.start < since.wall:
            begin = Instant(shift.start, since.mono - (since.wall - shift.start))
            since = later(current.since, begin) if "order_run_id" not in (self.out.ctx or {}) else since
        self._begin_stop(
            current.state,
            since,
            Candidate(Verdict(current.state, "derived", mode=current.mode), since, "derived", "order", self._parts()),
            uncertain=False,
        )

    def _planned(self) -> bool | None:
        """What `planned_when` says now; None if there is none, or it cannot be told."""
        if self.plan.planned_when is None:
            return None
        try:
            return self.plan.planned_when.holds(View(self.held, self.devices, self.past, self.now))
        except Uncertain:
            return None

    def excuse(self, at: Instant) -> None:
        """A tag of `planned_when` changed."""
        if self.downtime is not None and self.downtime.pausing is None:
            self.downtime = downtime.condition(self.downtime, at, self._planned())
