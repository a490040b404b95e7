"""What each command does to a machine. An effect may raise Refused at any point: it is tried on a copy first."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel

from edge_agent.clock import Instant
from edge_agent.commands import count_effects, order_effects, parameters
from edge_agent.commands.done import Done
from edge_agent.commands.envelope import Command, Refused
from edge_agent.commands.parameters import checked
from edge_agent.events.types import AlarmAcked
from edge_agent.machine import explaining
from edge_agent.machine.context import Word
from edge_agent.machine.explaining import Why
from edge_agent.machine.ordering import When
from edge_agent.machine.parts import Ordered

if TYPE_CHECKING:
    from edge_agent.machine.step import Step


class Effect(NamedTuple):
    """`carry_out(step, parameters, command)`."""

    parameters: type[BaseModel]
    carry_out: Callable[["Step", Any, Command], Done]


def _assign(step: "Step", asked: parameters.AssignReason, command: Command) -> Done:
    why = Why(asked.code, asked.text, asked.category, asked.planned, command.issued_by)
    rev = explaining.assign(step, asked.downtime_id, why, asked.segment)
    return Done({"downtime_id": asked.downtime_id, "rev": rev})


def _split(step: "Step", asked: parameters.Split, command: Command) -> Done:
    rev = explaining.split(step, asked.downtime_id, asked.at)
    return Done({"downtime_id": asked.downtime_id, "rev": rev})


def _set_context(step: "Step", asked: parameters.ContextSet, command: Command) -> Done:
    part, state = order_effects.settled(step)
    given = asked.model_fields_set - {"ttl", "mode"}
    if not given and asked.mode is None:
        raise Refused("invalid", "nothing to set is given")
    if asked.mode is not None:
        _may_set_mode(step, asked.mode)
    values: dict[str, Word | None] = {key: getattr(asked, key) or None for key in given}
    until = None
    if asked.ttl is not None:
        until = Instant(step.now.wall + asked.ttl, step.now.mono + asked.ttl)
    with step.hushed():
        state = part.set_by_mom(state, values, until, When(step.now), step)
        if asked.mode is not None:
            state = part.set_mode(state, asked.mode, until, step)
        order_effects.put(step, state)
    return Done({"rev": (step.ctx or {}).get("rev", 0)})


def _may_set_mode(step: "Step", mode: str) -> None:
    """One source of the mode, and of change-overs, per machine."""
    options = step.plan.options
    if options.state is None:
        raise Refused("unavailable", "this machine has no state, so it has no mode")
    if options.mode is not None:
        raise Refused("conflict", f"the mode of this machine is set by its tag {options.mode.source}")
    if mode == "setup" and options.orders is not None and options.orders.changeover == "order_gap":
        raise Refused("conflict", "change-overs of this machine are found between orders (changeover: order_gap)")


def _set_calendar(step: "Step", asked: parameters.CalendarSet, command: Command) -> Done:
    """The calendar holds from now on; segments of open downtimes and windows are cut anew."""
    if not asked.model_fields_set:
        raise Refused(
            "invalid", "nothing to set is given; `shifts: []` takes the calendar back to the configured one"
        )
    with step.hushed():
        step.set_calendar(None if asked.is_empty else json.dumps(dict(command.params), sort_keys=True))
    step.tell_all()
    told = {} if asked.version is None else {"version": asked.version}
    return Done({"calendar": "configuration" if asked.is_empty else "mom", **told})


def _ack(step: "Step", asked: parameters.AlarmAck, command: Command) -> Done:
    before = len(step.out.events)
    params = {"alarm_id": asked.alarm_id, "comment": asked.comment}
    step.tell(Ordered(command.id, command.source, command.name, params, command.issued_by, step.now))
    if not any(isinstance(event.data, AlarmAcked) for event in step.out.events[before:]):
        raise Refused("not_found", f"there is no alarm {asked.alarm_id} to acknowledge")
    return Done({"alarm_id": asked.alarm_id})


EFFECTS: Final[Mapping[str, Effect]] = {
    "order.dispatch": Effect(parameters.OrderDispatch, order_effects.dispatch),
    "order.start": Effect(parameters.OrderStart, order_effects.start),
    "order.stop": Effect(parameters.OrderStop, order_effects.stop),
    "order.update": Effect(parameters.OrderUpdate, order_effects.update),
    "order.revoke": Effect(parameters.OrderRevoke, order_effects.revoke),
    "downtime.assign_reason": Effect(parameters.AssignReason, _assign),
    "downtime.split": Effect(parameters.Split, _split),
    "production.declare": Effect(parameters.Declare, count_effects.declare),
    "production.reverse": Effect(parameters.Reverse, count_effects.reverse),
    "context.set": Effect(parameters.ContextSet, _set_context),
    "calendar.set": Effect(parameters.CalendarSet, _set_calendar),
    "alarm.ack": Effect(parameters.AlarmAck, _ack),
}
"""What can be carried out; every other command is `unavailable`."""
DATED: Final = frozenset({"order.start", "order.stop", "order.update", "context.set", "calendar.set"})
"""Commands that may wait for their `effective_at`."""


def read(command: Command) -> BaseModel:
    """The parameters. Raises Refused."""
    return checked(EFFECTS[command.name].parameters, command.params)


def carry_out(step: "Step", command: Command) -> Done:
    """Raises Refused; then the step is of no use any more."""
    asked = read(command)
    return EFFECTS[command.name].carry_out(step, asked, command)
