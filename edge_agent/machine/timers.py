"""When a machine must be woken: every timer that its state holds, on the monotonic clock."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Protocol

from edge_agent.machine import downtime, gaps
from edge_agent.machine.archive import Archive
from edge_agent.machine.counters import Group
from edge_agent.machine.downtime import Downtime
from edge_agent.machine.gaps import Gap
from edge_agent.machine.measurements import SetState
from edge_agent.machine.plan import Plan
from edge_agent.machine.samples import Device, Held
from edge_agent.machine.state import Tracked, debounce

_at = itemgetter(0)


class Timed(Protocol):
    """The parts of a state that hold timers."""

    @property
    def devices(self) -> Mapping[str, Device]: ...
    @property
    def held(self) -> Mapping[str, Held]: ...
    @property
    def gaps(self) -> Mapping[str, Gap]: ...
    @property
    def tracked(self) -> Tracked: ...
    @property
    def groups(self) -> Mapping[str, Group]: ...
    @property
    def downtime(self) -> Downtime | None: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def sets(self) -> tuple[SetState, ...]: ...


def deadlines(plan: Plan, state: Timed) -> Iterator[tuple[int, str, str]]:
    """Every timer: (monotonic µs, kind, of what)."""
    for name, device in state.devices.items():
        if device.seen is not None and device.good and name not in state.gaps:
            yield device.seen.mono + plan.devices[name].timeout, "device", name
    for name, gap in state.gaps.items():
        if gap.settle is not None and gap.back is None:
            if gap.read:
                yield gap.settle.mono, "settle", name
        elif gap.back is not None:
            yield gap.back.mono + gaps.PATIENCE, "patience", name
    for key, held in state.held.items():
        if held.stale is not None and gaps.covering(state.gaps, key) is None:
            yield held.stale.mono + plan.timeout(key), "tag", key
    tracked = state.tracked
    if tracked.doubt is not None:
        yield tracked.doubt.mono + max(plan.timeout(key) for key in plan.state_keys), "doubt", ""
    if tracked.revisit is not None:
        yield tracked.revisit, "revisit", ""
    candidate = tracked.candidate
    if candidate is not None:
        yield candidate.since.mono + debounce(plan, candidate.verdict.state), "debounce", ""
    for name, group in state.groups.items():
        if group.first is not None and group.cause != "gap_recovery":
            yield group.first.mono + plan.options.flush, "flush", name
    episode = state.downtime
    if episode is not None:
        if episode.pausing is not None:
            yield episode.pausing.since.mono + plan.downtime.merge_gap, "pause", ""
        promotion = downtime.promote_at(plan, episode)
        if promotion is not None and (candidate is None or candidate.verdict.state != "running"):
            yield promotion, "promote", ""
    if state.archive.scheduled:
        yield state.archive.scheduled[0].at.mono, "command", ""
    for index, sampled in enumerate(state.sets):
        if sampled.next is not None:
            yield sampled.next, "interval", str(index)


def due(plan: Plan, state: Timed) -> tuple[int, str, str] | None:
    """The timer that is due first; of several at one time the one named first above."""
    return min(deadlines(plan, state), default=None, key=_at)
