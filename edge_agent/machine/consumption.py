"""Consumption: what meters of energy, material and media counted, per interval, with totals that only grow.

Amounts are whole multiples of `resolution`, so that deltas add up to the total exactly (I2). A meter only counts up.
One that shows less was set to 0 (the reset rule, event model §7.18), when its next reading says so too; a reading
that could not be reached since, or more than half of the one before, is a step of the meter and starts a new base. A
BAD or UNCERTAIN reading is none. What a meter counted during a gap is published for the gap alone. The order, batch
or shift that ends takes what was used until then with it.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from config.consumption import MeterOptions
from drivers.base import Quality, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import ConsumptionRecorded, MeterRegister
from edge_agent.machine.out import Ctx
from edge_agent.machine.parts import ContextBegan, Desk, Fact, GapOpened, Part, Rebuild, Sample, StateBegan, Wiring
from edge_agent.machine.plan import digest
from edge_agent.machine.times import later

_CERTAINTY: Final = 1.5
_FLOAT32_EXACT: Final = 1 << 24
_HISTORY: Final = 40
_OWNERS: Final = ("order_run_id", "order_id", "batch", "product", "shift")
"""Words of the context whose change ends an interval."""


class MeterPlan(NamedTuple):
    """One meter. `period`: µs between samples. `resolution`: exact."""

    name: str
    options: MeterOptions
    key: str
    unit: str
    period: int
    float32: bool
    resolution: Decimal


class Doing(NamedTuple):
    """The machine's state since then, and the meter's total at that time."""

    state: str
    since: Instant
    total: int


class Suspect(NamedTuple):
    """A reading that is not believed until the next one agrees."""

    raw: int
    at: Instant


class Meter(NamedTuple):
    """Amounts in steps of `resolution`. `total`: ours; `sent`: as last published. `raw`: the last reading booked, at
    `at`; `base`: the reading at `since`, the end of the last interval. `by_state`: used in states that are over;
    `split`: each of them lasted for two samples. `past`: recent totals, (monotonic µs, total). `next`: monotonic µs
    of the end of the interval. `gap`: not seen."""

    resolution: str
    total: int = 0
    sent: int = 0
    raw: int | None = None
    at: Instant | None = None
    base: int | None = None
    since: Instant | None = None
    suspect: Suspect | None = None
    flags: frozenset[str] = frozenset()
    doing: Doing | None = None
    by_state: Mapping[str, int] = {}
    split: bool = True
    past: tuple[tuple[int, int], ...] = ()
    next: int | None = None
    gap: bool = False


class Metered(NamedTuple):
    meters: Mapping[str, Meter] = {}
    state: str | None = None
    since: Instant | None = None


class Consumption(Part[Metered]):
    name = "consumption"
    feeds = "consumption"
    timed = True
    kind = Metered
    heeds = frozenset({GapOpened, StateBegan, ContextBegan})

    def __init__(self, wiring: Wiring) -> None:
        self._plans = {name: _plan(wiring, name, meter) for name, meter in wiring.options.consumption.items()}
        self.keys = frozenset(plan.key for plan in self._plans.values())
        self._has_state = wiring.options.state is not None
        described = [(plan.name, plan.key, str(plan.resolution)) for plan in self._plans.values()]
        self.fingerprint = digest(repr(described))

    def initial(self, now: Instant) -> Metered:
        return Metered({name: Meter(str(plan.resolution)) for name, plan in self._plans.items()})

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> Metered:
        """Totals go on whatever was changed; readings only of the same registers."""
        stored: Metered = rebuild(Metered, saved)
        if same:
            return stored
        meters = dict(stored.meters)
        for name, fresh in self.initial(now).meters.items():
            known = stored.meters.get(name, fresh)
            factor = Decimal(known.resolution) / Decimal(fresh.resolution)
            meters[name] = fresh._replace(total=round(known.total * factor), sent=round(known.sent * factor))
        return Metered(meters)

    def take(self, state: Metered, fact: Fact, out: Desk) -> Metered:
        changed = dict(state.meters)
        if isinstance(fact, StateBegan):
            for name, meter in state.meters.items():
                changed[name] = self._state_began(meter, name, state, fact)
            return Metered(changed, fact.state, fact.since)
        for name, plan in self._plans.items():
            meter = state.meters[name]
            if isinstance(fact, Sample) and fact.key == plan.key:
                changed[name] = self._sample(plan, meter, fact, state, out)
            elif isinstance(fact, GapOpened) and plan.key in fact.keys and not meter.gap:
                changed[name] = _emit(plan, meter, fact.since, out)._replace(gap=True, next=None, doing=None)
            elif isinstance(fact, ContextBegan) and not meter.gap and _another(fact):
                closed = _emit(plan, meter, fact.at, out, fact.before or {})
                changed[name] = _doing(closed, state, fact.at)
        return state._replace(meters=changed)

    def due(self, state: Metered) -> int | None:
        return min((meter.next for meter in state.meters.values() if meter.next is not None), default=None)

    def fire(self, state: Metered, at: Instant, out: Desk) -> Metered:
        changed = dict(state.meters)
        for name, plan in self._plans.items():
            meter = state.meters[name]
            if meter.next is None or meter.next > at.mono:
                continue
            if meter.suspect is not None and at.mono - meter.suspect.at.mono >= 2 * plan.period:
                meter = _confirmed(plan, meter, meter.suspect, out)
            meter = _doing(_emit(plan, meter, at, out), state, at)
            changed[name] = meter._replace(next=_end(plan, at))
        return state._replace(meters=changed)

    def describe(self, state: Metered) -> Mapping[str, Any]:
        return {
            "consumption": {
                name: {"total": _amount(plan, state.meters[name].total), "uom": plan.unit}
                for name, plan in self._plans.items()
            }
        }

    def _sample(self, plan: MeterPlan, meter: Meter, fact: Sample, state: Metered, out: Desk) -> Meter:
        raw = _steps(plan, fact.value) if fact.quality is Quality.GOOD else None
        if raw is None:
            return meter
        if plan.float32 and raw > _FLOAT32_EXACT:
            meter = meter._replace(flags=meter.flags | {"precision"})
        if meter.raw is None or meter.since is None:
            out.keep()
            started = meter._replace(
                raw=raw, at=fact.at, base=raw, since=fact.at, gap=False, next=_end(plan, fact.at)
            )
            return _doing(started, state, fact.at)
        was_gap = meter.gap
        meter = _read(plan, meter, raw, fact.at, out)
        if not was_gap:
            return meter
        meter = _emit(plan, meter._replace(gap=False, split=False), fact.at, out, detail=("gap_recovery",))
        return _doing(meter, state, fact.at)._replace(next=_end(plan, fact.at))

    def _state_began(self, meter: Meter, name: str, state: Metered, fact: StateBegan) -> Meter:
        """What was used until then belongs to the state before."""
        plan = self._plans.get(name)
        if plan is None or meter.gap or meter.since is None:
            return meter
        if meter.doing is None:
            whole = meter.split and fact.since.mono <= meter.since.mono
            return meter._replace(doing=Doing(fact.state, later(fact.since, meter.since), meter.total), split=whole)
        total = _total_at(meter, fact.since.mono)
        meter = _close_state(plan, meter, fact.since, total)
        return meter._replace(doing=Doing(fact.state, fact.since, total))


def build(wiring: Wiring) -> Consumption | None:
    return Consumption(wiring) if wiring.options.consumption else None


def _plan(wiring: Wiring, name: str, options: MeterOptions) -> MeterPlan:
    key = wiring.key(options.tag)
    return MeterPlan(
        name,
        options,
        key,
        wiring.unit(key) or "",
        wiring.period(key),
        wiring.value_type(key) == "float32",
        Decimal(str(options.resolution)),
    )


def _another(fact: ContextBegan) -> bool:
    now, before = fact.ctx or {}, fact.before or {}
    return any(now.get(word) != before.get(word) for word in _OWNERS)


def _steps(plan: MeterPlan, value: Value | None) -> int | None:
    """The reading in whole steps; None if it is none that a meter can show."""
    if value is None or isinstance(value, bool | str) or value < 0:
        return None
    return round(Decimal(repr(value)) / plan.resolution)


def _amount(plan: MeterPlan, steps: int) -> int | float:
    amount = steps * plan.resolution
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def _reachable(plan: MeterPlan, since: Instant | None, at: Instant) -> int | None:
    """The most steps that the meter can have counted since; None if nothing is known."""
    if plan.options.max_rate is None:
        return None
    lasted = 0 if since is None else max(0, at.mono - since.mono) / SECOND
    return round(Decimal(plan.options.max_rate * lasted * _CERTAINTY) / plan.resolution) + 2


def _read(plan: MeterPlan, meter: Meter, raw: int, at: Instant, out: Desk) -> Meter:
    """A good reading after another one."""
    assert meter.raw is not None
    most = _reachable(plan, meter.at, at)
    if raw >= meter.raw and (most is None or raw - meter.raw <= most):
        return _book(plan, meter, raw - meter.raw, raw, at)
    suspect = meter.suspect
    if suspect is None or raw < suspect.raw or (raw >= meter.raw) is not (suspect.raw >= meter.raw):
        return meter._replace(suspect=Suspect(raw, at))
    meter = _confirmed(plan, meter, suspect, out)
    assert meter.raw is not None
    return _book(plan, meter, raw - meter.raw, raw, at)


def _confirmed(plan: MeterPlan, meter: Meter, suspect: Suspect, out: Desk) -> Meter:
    """A second reading agrees: the meter was reset, or it made a step that nothing was used for."""
    assert meter.raw is not None
    most = _reachable(plan, meter.at, suspect.at)
    out.keep()
    if suspect.raw < meter.raw and (2 * suspect.raw <= meter.raw if most is None else suspect.raw <= most):
        flagged = meter._replace(flags=meter.flags | {"reset", "lower_bound"})
        return _book(plan, flagged, suspect.raw, suspect.raw, suspect.at)
    out.warn(
        "meter_step",
        f"Meter {plan.name} went from {_amount(plan, meter.raw)} to {_amount(plan, suspect.raw)} {plan.unit} at "
        "once; nothing is counted for that. Was it replaced, or are its register's type and word order wrong?",
        plan.name,
    )
    flags = meter.flags | {"lower_bound"}
    return meter._replace(raw=suspect.raw, at=suspect.at, base=suspect.raw, suspect=None, flags=flags)


def _book(plan: MeterPlan, meter: Meter, steps: int, raw: int, at: Instant) -> Meter:
    total = meter.total + steps
    past = (*meter.past, (at.mono, total))[-_HISTORY:] if meter.doing is not None else ()
    return meter._replace(total=total, raw=raw, at=at, suspect=None, past=past)


def _total_at(meter: Meter, mono: int) -> int:
    """The total as of the last sample until then."""
    known = [total for at, total in meter.past if at <= mono]
    if known:
        return known[-1]
    return meter.doing.total if meter.doing is not None and meter.past else meter.total


def _close_state(plan: MeterPlan, meter: Meter, at: Instant, total: int) -> Meter:
    doing = meter.doing
    if doing is None:
        return meter._replace(split=False)
    used = max(0, total - doing.total)
    lasted = at.mono - doing.since.mono
    by_state = {**meter.by_state, doing.state: meter.by_state.get(doing.state, 0) + used}
    return meter._replace(by_state=by_state, split=meter.split and lasted >= 2 * plan.period)


def _doing(meter: Meter, state: Metered, at: Instant) -> Meter:
    """The state goes on into a new interval."""
    if state.state is None:
        return meter
    return meter._replace(doing=Doing(state.state, at, meter.total), past=(), split=True)


def _end(plan: MeterPlan, at: Instant) -> int:
    """Monotonic µs of the end of the interval that begins about now."""
    every = plan.options.every
    left = every - at.wall % every
    return at.mono + (left if left > min(SECOND, every // 10) else left + every)


def _emit(
    plan: MeterPlan,
    meter: Meter,
    to: Instant,
    out: Desk,
    ctx: Ctx | None = None,
    detail: tuple[str, ...] | None = None,
) -> Meter:
    """The interval ends at `to`: publish what was used in it, if anything was."""
    since, raw = meter.since, meter.raw
    if since is None or raw is None:
        return meter
    to = later(to, since)
    used = meter.total - meter.sent
    if meter.doing is not None:
        meter = _close_state(plan, meter, to, meter.total)
    if used:
        whole = meter.split and detail is None and sum(meter.by_state.values()) == used
        out.production(
            to.wall,
            ConsumptionRecorded(
                quality_detail=detail,
                time_unc_s=plan.period / SECOND,
                kind=plan.options.kind,
                resource=plan.options.resource or plan.name,
                from_at=min(since.wall, to.wall),
                to_at=to.wall,
                delta=_amount(plan, used),
                uom=plan.unit,
                total=_amount(plan, meter.total),
                register=MeterRegister(
                    prev=None if meter.base is None else _amount(plan, meter.base), now=_amount(plan, raw)
                ),
                by_state={state: _amount(plan, steps) for state, steps in meter.by_state.items() if steps}
                if whole
                else None,
                flags=tuple(sorted(meter.flags)) or None,
            ),
            ctx=ctx,
        )
    return meter._replace(
        sent=meter.total, base=raw, since=to, flags=frozenset(), doing=None, by_state={}, split=True, past=()
    )
