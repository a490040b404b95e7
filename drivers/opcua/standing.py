"""How well a server can do its work, by its own words: ServiceLevel and state (Part 4, 6.6.2.4.2). Pure."""

from typing import NamedTuple

HEALTHY = 200
"""ServiceLevel from here on: all is well. Below 200 something is amiss, 1 has no data, 0 is in maintenance."""
_RUNNING = 0
_STATES = ("Running", "Failed", "NoConfiguration", "Suspended", "Shutdown", "Test", "CommunicationFault", "Unknown")


class Standing(NamedTuple):
    """A server that says nothing of itself is well and running."""

    level: int = 255
    state: int = _RUNNING

    def told(self, *, level: object = None, state: object = None) -> "Standing":
        """With what the server says now; what is no number says nothing."""
        return Standing(
            level if isinstance(level, int) else self.level, state if isinstance(state, int) else self.state
        )

    @property
    def healthy(self) -> bool:
        return self.level >= HEALTHY and self.state == _RUNNING

    def below(self, other: "Standing") -> bool:
        """Whether the other one would be preferred; healthy ones are equals."""
        return not self.healthy and self._rank() < other._rank()

    def _rank(self) -> tuple[bool, int]:
        return self.state == _RUNNING, min(self.level, HEALTHY)

    def __str__(self) -> str:
        state = _STATES[self.state] if 0 <= self.state < len(_STATES) else str(self.state)
        return f"the server is {state} and its service level is {self.level}"
