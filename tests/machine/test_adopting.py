"""A machine goes on under another configuration without having been away."""

from collections.abc import Mapping
from typing import Any

from config.model import Config
from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.contracts import Outcome
from edge_agent.machine.machine import Machine
from tests.machine.stories import PRESS, START, TAGS, config, machine


class Life:
    """A machine that is stepped by hand; `at` is seconds."""

    def __init__(self, made: Config) -> None:
        self.machine = machine(made)
        self.state: Any = None
        self.events: list[Any] = []
        self.latest: dict[str, Reading] = {}
        self.at = 0.0
        self._take(self.machine.initial(self.now))

    @property
    def now(self) -> Instant:
        return Instant(START + round(self.at * SECOND), 1000 * SECOND + round(self.at * SECOND))

    def read(self, at: float, **values: Any) -> list[Any]:
        """What follows from the values; those not named are the very same readings as before."""
        self.at = at
        self.latest |= {tag: Reading(tag, value, Quality.GOOD, None) for tag, value in values.items()}
        return self._take(self.machine.step(self.state, Batch("press", list(self.latest.values())), self.now))

    def wait(self, at: float) -> list[Any]:
        self.at = at
        return self._take(self.machine.tick(self.state, self.now))

    def adopt(self, at: float, made: Config, *, connected: bool = True) -> list[Any]:
        self.at = at
        latest: Mapping[str, list[Reading]] = {"press": list(self.latest.values())} if connected else {}
        new = machine(made)
        events = self._take(new.adopt(self.machine, self.state, self.now, latest))
        self.machine = new
        return events

    def leave(self, at: float) -> list[Any]:
        self.at = at
        return self._take(self.machine.leave(self.state, self.now))

    def _take(self, outcome: Outcome) -> list[Any]:
        self.state = outcome.state
        self.events += outcome.events
        numbers = [event.seq for event in self.events if event.lane == 0]
        assert numbers == list(range(1, len(numbers) + 1))
        return [event.data for event in outcome.events]


def press(**more: Any) -> Config:
    return config({**PRESS, **more})


def stopped() -> Life:
    """It ran from 0 s, and stands with a fault since 10 s; 5 parts were made."""
    life = Life(press())
    life.read(0, status=2, fault=0, total=100, reject=0)
    for second in range(1, 10):
        life.read(second, total=100 + min(second, 5))
    life.read(10, status=8)
    return life


def test_nothing_changed_is_nothing_said() -> None:
    life = stopped()
    life.read(15)
    assert life.adopt(15.5, press()) == []
    assert life.read(16) == []


def test_an_open_downtime_goes_on_and_is_judged_by_the_new_limit() -> None:
    life = stopped()
    (started,) = [event.data for event in life.events if event.data.TYPE == "downtime.started"]
    assert life.adopt(18, press(downtime={**PRESS["downtime"], "microstop": "30s"})) == []
    for second in range(19, 40):
        life.read(second)
    (promoted,) = life.read(41)
    assert (promoted.TYPE, promoted.downtime_id, promoted.class_) == (
        "downtime.updated", started.downtime_id, "stop",
    )  # fmt: skip
    life.read(42, status=2)
    (_, ended) = life.read(43.5)
    assert (ended.TYPE, ended.downtime_id, ended.duration_s) == ("downtime.ended", started.downtime_id, 32)


def test_another_mapping_holds_from_now_on() -> None:
    life = stopped()
    state = {"from": "status", "map": {1: "idle", 2: "running", 8: "setup"}, "debounce": {"default": "0s"}}
    (changed,) = life.adopt(18, press(state=state))
    assert (changed.TYPE, changed.state, changed.prev_state, changed.trigger) == (
        "state.changed", "setup", "fault", "config",
    )  # fmt: skip
    assert changed.prev_duration_s == 8


def test_a_mapping_by_a_tag_that_did_not_matter_before_is_judged_at_once() -> None:
    life = stopped()
    state = {"rules": [{"state": "blocked", "when": "reject == 0"}, {"state": "idle"}], "debounce": {"default": "0s"}}
    (changed,) = life.adopt(18, press(state=state))
    assert (changed.state, changed.trigger) == ("blocked", "config")


def test_what_was_counted_is_published_as_it_was_configured() -> None:
    life = stopped()
    life.read(11, status=2)
    life.read(12, total=106)
    said = life.adopt(12.5, press(counters={"main": {"total": "total", "max_rate": "2/s", "parts_per_count": 4}}))
    assert [(one.TYPE, one.delta["total"]) for one in said if one.TYPE == "production.counted"] == [
        ("production.counted", 1)
    ]
    life.read(13)
    life.read(14, total=107)
    life.read(16)
    counted = [event.data for event in life.events if event.data.TYPE == "production.counted"]
    assert counted[-1].totals["total"] == 6, "another factor is another baseline, and the totals go on"


def test_the_baseline_is_kept_while_the_register_is_the_same() -> None:
    life = stopped()
    life.adopt(18, config(PRESS, scan="2s"), connected=False)
    life.read(19, status=2, total=107)
    life.read(22)
    counted = [event.data for event in life.events if event.data.TYPE == "production.counted"]
    assert sum(one.delta["total"] for one in counted) == 7
    assert not [event for event in life.events if event.data.TYPE == "data.gap"]


def test_a_tag_that_means_something_else_is_a_gap_and_counts_from_its_next_value() -> None:
    life = stopped()
    life.adopt(18, config(PRESS, {**TAGS, "total": {"type": "uint16", "scale": 10.0}}), connected=False)
    life.latest.clear()
    life.read(21, status=2, fault=0, total=900, reject=0)
    life.read(22, total=903)
    life.read(25)
    (gap,) = [event.data for event in life.events if event.data.TYPE == "data.gap"]
    assert (gap.cause, gap.from_at, gap.to_at) == ("config_change", START + 10 * SECOND, START + 21 * SECOND)
    counted = [event.data for event in life.events if event.data.TYPE == "production.counted"]
    assert counted[-1].totals["total"] == 8


def test_a_gap_that_is_open_stays_open_and_covers_what_matters_now() -> None:
    life = stopped()
    life.wait(21)
    assert life.state.gaps["press"].cause == "comms_loss"
    counters = {"main": {"total": "total", "scrap": "reject", "max_rate": "2/s"}}
    life.adopt(22, press(counters=counters), connected=False)
    assert set(life.state.gaps["press"].tags) == {"press/status", "press/fault", "press/total", "press/reject"}
    life.latest.clear()
    life.read(30, status=8, fault=0, total=105, reject=0)
    (gap,) = [event.data for event in life.events if event.data.TYPE == "data.gap"]
    assert gap.cause == "comms_loss"
    downtimes = {event.data.downtime_id for event in life.events if event.data.TYPE.startswith("downtime.")}
    assert len(downtimes) == 1


def test_a_machine_that_is_taken_out_is_unknown_since_it_was_seen_last() -> None:
    life = stopped()
    life.read(12)
    (unknown,) = life.leave(13)
    assert (unknown.state, unknown.trigger, unknown.quality) == ("unknown", "config", "bad")
    restored = Machine(press(), "press", epoch="mlu4idc09c7x").restore(
        life.machine.dump(life.state), Instant(START + 60 * SECOND, 5 * SECOND)
    )
    assert restored.state.downtime.id == life.state.downtime.id
