"""Every event type as a typed record; field names are those on the wire (event model §2).

Unit rule of the wire: `_s` is seconds (number, ms resolution), `_ms` milliseconds. A field ending `_at` (also
`since`) is held here as UTC microseconds and encoded as RFC 3339; `None` means absent and is not encoded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from buffer.outbox import Lane

Micros: TypeAlias = int


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Common head of `data` (event model §1.2)."""

    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[str] = "1.0.0"
    quality: str = "good"
    quality_detail: tuple[str, ...] | None = None
    time_basis: str = "agent"
    time_unc_s: float = 0
    ctx: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Evidence as read."""

    tag: str
    value: bool | int | float | str
    text: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    tag: str
    prev: int | float | None = None
    now: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionCounted(Data):
    TYPE: ClassVar[str] = "production.counted"
    counter: str
    from_at: Micros
    to_at: Micros
    delta: Mapping[str, int | float]
    totals: Mapping[str, int | float]
    order_totals: Mapping[str, int | float] | None = None
    uom: str = "H87"
    scrap_reasons: tuple[Mapping[str, Any], ...] | None = None
    raw: tuple[Register, ...] | None = None
    cause: str
    flags: tuple[str, ...] | None = None
    pass_: str | None = None
    parts_per_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementSampled(Data):
    TYPE: ClassVar[str] = "measurement.sampled"
    set: str
    trigger: str
    part: int | None = None
    parts: int | None = None
    values: Mapping[str, bool | int | float | str]
    q: Mapping[str, str] | None = None
    at_ms: Mapping[str, float] | None = None
    uom: Mapping[str, str] | None = None
    tags_rev: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataGap(Data):
    """We could not see (event model §2.11)."""

    TYPE: ClassVar[str] = "data.gap"
    from_at: Micros
    to_at: Micros
    cause: str
    affects: tuple[str, ...]
    count_recovered: str | None = None
    recovered_delta: Mapping[str, int | float] | None = None
    history_recovered: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLoss(Data):
    """We had it and destroyed it (event model §2.11)."""

    TYPE: ClassVar[str] = "data.loss"
    lost_stream: str
    lost_epoch: str
    seq_from: int | None = None
    seq_to: int | None = None
    extent: str
    count_by_type: Mapping[str, int] | None = None
    cause: str
    policy: str
    totals_after: Mapping[str, Mapping[str, int | float]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChanged(Data):
    TYPE: ClassVar[str] = "connection.changed"
    endpoint: str
    protocol: str
    status: str
    since: Micros
    last_good_at: Micros | None = None
    reason: str | None = None
    native: str | None = None
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted(Data):
    TYPE: ClassVar[str] = "agent.started"
    version: str
    config_hash: str
    clean_stop: bool
    prev_epoch: str | None = None
    prev_last_seq: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStopped(Data):
    TYPE: ClassVar[str] = "agent.stopped"
    uptime_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHeartbeat(Data):
    TYPE: ClassVar[str] = "agent.heartbeat"
    uptime_s: float
    buffer: Mapping[str, int | float]
    last_seq: Mapping[str, int]
    clock: Mapping[str, Any]
    disk_free: int
    config_hash: str
    version: str
    clock_adjusted_total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentClockAdjusted(Data):
    TYPE: ClassVar[str] = "agent.clock_adjusted"
    offset_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWarning(Data):
    """A warning about configuration or input, rate-limited (event model §7.24)."""

    TYPE: ClassVar[str] = "agent.warning"
    code: str
    text: str
    subject: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event with its place in its stream, ready to be encoded.

    Streams: a machine's events go to `<machine>.p` (lane PRODUCTION) or `<machine>.m` (lane MEASUREMENT), the
    agent's own to `$agent.h` (lane HEALTH). `seq` is assigned by the step that made the event, from the state
    that is committed with it: no number without a row. `time` is when it happened, `recorded` when it was made.
    """

    lane: Lane
    seq: int
    time: Micros
    recorded: Micros
    data: Data
    correlation_id: str | None = None
    causation_id: str | None = None


def event_id(epoch: str, seq: int) -> str:
    """`<epoch>.<seq>`; with the source the idempotency key (event model §1.2)."""
    return f"{epoch}.{seq}"
