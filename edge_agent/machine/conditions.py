"""Conditions that a device keeps itself (OPC UA alarms and conditions) as occurrences of alarms.

A device tells every change of a condition as text (`drivers.opcua.conditions` says how), and after connecting all
that it holds, between `refresh` start and end. What is active then and was not known is a `snapshot`; what was known
and is not among them is over, nobody saw when. The acknowledgement is the device's: it is reported, never made here.
A branch, the device's memory of an earlier occurrence, tells nothing new. What is told just now by a device whose
clock is far off happened now.

A condition is known by its node, an occurrence by `source.name` of the condition and its number within the epoch.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from config.alarms import ConditionOptions
from edge_agent.clock import Instant
from edge_agent.events.types import AlarmAcked, AlarmCleared, AlarmRaised, NativeAlarm
from edge_agent.machine.parts import Cause, ConditionTold, Desk, Fact, Part, Rebuild, Resumed, Wiring
from edge_agent.machine.plan import digest
from edge_agent.machine.times import SKEW, at_wall

MOST: Final = 5000
"""Conditions that are kept in mind; a device with more is told of by a warning."""


class Occurrence(NamedTuple):
    """The last occurrence of a condition. `key`: the tag that told it."""

    key: str
    code: str
    number: int
    active: bool
    acked: bool
    raised: Instant
    severity: int
    text: str | None = None
    event: str | None = None
    snapshot: bool = False
    unsure: bool = False


class ConditionState(NamedTuple):
    """`known`: condition → its occurrence; `numbers`: code → occurrences so far; `seen`: tag → the conditions told
    since its refresh began, of tags whose refresh has not ended. `wrong`: tags of a device whose clock was wrong when
    it began."""

    known: Mapping[str, Occurrence] = {}
    numbers: Mapping[str, int] = {}
    seen: Mapping[str, frozenset[str]] = {}
    wrong: frozenset[str] = frozenset()


class Conditions(Part[ConditionState]):
    name = "conditions"
    kind = ConditionState
    heeds = frozenset({ConditionTold, Resumed})

    def __init__(self, wiring: Wiring) -> None:
        self._asset = wiring.machine
        self._options: Mapping[str, ConditionOptions] = {
            wiring.key(options.source): options for options in wiring.options.conditions
        }
        self.conditions = frozenset(self._options)
        self.fingerprint = digest("".join(one.model_dump_json() for one in wiring.options.conditions))

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> ConditionState:
        state: ConditionState = rebuild(ConditionState, saved)
        return state._replace(seen={})

    def take(self, state: ConditionState, fact: Fact, out: Desk) -> ConditionState:
        if isinstance(fact, ConditionTold) and fact.key in self._options:
            try:
                said = json.loads(fact.said)
            except ValueError:
                return state
            if not isinstance(said, dict):
                return state
            if "refresh" in said:
                return self._refresh(state, fact, out, begins=said["refresh"] == "start")
            if not isinstance(said.get("condition"), str):
                return state
            if fact.key in state.wrong if fact.key in state.seen else _is_off(fact, out):
                fact = fact._replace(at=out.now, basis="agent")
            return self._told(state, said, fact, out)
        if isinstance(fact, Resumed):
            gone = [condition for condition, one in state.known.items() if one.key not in self._options]
            return self._over(state, gone, fact.since, out)
        return state

    def describe(self, state: ConditionState) -> Mapping[str, Any]:
        return {
            "conditions": [
                {
                    "id": self._id(one),
                    "code": one.code,
                    "text": one.text,
                    "severity": one.severity,
                    "since": one.raised.wall,
                    "acked": one.acked,
                }
                for one in state.known.values()
                if one.active
            ]
        }

    def _refresh(self, state: ConditionState, fact: ConditionTold, out: Desk, *, begins: bool) -> ConditionState:
        if begins:
            out.keep()
            wrong = state.wrong | {fact.key} if _is_off(fact, out) else state.wrong - {fact.key}
            return state._replace(seen={**state.seen, fact.key: frozenset()}, wrong=wrong)
        seen = state.seen.get(fact.key)
        if seen is None:
            return state
        state = state._replace(seen={key: other for key, other in state.seen.items() if key != fact.key})
        gone = [name for name, one in state.known.items() if one.key == fact.key and name not in seen]
        out.keep()
        return self._over(state, gone, fact.at, out)

    def _over(self, state: ConditionState, conditions: list[str], at: Instant, out: Desk) -> ConditionState:
        """These are not there any more; nobody saw when they ended."""
        known = dict(state.known)
        for condition in conditions:
            one = known.pop(condition)
            if one.active:
                self._clear(condition, one, at, "agent", out, unseen=True)
        return state._replace(known=known) if conditions else state

    def _told(self, state: ConditionState, said: Mapping[str, Any], fact: ConditionTold, out: Desk) -> ConditionState:
        if said.get("branch") is not None:
            return state
        condition, options = said["condition"], self._options[fact.key]
        refreshing = fact.key in state.seen
        if refreshing:
            state = state._replace(seen={**state.seen, fact.key: state.seen[fact.key] | {condition}})
        old = state.known.get(condition)
        if said.get("severity", 500) < options.severity:
            return state if old is None else self._over(state, [condition], fact.at, out)
        active, acked = bool(said.get("active")), bool(said.get("acked"))
        if old is None and (not active or len(state.known) >= MOST):
            return state
        if active and (old is None or not old.active):
            return self._raise(state, condition, said, fact, out, refreshing=refreshing)
        assert old is not None
        new = old._replace(
            active=active,
            acked=acked,
            severity=said.get("severity", old.severity),
            text=said.get("text", old.text),
            event=said.get("event", old.event),
        )
        if old.active and not active:
            self._clear(condition, new, fact.at, fact.basis, out, unseen=refreshing)
        if acked and not old.acked:
            head = self._head(condition, new)
            out.production(
                fact.at.wall,
                AlarmAcked(**head, time_basis=fact.basis, acked_at=fact.at.wall, acked_by=said.get("by")),
            )
        known = {**state.known, condition: new}
        if not active and (acked or not said.get("retain", True)):
            del known[condition]
        return state._replace(known=known)

    def _raise(
        self,
        state: ConditionState,
        condition: str,
        said: Mapping[str, Any],
        fact: ConditionTold,
        out: Desk,
        *,
        refreshing: bool,
    ) -> ConditionState:
        options = self._options[fact.key]
        code = ".".join(part for part in (said.get("source"), said.get("name")) if part) or condition
        since = said.get("since")
        known = isinstance(since, int) and since <= fact.at.wall and fact.basis == "source"
        number = state.numbers.get(code, 0) + 1
        one = Occurrence(
            fact.key,
            code,
            number,
            True,
            bool(said.get("acked")),
            at_wall(fact.at, since) if known and isinstance(since, int) else fact.at,
            said.get("severity", 500),
            said.get("text"),
            said.get("event"),
            refreshing,
            refreshing and not known,
        )
        out.production(one.raised.wall, AlarmRaised(**self._head(condition, one), time_basis=fact.basis))
        if options.stops_from is not None and one.severity >= options.stops_from:
            category = None if options.category is None else options.category.value
            out.tell(Cause(self._id(one), code, one.text, one.raised, category, one.unsure))
        return state._replace(known={**state.known, condition: one}, numbers={**state.numbers, code: number})

    def _clear(self, condition: str, one: Occurrence, at: Instant, basis: str, out: Desk, *, unseen: bool) -> None:
        out.production(
            at.wall,
            AlarmCleared(
                **{**self._head(condition, one._replace(active=False)), "quality": "uncertain" if unseen else "good"},
                time_basis=basis,
                quality_detail=("gap_recovery",) if unseen else None,
                cleared_at=at.wall,
            ),
        )

    def _id(self, one: Occurrence) -> str:
        return f"al-{self._asset}-{one.code}-{one.number}"

    def _head(self, condition: str, one: Occurrence) -> dict[str, Any]:
        options = self._options.get(one.key)
        stops = options is not None and options.stops_from is not None and one.severity >= options.stops_from
        return {
            "quality": "good",
            "time_unc_s": 0,
            "alarm_id": self._id(one),
            "code": one.code,
            "text": one.text,
            "severity": one.severity,
            "origin": "opcua_ac",
            "active": one.active,
            "acked": one.acked,
            "raised_at": one.raised.wall,
            "stops_machine": stops or None,
            "snapshot": one.snapshot or None,
            "start_uncertain": one.unsure or None,
            "native": NativeAlarm(condition_id=condition, event_id=one.event),
        }


def _is_off(fact: ConditionTold, out: Desk) -> bool:
    """Whether the time of what happened just now shows that the device's clock is wrong."""
    return abs(fact.at.wall - out.now.wall) > SKEW


def build(wiring: Wiring) -> Conditions | None:
    return Conditions(wiring) if wiring.options.conditions else None
