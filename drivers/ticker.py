"""When to read: a fixed-rate ticker with scan classes.

Tags of equal period form a scan class. Due times stay on the grid `start + n × period`, so a slow read delays
nothing after it. Ticks that passed meanwhile are skipped and counted, never made up in a burst.
All times are microseconds of a monotonic clock.
"""

import asyncio
from collections.abc import Callable, Iterable

from drivers.base import Micros


class Schedule:
    """The pure part: which periods are due, and when the next one is. All start together."""

    def __init__(self, periods: Iterable[Micros], start: Micros) -> None:
        self._next = dict.fromkeys(sorted(set(periods)), start)
        if any(period <= 0 for period in self._next):
            raise ValueError("a period must be longer than nothing")

    def next(self) -> Micros | None:
        """The earliest due time; None without periods."""
        return min(self._next.values(), default=None)

    def take(self, now: Micros) -> tuple[tuple[Micros, ...], int]:
        """(periods due at `now`, shortest first; ticks skipped) and move those to their next due time after `now`."""
        due: list[Micros] = []
        skipped = 0
        for period, at in self._next.items():
            if at > now:
                continue
            due.append(period)
            late = (now - at) // period
            skipped += late
            self._next[period] = at + (late + 1) * period
        return tuple(due), skipped


def _loop_time() -> Micros:
    return int(asyncio.get_running_loop().time() * 1_000_000)


class Ticker:
    """The one wait of a polling driver. The first tick comes at once and has every scan class."""

    def __init__(self, periods: Iterable[Micros], now: Callable[[], Micros] = _loop_time) -> None:
        self._periods = frozenset(periods)
        self._now = now
        self._schedule: Schedule | None = None

    async def tick(self) -> tuple[tuple[Micros, ...], int]:
        """Wait until a scan class is due. Returns (periods due, ticks skipped since the last call)."""
        if self._schedule is None:
            self._schedule = Schedule(self._periods, self._now())
        at = self._schedule.next()
        if at is None:
            await asyncio.get_running_loop().create_future()  # no tags: nothing is ever due
            raise AssertionError("unreachable")
        now = self._now()
        while now < at:  # a timer may wake a moment early
            await asyncio.sleep((at - now) / 1_000_000)  # noqa: TID251 - the one wait of polling drivers
            now = self._now()
        return self._schedule.take(now)


async def pause(seconds: float) -> None:
    """Silence that a device asks for between requests."""
    await asyncio.sleep(seconds)  # noqa: TID251 - a property of the device, not of the agent's time
