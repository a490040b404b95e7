"""Key figures of a window (event model §2.10)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edge_agent.events.types.head import Data, Micros


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
