"""How long to wait before the next attempt: doubling up to a longest wait, with jitter.

The one place of this policy, used by the collector for devices and by the forwarder for the broker. A peer that is
silent (switched off, cut off) costs nobody anything by being asked, and should be back soon after it is there: it is
asked every few seconds for as long as it takes. One that refuses us will most likely do so again, and may count the
attempts: it is asked more and more seldom. Each wait is drawn from the upper half of its step, so that machines that
lost the same peer do not all return at once.
"""

from random import Random


class Backoff:
    """All are microseconds, as durations are in the configuration. `max` is the longest wait for a peer that refuses
    us, `silent` for one that says nothing; it is never more than `max` nor less than `initial`."""

    def __init__(self, initial: int, max: int, random: Random, *, silent: int | None = None) -> None:
        self._initial = initial
        self._longest = {False: max, True: max if silent is None else sorted((initial, silent, max))[1]}
        self._random = random
        self._attempts = {False: 0, True: 0}

    def next(self, *, silent: bool = False) -> float:
        """Seconds to wait now; the next wait of this kind will be twice as long, up to the longest."""
        step = min(self._longest[silent], self._initial << min(self._attempts[silent], 32))
        self._attempts[silent] += 1
        return step * self._random.uniform(0.5, 1.0) / 1e6

    def reset(self) -> None:
        """The peer works again: start from `initial`."""
        self._attempts = {False: 0, True: 0}
