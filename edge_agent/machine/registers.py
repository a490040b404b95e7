"""One register of a PLC counter: what a new reading means. The nine cases of event model §4, in their order.

Pure: `read` gives the register's new state and, where pieces are to be booked, how many and why. The invariant is
that a piece is booked once: `raw` moves exactly when its difference has been given out or refused.
"""

import math
from typing import Final, NamedTuple

from config.model import Counter
from drivers.base import Value
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.plan import RegisterPlan

CONFIRMATIONS: Final = 2
"""Further readings that a forward jump must survive."""
HINT_LIFE: Final = 2 * SECOND
_FLOAT32_EXACT: Final = 1 << 24
_CERTAINTY: Final = 1.5
_IMPOSSIBLE: Final = 1 << 64
_PRECISION: Final = frozenset({"precision"})
_NO_FLAGS: Final[frozenset[str]] = frozenset()


class Suspect(NamedTuple):
    """A reading that is not believed yet: `jump`, `back` or `blank` (zeros straight after a reconnect)."""

    kind: str
    value: int
    seen: int
    at: Instant
    limit: int


class Register(NamedTuple):
    """`raw`: the reading up to which pieces are booked. `at`: its last good sample. `hint`: a reset was announced
    then. `former`: where it would stand had a refused jump not been; it may come back there. For a bool tag `raw` is
    the level, None when an edge was possible unseen. `certain`: the hint says that the register was reset, not only
    that it may have been, as the restart of a PLC does: a register that did not fall then was kept."""

    raw: int | None = None
    at: Instant | None = None
    suspect: Suspect | None = None
    hint: Instant | None = None
    former: int | None = None
    certain: bool = True


class Booked(NamedTuple):
    """Pieces as counted by the register (before `parts_per_count`). `case`: baseline, normal, rollover, reset, burst,
    correction, rejected, none. `exact`: nothing can have been missed."""

    register: Register
    delta: int = 0
    case: str = "none"
    flags: frozenset[str] = frozenset()
    exact: bool = True


def read(
    register: Register,
    value: Value,
    at: Instant,
    *,
    plan: RegisterPlan,
    options: Counter,
    since: Instant | None,
    gap: bool,
) -> Booked:
    """A good reading. `since`: the good sample before it (also one that brought no change); `gap`: whether there
    was a gap between the two."""
    if plan.bit:
        known = isinstance(value, int) and value in (0, 1)
        return _pulse(register, bool(value), at, options.toggle, gap=gap) if known else Booked(register)
    now = _integer(value, plan)
    if now is None:
        return Booked(register)
    rough = plan.float32 and now * plan.part >= _FLOAT32_EXACT
    flags = _PRECISION if rough else _NO_FLAGS
    if register.raw is None or register.at is None:
        return Booked(Register(now, at), 0, "baseline")
    before = max(register.at.mono, since.mono if since is not None else 0)
    passed = max(at.mono - before, 0 if gap else plan.period)
    limit = _plausible(options.max_rate, passed)
    if register.suspect is not None:
        confirmed = _confirm(register, now, at, options, gap=gap, flags=flags)
        if confirmed is not None:
            return confirmed
        register = register._replace(suspect=None)
    return _classify(register, now, at, limit, passed, plan, options, gap=gap, flags=flags)


