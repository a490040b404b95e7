"""One occurrence of an alarm, from raised to acknowledged (event model §2.7)."""

from dataclasses import dataclass
from typing import ClassVar

from edge_agent.events.types.head import Data, Micros


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
