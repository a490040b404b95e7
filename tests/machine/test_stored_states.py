"""A machine whose state goes through its stored bytes at every step tells what one tells that never stores.

This is what makes a kill harmless: whatever the model knows is in the bytes, for every part of it. What is left out
on purpose (averages, sample sets and what was warned of begin anew after a restart, the clock is looked at again) is
handed over here.
"""

from typing import Any

import pytest
from hypothesis import given, settings

from config.model import Config
from drivers.base import Quality
from edge_agent.clock import SECOND, Instant
from edge_agent.machine import saved as saving
from edge_agent.machine.counters import Group
from edge_agent.machine.gaps import Gap
from edge_agent.machine.machine import Machine
from edge_agent.machine.out import Revision
from edge_agent.machine.record import MachineState
from edge_agent.machine.samples import Held
from edge_agent.machine.state import Tracked
from edge_agent.replay.drive import Drive
from tests.machine import everything
from tests.machine.stories import EPOCH, START, config, flat, lines


class Forgetful(Machine):
    """Has nothing in memory from one call to the next."""

    def step(self, state, batch, now):
        return super().step(self._remembered(state), batch, now)

    def tick(self, state, now):
        return super().tick(self._remembered(state), now)

    def command(self, state, command, now):
        return super().command(self._remembered(state), command, now)

    def _remembered(self, state: MachineState) -> MachineState:
        known, rebuild = saving.load(self.dump(state), state.at, same_clock=True)
        parts, anew = self._parts(known, rebuild, state.at)
        assert anew == {}
        looks = {name: part._replace(wake=state.parts[name].wake) for name, part in parts.items() if name == "kpi"}
        return self._adapt(known, state.at)._replace(
            devices={
                name: device._replace(last=live.last, late=live.late, dropped=live.dropped)
                for name, live in state.devices.items()
                for device in [live._replace(**known.devices[name]._asdict())]
            },
            gaps=known.gaps,
            past=state.past,
            tracked=known.tracked._replace(revisit=state.tracked.revisit),
            sets=state.sets,
            warned=state.warned,
            wake=state.wake,
            archive=saving.load_archive(saving.dump_archive(state.archive, state.at), state.at),
            mode=known.mode,
            parts={**parts, **looks},
            causes=known.causes,
        )


class Stored(Machine):
    """Is stored after every step, and each time what it writes is what one writes that never wrote before."""

    def step(self, state, batch, now):
        return self._stored(super().step(state, batch, now))

    def tick(self, state, now):
        return self._stored(super().tick(state, now))

    def _stored(self, outcome):
        anew = saving.Writer(self._plan.fingerprints, self._team.parts)
        assert self.dump(outcome.state) == anew.dump(outcome.state)
        return outcome


def told(made: Config, kind: type[Machine], happened: list[Any]) -> list[dict[str, Any]]:
    played = everything.timeline(happened)
    driven = Drive([kind(made, "press", epoch=EPOCH)], made.devices, start=START, subject=made.subject)
    return [flat(one) for one in driven.play(lines(made, played.lines), round(played.until * SECOND))]


@pytest.mark.parametrize("name", everything.PLANTS)
@settings(deadline=None, max_examples=12)
@given(happened=everything.steps(everything.KILLS, everything.JUMPS, everything.RESTARTS))
def test_a_state_that_goes_through_its_bytes_at_every_step_tells_the_same(name: str, happened: list[Any]) -> None:
    made = everything.PLANTS[name]

    for one, other in zip(told(made, Machine, happened), told(made, Forgetful, happened), strict=True):
        assert one == other


@pytest.mark.parametrize(
    "changed",
    [
        {"seq_p": 7},
        {"seq_m": 7},
        {"held": {}},
        {"gaps": {"press": Gap(Instant(START, 0), "comms_loss", ())}},
        {"tracked": Tracked(doubt=Instant(START, 0))},
        {"groups": {"main": Group(declared=3)}},
        {"orphans": {"old": Group()}},
        {"ctx": {"batch": "L1"}},
        {"earlier": (Revision(Instant(START, 0), None),)},
        {"order_totals": {"main": {"total": 1}}},
        {"mode": "setup"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_alone_has_changed_since_the_last_writing_is_written(changed: dict[str, Any]) -> None:
    one = Machine(config(), "press", epoch=EPOCH)
    state = one.initial(Instant(START, 0)).state
    held = {"press/status": Held(2, Quality.GOOD, Instant(START, 0), Instant(START, 0))}
    state = state._replace(held=held)
    before = one.dump(state)

    after = one.dump(state._replace(**changed))

    assert after != before
    assert one.dump(state) == before


@pytest.mark.parametrize("name", everything.PLANTS)
@settings(deadline=None, max_examples=8)
@given(happened=everything.steps(everything.KILLS, everything.RESTARTS))
def test_what_is_kept_of_the_last_writing_is_what_would_be_written(name: str, happened: list[Any]) -> None:
    told(everything.PLANTS[name], Stored, happened)
