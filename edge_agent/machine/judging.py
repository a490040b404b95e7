"""What the tags say the machine does: one verdict from the state's form, its signals, the mode and the count.

Precedence (event model §3.3): of several states that are said at once the first in order wins. An input that is
missing or BAD and ranks above the winner makes the verdict None: nothing is decided, and the last state is held.
Without evidence nothing is running (I5): a counter that has not advanced since it was seen again proves nothing.
"""

import re
from collections.abc import Mapping
from typing import Final

from config.mapping import masked
from config.presets import Mode
from config.states import State
from drivers.base import Quality, Value
from edge_agent.clock import Instant
from edge_agent.machine.counters import Group
from edge_agent.machine.mapping import BLINK, Output, StateMapping, Table
from edge_agent.machine.operations import Uncertain
from edge_agent.machine.plan import Plan
from edge_agent.machine.state import Evidence, Verdict, View
from edge_agent.machine.times import at_mono

_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
_NEEDS_A_WAIT: Final = frozenset({State.STARVED, State.BLOCKED})
_FIXED: Final = frozenset({State.UNKNOWN, State.OFF})
"""No mode changes these."""
_OF_MODE: Final[Mapping[str, State]] = {Mode.SETUP: State.SETUP, Mode.MAINTENANCE: State.MAINTENANCE}
NO_OUTPUT: Final = "no_output"


def judge(plan: Plan, view: View, groups: Mapping[str, Group]) -> Verdict | None:
    """What the tags say; None if an input that decides is missing or BAD."""
    how = plan.mapping
    if how is None:
        return None
    verdict = _signalled(plan, how, view, _said(plan, how, view, groups))
    if verdict is None or how.mode is None:
        return verdict
    held = view.held.get(how.mode.key)
    if held is None or held.stale is not None:
        return verdict if verdict.state == State.OFF else None
    word = _meaning(how.mode, held.value)
    evidence = Evidence(plan.label(how.mode.key), held.value)
    verdict = verdict._replace(strange=None if word else evidence)
    return in_mode(how, verdict, word or Mode.UNKNOWN, "priority", evidence)


def in_mode(how: StateMapping, verdict: Verdict, mode: str, rule: str, raw: Evidence | None = None) -> Verdict:
    """The verdict in a mode: set-up and maintenance are states of their own where nothing that ranks higher is said.
    `raw`: what says the mode."""
    verdict = verdict._replace(mode=mode)
    wanted = _OF_MODE.get(mode)
    if wanted is None or verdict.state in _FIXED or how.ranks[wanted] >= how.ranks[State(verdict.state)]:
        return verdict
    return verdict._replace(state=wanted, rule=rule, raw=raw)


def _said(plan: Plan, how: StateMapping, view: View, groups: Mapping[str, Group]) -> Verdict | None:
    """The state's own form, without signals and mode."""
    if how.state is not None:
        return _mapped(plan, how.state, view)
    if how.lamps:
        return _lit(plan, how, view)
    if how.activity is not None:
        return _active(how.activity, view, groups.get(how.activity.group, Group()), plan)
    return _ruled(plan, how, view)


def _ruled(plan: Plan, how: StateMapping, view: View) -> Verdict | None:
    for state, when, reason in how.rules:
        try:
            if when is None or when.holds(view):
                quality, detail = _doubt(how, view)
                return Verdict(state, "expr", quality=quality, detail=detail, reason=reason)
        except Uncertain:
            return None
    return Verdict(how.default, "expr")


def _doubt(how: StateMapping, view: View) -> tuple[str, str]:
    """Quality and detail: uncertain if any input is."""
    held = view.held
    doubtful = [held[tag] for tag in how.keys if tag in held and held[tag].quality]
    return ("uncertain", doubtful[0].detail) if doubtful else ("good", "")


def _mapped(plan: Plan, table: Table, view: View) -> Verdict | None:
    held = view.held.get(table.key)
    if held is None or held.stale is not None:
        return None
    state = _meaning(table, held.value)
    number = _number(held.value, table.mask) if table.names else None
    raw = Evidence(plan.label(table.key), held.value, table.names.get(number) if isinstance(number, int) else None)
    return Verdict(
        table.default if state is None else state,
        "enum",
        raw,
        "good" if held.quality is Quality.GOOD else "uncertain",
        held.detail,
        unmapped=raw if state is None else None,
    )


