"""A window of key figures as the event `kpi.window` says it.

The times are those of ISO 22400 whatever the micro-stop policy, so that windows of all machines can be added up; the
policy is in the ratios alone.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from edge_agent.clock import SECOND
from edge_agent.events import types
from edge_agent.events.types import KpiWindow, PlannedRunTime, Quantities, WindowTimes
from edge_agent.machine import kpi
from edge_agent.machine.kpi import ENOUGH_COVERAGE, Made
from edge_agent.machine.windows import Window

QUANTITIES: Final[Mapping[Literal["pq", "gq", "sq", "rq"], str]] = {
    "pq": "total",
    "gq": "good",
    "sq": "scrap",
    "rq": "rework",
}
"""Produced, good, scrap and rework quantity: the member of the counter that each is."""


def told(
    window: Window, made: Sequence[Made], policy: str, tz: str, uncertainty: float, *, whole_count: bool, rev: int
) -> KpiWindow:
    """An ended window with what was made in it. `whole_count`: no piece of it is missing."""
    assert window.end is not None
    buckets, stops = window.buckets, window.stops
    figures = kpi.figures(
        buckets,
        made,
        stops,
        policy=policy,
        whole_count=whole_count,
        execution=window.end - window.start if window.basis == "order" else None,
    )
    coverage = kpi.coverage(buckets)
    return KpiWindow(
        quality="good" if whole_count and coverage >= ENOUGH_COVERAGE else "uncertain",
        quality_detail=("count_incomplete",) if made and not whole_count else None,
        time_basis="derived",
        time_unc_s=uncertainty,
        window=types.Window(id=window.id, basis=window.basis, from_at=window.start, to_at=window.end, tz=tz),
        rev=rev,
        final=False,
        time=WindowTimes(
            pot_s=_seconds(buckets.pot),
            pbt_s=_seconds(buckets.pbt),
            apt_s=_seconds(buckets.apt),
            aust_s=_seconds(buckets.aust),
            adet_s=_seconds(buckets.adet),
            adot_s=_seconds(buckets.adot),
            planned_down_s=_seconds(buckets.planned),
            unknown_s=_seconds(buckets.unknown),
            microstop_s=_seconds(stops.micro),
        ),
        qty=Quantities(**{name: kpi.total(made, name) for name in QUANTITIES}),
        pri=tuple(
            PlannedRunTime(product=each.product, pri_s=each.pri / SECOND, pq=each.pq, gq=each.gq)
            for each in made
            if each.pri
        )
        or None,
        coverage=coverage,
        kpi=figures or None,
        microstop_policy=policy,
        stops=types.Stops(count=stops.begun, microstops=stops.microstops, failures=stops.failures),
    )


def _seconds(micros: int) -> float:
    return round(micros / SECOND, 3)
