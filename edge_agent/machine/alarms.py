"""Alarms: bits and limits become occurrences that are raised, cleared and acknowledged, one record each.

An occurrence begins at the first sample beyond the limit, when that has lasted `delay`. A BAD value says nothing: it
neither raises nor clears. What is found active when a tag is seen for the first time, or again after a gap, is a
`snapshot` whose true start is not known. An alarm that changes more than `chatter.edges` times within its time stays
one occurrence until it has been quiet for so long; what was merged is its `suppressed_count`. Occurrences are
numbered per code, for ever within the epoch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from config.alarms import AlarmBit, AlarmOptions
from drivers.base import Quality, Value
from edge_agent.clock import Instant
from edge_agent.events.types import AlarmAcked, AlarmCleared, AlarmRaised
from edge_agent.machine.parts import Cause, Desk, Fact, GapOpened, Ordered, Part, Rebuild, Resumed, Sample, Wiring
from edge_agent.machine.plan import digest


class AlarmPlan(NamedTuple):
    """One alarm: `bit` of a word, or None. `uncertainty` of its times, seconds."""

    code: str
    key: str
    bit: int | None
    what: AlarmOptions | AlarmBit
    options: AlarmOptions
    uncertainty: float

    @property
    def origin(self) -> str:
        return "agent" if self.options.limited else "plc"


class Known(NamedTuple):
    """What is known of a code. `number`: occurrences so far. `level`: whether the condition holds, None before it
    was seen. `pending`: holds since then, but not yet for `delay`; `unsure`: it may have held before; `doubt`: it is
    BAD now. `raised` to `acked`: the last occurrence. `edges`: monotonic µs of the last changes. `quiet`: chatter
    came to rest then."""

    number: int = 0
    level: bool | None = None
    pending: Instant | None = None
    unsure: bool = False
    doubt: bool = False
    active: bool = False
    raised: Instant | None = None
    snapshot: bool = False
    severity: int = 500
    acked: bool = False
    basis: str = "agent"
    quality: str = "good"
    edges: tuple[int, ...] = ()
    suppressed: int = 0
    quiet: Instant | None = None


class AlarmState(NamedTuple):
    known: Mapping[str, Known] = {}


class Alarms(Part[AlarmState]):
    name = "alarms"
    feeds = "alarm"
    timed = True
    kind = AlarmState
    heeds = frozenset({GapOpened, Resumed, Ordered})

    def __init__(self, wiring: Wiring) -> None:
        self._asset = wiring.machine
        plans = _plans(wiring)
        self._plans = {plan.code: plan for plan in plans}
        self._by_key = {key: tuple(plan for plan in plans if plan.key == key) for key in {one.key for one in plans}}
        self.keys = frozenset(self._by_key)
        self.fingerprint = digest("".join(alarm.model_dump_json() for alarm in wiring.options.alarms))

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> AlarmState:
        state: AlarmState = rebuild(AlarmState, saved)
        if same:
            return state
        return AlarmState({code: one._replace(pending=None) for code, one in state.known.items()})

    def take(self, state: AlarmState, fact: Fact, out: Desk) -> AlarmState:
        if isinstance(fact, Sample):
            return self._sample(state, fact, out)
        if isinstance(fact, GapOpened):
            return self._unseen(state, fact, out)
        if isinstance(fact, Resumed):
            return self._resumed(state, fact, out)
        if isinstance(fact, Ordered) and fact.name == "alarm.ack":
            alarm_id, comment = str(fact.params.get("alarm_id")), fact.params.get("comment")
            return self.ack(state, alarm_id, fact.issued_by, fact.at, out, fact.id, comment=comment)[0]
        return state

    def due(self, state: AlarmState) -> int | None:
        first: int | None = None
        for code, known in state.known.items():
            plan = self._plans.get(code)
            if plan is None:
                continue
            for at in _times(plan, known):
                if first is None or at < first:
                    first = at
        return first

    def fire(self, state: AlarmState, at: Instant, out: Desk) -> AlarmState:
        changed = dict(state.known)
        for code, known in state.known.items():
            plan = self._plans.get(code)
            if plan is None or min(_times(plan, known), default=at.mono + 1) > at.mono:
                continue
            if known.quiet is not None and known.quiet.mono + plan.options.chatter.within <= at.mono:
                known = self._clear(code, known, known.quiet, known.basis, out)
            if known.pending is not None and not known.doubt and known.pending.mono + plan.options.delay <= at.mono:
                known = self._raise(plan, known, out)
            changed[code] = known
        return AlarmState(changed)

    def ack(
        self,
        state: AlarmState,
        alarm_id: str,
        by: str,
        at: Instant,
        out: Desk,
        command: str | None = None,
        *,
        comment: object = None,
    ) -> tuple[AlarmState, str]:
        """Acknowledge the last occurrence of its code, active or not. Gives `ok`, also a second time, or
        `not_found`."""
        for code, known in state.known.items():
            if known.number and self._id(code, known) == alarm_id:
                break
        else:
            return state, "not_found"
        if known.acked:
            return state, "ok"
        known = known._replace(acked=True)
        head = self._head(code, known)
        out.production(
            at.wall, AlarmAcked(**head, acked_at=at.wall, acked_by=by), causation=command  # type: ignore[arg-type]
        )  # fmt: skip
        return AlarmState({**state.known, code: known}), "ok"

    def describe(self, state: AlarmState) -> Mapping[str, Any]:
        active = [
            {
                "id": self._id(code, known),
                "code": code,
                "text": self._text(code),
                "severity": known.severity,
                "since": known.raised.wall,
                "acked": known.acked,
            }
            for code, known in state.known.items()
            if known.active and known.raised is not None
        ]
        return {"alarms": active}

    def _sample(self, state: AlarmState, fact: Sample, out: Desk) -> AlarmState:
        changed: dict[str, Known] = {}
        for plan in self._by_key[fact.key]:
            known = state.known.get(plan.code, Known())
            new = self._see(plan, known, fact, out)
            if new is not known:
                changed[plan.code] = new
        return AlarmState({**state.known, **changed}) if changed else state

    def _see(self, plan: AlarmPlan, known: Known, fact: Sample, out: Desk) -> Known:
        level = None if fact.value is None else _level(plan, fact.value, known.level)
        if level is None:
            return known._replace(doubt=True) if known.pending is not None and not known.doubt else known
        unseen = known.level is None or fact.again
        if level != known.level:
            known = known._replace(level=level)
        if not level:
            if known.pending is not None:
                known = known._replace(pending=None, doubt=False)
            return self._ends(plan, known, fact, out) if known.active and known.quiet is None else known
        if known.active and known.quiet is None:
            return known
        if known.pending is None:
            quality = "good" if fact.quality is Quality.GOOD else "uncertain"
            known = known._replace(pending=fact.at, unsure=unseen, basis=fact.basis, quality=quality)
        elif known.doubt:
            known = known._replace(doubt=False)
        assert known.pending is not None
        if known.pending.mono + plan.options.delay <= fact.at.mono:
            return self._raise(plan, known, out)
        return known

    def _raise(self, plan: AlarmPlan, known: Known, out: Desk) -> Known:
        """The condition has lasted: a new occurrence, or one more edge of a chattering one."""
        began = known.pending
        assert began is not None
        known = known._replace(pending=None, doubt=False, edges=_edges(plan, known, began))
        if known.quiet is not None:
            known = known._replace(quiet=None, suppressed=known.suppressed + 2)
            out.keep()
        else:
            known = known._replace(
                number=known.number + 1,
                active=True,
                raised=began,
                snapshot=known.unsure,
                severity=plan.what.severity,
                acked=False,
                suppressed=0,
            )
            head = self._head(plan.code, known)
            out.production(began.wall, AlarmRaised(**head, time_basis=known.basis))  # type: ignore[arg-type]
        if plan.what.stops_machine:
            category = None if plan.what.category is None else plan.what.category.value
            out.tell(Cause(self._id(plan.code, known), plan.code, plan.what.text, began, category, known.snapshot))
        return known

    def _ends(self, plan: AlarmPlan, known: Known, fact: Sample, out: Desk) -> Known:
        known = known._replace(edges=_edges(plan, known, fact.at), basis=fact.basis)
        if len(known.edges) > plan.options.chatter.edges and not fact.again:
            out.keep()
            return known._replace(quiet=fact.at)
        return self._clear(plan.code, known, fact.at, fact.basis, out, unseen=fact.again)

    def _clear(self, code: str, known: Known, at: Instant, basis: str, out: Desk, *, unseen: bool = False) -> Known:
        known = known._replace(active=False, quiet=None, quality="uncertain" if unseen else "good")
        out.production(
            at.wall,
            AlarmCleared(
                **self._head(code, known),  # type: ignore[arg-type]
                time_basis=basis,
                quality_detail=("gap_recovery",) if unseen else None,
                cleared_at=at.wall,
                suppressed_count=known.suppressed or None,
            ),
        )
        return known

    def _unseen(self, state: AlarmState, fact: GapOpened, out: Desk) -> AlarmState:
        """Nobody sees whether the condition goes on: what waits is not raised, what came to rest is cleared."""
        changed: dict[str, Known] = {}
        for key in self.keys.intersection(fact.keys):
            for plan in self._by_key[key]:
                known = state.known.get(plan.code)
                if known is None:
                    continue
                if known.pending is not None:
                    known = known._replace(pending=None, doubt=False)
                if known.quiet is not None:
                    known = self._clear(plan.code, known, known.quiet, known.basis, out)
                if known is not state.known[plan.code]:
                    changed[plan.code] = known
        return AlarmState({**state.known, **changed}) if changed else state

    def _resumed(self, state: AlarmState, fact: Resumed, out: Desk) -> AlarmState:
        """Alarms that are not configured any more end with the last time they can have been seen."""
        changed = {
            code: self._clear(code, known, known.quiet or fact.since, "agent", out, unseen=known.quiet is None)
            for code, known in state.known.items()
            if known.active and code not in self._plans
        }
        return AlarmState({**state.known, **changed}) if changed else state

    def _id(self, code: str, known: Known) -> str:
        return f"al-{self._asset}-{code}-{known.number}"

    def _text(self, code: str) -> str | None:
        plan = self._plans.get(code)
        return None if plan is None else plan.what.text

    def _head(self, code: str, known: Known) -> dict[str, object]:
        plan = self._plans.get(code)
        return {
            "quality": known.quality,
            "time_unc_s": 0 if plan is None else plan.uncertainty,
            "alarm_id": self._id(code, known),
            "code": code,
            "text": self._text(code),
            "severity": known.severity,
            "origin": "plc" if plan is None else plan.origin,
            "active": known.active,
            "acked": known.acked,
            "raised_at": None if known.raised is None else known.raised.wall,
            "stops_machine": (plan is not None and plan.what.stops_machine) or None,
            "snapshot": known.snapshot or None,
            "start_uncertain": known.snapshot or None,
        }


def build(wiring: Wiring) -> Alarms | None:
    return Alarms(wiring) if wiring.options.alarms else None


def _plans(wiring: Wiring) -> tuple[AlarmPlan, ...]:
    plans: list[AlarmPlan] = []
    for options in wiring.options.alarms:
        key = wiring.key(options.source)
        uncertainty = wiring.uncertainty(frozenset({key}))
        if options.word is None:
            plans.append(AlarmPlan(str(options.code), key, None, options, options, uncertainty))
        for bit, one in options.bits.items():
            plans.append(AlarmPlan(str(one.code), key, bit, one, options, uncertainty))
    return tuple(plans)


def _level(plan: AlarmPlan, value: Value, before: bool | None) -> bool | None:
    """Whether the condition holds; None if the value is none that can tell."""
    if isinstance(value, str):
        return None
    if plan.bit is not None:
        if isinstance(value, float) and not value.is_integer():
            return None
        return bool(int(value) >> plan.bit & 1) is not plan.what.inverted
    limits = plan.options
    if not limits.limited:
        return bool(value) is not plan.what.inverted if value in (0, 1) else None
    if isinstance(value, bool):
        return None
    back = limits.hysteresis if before else 0
    above = limits.high is not None and (value > limits.high if not before else value > limits.high - back)
    below = limits.low is not None and (value < limits.low if not before else value < limits.low + back)
    return above or below


def _times(plan: AlarmPlan, known: Known) -> list[int]:
    times = []
    if known.pending is not None and not known.doubt:
        times.append(known.pending.mono + plan.options.delay)
    if known.quiet is not None:
        times.append(known.quiet.mono + plan.options.chatter.within)
    return times


def _edges(plan: AlarmPlan, known: Known, at: Instant) -> tuple[int, ...]:
    """The changes within the chatter time, this one included; no more than are needed to judge."""
    start = at.mono - plan.options.chatter.within
    return (*(edge for edge in known.edges if edge > start), at.mono)[-plan.options.chatter.edges - 1 :]
