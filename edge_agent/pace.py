"""Whether a device is read as often as its configuration says. Pure.

A scan that is skipped once is counted. Scans that are skipped again within `CALM` are a spell, and a spell is one
warning; it is over when none was skipped for so long.
"""

from dataclasses import dataclass
from enum import Enum

CALM = 60_000_000
"""Microseconds; at least three of the device's slowest scans."""


class Turn(Enum):
    """What changed with a batch."""

    BEHIND = "behind"
    CAUGHT_UP = "caught up"


@dataclass(slots=True)
class Pace:
    """Of one device. `behind`: a spell is on. Times are monotonic microseconds."""

    calm: int = CALM
    behind: bool = False
    skipped: int = 0
    """Scans skipped since the last quiet time."""
    _last: int | None = None

    def note(self, missed: int, now: int) -> Turn | None:
        """Take in how many scans were skipped before the batch of `now`."""
        quiet = self._last is None or now - self._last > self.calm
        if missed:
            self.skipped = missed if quiet else self.skipped + missed
            self._last = now
            if quiet or self.behind:
                return None
            self.behind = True
            return Turn.BEHIND
        if quiet and self.behind:
            self.behind = False
            return Turn.CAUGHT_UP
        return None
