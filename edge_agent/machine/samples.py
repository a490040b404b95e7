"""From a batch to samples in order: which readings are new, when they happened, and which come too late.

A device's own time is used while it is within `SKEW` of ours; its clock is judged on its newest samples. A sample
older than the last one of its tag is late and dropped. If the next batch is late as well the device's clock was
set back, and both are taken with our time.
"""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from drivers.base import Quality, Reading, Value
from edge_agent.clock import Instant
from edge_agent.machine.times import SKEW, at_wall

_tag = itemgetter(0)


class Held(NamedTuple):
    """The last value of an essential tag.

    `value` is the last one that was not BAD and `at` its time; `changed` is when it became what it is and `before`
    what it was until then. `stale` is the last good sample of a tag that is not believed now (BAD, or in a gap).
    """

    value: Value
    quality: Quality
    at: Instant
    changed: Instant
    before: Value | None = None
    stale: Instant | None = None
    detail: str = ""
    basis: str = "agent"


class Device(NamedTuple):
    """One device as this machine sees it. `seen`: the last batch. `last`: the last reading of every used tag.
    `newest`: its newest own time. `late`: samples of the last batch, if that was late as a whole.
    `good`: something that was not BAD has ever come."""

    seen: Instant | None = None
    last: Mapping[str, Reading] = {}
    newest: int | None = None
    skewed: bool = False
    late: tuple[Reading, ...] = ()
    dropped: int = 0
    good: bool = False


class Moment(NamedTuple):
    """Readings of essential tags that belong to one time."""

    at: Instant
    basis: str
    readings: list[Reading]


class Arranged(NamedTuple):
    device: Device
    moments: Sequence[Moment]
    fresh: Sequence[Reading]
    skew: int | None
    """µs by which the device's clock was found wrong just now."""


def fresh_readings(readings: Sequence[Reading], last: Mapping[str, Reading], used: frozenset[str]) -> list[Reading]:
    """The readings of used tags that are not the very objects of the batch before."""
    known = last.get
    return [reading for reading in readings if known(reading[0]) is not reading and reading[0] in used]


def arrange(
    device: Device,
    fresh: Sequence[Reading],
    everything: Sequence[Reading],
    essential: Mapping[str, str],
    now: Instant,
    *,
    first: bool,
) -> Arranged:
    """Order and time the fresh readings of a batch, `everything`, whose newest own time judges the device's clock.
    `first`: the first batch of a connection, whose values may be old."""
    timed = [reading[3] for reading in fresh if reading[3] is not None]
    if not timed:
        needed = [reading for reading in fresh if reading[0] in essential] if essential else []
        device = Device(
            device.seen,
            _with(device.last, fresh),
            device.newest,
            device.skewed,
            device.late,
            device.dropped,
            device.good,
        )
        if len({reading[0] for reading in needed}) == len(needed):
            return Arranged(device, (Moment(now, "agent", needed),) if needed else (), fresh, None)
        return Arranged(device, [Moment(now, "agent", [reading]) for reading in needed], fresh, None)
    known = device.last.get
    kept = [
        reading
        for reading in fresh
        if (old := known(reading[0])) is None or old[3] is None or reading[3] is None or reading[3] >= old[3]
    ]
    skewed, skew, newest = device.skewed, None, max(timed)
    stepped = not kept and bool(device.late)
    if stepped:
        kept = [*device.late, *fresh]
    elif not kept:
        return Arranged(device._replace(late=tuple(fresh), dropped=device.dropped + len(fresh)), (), (), None)
    if abs(now.wall - newest) > SKEW:
        newest = max(reading[3] for reading in everything if reading[3] is not None)
    distance = now.wall - newest
    if abs(distance) <= SKEW:
        skewed = False
    elif distance < 0 or (not first and (stepped or newest > (device.newest or 0))):
        skew = -distance if not skewed else None
        skewed = True
    moments = _moments(kept, essential, now, agent_time=skewed or stepped, first=first) if essential else []
    return Arranged(
        Device(
            device.seen,
            _with(device.last, kept),
            newest if stepped or device.newest is None else max(newest, device.newest),
            skewed,
            (),
            device.dropped + len(fresh) - len(kept) if not stepped else device.dropped - len(device.late),
            device.good,
        ),
        moments,
        kept,
        skew,
    )


def _with(last: Mapping[str, Reading], newer: Sequence[Reading]) -> Mapping[str, Reading]:
    known = dict(last)
    known.update(zip(map(_tag, newer), newer, strict=True))
    return known


def _moments(
    readings: Sequence[Reading], essential: Mapping[str, str], now: Instant, *, agent_time: bool, first: bool
) -> list[Moment]:
    moments: list[Moment] = []
    for reading in readings:
        if reading[0] not in essential:
            continue
        at, basis = when(reading, now, agent_time=agent_time, first=first)
        last = moments[-1] if moments else None
        if last is None or last.at != at or any(other[0] == reading[0] for other in last.readings):
            moments.append(Moment(at, basis, [reading]))
        else:
            last.readings.append(reading)
    return moments


def when(reading: Reading, now: Instant, *, agent_time: bool, first: bool) -> tuple[Instant, str]:
    """Time of a reading and where it comes from: `source` or `agent`."""
    source = reading[3]
    if source is None or agent_time or source > now.wall + SKEW or (first and source < now.wall - SKEW):
        return now, "agent"
    return at_wall(now, source), "source"


def hold(held: Held | None, reading: Reading, at: Instant, basis: str, seen: Instant | None) -> Held | None:
    """The tag after a reading. `seen` is the batch before: the last good sample of a tag that turns BAD."""
    value = reading[1]
    if value is None or reading[2] is Quality.BAD or (isinstance(value, float) and not math.isfinite(value)):
        if held is None or held.stale is not None:
            return held
        return held._replace(stale=seen or held.at, quality=Quality.BAD, detail=reading[4])
    if held is None:
        return Held(value, reading[2], at, at, None, None, reading[4], basis)
    if value == held.value:
        return Held(value, reading[2], at, held.changed, held.before, None, reading[4], basis)
    return Held(value, reading[2], at, at, held.value, None, reading[4], basis)
