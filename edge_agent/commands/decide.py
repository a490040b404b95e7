"""What becomes of a command: refused, carried out now, or kept for its time; always answered, by events in `.p`.

Life cycle: `command.accepted` or `.rejected`, then `.done`, `.failed` or `.expired`. The effect is tried on a copy
of the step first: what is refused in the trial was never accepted, and leaves no trace but its answer. The answer is
kept under (source, id); a repeat gives it again with `duplicate: true` and executes nothing.
"""

import json
from typing import TYPE_CHECKING

from edge_agent.clock import Instant, rfc3339
from edge_agent.commands import effects
from edge_agent.commands.answers import close, say
from edge_agent.commands.envelope import CLASSES, Command, Refused, check_class, loaded, stored
from edge_agent.machine import context
from edge_agent.machine.archive import MAX_SCHEDULED, Result, Scheduled, result_key

if TYPE_CHECKING:
    from edge_agent.machine.step import Step


def answer(step: "Step", command: Command) -> None:
    """Judge the command and carry it out, now or later."""
    if command.retained:
        step.out.warn(
            "retained_command",
            f"{step.plan.name}: the command {command.name} {command.id} was retained, and would be carried out at "
            "every reconnect; it is refused. Publish commands without the retain flag.",
            step.plan.subject,
            command.source,
        )
        say(step, command, "rejected", "retained", "commands must not be retained")
        return
    known = step.archive.results.get(result_key(command.source, command.id))
    if known is not None:
        _again(step, command, known)
        return
    try:
        _check(step, command)
        _decide(step, command)
    except Refused as refused:
        close(step, command, "rejected", refused.code, refused.detail)


def _again(step: "Step", command: Command, known: Result) -> None:
    if known.digest != command.digest:
        say(step, command, "rejected", "invalid", "another command with this id and source has been received")
        return
    result = json.loads(known.result) if known.result is not None else None
    say(step, command, known.status, known.code, known.detail, result, duplicate=True)


def _check(step: "Step", command: Command) -> None:
    if command.name not in CLASSES:
        raise Refused("unknown_command", f"there is no command {command.name!r}")
    check_class(command)
    if command.subject != step.plan.subject:
        raise Refused("unknown_asset", f"this is {step.plan.subject}, not {command.subject}")
    if command.name not in effects.EFFECTS:
        raise Refused("unavailable", f"{command.name} is not available here")


def _decide(step: "Step", command: Command) -> None:
    now = step.now.wall
    if command.expires < now:
        close(step, command, "expired", "expired", f"it was valid until {rfc3339(command.expires)}")
        return
    effects.read(command)
    rev = context.revision(step.ctx)
    if command.expect_ctx_rev is not None and command.expect_ctx_rev != rev:
        raise Refused("conflict", f"the context has revision {rev}, not {command.expect_ctx_rev}")
    if command.effective_at is not None and command.effective_at > now:
        _schedule(step, command, command.effective_at)
        return
    effects.carry_out(step.fork(), command)
    say(step, command, "accepted", "ok")
    _execute(step, command)


def _schedule(step: "Step", command: Command, at: int) -> None:
    if command.name not in effects.DATED:
        raise Refused("invalid", f"{command.name} has no effective_at")
    if len(step.archive.scheduled) >= MAX_SCHEDULED:
        raise Refused("unavailable", f"{MAX_SCHEDULED} commands wait for their time already")
    due = Instant(at, step.now.mono + at - step.now.wall)
    waiting = sorted([*step.archive.scheduled, Scheduled(stored(command), due)], key=lambda one: one.at.mono)
    step.archive = step.archive._replace(scheduled=tuple(waiting))
    close(step, command, "accepted", "ok", f"to be carried out at {rfc3339(at)}")


def fire(step: "Step", at: Instant) -> None:
    """Carry out what was scheduled for now. Its life began when it was accepted, so it does not expire."""
    first, *rest = step.archive.scheduled
    command = loaded(first.command)
    step.archive = step.archive._replace(scheduled=tuple(rest))
    try:
        effects.carry_out(step.fork(), command)
    except Refused as refused:
        close(step, command, "failed", refused.code, refused.detail)
        return
    _execute(step, command)


def _execute(step: "Step", command: Command) -> None:
    step.out.causation = command.id
    done = effects.carry_out(step, command)
    step.tell_all()
    step.out.causation = None
    close(step, command, "done", "ok", None, done.result, done.undo)
