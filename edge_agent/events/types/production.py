"""Pieces, cycles and consumption: what a machine made, and from what (event model §2.3, §2.4, §2.9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edge_agent.events.types.head import Data, Micros


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
