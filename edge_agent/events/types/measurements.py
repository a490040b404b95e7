"""Sample sets with their limits, bursts and statistics (event model §2.8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edge_agent.events.types.head import Data


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
