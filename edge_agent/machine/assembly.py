"""The parts a machine is made of, in the order in which they hear facts.

What others build on comes first: context and orders, calendar, alarms; then cycles and consumption; KPI last.
"""

from collections.abc import Callable
from typing import Any, Final

from config.model import Config
from edge_agent.machine import alarms, conditions, consumption, cycles, genealogy, ordering, reporting, shiftwork
from edge_agent.machine.parts import Part, Team, Wiring, team

BUILDERS: Final[tuple[Callable[[Wiring], Part[Any] | None], ...]] = (
    shiftwork.build,
    ordering.build,
    genealogy.build,
    alarms.build,
    conditions.build,
    cycles.build,
    consumption.build,
    reporting.build,
)
"""Each gives the part of a machine, or None if the machine needs none."""


def assemble(config: Config, machine: str) -> Team:
    """Raises ValueError for an expression that does not parse; a checked configuration has none."""
    wiring = Wiring(config, machine)
    return team(tuple(part for build in BUILDERS if (part := build(wiring)) is not None))
