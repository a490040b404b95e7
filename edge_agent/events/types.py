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
class Judged:
    """A quality value against its limits."""

    target: int | float | None = None
    lo: int | float | None = None
    hi: int | float | None = None
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A short burst as columns; `t_ms` are offsets from the event's time, `q` is as long as they, or absent."""

    name: str
    uom: str | None = None
    t_ms: tuple[int | float, ...]
    v: tuple[bool | int | float | str, ...]
    q: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What stands for `n` values of a window; `sd` is that of the sample and needs two."""

    name: str
    uom: str | None = None
    n: int
    min: float
    max: float
    mean: float
    sd: float | None = None
    first: float | None = None
    last: float | None = None
    window_s: float


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
    judged: Mapping[str, Judged] | None = None
    series: tuple[Series, ...] | None = None
    stats: tuple[Statistics, ...] | None = None
    unit_id: str | None = None
    cycle_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One feature of a cycle; `v` is absent when the value was BAD."""

    v: bool | int | float | str | None = None
    uom: str | None = None
    q: str = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleCompleted(Data):
    TYPE: ClassVar[str] = "cycle.completed"
    cycle_id: str
    started_at: Micros
    ended_at: Micros
    duration_s: float
    ideal_s: float | None = None
    wait_s: float | None = None
    result: str
    parts: int | None = None
    serials: tuple[str, ...] | None = None
    program: str | None = None
    params: Mapping[str, Param] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTimes:
    """Where the time of an order run went (ISO 22400 buckets)."""

    apt_s: float
    aust_s: float
    adet_s: float
    adot_s: float
    unknown_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Data):
    """One run of an order operation: an uninterrupted claim of a work unit (event model §2.5)."""

    order_id: str
    operation: str | None = None
    order_run_id: str
    job_state: str
    prev_order_id: str | None = None
    product: str | None = None
    planned_qty: int | float | None = None
    uom: str | None = None
    ideal_cycle_s: float | None = None
    origin: str
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStarted(Order):
    TYPE: ClassVar[str] = "order.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged(Order):
    """`totals` and `times` belong to a run that was suspended or aborted."""

    TYPE: ClassVar[str] = "order.changed"
    change: str
    totals: Mapping[str, int | float] | None = None
    times: OrderTimes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCompleted(Order):
    """`totals` is empty when the machine counts nothing."""

    TYPE: ClassVar[str] = "order.completed"
    totals: Mapping[str, int | float]
    times: OrderTimes
    end_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextChanged(Data):
    """`set` holds the keys that have a new value, `cleared` those that have none any more."""

    TYPE: ClassVar[str] = "context.changed"
    rev: int
    set: Mapping[str, str | tuple[str, ...]]
    cleared: tuple[str, ...] | None = None
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One side of a genealogy link; at least one of material, lot, serial is known."""

    material: str | None = None
    lot: str | None = None
    sublot: str | None = None
    serial: str | None = None
    qty: int | float | None = None
    uom: str | None = None
    use: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Scan evidence, as read."""

    kind: str
    raw: str
    grade: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenealogyLinked(Data):
    TYPE: ClassVar[str] = "genealogy.linked"
    relation: str
    inputs: tuple[Material, ...] | None = None
    outputs: tuple[Material, ...] | None = None
    station: str | None = None
    position: str | None = None
    read: Read | None = None
    cycle_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAlarm:
    """What an OPC UA server needs to acknowledge the alarm."""

    condition_id: str | None = None
    event_id: str | None = None
    branch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm(Data):
    """One occurrence of an alarm (event model §2.7)."""

    alarm_id: str
    code: str
    text: str | None = None
    severity: int
    origin: str
    active: bool
    acked: bool
    raised_at: Micros | None = None
    cleared_at: Micros | None = None
    acked_at: Micros | None = None
    acked_by: str | None = None
    stops_machine: bool | None = None
    snapshot: bool | None = None
    start_uncertain: bool | None = None
    suppressed_count: int | None = None
    native: NativeAlarm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRaised(Alarm):
    TYPE: ClassVar[str] = "alarm.raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmCleared(Alarm):
    TYPE: ClassVar[str] = "alarm.cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmAcked(Alarm):
    TYPE: ClassVar[str] = "alarm.acked"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRegister:
    """Meter values behind a consumption."""

    prev: int | float | None = None
    now: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumptionRecorded(Data):
    TYPE: ClassVar[str] = "consumption.recorded"
    kind: str
    resource: str
    from_at: Micros
    to_at: Micros
    delta: int | float
    uom: str
    total: int | float
    register: MeterRegister | None = None
    by_state: Mapping[str, int | float] | None = None
    lot: str | None = None
    flags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A KPI window as a span of real UTC time; `tz` is the zone its boundaries come from."""

    id: str
    basis: str
    from_at: Micros
    to_at: Micros
    tz: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTimes:
    """The buckets of event model §5, seconds; `microstop_s` is the part of `adet_s` in micro-stops."""

    pot_s: float
    pbt_s: float
    apt_s: float
    aust_s: float
    adet_s: float
    adot_s: float
    planned_down_s: float
    unknown_s: float
    microstop_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """Produced, good, scrap and rework quantity; what nobody counts is absent."""

    pq: int | float | None = None
    gq: int | float | None = None
    sq: int | float | None = None
    rq: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRunTime:
    """Planned run time per item (PRI) of a product made in the window."""

    product: str | None = None
    pri_s: float
    pq: int | float | None = None
    gq: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """Downtimes that began in the window."""

    count: int
    microstops: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiWindow(Data):
    TYPE: ClassVar[str] = "kpi.window"
    window: Window
    rev: int
    final: bool
    time: WindowTimes
    qty: Quantities
    pri: tuple[PlannedRunTime, ...] | None = None
    coverage: float
    kpi: Mapping[str, float] | None = None
    microstop_policy: str
    stops: Stops


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
    missed_scans: Mapping[str, int] | None = None


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
