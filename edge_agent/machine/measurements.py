"""Sample sets: `on: change` publishes what changed in a batch, `every` all values at its interval, `on: cycle` and
`on: batch` all values as they were at the end of it. With `statistics` an event stands for all samples since the one
before, or since the cycle began.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from drivers.base import Reading, Value
from edge_agent.clock import Instant
from edge_agent.machine.out import Ctx, Out
from edge_agent.machine.reduction import Window, add
from edge_agent.machine.sample_sets import SetPlan
from edge_agent.machine.sampled import emit, summarise
from edge_agent.machine.samples import Device

_tag = itemgetter(0)


class SetState(NamedTuple):
    """`next`: monotonic µs of the next interval event. `sent`: last published values of names with a deadband.
    `window`: samples since then, for statistics."""

    next: int | None = None
    sent: Mapping[str, Value] = {}
    window: Window = Window()
    since: Instant | None = None


class Mark(NamedTuple):
    """A cycle or batch ended (or began: nothing is published then). `ctx`: what the sample belongs to."""

    trigger: str
    at: Instant
    began: bool = False
    cycle_id: str | None = None
    ctx: Ctx | None = None


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
            emit(plan, names, layer, "change", now, out, agent_time=agent_time)
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
    plan: SetPlan,
    state: SetState,
    devices: Mapping[str, Device],
    lost: Iterable[str],
    at: Instant,
    out: Out,
    stretch: int = 1,
) -> SetState:
    """The interval event due at `at`; the next is due after `stretch` intervals. Nothing is said of a device that is
    lost; with none left the timer rests."""
    gone = frozenset(lost)
    assert plan.options.every is not None
    every = plan.options.every * stretch
    if plan.options.statistics:
        return _reduced(plan, state, every, at, out)
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
    emit(plan, names, readings, "interval", at, out, agent_time=True)
    return state._replace(next=at.mono + every)


def gather(plan: SetPlan, state: SetState, device: str, readings: Sequence[Reading], at: Instant) -> SetState:
    """The samples of a batch go into the window."""
    names = plan.tags.get(device)
    if names is None:
        return state
    window = add(state.window, names, readings)
    return state._replace(window=window, since=state.since or at)


def at_mark(
    plan: SetPlan,
    state: SetState,
    mark: Mark,
    values: Mapping[str, Mapping[str, Reading]],
    out: Out,
) -> SetState:
    """The end of a cycle or batch. `values`: device → tag → its reading then."""
    if plan.options.statistics:
        if not mark.began:
            summarise(plan, state.window, state.since, mark.trigger, mark.at, out, mark.cycle_id, mark.ctx)
        return state._replace(window=Window(), since=mark.at)
    readings = [
        last[tag]._replace(tag=name)
        for device, last in values.items()
        for tag, name in plan.tags.get(device, {}).items()
        if tag in last
    ]
    if readings and not mark.began:
        names = {reading[0]: reading[0] for reading in readings}
        emit(plan, names, readings, mark.trigger, mark.at, out, agent_time=True, cycle_id=mark.cycle_id, ctx=mark.ctx)
    return state


def _reduced(plan: SetPlan, state: SetState, every: int, at: Instant, out: Out) -> SetState:
    """The statistics due at `at`; without a sample since the last ones the timer rests."""
    if state.next is not None:
        summarise(plan, state.window, state.since, "interval", at, out)
        if not state.window.sums and not state.window.others:
            return SetState()
        state = SetState()
    return state._replace(next=at.mono + every, since=at)
