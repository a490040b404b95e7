"""Points in time on both clocks: when something happened, seen from a moment at which both are known."""

from typing import Final

from edge_agent.clock import SECOND, Instant

SKEW: Final = 5 * SECOND
"""A device clock further from ours than this is not used (event model §3.6)."""


def at_mono(now: Instant, mono: int) -> Instant:
    """The instant at which the monotonic clock showed `mono`, by the wall clock of `now`."""
    return Instant(now.wall - (now.mono - mono), mono)


def at_wall(now: Instant, wall: int) -> Instant:
    """The instant at which the wall clock of `now` showed `wall`."""
    return Instant(wall, now.mono - (now.wall - wall))


def seconds(start: Instant, end: Instant) -> float:
    """Monotonic seconds from start to end, to the millisecond, never negative."""
    return round(max(0, end.mono - start.mono) / SECOND, 3)


def later(left: Instant, right: Instant) -> Instant:
    return left if left.mono >= right.mono else right
