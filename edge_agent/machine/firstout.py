"""First-out: which alarm is why the machine stands.

Of the alarms that stop the machine, the first one raised from `BEFORE` the start of the loss to `AFTER` it is the
cause of the downtime, and its reason. Those that follow are listed behind it and never replace it. An alarm found
active on connecting has no known start and is no cause.
"""

from collections.abc import Sequence
from typing import Final

from edge_agent.clock import SECOND, Instant
from edge_agent.machine.parts import Cause

BEFORE: Final = 2 * SECOND
AFTER: Final = 3 * SECOND
_MOST: Final = 50


def within(cause: Cause, start: Instant) -> bool:
    return -BEFORE <= cause.at.mono - start.mono <= AFTER


def causes(known: Sequence[Cause], start: Instant) -> tuple[Cause, ...]:
    """Those of a loss that began at `start`, first-out first."""
    return tuple(sorted((one for one in known if within(one, start)), key=lambda one: one.at.mono))


def remember(known: Sequence[Cause], cause: Cause, debounce: int) -> tuple[Cause, ...]:
    """The alarms that a loss may still turn out to have begun with; µs that its candidate may wait."""
    if cause.snapshot:
        return tuple(known)
    oldest = cause.at.mono - debounce - BEFORE - AFTER
    kept = [one for one in known if one.at.mono >= oldest and one.alarm_id != cause.alarm_id]
    return (*kept[: _MOST - 1], cause)
