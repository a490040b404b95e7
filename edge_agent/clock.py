"""The only clock and the only sleep of the agent.

`Instant` carries wall and monotonic time together: durations come from `mono`, time stamps from `wall`.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

SECOND = 1_000_000
EARLIEST = 1_767_225_600_000_000
"""µs UTC, 2026-01-01: a clock before it was never set."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(NamedTuple):
    """`wall`: UTC microseconds since 1970. `mono`: microseconds that never go back within one process."""

    wall: int
    mono: int


class Clock(Protocol):
    def now(self) -> Instant: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Instant:
        return Instant(time.time_ns() // 1000, time.monotonic_ns() // 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - this is the one place


class Steady:
    """A clock that shows no time before one that is known to be past.

    A PC without a battery boots years back. Until its clock is set, time goes on from what was stored last (event
    model §3.6); then it is that of the clock again, and the step is a jump like any other.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._apart: int | None = None
        """Wall minus monotonic time while the clock is behind."""

    def not_before(self, wall: int) -> None:
        """`wall` (UTC µs) is past."""
        now = self._clock.now()
        if now.wall < wall:
            self._apart = wall - now.mono

    def believe(self) -> None:
        """The clock is known to be right: what it was before was wrong."""
        self._apart = None

    @property
    def is_behind(self) -> bool:
        return self._apart is not None

    def now(self) -> Instant:
        now = self._clock.now()
        if self._apart is None:
            return now
        if now.wall >= self._apart + now.mono:
            self._apart = None
            return now
        return Instant(self._apart + now.mono, now.mono)

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def alarm(seconds: float, ring: Callable[[], None]) -> None:
    """Call `ring` after so long in a thread of its own, whatever the event loop does. It keeps no process alive."""
    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()


def rfc3339(wall: int) -> str:
    """UTC microseconds as RFC 3339 with milliseconds and `Z`, e.g. `2026-03-02T01:14:07.250Z`."""
    moment = _EPOCH + timedelta(microseconds=wall)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """RFC 3339 to UTC microseconds. Raises ValueError; a time without a zone is refused, and one whose year in UTC
    has no four digits."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        raise ValueError(f"{text!r} is not in the years 1 to 9999") from None
