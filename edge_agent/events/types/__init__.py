"""Every event type as a typed record; field names are those on the wire (event model §2).

Unit rule of the wire: `_s` is seconds (number, ms resolution), `_ms` milliseconds. A field ending `_at` (also
`since`) is held here as UTC microseconds and encoded as RFC 3339; `None` means absent and is not encoded.
"""

from edge_agent.events.types.alarms import Alarm, AlarmAcked, AlarmCleared, AlarmRaised, NativeAlarm
from edge_agent.events.types.commands import (
    Command,
    CommandAccepted,
    CommandDone,
    CommandExpired,
    CommandFailed,
    CommandRejected,
)
from edge_agent.events.types.downtime import (
    Downtime,
    DowntimeEnded,
    DowntimeStarted,
    DowntimeUpdated,
    Reason,
    Segment,
    StateChanged,
)
from edge_agent.events.types.head import Data, Event, Raw, event_id
from edge_agent.events.types.health import (
    AgentClockAdjusted,
    AgentHeartbeat,
    AgentStarted,
    AgentStopped,
    AgentWarning,
    ConnectionChanged,
    DataGap,
    DataLoss,
)
from edge_agent.events.types.kpi import KpiWindow, PlannedRunTime, Quantities, Stops, Window, WindowTimes
from edge_agent.events.types.measurements import Judged, MeasurementSampled, Series, Statistics
from edge_agent.events.types.orders import (
    ContextChanged,
    GenealogyLinked,
    Material,
    Order,
    OrderChanged,
    OrderCompleted,
    OrderStarted,
    OrderTimes,
    Read,
)
from edge_agent.events.types.production import (
    ConsumptionRecorded,
    CycleCompleted,
    MeterRegister,
    Param,
    ProductionCounted,
    Register,
)

__all__ = [
    "AgentClockAdjusted",
    "AgentHeartbeat",
    "AgentStarted",
    "AgentStopped",
    "AgentWarning",
    "Alarm",
    "AlarmAcked",
    "AlarmCleared",
    "AlarmRaised",
    "Command",
    "CommandAccepted",
    "CommandDone",
    "CommandExpired",
    "CommandFailed",
    "CommandRejected",
    "ConnectionChanged",
    "ConsumptionRecorded",
    "ContextChanged",
    "CycleCompleted",
    "Data",
    "DataGap",
    "DataLoss",
    "Downtime",
    "DowntimeEnded",
    "DowntimeStarted",
    "DowntimeUpdated",
    "Event",
    "GenealogyLinked",
    "Judged",
    "KpiWindow",
    "Material",
    "MeasurementSampled",
    "MeterRegister",
    "NativeAlarm",
    "Order",
    "OrderChanged",
    "OrderCompleted",
    "OrderStarted",
    "OrderTimes",
    "Param",
    "PlannedRunTime",
    "ProductionCounted",
    "Quantities",
    "Raw",
    "Read",
    "Reason",
    "Register",
    "Segment",
    "Series",
    "StateChanged",
    "Statistics",
    "Stops",
    "Window",
    "WindowTimes",
    "event_id",
]
