"""What every event has: the common head of `data` (event model §1.2) and its place in its stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from buffer.outbox import Lane

Micros: TypeAlias = int


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Common head of `data` (event model §1.2). Its `ctx` belongs to the `Event`."""

    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[str] = "1.0.0"
    quality: str = "good"
    quality_detail: tuple[str, ...] | None = None
    time_basis: str = "agent"
    time_unc_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Evidence as read."""

    tag: str
    value: bool | int | float | str
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event with its place in its stream, ready to be encoded.

    Streams: a machine's events go to `<machine>.p` (lane PRODUCTION) or `<machine>.m` (lane MEASUREMENT), the
    agent's own to `$agent.h` (lane HEALTH). `seq` is assigned by the step that made the event, from the state
    that is committed with it: no number without a row. `time` is when it happened, `recorded` when it was made.
    `ctx` is the context at `time`, one immutable mapping for all events of a revision.
    """

    lane: Lane
    seq: int
    time: Micros
    recorded: Micros
    data: Data
    correlation_id: str | None = None
    causation_id: str | None = None
    ctx: Mapping[str, str | int | tuple[str, ...]] | None = None


def event_id(epoch: str, seq: int) -> str:
    """`<epoch>.<seq>`; with the source the idempotency key (event model §1.2)."""
    return f"{epoch}.{seq}"
