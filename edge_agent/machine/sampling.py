"""Sample sets within a step: what a batch, a timer, the end of a cycle or of a batch of pieces means for each."""

from collections.abc import Mapping, Sequence

from drivers.base import Reading
from edge_agent.clock import Instant
from edge_agent.machine import measurements
from edge_agent.machine.measurements import SetState
from edge_agent.machine.sample_sets import SetPlan
from edge_agent.machine.watching import Watching


class Sampling(Watching):
    def changed(
        self, device: str, fresh: Sequence[Reading], before: Mapping[str, Reading], *, agent_time: bool
    ) -> None:
        states = self.sets
        for index, plan in enumerate(self.set_plans):
            if plan.options.on != "change":
                continue
            old = states[index]
            new = measurements.changed(plan, old, fresh, before, device, self.now, self.out, agent_time=agent_time)
            if new is not old:
                states = (*states[:index], new, *states[index + 1 :])
        self.sets = states

    def wake_sets(self) -> None:
        """Start the timers of interval sets when there is something to sample."""
        for index, plan in enumerate(self.set_plans):
            if plan.options.every is not None and self.sets[index].next is None:
                self.interval(index, self.now)

    def interval(self, index: int, at: Instant) -> None:
        states = self.sets
        plan, stretch = self.set_plans[index], self.was.stretch
        new = measurements.interval(plan, states[index], self.devices, self.gaps, at, self.out, stretch)
        if new is not states[index]:
            self.sets = (*states[:index], new, *states[index + 1 :])

    def sample(
        self,
        device: str | None = None,
        readings: Sequence[Reading] = (),
        before: Mapping[str, Reading] | None = None,
        *,
        agent_time: bool = False,
    ) -> None:
        """Gather a batch of a device for statistics, and publish the sets of the cycles and batches that ended in it.
        `before`: the readings before it. What was read later than the end belongs to the next one."""

        def until(at: Instant) -> Sequence[Reading]:
            if agent_time or at.wall >= self.now.wall:
                return readings
            return [reading for reading in readings if reading[3] is not None and reading[3] <= at.wall]

        marks, self.marks = self.marks, []
        states = list(self.sets)
        for index, plan in enumerate(self.set_plans):
            state, done = states[index], 0
            for mark in marks:
                if mark.trigger != plan.options.on:
                    continue
                seen = until(mark.at)
                state = self._gathered(plan, state, device, seen[done:])
                done = max(done, len(seen))
                values = {name: known.last for name, known in self.devices.items() if name not in self.gaps}
                if device is not None and before is not None and device in values:
                    values[device] = {**before, **{reading[0]: reading for reading in seen}}
                state = measurements.at_mark(plan, state, mark, values, self.out)
            states[index] = self._gathered(plan, state, device, readings[done:])
        if any(new is not old for new, old in zip(states, self.sets, strict=True)):
            self.sets = tuple(states)

    def _gathered(self, plan: SetPlan, state: SetState, device: str | None, readings: Sequence[Reading]) -> SetState:
        if not plan.options.statistics or device is None or not readings:
            return state
        return measurements.gather(plan, state, device, readings, self.now)
