"""What a device noted in its ring buffer is told at the device's own times, through every gap."""

from typing import Any

from drivers.base import Batch, Entries, Quality, Reading
from edge_agent.clock import SECOND, Instant
from tests.machine.stories import START, OpcPlc, config, machine
from tests.machine.test_recalling import Recorded

PRESS = {
    "state": {
        "rules": [{"state": "running", "when": "run"}, {"state": "idle"}],
        "debounce": {"default": "0s"},
    },
    "counters": {"main": {"total": "parts", "max_rate": "2/s"}},
}
TAGS = {"run": "bool", "parts": "uint32"}
Entry = tuple[float | None, str, int | bool]
"""(seconds on the PLC's clock, tag, value)"""


class Noted(Recorded):
    """`entries(at, (1.2, "run", True), …)`: read at `at`."""

    def __init__(self, tags: dict[str, str] = TAGS, **options: Any) -> None:
        self.machine = machine(config({**PRESS, **options}, tags, kind=OpcPlc))
        self.state = self.machine.initial(Instant(START, 0)).state
        self.events: list[Any] = []
        self.warnings: list[str] = []

    def entries(
        self,
        at: float,
        *entries: Entry,
        lost: str | None = None,
        clock: float | None = None,
        notes: tuple[tuple[str, str], ...] = (),
        more: bool = False,
        counting: str = "parts",
    ) -> None:
        own = None if clock is None else round(clock * SECOND)
        base = START if clock is None else 0
        readings = [
            Reading(tag, value, Quality.GOOD, None if when is None else base + round(when * SECOND))
            for when, tag, value in entries
        ]
        told = Entries("", frozenset(("run", "parts")), own, lost, frozenset((counting,)), notes, more)
        self.take(self.machine.step(self.state, Batch("press", readings, entries=told), self.instant(at)))


def running(**options: Any) -> Noted:
    line = Noted(**options)
    line.entries(0, (None, "parts", 0), (None, "run", True))
    line.silence(1, 10)
    return line


def test_a_stop_between_two_scans_is_a_downtime_with_its_times() -> None:
    line = running()
    line.entries(11, (10.2, "run", False), (10.5, "run", True))
    line.silence(12, 20)
    assert line.states() == [("running", 0), ("idle", 10.2), ("running", 10.5)]
    assert line.stops() == [(10.2, 10.5, 0.3, False)]


def test_a_stop_shorter_than_the_debounce_is_none_and_a_longer_one_is() -> None:
    line = running(state={**PRESS["state"], "debounce": {"default": "1s"}})
    line.entries(15, (10.2, "run", False), (10.5, "run", True), (12, "run", False), (14, "run", True))
    line.silence(16, 30)
    assert line.states() == [("running", 0), ("idle", 12), ("running", 14)]


def test_entries_of_one_moment_are_all_counted() -> None:
    line = running()
    line.entries(11, *[(10.5, "parts", number) for number in range(1, 31)])
    line.silence(12, 20)
    assert line.counted() == [30]


def test_what_happened_while_the_agent_was_off_is_told_at_its_times() -> None:
    line = running()
    line.restart(5000)
    line.entries(5001, (600, "parts", 1), (1000, "run", False), (1000.3, "run", True), (4000, "parts", 2))
    line.silence(5002, 5010)
    assert line.stops() == [(1000, 1000.3, 0.3, False)]
    assert line.states() == [
        ("running", 0),
        ("unknown", 9),
        ("running", 9),
        ("idle", 1000),
        ("running", 1000.3),
    ]
    assert line.counted() == [1, 1]
    (gap,) = line.told("data.gap")
    assert (gap["cause"], gap["count_recovered"], gap["history_recovered"]) == ("agent_down", "exact", True)


def test_a_ring_in_which_nothing_happened_fills_a_gap_too() -> None:
    line = running()
    line.restart(5000)
    line.entries(5001)
    line.silence(5002, 5010)
    assert line.states() == [("running", 0), ("unknown", 9), ("running", 9)]
    (gap,) = line.told("data.gap")
    assert gap["history_recovered"] is True


def test_lost_entries_are_declared_and_what_they_said_is_not_guessed() -> None:
    line = running()
    line.silence(10, 20)
    line.entries(20, (19.5, "parts", 1), lost="queue_overflow")
    line.silence(21, 60)
    line.entries(60, (59.5, "run", False))
    line.silence(61, 70)
    assert line.gaps()[0] == ("queue_overflow", 19, 19.5, "lower_bound")
    assert line.states() == [("running", 0), ("unknown", 19), ("idle", 59.5)]
    assert line.counted() == [1]


def test_after_a_loss_the_next_entry_that_says_it_is_believed() -> None:
    line = running()
    line.entries(12, (11, "run", False), (11.4, "run", True), lost="queue_overflow")
    line.silence(13, 30)
    assert line.states() == [("running", 0), ("idle", 11), ("running", 11.4)]


