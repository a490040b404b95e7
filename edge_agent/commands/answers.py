"""Answers to commands: the event that says what became of one, and what is kept of it for repeats."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from edge_agent.commands.envelope import Command
from edge_agent.events.types import Command as Answer
from edge_agent.events.types import (
    CommandAccepted,
    CommandDone,
    CommandExpired,
    CommandFailed,
    CommandRejected,
)
from edge_agent.machine.archive import Result, result_key, with_result

if TYPE_CHECKING:
    from edge_agent.machine.step import Step

_ANSWERS: Final[Mapping[str, type[Answer]]] = {
    "accepted": CommandAccepted,
    "rejected": CommandRejected,
    "done": CommandDone,
    "failed": CommandFailed,
    "expired": CommandExpired,
}


def close(
    step: "Step",
    command: Command,
    status: str,
    code: str,
    detail: str | None = None,
    result: Mapping[str, Any] | None = None,
    undo: str | None = None,
) -> None:
    """Say what became of it and keep that for repeats."""
    say(step, command, status, code, detail, result)
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":")) if result is not None else None
    now = step.now.wall
    kept = Result(command.digest, command.name, status, code, detail, text, now, command.expires, undo)
    step.archive = with_result(step.archive, result_key(command.source, command.id), kept, now)


def say(
    step: "Step",
    command: Command,
    status: str,
    code: str,
    detail: str | None = None,
    result: Mapping[str, Any] | None = None,
    *,
    duplicate: bool = False,
) -> None:
    data = _ANSWERS[status](
        command_id=command.id,
        command_source=command.source,
        name=command.name,
        status=status,
        code=code,
        detail=detail,
        result=result,
        duplicate=duplicate,
    )
    step.out.production(step.now.wall, data, command.id, command.id)
