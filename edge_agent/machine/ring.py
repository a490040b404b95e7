"""What a device noted in its ring buffer, told at the device's own times, as if every moment of it had been seen.

A ring is complete: it tells all that happened to its tags since it was read last, also while the agent or the
connection was down. So a gap of these tags is filled by it, and nothing it says is ever late. What was lost in it is
declared, and what the lost entries may have said is forgotten.

A PLC's clock is believed as far as its times lie between the last look at the ring and this one. Where it tells what
its clock shows now, only distances from that count. Where it is not believed the entries happened when they were
read; in a gap they then only say what is so at its end.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from drivers.base import Batch, Entries, Micros, Quality, Reading
from edge_agent.clock import Instant
from edge_agent.machine import counters
from edge_agent.machine.gaps import Gap
from edge_agent.machine.parts import Sample
from edge_agent.machine.plan import DevicePlan
from edge_agent.machine.recalling import Recalling
from edge_agent.machine.samples import Device, Moment
from edge_agent.machine.times import SKEW


class Timed(NamedTuple):
    """`readings` have a time of this agent's clock each, or none has. `skew`: µs by which the device's clock is found
    wrong."""

    readings: Sequence[Reading]
    believed: bool
    skew: Micros | None = None


def timed(readings: Sequence[Reading], clock: Micros | None, earliest: Micros, now: Micros) -> Timed:
    """Entries that were written between `earliest` and `now` (UTC µs). A time that makes no sense becomes that of the
    entry before; where most make none, none is believed."""
    shift = 0 if clock is None else now - clock
    stamps = [None if reading.source_time is None else reading.source_time + shift for reading in readings]
    known = [stamp for stamp in stamps if stamp is not None]
    good = [stamp for stamp in known if earliest - SKEW <= stamp <= now + SKEW]
    if not known:
        return Timed(readings, not readings)
    if 2 * len(good) < len(known):
        return Timed([reading._replace(source_time=None) for reading in readings], False, known[-1] - now)
    placed, at = [], min(good[0], now)
    for reading, stamp in zip(readings, stamps, strict=True):
        if stamp is not None and stamp <= now + SKEW:
            at = min(max(at, stamp), now)
        placed.append(reading._replace(source_time=at))
    return Timed(placed, True)


class Ring(Recalling):
    def entries(self, batch: Batch) -> None:
        told, plan = batch.entries, self.plan.devices[batch.device]
        assert told is not None
        gap = self.gaps.get(batch.device)
        if gap is not None and gap.recalled is not None:
            self.give_up()
        self.advance()
        for code, text in told.notes:
            self.warn(code, text, text)
        if not plan.used & told.tags:
            return
        device, gap = self.devices.get(batch.device) or Device(), self.gaps.get(batch.device)
        since = device.seen if gap is None else gap.since
        readings, believed, skew = timed(
            batch.readings, told.clock, self.now.wall if since is None else since.wall, self.now.wall
        )
        if skew is not None and not device.skewed:
            self._skewed(batch.device, skew)
        fresh = [reading for reading in readings if reading.tag in plan.used]
        end = self._at(fresh[-1:]).at if told.more and believed and fresh else self.now
        self.devices = {**self.devices, batch.device: _after(device, told, fresh, end, skew)}
        self.out.store = True
        first = self._at(fresh[:1]).at if believed and fresh else self.now
        if told.lost is not None and since is not None:
            self._lost(plan, told, since, first)
        if gap is None:
            self._tell(plan, fresh, since, believed=believed)
        elif believed and gap.settle is None:
            self._fill(batch.device, gap, told, fresh, first, end)
        else:
            newest = list({reading.tag: reading for reading in fresh}.values())
            essential = [reading for reading in newest if reading.tag in plan.essential]
            self._in_gap(batch.device, gap, plan, [Moment(self.now, "agent", essential)], newest)
        if fresh and self.set_plans:
            self.changed(batch.device, fresh, device.last, agent_time=not believed)
        self.advance()

    def _tell(self, plan: DevicePlan, readings: Sequence[Reading], seen: Instant | None, *, believed: bool) -> None:
        """Each entry at its own time, with the timers between; all of them now if their times are not believed."""
        if believed:
            moments = list(self._moments(readings, plan))
        else:
            moments = [Moment(self.now, "agent", [one]) for one in readings if one.tag in plan.essential]
        for moment in moments:
            self.advance(moment.at)
            self._moment(plan, moment, seen)
            self.tell_all()
            seen = moment.at
        self._confirm(plan, seen)
        for name in self.plan.checked:
            self._set_group(name, counters.check(self.groups[name], name, self.plan, self.out))
        if self.gaps:
            self._close_tag_gaps(plan.name)

    def _fill(
        self, device: str, gap: Gap, told: Entries, readings: Sequence[Reading], first: Instant, end: Instant
    ) -> None:
        """The ring tells what happened in a gap up to `end`, from its beginning or, after a loss, from `first` on."""
        plan = self.plan.devices[device]
        keys = tuple(key for tag, key in plan.essential.items() if tag in told.tags and key in gap.tags)
        left = tuple(key for key in gap.tags if key not in keys)
        self.gaps = {name: other for name, other in self.gaps.items() if name != device}
        if left:
            self._set_gap(device, gap._replace(tags=left))
        since = gap.since
        if told.lost is not None:
            since = first
            self._flush()
            self._declare(gap.since, since, gap.cause, keys, told)
        self._believe(device, gap._replace(tags=keys, since=since))
        self._tell(plan, readings, since, believed=True)
        self.advance(end)
        if told.lost is None:
            self._filled(device, gap._replace(told=keys), end)

    def _declare(self, start: Instant, end: Instant, cause: str, keys: Collection[str], told: Entries) -> None:
        """A gap of these tags. A total that the PLC itself keeps is not touched by a loss."""
        affects, recovered = self._affects(keys), None
        if "count" in affects:
            added = any(key.partition("/")[2] in told.counting for key in keys if key in self.plan.roles)
            recovered = "lower_bound" if added else "exact"
        self._gap_event(start, end, cause, affects, recovered, None)

    def _lost(self, plan: DevicePlan, told: Entries, since: Instant, first: Instant) -> None:
        """Entries were lost between the last look and the first one that is there: what they said is not known."""
        assert told.lost is not None
        self._flush()
        keys = {tag: key for tag, key in plan.essential.items() if tag in told.tags}
        self._declare(since, first, told.lost, keys.values(), told)
        gone = {key for tag, key in keys.items() if tag not in told.counting and key in self.held}
        if not gone:
            return
        self.held = {key: held for key, held in self.held.items() if key not in gone}
        for key in gone & self.team.by_key.keys():
            self.tell(Sample(key, None, Quality.BAD, since, "agent"))
        self._evaluate(since, "agent", "quality", self._parts())


def _after(device: Device, told: Entries, readings: Collection[Reading], end: Instant, skew: Micros | None) -> Device:
    device = device._replace(seen=end, good=True, last={**device.last, **{one.tag: one for one in readings}}, late=())
    times = [one.source_time for one in readings if one.source_time is not None]
    if told.clock is not None or (skew is None and not times):
        return device
    return device._replace(skewed=skew is not None, newest=end.wall + skew if skew is not None else max(times))
