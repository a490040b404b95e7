"""Orders and their runs: what is claimed, what was counted for it, where its time went.

An order run is one uninterrupted claim of the machine by an order operation; resuming makes a new run. Every piece
that is counted belongs to the run that is open when it is booked, or to none, and to nothing else (the sum over runs
is the sum of all counts). Only the configured authority starts and ends runs; reaching the planned quantity ends
nothing by itself.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import OrderTimes

MAX_JOBS: Final = 50
MAX_RUNS: Final = 20
MAX_BOOKED: Final = 48
"""Bookings that are remembered for a change dated in the past; beyond, neighbours are merged."""
BUCKETS: Final = ("apt", "aust", "adet", "adot", "unknown")


class Job(NamedTuple):
    """An order operation as the MOM dispatched it, or as the floor names it. `not_before`: UTC µs."""

    order_id: str
    operation: str | None = None
    product: str | None = None
    planned_qty: int | float | None = None
    uom: str | None = None
    ideal_cycle_s: float | None = None
    batch: str | None = None
    recipe: str | None = None
    not_before: int | None = None
    priority: int | None = None

    def is_for(self, order_id: str, operation: str | None) -> bool:
        """Whether the job is the one named; without an operation any of the order is."""
        return self.order_id == order_id and operation in (None, self.operation)


class Run(NamedTuple):
    """One claim. `story`: correlation id of its events. `totals`: group → what was booked to it. `times`: bucket →
    µs in closed state intervals. `ctx`: what events of it carry, for those that come after its end."""

    id: str
    job: Job
    started: Instant
    verified: bool
    story: str
    ctx: Mapping[str, str | int | tuple[str, ...]] = {}
    totals: Mapping[str, Mapping[str, int]] = {}
    times: Mapping[str, int] = {}
    ended: Instant | None = None


class Booked(NamedTuple):
    """Counts that were published: up to when they were made, and the run that they were booked to."""

    at: Instant
    group: str
    delta: Mapping[str, int]
    run: str | None


def times(run: Run) -> OrderTimes:
    spent = {f"{name}_s": round(run.times.get(name, 0) / SECOND, 3) for name in BUCKETS}
    return OrderTimes(**spent)


def spend(run: Run, name: str, span: int) -> Run:
    """The run with `span` µs more in a bucket."""
    return run._replace(times={**run.times, name: run.times.get(name, 0) + span})


def remember(booked: tuple[Booked, ...], new: Booked, oldest: int) -> tuple[Booked, ...]:
    """The bookings not older than `oldest` (monotonic µs), with a new one."""
    kept = [one for one in booked if one.at.mono >= oldest]
    kept.append(new)
    while len(kept) > MAX_BOOKED:
        kept = _merged(kept)
    return tuple(kept)


def _merged(booked: list[Booked]) -> list[Booked]:
    """Half as many: each two of one group and run become one, up to the later one's time."""
    out: list[Booked] = []
    waiting: dict[tuple[str, str | None], Booked] = {}
    for one in booked:
        before = waiting.pop((one.group, one.run), None)
        if before is None:
            waiting[one.group, one.run] = one
        else:
            both = {key: before.delta.get(key, 0) + one.delta.get(key, 0) for key in {**before.delta, **one.delta}}
            out.append(one._replace(delta=both))
    merged = sorted([*out, *waiting.values()], key=lambda one: one.at.mono)
    return merged if out else merged[1:]


def reached(run: Run, group: str) -> bool:
    """Whether the counter `group` has made the planned quantity."""
    planned = run.job.planned_qty
    return planned is not None and made(run, group) >= planned


def made(run: Run, group: str) -> int:
    totals = run.totals.get(group, {})
    return totals.get("total", sum(totals.values()))
