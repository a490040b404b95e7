"""How long to wait before the next attempt: doubling from `initial` to `max`, with jitter.

The one place of this policy, used by the collector for devices and by the forwarder for the broker. Each wait
is drawn from the upper half of its step, so that machines that lost the same peer do not all return at once.
"""

from random import Random


class Backoff:
    """`initial` and `max` are microseconds, as durations are in the configuration."""

    def __init__(self, initial: int, max: int, random: Random) -> None:
        self._initial = initial
        self._max = max
        self._random = random
        self._attempt = 0

    def next(self) -> float:
        """Seconds to wait now; the next wait will be twice as long, `max` at most."""
        step = min(self._max, self._initial << min(self._attempt, 32))
        self._attempt += 1
        return step * self._random.uniform(0.5, 1.0) / 1e6

    def reset(self) -> None:
        """The peer works again: start from `initial`."""
        self._attempt = 0
