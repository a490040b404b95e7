"""Order runs, context and genealogy (event model §2.5, §2.6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edge_agent.events.types.head import Data


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
