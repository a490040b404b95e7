"""To which order the pieces of a gap belong: to the one that was active when it began (event model §4).

If the order changed in the gap nobody can tell which pieces were made before the change; the count says so.
"""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from edge_agent.clock import Instant
from edge_agent.machine import counters
from edge_agent.machine.archive import Archive
from edge_agent.machine.counters import Group
from edge_agent.machine.ordering import Ordering, Work
from edge_agent.machine.orders import Run
from edge_agent.machine.out import Ctx, Out
from edge_agent.machine.parts import Team
from edge_agent.machine.plan import Plan
from edge_agent.machine.samples import Held

_OF_ORDER: Final = frozenset({"order_id", "operation", "order_run_id", "product", "batch"})


class Books(Protocol):
    """The part of a step that counts are booked with."""

    plan: Plan
    team: Team
    out: Out
    archive: Archive
    groups: Mapping[str, Group]
    held: Mapping[str, Held]

    @property
    def parts(self) -> Mapping[str, object]: ...


def flush_gap(books: Books, since: Instant, groups: Collection[str]) -> None:
    """Publish what the registers recovered over a gap that began at `since`."""
    part = next((part for part in books.team.parts if isinstance(part, Ordering)), None)
    state = books.parts[part.name] if part is not None else None
    waiting = [name for name in groups if name in books.groups and books.groups[name].since is not None]
    if part is None or part.options is None or not isinstance(state, Work) or not waiting:
        _flush(books, waiting)
        return
    changed, before = _active(state, books.archive, since)
    if changed or part.differs(state, books.held):
        for name in waiting:
            group = books.groups[name]
            books.groups = {**books.groups, name: group._replace(flags=group.flags | {"ambiguous_order"})}
    if not changed:
        _flush(books, waiting)
        return
    out = books.out
    kept = out.order_totals, out.ctx
    out.order_totals = before.totals if before is not None else None
    out.ctx = before.ctx if before is not None else without_order(out.ctx)
    _flush(books, waiting)
    if before is not None:
        booked = before._replace(totals=out.order_totals or {})
        runs = tuple(booked if run.id == before.id else run for run in books.archive.runs)
        books.archive = books.archive._replace(runs=runs)
    out.order_totals, out.ctx = kept


def _flush(books: Books, names: Collection[str]) -> None:
    for name in names:
        books.groups = {**books.groups, name: counters.flush(books.groups[name], name, books.plan, books.out)}


def _active(state: Work, archive: Archive, at: Instant) -> tuple[bool, Run | None]:
    """Whether the order has changed since then, and if so the run that was open."""
    if state.run is not None and state.run.started.mono <= at.mono:
        return False, state.run
    later = state.run is not None
    for run in archive.runs:
        ended = run.ended
        if ended is None or ended.mono <= at.mono:
            break
        if run.started.mono <= at.mono:
            return True, run
        later = True
    return later, None


def without_order(ctx: Ctx | None) -> dict[str, str | int | tuple[str, ...]]:
    """The context for counts that belong to no order."""
    return {key: value for key, value in (ctx or {}).items() if key not in _OF_ORDER}
