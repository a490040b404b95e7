"""Sample sets: `on: change` publishes what changed in a batch, `every` publishes all values at its interval.

This family carries almost all values, so a set is prepared once: a batch costs a dictionary look-up per value. A
BAD value is named in `q` and absent from `values`. A set that could grow past 64 KiB is split in parts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from config.model import Config, Measurement
from drivers.base import Quality, Reading, Value
from edge_agent.clock import Instant
from edge_agent.events.types import MeasurementSampled
from edge_agent.machine.out import Out
from edge_agent.machine.samples import Device

MAX_BYTES: Final = 60 * 1024
"""Of `values`, `uom`, `q` and `at_ms` of one event; the rest of the envelope is below 4 KiB."""
_NUMBER_BYTES: Final = 25
_WORDS: Final = ("good", "uncertain", "bad")
_tag, _value, _quality, _source = itemgetter(0), itemgetter(1), itemgetter(2), itemgetter(3)


class SetPlan(NamedTuple):
    """`tags`: device → tag → the name it has in the set. `deadband`: name → least change worth an event.
    `size`: number of names. `large`: some event of the set may exceed `MAX_BYTES`."""

    name: str
    options: Measurement
    tags: Mapping[str, Mapping[str, str]]
    units: Mapping[str, str]
    deadband: Mapping[str, float]
    uncertainty: float
    size: int
    large: bool


class SetState(NamedTuple):
    """`next`: monotonic µs of the next interval event. `sent`: last published values of names with a deadband."""

    next: int | None = None
    sent: Mapping[str, Value] = {}


def prepare(config: Config, machine: str) -> tuple[SetPlan, ...]:
    """The sample sets of a machine."""
    options = config.machines[machine]
    plans = []
    for name, measured in options.measurements.items():
        tags: dict[str, dict[str, str]] = {}
        units: dict[str, str] = {}
        deadband: dict[str, float] = {}
        size, period = 0, 0
        for ref in measured.tags:
            device, tag = config.resolve(machine, ref)
            tags.setdefault(device, {})[tag] = ref
            described = config.devices[device].tags[tag]
            unit = getattr(described, "unit", None)
            if unit is not None and options.inline_units:
                units[ref] = unit
                size += len(ref) + len(unit) + 6
            band = measured.deadband if measured.deadband is not None else getattr(described, "deadband", None)
            if band:
                deadband[ref] = band
            numeric = config.devices[device].value_type(tag) != "string"
            size += 2 * len(ref) + 26 + (_NUMBER_BYTES if numeric else MAX_BYTES)
            period = max(period, config.devices[device].period(tag))
        plans.append(
            SetPlan(name, measured, tags, units, deadband, period / 1_000_000, len(measured.tags), size > MAX_BYTES)
        )
    return tuple(plans)


def changed(
    plan: SetPlan,
    state: SetState,
    fresh: Sequence[Reading],
    last: Mapping[str, Reading],
    device: str,
    now: Instant,
    out: Out,
    *,
    agent_time: bool,
) -> SetState:
    """Publish the readings of a batch that differ from `last`, the readings before it."""
    names = plan.tags.get(device)
    if names is None or plan.options.on != "change":
        return state
    if len(set(map(_tag, fresh))) == len(fresh):
        known = last.get
        layers = [
            [
                reading
                for reading in fresh
                if reading[0] in names
                and ((old := known(reading[0])) is None or old[1] != reading[1] or old[2] != reading[2])
            ]
        ]
    else:
        layers = _layers(names, fresh, last)
    sent = state.sent
    for layer in layers:
        if plan.deadband:
            layer, sent = _outside(plan, names, layer, sent)
        if layer:
            _emit(plan, names, layer, "change", now, out, agent_time=agent_time)
    return state if sent is state.sent else state._replace(sent=sent)


def _layers(names: Mapping[str, str], fresh: Sequence[Reading], last: Mapping[str, Reading]) -> list[list[Reading]]:
    """Several values of one tag go into several events: the first of each into the first, and so on."""
    layers: list[list[Reading]] = []
    placed: dict[str, int] = {}
    newest = dict(last)
    for reading in fresh:
        tag = reading[0]
        old = newest.get(tag)
        if tag not in names or (old is not None and old[1] == reading[1] and old[2] == reading[2]):
            continue
        newest[tag] = reading
        depth = placed[tag] = placed.get(tag, -1) + 1
        if depth == len(layers):
            layers.append([])
        layers[depth].append(reading)
    return layers


def _outside(
    plan: SetPlan, names: Mapping[str, str], layer: Sequence[Reading], sent: Mapping[str, Value]
) -> tuple[list[Reading], Mapping[str, Value]]:
    kept, published = [], dict(sent)
    for reading in layer:
        name, value = names[reading[0]], reading[1]
        band = plan.deadband.get(name)
        if band is not None and isinstance(value, int | float) and not isinstance(value, bool):
            before = published.get(name)
            if isinstance(before, int | float) and abs(value - before) < band:
                continue
            published[name] = value
        elif value is None:
            published.pop(name, None)
        kept.append(reading)
    return kept, published


def interval(
    plan: SetPlan, state: SetState, devices: Mapping[str, Device], lost: Iterable[str], at: Instant, out: Out
) -> SetState:
    """The interval event due at `at`. Nothing is said of a device that is lost; with none left the timer rests."""
    gone = frozenset(lost)
    every = plan.options.every
    assert every is not None
    known = {device: devices[device].last for device in plan.tags if device in devices and device not in gone}
    readings = [
        last[tag] if len(plan.tags) == 1 else last[tag]._replace(tag=name)
        for device, last in known.items()
        for tag, name in plan.tags[device].items()
        if tag in last
    ]
    if not readings:
        return state if state.next is None else state._replace(next=None)
    names = (
        next(iter(plan.tags.values())) if len(plan.tags) == 1 else {reading[0]: reading[0] for reading in readings}
    )
    _emit(plan, names, readings, "interval", at, out, agent_time=True)
    return state._replace(next=at.mono + every)


def _emit(
    plan: SetPlan,
    names: Mapping[str, str],
    readings: Sequence[Reading],
    trigger: str,
    now: Instant,
    out: Out,
    *,
    agent_time: bool,
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
        out.measurement(base, _event(plan, trigger, values, quality, q, offsets, basis, None, None))
        return
    for number, group in enumerate(parts, 1):
        some = {name: values[name] for name in group if name in values}
        some_q = {name: q[name] for name in group if name in q} if q else None
        some_at = {name: offsets[name] for name in group if name in offsets} if offsets else None
        out.measurement(base, _event(plan, trigger, some, quality, some_q, some_at, basis, number, len(parts)))


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
    )


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
        cost = 2 * len(name) + 26 + (_text_bytes(value) if isinstance(value, str) else _NUMBER_BYTES)
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
