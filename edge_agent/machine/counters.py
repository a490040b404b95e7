"""Counter groups: from registers to `production.counted`, with totals that only this agent moves.

Invariant (I2): `totals` is the sum of every delta ever published plus what waits for the next flush, in one epoch,
whatever the PLC, a restart or the configuration does. Pieces wait at most `flush`, and are given out before every
boundary: when a candidate for a new state appears, before a reset, before a correction, before a gap.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from config.model import Counter
from drivers.base import Value
from edge_agent.clock import Instant
from edge_agent.events.types import ProductionCounted
from edge_agent.events.types import Register as RegisterEvidence
from edge_agent.machine.out import Ctx, Out
from edge_agent.machine.plan import MEMBERS, Plan, RegisterPlan
from edge_agent.machine.registers import Booked, Register, read

_CAUSES: Final = {"pulse": "pulse"}
MISMATCH_SCANS: Final = 3


class Group(NamedTuple):
    """One counter group. `totals`: ours, derived members included; `sent`: totals as last published. `since`: the
    good sample before the first piece that waits, None if nothing waits; `first`: the sample that brought it; `base`:
    the registers then. `moved`: the last piece seen to be made; `watched`: since when nothing can have been missed.
    `factor`: parts per count as its tag says, 0 until that is known; `defects`: defect code → scrapped parts of the
    next event.
    `debt`: pieces by which the derived member was published too high so far."""

    registers: Mapping[str, Register] = {}
    totals: Mapping[str, int] = {}
    sent: Mapping[str, int] = {}
    since: Instant | None = None
    first: Instant | None = None
    at: Instant | None = None
    base: Mapping[str, int] = {}
    flags: frozenset[str] = frozenset()
    cause: str = "machine"
    basis: str = "agent"
    mismatch: int = 0
    debt: int = 0
    declared: int = 0
    factor: int = 0
    defects: Mapping[str, int] = {}
    moved: Instant | None = None
    watched: Instant | None = None

    @property
    def parts(self) -> int:
        """Pieces that the machine has made so far, for `parts_during` and for whether the count moved."""
        if "total" in self.registers:
            return self.totals.get("total", 0) - self.declared
        return sum(self.totals.get(member, 0) for member in self.registers) - self.declared


class Order(NamedTuple):
    """What counts are declared for that is not the open run: its totals with them, if it is one, and its context."""

    totals: Mapping[str, int] | None
    ctx: Ctx


class Recovered(NamedTuple):
    """What registers told about a gap: `exact`, `lower_bound` or `none`, and the pieces."""

    quality: str
    delta: Mapping[str, int]


def sample(
    group: Group,
    name: str,
    values: Mapping[str, Value],
    at: Instant,
    basis: str,
    *,
    plan: Plan,
    since: Mapping[str, Instant | None],
    gap: bool,
    out: Out,
    rejected: Callable[[Instant, Instant], None],
    reason: str | None = None,
) -> tuple[Group, list[Booked]]:
    """New good readings (member → value) of one time. `since`: the good sample before, by member.

    `rejected` is told of a jump that is not believed, from the sample before it to this one. `reason`: the defect
    code of parts that were scrapped. Without known parts per count nothing is read.
    """
    options, registers = plan.options.counters[name], plan.counters[name]
    booked_all: list[Booked] = []
    factor = options.parts_per_count if isinstance(options.parts_per_count, int) else group.factor
    if not factor:
        return group, booked_all
    for member, value in values.items():
        before, known = group.registers.get(member, Register()), since.get(member)
        booked = read(before, value, at, plan=registers[member], options=options, since=known, gap=gap)
        booked_all.append(booked)
        if booked.case in ("reset", "burst", "correction", "rejected", "baseline"):
            group = group if gap and booked.case != "correction" else flush(group, name, plan, out)
            out.store = True
        watched = gap or booked.case == "baseline"
        if booked.delta:
            group = _book(group, member, booked, before, known, at, basis, factor, gap=gap, watched=watched)
        elif watched or booked.register is not before:
            registered = {**group.registers, member: booked.register}
            group = group._replace(registers=registered, watched=at if watched else group.watched)
        if booked.register is not before and (booked.register.suspect is not None or booked.case == "pulse"):
            out.store = True
        if booked.case == "rejected":
            rejected(known or before.at or at, at)
        if booked.case == "baseline" and member not in group.totals:
            group = group._replace(totals={**group.totals, member: 0})
        if booked.delta:
            if member == "scrap" and reason is not None and booked.delta > 0 and not gap:
                defects = {**group.defects, reason: group.defects.get(reason, 0) + booked.delta * factor}
                group = group._replace(defects=defects)
            if booked.case == "correction":
                group = flush(group, name, plan, out)
    return group, booked_all


def _book(
    group: Group,
    member: str,
    booked: Booked,
    before: Register,
    since: Instant | None,
    at: Instant,
    basis: str,
    factor: int,
    *,
    gap: bool,
    watched: bool,
) -> Group:
    """The group with pieces that were made; `watched`: they were not seen to be made. Built in one go, as this is
    what a counting machine costs."""
    delta = booked.delta * factor
    totals = {**group.totals, member: group.totals.get(member, 0) + delta}
    cause = (
        "correction"
        if booked.case == "correction"
        else "gap_recovery"
        if gap
        else _CAUSES.get(booked.case, "machine")
    )
    base = group.base if member in group.base or before.raw is None else {**group.base, member: before.raw}
    start = group.since
    if start is None:
        start = before.at or at
        if since is not None and since.mono > start.mono:
            start = since
    return Group(
        {**group.registers, member: booked.register},
        totals,
        group.sent,
        start,
        group.first or at,
        at,
        base,
        group.flags | booked.flags,
        cause,
        basis,
        group.mismatch,
        group.debt,
        group.declared,
        group.factor,
        group.defects,
        at if booked.delta > 0 and not watched else group.moved,
        at if watched else group.watched,
    )


def derived(options: Counter) -> str | None:
    """The member that follows from the configured ones (event model §7.9), None if none does."""
    has = {member for member in MEMBERS if getattr(options, member) is not None}
    if "total" not in has:
        return "total" if "good" in has else None
    if "good" not in has:
        return "good" if has & {"scrap", "rework"} or options.assume_good else None
    return "scrap" if "scrap" not in has and "rework" not in has else None


def _with_derived(group: Group, options: Counter) -> Group:
    """The derived member moved by what the others moved since the last event.

    It never falls but by a correction: registers are not read at one instant, and a good piece that is rejected
    later is made up for by the next one (`debt`).
    """
    member = derived(options)
    if member is None:
        return group

    def moved(part: str) -> int:
        return group.totals.get(part, 0) - group.sent.get(part, 0) if part in group.registers else 0

    if member == "total":
        delta = sum(moved(part) for part in MEMBERS[1:])
    else:
        delta = moved("total") - sum(moved(part) for part in MEMBERS[1:] if part != member)
    delta -= group.debt
    debt = 0 if delta >= 0 or group.cause == "correction" else -delta
    totals = {**group.totals, member: group.sent.get(member, 0) + (delta if debt == 0 else 0)}
    return group._replace(totals=totals, debt=debt)


def flush(group: Group, name: str, plan: Plan, out: Out, *, to: Instant | None = None) -> Group:
    """Publish what waits, if anything does. `to`: the end of the interval, default the last sample."""
    if group.since is None or group.at is None:
        return group
    end, since = to or group.at, group.since
    options = plan.options.counters[name]
    group = _with_derived(group, options)
    known = (*plan.counters[name], derived(options))
    delta: dict[str, int] = {
        member: group.totals[member] - group.sent.get(member, 0)
        for member in MEMBERS
        if member in known and member in group.totals
    }
    if any(delta.values()):
        member = derived(options)
        registers = plan.counters[name]
        factor = options.parts_per_count if isinstance(options.parts_per_count, int) else group.factor
        keys = [registers[used].key for used in group.base if used in registers]
        out.production(
            end.wall,
            ProductionCounted(
                quality_detail=_detail(member, group, delta),
                time_basis=group.basis,
                time_unc_s=max((plan.uncertainty(key) for key in keys), default=0),
                counter=name,
                from_at=min(since.wall, end.wall),
                to_at=end.wall,
                delta=delta,
                totals={used: group.totals[used] for used in delta},
                order_totals=out.book(name, delta),
                raw=_evidence(group, registers, plan) or None,
                cause=group.cause,
                flags=tuple(sorted(group.flags)) or None,
                parts_per_count=factor if factor > 1 else None,
                scrap_reasons=tuple({"code": code, "qty": qty} for code, qty in group.defects.items()) or None,
            ),
            ctx=out.ctx,
        )
    return group._replace(
        sent=group.totals, since=None, first=None, at=None, base={}, flags=frozenset(), cause="machine", defects={}
    )


def declare(
    group: Group,
    name: str,
    delta: Mapping[str, int],
    out: Out,
    cause: str,
    since: Instant,
    *,
    order: Order | None = None,
    reasons: tuple[Mapping[str, str | int], ...] | None = None,
) -> Group:
    """Publish counts that no register made: they move our totals and leave the registers alone. They belong to
    `order`, an earlier run, or to the open one. Flush before it."""
    totals = {**group.totals, **{member: group.totals.get(member, 0) + n for member, n in delta.items()}}
    out.production(
        out.now.wall,
        ProductionCounted(
            counter=name,
            from_at=min(since.wall, out.now.wall),
            to_at=out.now.wall,
            delta=delta,
            totals={member: totals[member] for member in MEMBERS if member in totals},
            order_totals=out.book(name, delta) if order is None else order.totals,
            cause=cause,
            scrap_reasons=reasons,
        ),
        ctx=out.ctx if order is None else order.ctx,
    )
    sent = {**group.sent, **{member: group.sent.get(member, 0) + n for member, n in delta.items()}}
    made = delta.get("total", 0) if "total" in group.registers else sum(delta.get(one, 0) for one in group.registers)
    return group._replace(totals=totals, sent=sent, declared=group.declared + made)


def _detail(member: str | None, group: Group, delta: Mapping[str, int]) -> tuple[str, ...] | None:
    detail = ("gap_recovery",) if group.cause == "gap_recovery" else ()
    return (*detail, f"derived_{member}") if member in delta else detail or None


def _evidence(group: Group, registers: Mapping[str, RegisterPlan], plan: Plan) -> tuple[RegisterEvidence, ...]:
    return tuple(
        RegisterEvidence(tag=plan.label(own.key), prev=shown(raw, own), now=shown(now, own))
        for member, raw in group.base.items()
        if (own := registers.get(member)) is not None and (now := group.registers[member].raw) is not None
    )


def shown(raw: int, register: RegisterPlan) -> int | float:
    """The register's own number."""
    return raw if register.part == 1 else round(raw * register.part, 9)


def check(group: Group, name: str, plan: Plan, out: Out) -> Group:
    """Once per scan: warn when total, good and scrap have registers of their own that disagree for some scans."""
    totals = group.totals
    parts = sum(totals.get(member, 0) for member in MEMBERS[1:])
    if totals.get("total", 0) == parts:
        return group if group.mismatch == 0 else group._replace(mismatch=0)
    if group.mismatch == MISMATCH_SCANS:
        out.warn(
            "count_mismatch",
            f"{plan.name}: counter {name} made {totals.get('total', 0)} in total but {parts} good, scrap and rework "
            "together. Are the registers read in one request, and is rework counted apart?",
            plan.subject,
            name,
        )
    return group._replace(mismatch=min(group.mismatch + 1, MISMATCH_SCANS + 1))


def recovered(group: Group, before: Mapping[str, int], results: list[Booked]) -> Recovered:
    """What a gap's registers gave, from the totals at its start."""
    if not results or any(booked.case in ("baseline", "rejected", "pulse_gap") for booked in results):
        quality = "none"
    else:
        quality = "exact" if all(booked.exact for booked in results) else "lower_bound"
    return Recovered(quality, {member: total - before.get(member, 0) for member, total in group.totals.items()})
