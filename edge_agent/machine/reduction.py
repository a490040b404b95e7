"""Statistics instead of single values: what stands for the samples of a window.

Every sample that is not BAD counts the same, however far it lies from the next one. Mean and spread are gathered
value by value (Welford), so that a window may be long and its values large.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from drivers.base import Quality, Reading, Value
from edge_agent.events.types import Statistics


class Sums(NamedTuple):
    """Of the samples so far; `spread` is the sum of the squared distances from the mean."""

    n: int
    least: float
    greatest: float
    mean: float
    spread: float
    first: float
    last: float


class Window(NamedTuple):
    """The samples of one window: numbers as sums, other values as their last; `doubtful`: some were UNCERTAIN."""

    sums: Mapping[str, Sums] = {}
    others: Mapping[str, Value] = {}
    doubtful: frozenset[str] = frozenset()


def add(window: Window, names: Mapping[str, str], readings: Sequence[Reading]) -> Window:
    """The window with the readings of tags in `names` (tag → name in the set)."""
    sums, others, doubtful = dict(window.sums), dict(window.others), window.doubtful
    for reading in readings:
        name, value = names.get(reading[0]), reading[1]
        if name is None or value is None or reading[2] is Quality.BAD:
            continue
        if isinstance(value, bool | str):
            others[name] = value
        elif math.isfinite(value):
            sums[name] = _with(sums.get(name), value)
        else:
            continue
        if reading[2] is not Quality.GOOD and name not in doubtful:
            doubtful |= {name}
    return Window(sums, others, doubtful)


def _with(known: Sums | None, value: float) -> Sums:
    if known is None:
        return Sums(1, value, value, value, 0.0, value, value)
    n, away = known.n + 1, value - known.mean
    mean = known.mean + away / n
    return Sums(
        n,
        min(known.least, value),
        max(known.greatest, value),
        mean,
        known.spread + away * (value - mean),
        known.first,
        value,
    )


def statistics(window: Window, units: Mapping[str, str], window_s: float) -> tuple[Statistics, ...]:
    """`sd` is that of the sample and needs two values."""
    return tuple(
        Statistics(
            name=name,
            uom=units.get(name),
            n=one.n,
            min=one.least,
            max=one.greatest,
            mean=one.mean,
            sd=math.sqrt(max(0.0, one.spread) / (one.n - 1)) if one.n > 1 else None,
            first=one.first,
            last=one.last,
            window_s=window_s,
        )
        for name, one in window.sums.items()
    )
