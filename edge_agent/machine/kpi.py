"""The key figures of a window from its times and quantities (ISO 22400-2, event model §5).

Times are classed into buckets that tile the planned operation time: POT = planned down + PBT, and PBT = APT + AUST +
ADET + ADOT + unknown. Ratios are not rounded and not clipped: an effectiveness above 1 says that the planned run
time per item is wrong. A ratio is absent when one of its inputs is. Windows are added up by their times and
quantities, never by their ratios.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from edge_agent.clock import SECOND

ENOUGH_COVERAGE: Final = 0.98
"""Below this the times do not carry a ratio; OEE still holds, because the production time cancels."""


class Buckets(NamedTuple):
    """Microseconds by bucket; time outside planned operation is in none of them."""

    apt: int = 0
    aust: int = 0
    adet: int = 0
    adot: int = 0
    planned: int = 0
    unknown: int = 0

    @property
    def pot(self) -> int:
        return sum(self)

    @property
    def pbt(self) -> int:
        return self.pot - self.planned

    def plus(self, bucket: str, micros: int) -> "Buckets":
        return self._replace(**{bucket: getattr(self, bucket) + micros}) if micros else self

    def moved(self, source: str, target: str, micros: int) -> "Buckets":
        """At most what is there goes from one bucket to another."""
        micros = min(micros, getattr(self, source))
        return self.plus(source, -micros).plus(target, micros)


class Made(NamedTuple):
    """Pieces of one product; `pri` is its planned run time per item in µs. None is what nobody counts."""

    product: str | None = None
    pri: int | None = None
    pq: int = 0
    gq: int | None = None
    sq: int | None = None
    rq: int | None = None


class Stops(NamedTuple):
    """Downtimes that began in the window, and µs in it: `micro` of delay in micro-stops, `repair` in failures."""

    begun: int = 0
    microstops: int = 0
    failures: int = 0
    micro: int = 0
    repair: int = 0


def bucket(state: str, mode: str, *, order: bool | None, active: bool, on: bool, planned: bool) -> str | None:
    """The bucket of time in a state; None outside planned operation.

    `order`: an order is active; None where no orders are configured, and then production counts without one.
    `active`: an order makes this time planned operation even outside a shift. `on`: a shift is on.
    A machine that produces in a break or outside its shifts adds that time to the planned busy time.
    """
    if state == "running" and mode == "production" and order is not False:
        return "apt"
    if not (on or active):
        return None
    if planned:
        return "planned"
    if state == "unknown" or (state == "running" and mode == "unknown"):
        return "unknown"
    if "setup" in (state, mode):
        return "aust"
    return "adot" if order is False else "adet"


def coverage(buckets: Buckets) -> float:
    return 1 - buckets.unknown / buckets.pbt if buckets.pbt else 1.0


def total(made: Sequence[Made], member: str) -> int | None:
    """The sum over products; None if nothing was counted, or one of them is not known."""
    values = [getattr(each, member) for each in made]
    return None if not values or None in values else sum(values)


def weighted(made: Sequence[Made], member: str) -> float | None:
    """Σ PRI × quantity in µs; None if a product that was made has no PRI, or a quantity is not known."""
    if not made:
        return None
    result = 0
    for each in made:
        quantity = getattr(each, member)
        if quantity is None or (each.pri is None and (each.pq or len(made) == 1)):
            return None
        result += (each.pri or 0) * quantity
    return result


def figures(
    buckets: Buckets,
    made: Sequence[Made],
    stops: Stops,
    *,
    policy: str = "availability",
    whole_count: bool = True,
    execution: int | None = None,
) -> Mapping[str, float]:
    """The ratios. `whole_count`: no piece of the window is missing; `execution`: µs of an order's execution.

    The policy says where micro-stops are lost: in availability, as the buckets have them, or in performance, as if
    the machine had produced slowly in that time. OEE is the same.
    """
    micro = min(stops.micro, buckets.adet) if policy == "performance" else 0
    apt, adet = buckets.apt + micro, buckets.adet - micro
    pbt, aupt = buckets.pbt, apt + buckets.aust
    covered = coverage(buckets)
    kpi: dict[str, float] = {}

    def ratio(name: str, over: float | None, under: float | None, *, times: bool = False) -> float | None:
        if over is None or not under or (times and covered < ENOUGH_COVERAGE):
            return None
        kpi[name] = over / under
        return kpi[name]

    pq = total(made, "pq")
    gq = total(made, "gq")
    if not whole_count:
        earned = ideal = None
    else:
        earned, ideal = weighted(made, "gq"), weighted(made, "pq")
    ratio("availability", apt, pbt, times=True)
    effectiveness = ratio("effectiveness", ideal, apt, times=True)
    quality = ratio("quality_ratio", *_quality(made))
    ratio("oee", earned, pbt)
    if effectiveness is not None and quality is not None:
        ratio("nee", aupt * effectiveness * quality, pbt, times=True)
    ratio("technical_efficiency", apt, apt + adet, times=True)
    ratio("utilization_efficiency", apt, pbt - buckets.adot - buckets.unknown, times=True)
    ratio("allocation_efficiency", pbt - buckets.adot - buckets.unknown, pbt, times=True)
    ratio("setup_rate", buckets.aust, aupt, times=True)
    if len(made) > 1:
        ratio("quality_ratio_plain", gq, pq)
    ratio("scrap_ratio", total(made, "sq"), pq)
    ratio("rework_ratio", total(made, "rq"), pq)
    if stops.failures:
        ratio("mttr_s", stops.repair / SECOND, stops.failures, times=True)
        ratio("mtbf_s", (buckets.apt + buckets.aust) / SECOND, stops.failures, times=True)
    if execution and pq is not None and whole_count:
        ratio("throughput_per_h", pq * 3600 * SECOND, execution)
    return kpi


def _quality(made: Sequence[Made]) -> tuple[float | None, float | None]:
    """Good over produced, weighted by PRI; with one product PRI cancels and is not needed."""
    if len(made) == 1:
        return made[0].gq, made[0].pq
    return weighted(made, "gq"), weighted(made, "pq")
