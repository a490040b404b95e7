"""Whether a device is read as often as its configuration says. Pure.

A scan that is skipped once is counted. Scans that are skipped again within `calm` are a spell; it is over when none
was skipped for so long.
"""

from dataclasses import dataclass

CALM = 60_000_000
"""Microseconds; at least three of the device's slowest scans."""


@dataclass(slots=True)
class Pace:
    """Of one device. `behind`: a spell is on. Times are monotonic microseconds."""

    calm: int = CALM
    behind: bool = False
    skipped: int = 0
    """Scans skipped in the spell, or since the last quiet time."""
    _last: int | None = None

    def note(self, missed: int, now: int) -> None:
        """Take in how many scans were skipped before the batch of `now`."""
        if not missed and not self.behind:
            return
        quiet = self._last is None or now - self._last > self.calm
        if missed:
            self.behind = not quiet
            self.skipped = missed if quiet else self.skipped + missed
            self._last = now
        elif quiet:
            self.behind = False
