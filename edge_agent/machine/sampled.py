"""How the values of a sample set become events: what is said once for the set, split in parts of at most 64 KiB.

This family carries almost all values, so a batch costs a dictionary look-up per value. A BAD value is named in `q`
and absent from `values`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

from drivers.base import Quality, Reading, Value
from edge_agent.clock import Instant
from edge_agent.events.types import Judged, MeasurementSampled
from edge_agent.machine.out import Ctx, Out
from edge_agent.machine.reduction import Window, statistics
from edge_agent.machine.sample_sets import MAX_BYTES, NUMBER_BYTES, SetPlan
from edge_agent.machine.times import seconds

_ROWS: Final = 200
"""Statistics in one event: a row has some 250 bytes."""
_WORDS: Final = ("good", "uncertain", "bad")
_tag, _value, _quality, _source = itemgetter(0), itemgetter(1), itemgetter(2), itemgetter(3)


def emit(
    plan: SetPlan,
    names: Mapping[str, str],
    readings: Sequence[Reading],
    trigger: str,
    now: Instant,
    out: Out,
    *,
    agent_time: bool,
    cycle_id: str | None = None,
    ctx: Ctx | None = None,
) -> None:
    if not _finite(readings):
        readings = [one if _finite((one,)) else one._replace(value=None, quality=Quality.BAD) for one in readings]
    base, offsets, basis = now.wall, None, "agent"
    if not agent_time:
        base, offsets, basis = _times(names, readings, now)
    if not any(map(_quality, readings)):
        words = map(names.__getitem__, map(_tag, readings))
        values: dict[str, Value] = dict(zip(words, map(_value, readings), strict=True))
        quality, q = "good", None
    else:
        values = {names[reading[0]]: reading[1] for reading in readings if reading[1] is not None}
        usual = min(map(_quality, readings))
        quality = _WORDS[usual]
        q = {names[reading[0]]: _WORDS[reading[2]] for reading in readings if reading[2] != usual}
    parts = _parts(plan, names, readings) if plan.large else None
    if parts is None or len(parts) == 1:
        out.measurement(base, _event(plan, trigger, values, quality, q, offsets, basis, None, None, cycle_id), ctx)
        return
    for number, group in enumerate(parts, 1):
        some = {name: values[name] for name in group if name in values}
        some_q = {name: q[name] for name in group if name in q} if q else None
        some_at = {name: offsets[name] for name in group if name in offsets} if offsets else None
        event = _event(plan, trigger, some, quality, some_q, some_at, basis, number, len(parts), cycle_id)
        out.measurement(base, event, ctx)


def _finite(readings: Sequence[Reading]) -> bool:
    """Whether every number can be written; there is no NaN in JSON."""
    try:
        return math.isfinite(sum(map(_value, readings)))
    except TypeError:
        return all(not isinstance(reading[1], float) or math.isfinite(reading[1]) for reading in readings)


def _event(
    plan: SetPlan,
    trigger: str,
    values: Mapping[str, Value],
    quality: str,
    q: Mapping[str, str] | None,
    at_ms: Mapping[str, float] | None,
    basis: str,
    part: int | None,
    parts: int | None,
    cycle_id: str | None,
) -> MeasurementSampled:
    units = plan.units
    if units and len(values) < plan.size:
        units = {name: units[name] for name in values if name in units}
    return MeasurementSampled(
        quality=quality,
        time_basis=basis,
        time_unc_s=plan.uncertainty,
        set=plan.name,
        trigger=trigger,
        part=part,
        parts=parts,
        values=values,
        q=q or None,
        at_ms=at_ms or None,
        uom=units or None,
        tags_rev=plan.tags_rev,
        judged=_judged(plan, values) if plan.limits else None,
        cycle_id=cycle_id,
    )


def _judged(plan: SetPlan, values: Mapping[str, Value]) -> Mapping[str, Judged] | None:
    return {
        name: limits.judge(value)
        for name, limits in plan.limits.items()
        if isinstance(value := values.get(name), int | float) and not isinstance(value, bool)
    } or None


def _times(
    names: Mapping[str, str], readings: Sequence[Reading], now: Instant
) -> tuple[int, dict[str, float] | None, str]:
    """The newest own time of the readings, and the offsets (ms) of those that differ by a millisecond or more."""
    times = set(map(_source, readings))
    if times == {None}:
        return now.wall, None, "agent"
    base: int = max(time for time in times if time is not None)
    if len(times) == 1:
        return base, None, "source"
    newest = base - 1_000
    offsets = {
        names[reading[0]]: ((now.wall if source is None else source) - base) / 1_000
        for reading in readings
        if (source := reading[3]) is None or source <= newest
    }
    return base, offsets, "source"


def _parts(plan: SetPlan, names: Mapping[str, str], readings: Sequence[Reading]) -> list[list[str]]:
    """Names in groups that fit into one event each."""
    groups: list[list[str]] = [[]]
    size = 0
    for reading in readings:
        name, value = names[reading[0]], reading[1]
        unit = plan.units.get(name)
        cost = 2 * len(name) + 26 + (_text_bytes(value) if isinstance(value, str) else NUMBER_BYTES)
        cost += len(name) + len(unit) + 6 if unit else 0
        if size + cost > MAX_BYTES and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += cost
    return groups


def _text_bytes(value: str) -> int:
    """Upper bound of the text in JSON."""
    return 2 + 6 * len(value) if len(value) * 6 < MAX_BYTES else 2 + len(value.encode("unicode_escape")) * 2


def summarise(
    plan: SetPlan,
    window: Window,
    since: Instant | None,
    trigger: str,
    at: Instant,
    out: Out,
    cycle_id: str | None = None,
    ctx: Ctx | None = None,
) -> None:
    """One event for all samples of the window that began at `since`; none if there were none."""
    if not window.sums and not window.others:
        return
    units = {name: plan.units[name] for name in window.others if name in plan.units}
    head = MeasurementSampled(
        quality="uncertain" if window.doubtful else "good",
        time_unc_s=plan.uncertainty,
        set=plan.name,
        trigger=trigger,
        values=window.others,
        uom=units or None,
        tags_rev=plan.tags_rev,
        cycle_id=cycle_id,
    )
    lasted = seconds(since or at, at)
    rows = statistics(window, plan.units, lasted)
    groups = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)] or [()]
    for number, group in enumerate(groups, 1):
        split = (number, len(groups)) if len(groups) > 1 else (None, None)
        data = dataclasses.replace(head, stats=group or None, part=split[0], parts=split[1])
        out.measurement(at.wall, data if number == 1 else dataclasses.replace(data, values={}, uom=None), ctx)
