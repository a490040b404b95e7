"""What became of a command (event model §6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edge_agent.events.types.head import Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Data):
    """What became of a command; `causationid` of the event is the command's id (event model §6)."""

    command_id: str
    command_source: str
    name: str
    status: str
    code: str
    detail: str | None = None
    result: Mapping[str, Any] | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAccepted(Command):
    TYPE: ClassVar[str] = "command.accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRejected(Command):
    TYPE: ClassVar[str] = "command.rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDone(Command):
    TYPE: ClassVar[str] = "command.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailed(Command):
    TYPE: ClassVar[str] = "command.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandExpired(Command):
    TYPE: ClassVar[str] = "command.expired"