def _classify(
    register: Register,
    now: int,
    at: Instant,
    limit: int,
    passed: int,
    plan: RegisterPlan,
    options: Counter,
    *,
    gap: bool,
    flags: frozenset[str],
) -> Booked:
    prev = register.raw
    assert prev is not None
    hinted = register.hint is not None and at.mono - register.hint.mono <= HINT_LIFE + passed
    if now == prev:
        hint = register.hint if hinted and not gap else None
        return Booked(Register(prev, at, None, hint, register.former, register.certain), 0, "none", flags)
    fresh = Register(now, at)
    former = register.former
    if hinted and (now < prev or (register.certain and now <= limit)):
        missed = {"lower_bound"} if options.max_rate * passed >= SECOND else set()
        return Booked(fresh, max(0, now - options.wrap_to), "reset", flags | {"reset"} | missed, not missed)
    if now > prev:
        if now - prev <= limit:
            if former is not None:
                fresh = fresh._replace(former=former + now - prev)
            return Booked(fresh, now - prev, "normal", flags)
        return Booked(register._replace(suspect=Suspect("jump", now, 0, at, limit)))
    if former is not None and 0 <= now - former <= limit:
        return Booked(fresh, now - former, "normal", flags)
    if plan.wrap is not None:
        delta = now + plan.wrap - prev - options.wrap_to
        if 0 <= delta <= limit and (not gap or options.resets == "never"):
            exact = not gap or options.max_rate * passed < plan.wrap * SECOND
            return Booked(fresh, delta, "rollover", flags | {"rollover"}, exact)
    if prev - now <= options.correction_max and now > limit:
        return Booked(register._replace(suspect=Suspect("back", now, 0, at, limit)))
    if gap and _blank(now, plan):
        return Booked(register._replace(suspect=Suspect("blank", now, 0, at, limit)))
    return _reset(now, at, flags, options)


def _confirm(
    register: Register, now: int, at: Instant, options: Counter, *, gap: bool, flags: frozenset[str]
) -> Booked | None:
    """A second look at a suspect reading; None if it has gone away and the reading is to be judged afresh."""
    suspect, prev = register.suspect, register.raw
    assert suspect is not None
    assert prev is not None
    if not 0 <= now - suspect.value <= _plausible(options.max_rate, at.mono - suspect.at.mono):
        return None
    if suspect.kind == "back" and now >= prev:
        return None
    seen = suspect.seen + 1
    if seen < (CONFIRMATIONS if suspect.kind == "jump" else 1):
        return Booked(register._replace(suspect=suspect._replace(value=now, seen=seen, at=at)))
    fresh = Register(now, at)
    if suspect.kind == "jump":
        if gap or options.jumps == "accept":
            return Booked(fresh, now - prev, "burst", flags | {"burst"})
        return Booked(fresh._replace(former=prev), 0, "rejected", flags, exact=False)
    if suspect.kind == "blank" or options.backward == "reset":
        return _reset(now, at, flags, options)
    if options.backward == "ignore":
        return Booked(register._replace(suspect=suspect._replace(value=now, seen=seen, at=at)))
    return Booked(fresh, now - prev, "correction", flags)


def _reset(now: int, at: Instant, flags: frozenset[str], options: Counter) -> Booked:
    delta = max(0, now - options.wrap_to)
    return Booked(Register(now, at), delta, "reset", flags | {"reset", "lower_bound"}, exact=False)


def _pulse(register: Register, level: bool, at: Instant, toggle: bool, *, gap: bool) -> Booked:
    """A bool tag counts rising edges after a known level, with `toggle` every change; what happened in a gap is
    gone."""
    fresh = Register(int(level), at)
    if register.raw is None:
        return Booked(fresh, 0, "baseline")
    if gap:
        return Booked(fresh, 0, "pulse_gap", exact=False)
    changed = level != register.raw
    return Booked(fresh, int(changed and (toggle or level)), "pulse" if changed else "none")


def _plausible(max_rate: float, passed: int) -> int:
    return math.ceil(max_rate * max(0, passed) / SECOND * _CERTAINTY) + 2


def _blank(value: int, plan: RegisterPlan) -> bool:
    return value == 0 or (plan.wrap is not None and value == plan.wrap - 1)


def _integer(value: Value, plan: RegisterPlan) -> int | None:
    """The reading as a count; None for what can be no count. What is beyond 2^64 is no count either."""
    if isinstance(value, bool | str) or not abs(value) < _IMPOSSIBLE:
        return None
    count = round(value if plan.part == 1 else value / plan.part)
    if count < 0:
        return count + plan.wrap if plan.mask and plan.wrap is not None and count >= -plan.wrap // 2 else None
    return count