def _number(value: Value, mask: int | None) -> int | float | str | None:
    """The value as tables know it: whole numbers as such, also where they come as text; only the masked bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return masked(int(value), mask)
    return value if mask is None else None


def _meaning(table: Table, value: Value) -> str | None:
    key = _number(value, table.mask)
    if key is None or isinstance(key, float):
        return None
    found = table.meaning.get(key)
    if found is None and isinstance(key, str) and _WHOLE.fullmatch(key):
        found = table.meaning.get(int(key))
    return found


def _signalled(plan: Plan, how: StateMapping, view: View, verdict: Verdict | None) -> Verdict | None:
    """The verdict, or that of a signal that ranks above it. Without a verdict only a signal decides that outranks
    whatever the state could be."""
    if not how.signals:
        return verdict
    waiting = how.waits is None or how.state is None or verdict is None or verdict.raw is None
    if not waiting and how.state is not None and verdict is not None and verdict.raw is not None:
        waiting = _number(verdict.raw.value, how.state.mask) in (how.waits or ())
    limit = _best(how) if verdict is None else how.ranks[State(verdict.state)]
    for state, when in how.signals:
        if how.ranks[state] >= limit:
            break
        if state in _NEEDS_A_WAIT and not waiting:
            continue
        try:
            if when.holds(view):
                quality, detail = _doubt(how, view)
                return Verdict(state, "expr", quality=quality, detail=detail)
        except Uncertain:
            return None
    return verdict


def _best(how: StateMapping) -> int:
    """The rank of the highest state that the form can say."""
    table = how.state.meaning.values() if how.state is not None else how.looks.values()
    said = [State(word) for word in table] or [State.RUNNING, State.STOPPED]
    return min(how.ranks[state] for state in (*said, how.default))


def _lit(plan: Plan, how: StateMapping, view: View) -> Verdict | None:
    """The lamps that are on or blink; of several the state that ranks first. A lamp begins to blink with the first
    change of those within `BLINK`, and to be steady with the last one."""
    best = Verdict(how.looks.get("dark", how.default), "priority")
    rank = len(how.ranks)
    since: dict[str, Instant] = {}
    for colour, key in how.lamps.items():
        held = view.held.get(key)
        if held is None or held.stale is not None:
            return None
        edges = view.edges(key, BLINK)
        if len(edges) >= 2:
            view.revisit_at(edges[-2] + BLINK)
            look, since[colour] = f"{colour}_blinking", at_mono(view.now, edges[0])
        else:
            look, since[colour] = colour if held.value else "", held.changed
        if look and (own := how.ranks[how.looks.get(look, how.default)]) < rank:
            best, rank = Verdict(how.looks.get(look, how.default), "priority", Evidence(plan.label(key), look)), own
    quality, detail = _doubt(how, view)
    concerned = [began for colour, began in since.items() if _outranks(how, colour, rank)]
    return best._replace(quality=quality, detail=detail, since=max(concerned, key=lambda at: at.mono))


def _outranks(how: StateMapping, colour: str, rank: int) -> bool:
    """Whether the lamp could say something of that rank or before it."""
    return any(how.ranks[how.looks.get(look, how.default)] <= rank for look in (colour, f"{colour}_blinking"))


def _active(output: Output, view: View, group: Group, plan: Plan) -> Verdict | None:
    """Running while the counter advances. The loss begins one cycle after the last piece: that one was expected."""
    if not _seen(plan, output, view) or group.watched is None:
        return None
    moved = group.moved
    live = moved is not None and moved.mono >= group.watched.mono
    last = moved if live and moved is not None else group.watched
    if not _is_silent(plan, output, view, last, group.factor):
        return Verdict(State.RUNNING, "activity") if live else None
    since = at_mono(view.now, last.mono + output.cycle(group.factor)) if live else last
    return Verdict(State.STOPPED, "activity", since=since)


def _seen(plan: Plan, output: Output, view: View) -> bool:
    """Whether the group's registers are read and good."""
    return all(
        (held := view.held.get(register.key)) is not None and held.stale is None
        for register in plan.counters[output.group].values()
    )


def _is_silent(plan: Plan, output: Output, view: View, last: Instant, factor: int) -> bool:
    """Whether nothing came for too long since `last`: silence is what was seen, not what was not looked at."""
    registers, now, silence = plan.counters[output.group].values(), view.now.mono, output.silence(factor)
    until = now
    for register in registers:
        seen = view.seen(register.key)
        if seen is not None and now - seen.mono > register.period:
            until = min(until, seen.mono)
    if until - last.mono >= silence:
        return True
    wait = max(register.period for register in registers)
    view.revisit_at(max(last.mono + silence, now + wait if until < now else 0))
    return False


def supervise(plan: Plan, view: View, verdict: Verdict, claimed: Instant, groups: Mapping[str, Group]) -> Verdict:
    """Running, as the tags say since `claimed`, held against the count: nothing made for too long is told, and with
    `enforce` the machine counts as stopped."""
    how = plan.mapping
    assert how is not None
    output = how.watchdog
    if output is None or not _seen(plan, output, view):
        return verdict
    group = groups.get(output.group, Group())
    moved = group.moved
    last = moved if moved is not None and moved.mono > claimed.mono else claimed
    if not _is_silent(plan, output, view, last, group.factor):
        return verdict
    since = at_mono(view.now, last.mono + output.cycle(group.factor))
    silent = verdict._replace(quality="uncertain", detail=NO_OUTPUT, since=since, silent=True)
    return silent._replace(state=State.STOPPED, rule="activity") if how.enforce else silent
