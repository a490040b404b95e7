"""Commands that wait for their time, and how they are called off."""

from typing import TYPE_CHECKING

from edge_agent.commands.answers import close
from edge_agent.commands.envelope import loaded

if TYPE_CHECKING:
    from edge_agent.machine.step import Step


def cancel(step: "Step", order_id: str, why: str) -> int:
    """Call off what waits for the order; how many commands that were."""
    waiting = [(one, loaded(one.command)) for one in step.archive.scheduled]
    gone = [command for _, command in waiting if command.params.get("order_id") == order_id]
    kept = tuple(one for one, command in waiting if command not in gone)
    if gone:
        step.archive = step.archive._replace(scheduled=kept)
    for command in gone:
        close(step, command, "failed", "conflict", why)
    return len(gone)
