"""States and downtimes of a machine (event model §2.1, §2.2)."""

from dataclasses import dataclass
from typing import ClassVar

from edge_agent.events.types.head import Data, Micros, Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Data):
    TYPE: ClassVar[str] = "state.changed"
    state: str
    group: str
    mode: str = "production"
    prev_state: str | None = None
    prev_duration_s: float | None = None
    planned: bool | None = None
    raw: Raw | None = None
    rule: str
    trigger: str
    debounced_s: float | None = None
    cause_alarm: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    code: str
    text: str | None = None
    source: str
    set_by: str | None = None
    set_at: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    state: str
    started_at: Micros
    duration_s: float
    order_id: str | None = None
    shift: str | None = None
    planned: bool | None = None
    category: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime(Data):
    """One mutable record; the highest `rev` wins (event model §2.2)."""

    downtime_id: str
    rev: int
    status: str
    started_at: Micros
    ended_at: Micros | None = None
    duration_s: float | None = None
    # named `class` on the wire
    class_: str
    planned: str
    category: str
    reason: Reason | None = None
    segments: tuple[Segment, ...] | None = None
    unknown_s: float | None = None
    start_uncertain: bool | None = None
    end_uncertain: bool | None = None
    parts_during: int | None = None
    cause_alarms: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimeStarted(Downtime):
    TYPE: ClassVar[str] = "downtime.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimeUpdated(Downtime):
    TYPE: ClassVar[str] = "downtime.updated"


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimeEnded(Downtime):
    TYPE: ClassVar[str] = "downtime.ended"
