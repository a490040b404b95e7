"""What a device recorded while nobody looked, as if it had been seen: the same step, at the device's own times.

The tags of a gap that are recalled are believed again from its beginning on: the state goes on where it was, and
every sample is judged at its own time, with the timers between. The events before stay as they were: the state was
published as unknown from the last good sample on, and that interval ends as soon as it began. At the end
`data.gap` says `history_recovered`. A tag that the device has no history of stays in the gap, and what hangs on it
unknown, until it is read again.

Everything that a piece gives is one step and so one commit. Between two pieces the machine's time stands still at the
end of the first, so that it makes no difference where a history is cut. If the next piece does not come, because the
connection was lost or the agent killed, the gap begins anew where the last one ended.
"""

from collections.abc import Collection, Iterator
from typing import Final

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.machine import gaps
from edge_agent.machine.gaps import Gap
from edge_agent.machine.plan import DevicePlan
from edge_agent.machine.record import MachineState
from edge_agent.machine.samples import Device, Moment
from edge_agent.machine.step import Step
from edge_agent.machine.times import at_wall

_NEXT_PIECE: Final = 60 * SECOND
"""For the next piece of a history to come."""


def unseen(state: MachineState, device: str) -> int | None:
    """Since when nothing of the device is known, UTC µs; None if nothing is missing, or its history is of no use."""
    gap, known = state.gaps.get(device), state.devices.get(device)
    if known is None or known.seen is None or not known.good or known.skewed:
        return None
    if gap is None:
        return known.seen.wall
    return None if gap.settle is not None or gap.back is not None else (gap.recalled or gap.since).wall


class Recalling(Step):
    def advance(self, until: Instant | None = None) -> None:
        halted = [gap for gap in self.gaps.values() if gap.recalled is not None]
        if not halted:
            super().advance(until)
            return
        end = min((gap.recalled for gap in halted if gap.recalled is not None), key=lambda at: at.mono)
        super().advance(end if until is None or until.mono > end.mono else until)
        self.wake = min(gap.awaited.mono for gap in halted if gap.awaited is not None)
        if self.wake <= self.now.mono:
            self.give_up()
            super().advance(until)

    def batch(self, batch: Batch) -> None:
        gap = self.gaps.get(batch.device)
        if gap is not None and gap.recalled is not None:
            self.give_up()
        super().batch(batch)

    def give_up(self) -> None:
        """No more of a history comes: the rest of each gap begins where the history ended."""
        for device, gap in self.gaps.items():
            if gap.recalled is None:
                continue
            self.gaps = {name: other for name, other in self.gaps.items() if name != device}
            self._filled(device, gap, gap.recalled)
            self.open_gap(device, gap.recalled, gap.cause)

    def recall(self, batch: Batch) -> None:
        """A piece of a device's history. What is older than what is known is passed over."""
        self.advance()
        device, gap = self.devices.get(batch.device), self.gaps.get(batch.device)
        if batch.recalled is None or device is None or unseen(self._so_far(), batch.device) is None:
            return
        plan = self.plan.devices[batch.device]
        end = at_wall(self.now, min(batch.recalled.until, self.now.wall))
        fresh = list(self._newer(batch, plan))
        seen = device.seen if gap is None else gap.recalled or gap.since
        if gap is not None:
            told = self._told(batch, gap, plan)
            self.gaps = {name: other for name, other in self.gaps.items() if name != batch.device}
            left = tuple(key for key in gap.tags if key not in told)
            if left:
                self._set_gap(batch.device, gap._replace(tags=left, recalled=None))
            if gap.recalled is None:
                self._believe(batch.device, gap._replace(tags=told))
        before = device.last
        self.devices = {**self.devices, batch.device: _after(device, fresh, end)}
        for moment in self._moments(fresh, plan):
            super().advance(moment.at)
            self._moment(plan, moment, seen)
            self.tell_all()
            seen = moment.at
        super().advance(end)
        self.out.store = True
        if fresh and self.set_plans:
            self.changed(batch.device, fresh, before, agent_time=False)
        if gap is not None and batch.recalled.more:
            awaited = Instant(self.now.wall + _NEXT_PIECE, self.now.mono + _NEXT_PIECE)
            self._set_gap(batch.device, gap._replace(recalled=end, told=told, awaited=awaited))
        elif gap is not None:
            self._filled(batch.device, gap._replace(told=told), end)
        self.advance()

    def _so_far(self) -> MachineState:
        return self.was._replace(gaps=self.gaps, devices=self.devices)

    def _told(self, batch: Batch, gap: Gap, plan: DevicePlan) -> tuple[str, ...]:
        """The tags of the gap that are recalled, in all pieces of it alike."""
        assert batch.recalled is not None
        recalled = {key for tag, key in plan.essential.items() if tag in batch.recalled.tags}
        return tuple(key for key in (gap.tags if gap.recalled is None else gap.told) if key in recalled)

    def _believe(self, device: str, gap: Gap) -> None:
        """The recalled tags as they were when the gap began."""
        held = dict(self.held)
        for key in gap.tags:
            one = held.get(key)
            if one is not None and one.quality is not Quality.BAD:
                held[key] = one._replace(stale=None)
        self.held = held
        if self.team.parts:
            self._tell_closed(device, gap, gap.since)
        self._evaluate(gap.since, "agent", gaps.TRIGGERS[gap.cause], self._parts())

    def _filled(self, device: str, gap: Gap, end: Instant) -> None:
        """The gap was filled up to `end`."""
        whole = len(gap.told) == len(gap.tags)
        affects = self.plan.devices[device].affects if whole else self._affects(gap.told)
        recovered = "exact" if "count" in affects else None
        self._flush()
        self._gap_event(gap.since, end, gap.cause, affects, recovered, None, history=True)

    def _newer(self, batch: Batch, plan: DevicePlan) -> Iterator[Reading]:
        """What is not known yet: later than the last sample of its tag."""
        for reading in batch.readings:
            key = plan.essential.get(reading.tag)
            held = self.held.get(key) if key is not None else None
            known = self.devices[batch.device].last.get(reading.tag)
            at = known.source_time if known is not None else None
            if at is None and held is not None and held.basis == "source":
                at = held.at.wall
            if reading.tag in plan.used and reading.source_time is not None and reading.source_time > (at or 0):
                yield reading

    def _moments(self, readings: Collection[Reading], plan: DevicePlan) -> Iterator[Moment]:
        """The readings of essential tags, those of one time together."""
        waiting: list[Reading] = []
        for reading in readings:
            if reading.tag not in plan.essential:
                continue
            if waiting and (
                waiting[0].source_time != reading.source_time or any(one.tag == reading.tag for one in waiting)
            ):
                yield self._at(waiting)
                waiting = []
            waiting.append(reading)
        if waiting:
            yield self._at(waiting)

    def _at(self, readings: list[Reading]) -> Moment:
        assert readings[0].source_time is not None
        return Moment(at_wall(self.now, min(readings[0].source_time, self.now.wall)), "source", readings)


def _after(device: Device, readings: Collection[Reading], end: Instant) -> Device:
    times = [reading.source_time for reading in readings if reading.source_time is not None]
    newest = max([*times, *([device.newest] if device.newest is not None else [])], default=None)
    last = {**device.last, **{reading.tag: reading for reading in readings}}
    return device._replace(seen=end, last=last, newest=newest, late=())
