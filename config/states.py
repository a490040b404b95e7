"""The words for what a machine does and why it stands."""

from enum import StrEnum


class State(StrEnum):
    """Canonical states (event model §3.1)."""

    RUNNING = "running"
    STARVED = "starved"
    BLOCKED = "blocked"
    IDLE = "idle"
    STOPPED = "stopped"
    FAULT = "fault"
    SETUP = "setup"
    MAINTENANCE = "maintenance"
    OFF = "off"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """Categories of a downtime (event model §2.2)."""

    BREAKDOWN = "breakdown"
    SETUP = "setup"
    STARVED = "starved"
    BLOCKED = "blocked"
    OPERATOR = "operator"
    TOOLING = "tooling"
    QUALITY = "quality"
    UTILITY = "utility"
    PLANNED_MAINTENANCE = "planned_maintenance"
    BREAK = "break"
    NO_ORDER = "no_order"
    PLANNED_OTHER = "planned_other"
    EXTERNAL = "external"
    UNCLASSIFIED = "unclassified"
