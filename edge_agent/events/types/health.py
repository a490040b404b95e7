"""What could not be seen or was destroyed, connections, and the agent itself (event model §2.11)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edge_agent.events.types.head import Data, Micros


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
    """Of many streams each heartbeat names some in `last_seq`, and the next one the next; of what goes wrong at many
    devices or machines the worst are named."""

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
    late_dropped: Mapping[str, int] | None = None
    skew_ms: Mapping[str, float] | None = None


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