def test_entries_lost_in_a_gap_leave_it_unknown_until_the_first_that_is_there() -> None:
    line = running()
    line.restart(5000)
    line.entries(5001, (4000, "run", False), (4500, "run", True), (4600, "parts", 3), lost="queue_overflow")
    line.silence(5002, 5010)
    assert line.states() == [("running", 0), ("unknown", 9), ("idle", 4000), ("running", 4500)]
    assert [gap[:3] for gap in line.gaps()] == [("queue_overflow", 9, 4000), ("agent_down", 9, 4000)]
    assert sum(line.counted()) == 3


def test_a_clock_of_the_year_2000_loses_the_times_and_no_part() -> None:
    line = running()
    far = -800_000_000
    line.entries(11, (far, "run", False), (far + 0.3, "run", True), (far + 0.5, "parts", 1), (far + 0.6, "parts", 2))
    line.silence(12, 20)
    assert line.counted() == [2]
    assert line.warnings == ["clock_skew"]
    assert {at for _, at in line.states()} == {0, 11}


def test_a_clock_of_the_year_2000_in_a_gap_says_only_what_is_so_now() -> None:
    line = running()
    line.restart(5000)
    far = -800_000_000
    line.entries(5001, (far, "run", False), (far + 0.5, "parts", 1), (far + 0.6, "parts", 2))
    line.silence(5002, 5010)
    assert sum(line.counted()) == 2
    assert line.states() == [("running", 0), ("unknown", 9), ("idle", 5001)]


def test_a_clock_that_is_told_may_be_wrong() -> None:
    line = running()
    line.entries(11, (4.2, "run", False), (4.5, "run", True), clock=5)
    line.silence(12, 20)
    assert line.states() == [("running", 0), ("idle", 10.2), ("running", 10.5)]


def test_one_time_that_makes_no_sense_becomes_that_of_the_entry_before() -> None:
    line = running()
    line.entries(11, (10.2, "run", False), (4e9, "parts", 1), (10.5, "run", True))
    line.silence(12, 20)
    assert line.states() == [("running", 0), ("idle", 10.2), ("running", 10.5)]
    assert line.counted() == [1]


def test_a_clock_that_steps_back_between_two_entries_keeps_their_order() -> None:
    line = running()
    line.entries(11, (10.8, "run", False), (10.5, "run", True))
    line.silence(12, 20)
    assert line.states() == [("running", 0), ("idle", 10.8), ("running", 10.8)]


def test_entries_without_times_happened_when_they_were_read() -> None:
    line = running()
    line.entries(11, (None, "run", False))
    line.entries(12, (None, "run", True))
    assert line.states() == [("running", 0), ("idle", 11), ("running", 12)]


def test_other_tags_of_the_device_stay_in_the_gap_until_they_are_read() -> None:
    line = running(tags={**TAGS, "guard": "bool"}, downtime={"planned_when": "guard"})
    line.tell(9.5, guard=False)
    line.restart(5000)
    line.entries(5001, (4000, "run", False))
    assert line.states()[-1] == ("idle", 4000)
    line.tell(5001.2, guard=False)
    line.silence(5002, 5010)
    assert line.gaps()[0][0] == "agent_down"


def test_what_somebody_should_look_at_is_a_warning() -> None:
    line = running()
    line.entries(11, notes=(("unmapped_entry", "code 7"), ("tail_not_moved", "refused")))
    assert line.warnings == ["unmapped_entry", "tail_not_moved"]


def test_entries_of_before_now_may_come_in_two_pieces() -> None:
    line = running()
    line.restart(5000)
    line.entries(5001, (600, "parts", 1), (1000, "run", False), more=True)
    line.entries(5001.1, (1200, "run", True), (3000, "parts", 2), lost="queue_overflow")
    line.silence(5002, 5010)
    assert line.made() == 2
    assert ("idle", 1000) in line.states()
    assert line.states()[-1] == ("running", 1200)
    assert ("queue_overflow", 1000, 1200, "lower_bound") in line.gaps()


def test_while_a_plc_settles_after_its_restart_parts_are_counted_once() -> None:
    line = running()
    line.entries(11, (10.5, "parts", 1))
    line.take(line.machine.step(line.state, Batch("press", (), restarted=True), line.instant(12)))
    line.entries(13, (12.5, "parts", 2), (12.6, "run", False))
    line.silence(14, 20)
    line.entries(20, (19.5, "run", True), (19.6, "parts", 3))
    line.silence(21, 30)
    assert line.made() == 3
    assert line.states()[:2] == [("running", 0), ("unknown", 11)]
    assert line.states()[-1] == ("running", 19.5)
    assert [gap[0] for gap in line.gaps()] == ["plc_restart"]


def test_a_total_of_the_plc_itself_is_exact_over_a_loss() -> None:
    line = running()
    line.entries(11, (10.5, "parts", 7), counting="nothing")
    line.silence(12, 15)
    line.entries(15, (14.5, "parts", 12), lost="queue_overflow", counting="nothing")
    line.silence(16, 20)
    assert line.made() == 12
    assert line.gaps() == [("queue_overflow", 14, 14.5, "exact")]
