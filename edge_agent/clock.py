"""The only clock and the only sleep of the agent.

`Instant` carries wall and monotonic time together: durations come from `mono`, time stamps from `wall`.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

SECOND = 1_000_000
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


def rfc3339(wall: int) -> str:
    """UTC microseconds as RFC 3339 with milliseconds and `Z`, e.g. `2026-03-02T01:14:07.250Z`."""
    moment = _EPOCH + timedelta(microseconds=wall)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """RFC 3339 to UTC microseconds. Raises ValueError; a time without a zone is refused."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)
