"""Devices that tell only changes, with times of their own: what silence, old samples and wrong clocks mean."""

from collections.abc import Sequence

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from tests.machine.stories import START, OpcPlc, config, machine, offset

PRESS = {
    "state": {"from": "status", "map": {1: "idle", 2: "running", 8: "fault"}},
    "counters": {"main": {"total": "total", "max_rate": "2/s"}},
}
TAGS = {"status": "int16", "total": "uint16", "temp": "float64"}


class Line:
    """One machine fed by hand: `tell(at, tag=value or (value, own time))`."""

    def __init__(self, **options):
        self.machine = machine(config({**PRESS, **options}, TAGS, kind=OpcPlc))
        self.state = self.machine.initial(Instant(START, 0)).state
        self.events = []
        self.warnings = []

    def tell(self, at: float, **values):
        readings = []
        for tag, value in values.items():
            value, own = value if isinstance(value, tuple) else (value, at)
            quality = Quality.BAD if value is None else Quality.GOOD
            readings.append(Reading(tag, value, quality, START + round(own * SECOND)))
        self.batch(at, readings)

    def batch(self, at: float, readings: Sequence[Reading]):
        micros = round(at * SECOND)
        self.take(self.machine.step(self.state, Batch("press", readings), Instant(START + micros, micros)))

    def take(self, outcome):
        self.state = outcome.state
        self.events += outcome.events
        self.warnings += [warning.code for warning in outcome.warnings]

    def silence(self, start: int, end: int):
        """Signs of life, one a second."""
        for second in range(start, end):
            self.batch(second, [])

    def states(self):
        return [(one.data.state, offset(one.time)) for one in self.events if one.data.TYPE == "state.changed"]

    def counted(self):
        return [one.data.delta["total"] for one in self.events if one.data.TYPE == "production.counted"]

    def gaps(self):
        return [
            (one.data.cause, offset(one.data.from_at), offset(one.data.to_at), one.data.count_recovered)
            for one in self.events
            if one.data.TYPE == "data.gap"
        ]


def test_silence_with_signs_of_life_is_no_loss():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 120)
    line.tell(120, total=101)
    line.silence(121, 125)

    assert line.states() == [("running", 0)]
    assert line.counted() == [1]


def test_silence_without_signs_of_life_is_a_loss_and_the_same_values_end_it():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 11)
    line.tell(60, status=(2, 0), total=(100, 0))

    assert line.states() == [("running", 0), ("unknown", 10), ("running", 60)]
    assert line.gaps() == [("comms_loss", 10, 60, "exact")]


def test_a_subscription_that_lived_on_is_believed_after_a_few_signs_of_life():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 11)
    line.silence(60, 70)

    assert line.states() == [("running", 0), ("unknown", 10), ("running", 61)]
    assert line.gaps() == [("comms_loss", 10, 61, "exact")]


def test_a_state_is_not_taken_from_before_the_loss_while_the_new_one_is_on_its_way():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 11)
    line.tell(60, temp=20.0)
    line.tell(60.2, total=(100, 0))
    line.tell(60.4, status=8)

    assert line.states() == [("running", 0), ("unknown", 10), ("fault", 60.4)]
    assert line.gaps() == [("comms_loss", 10, 60.2, "exact")]


def test_the_first_values_of_a_connection_may_be_old_without_a_wrong_clock():
    line = Line()
    line.tell(0, status=(2, -3600), total=(100, -7200))

    assert line.states() == [("running", 0)]
    assert line.warnings == []


def test_a_queue_of_changes_is_told_one_by_one_at_its_own_times():
    line = Line()
    line.tell(0, status=2, total=100)
    queued = [(8, 1.0), (2, 1.2), (8, 1.4), (2, 1.8)]
    line.batch(2, [Reading("status", value, source_time=START + round(at * SECOND)) for value, at in queued])
    line.silence(3, 6)

    assert line.states() == [("running", 0), ("fault", 1), ("running", 1.2), ("fault", 1.4), ("running", 1.8)] or (
        line.states() == [("running", 0), ("fault", 1), ("running", 1.8)]
    )


def test_a_clock_ahead_is_not_used_and_told_once():
    line = Line()
    line.tell(0, status=(2, 3600), total=(100, 3600))
    line.tell(5, status=(8, 3605))
    line.tell(9, status=(2, 3609))
    line.silence(10, 12)

    assert line.states() == [("running", 0), ("fault", 5), ("running", 9)]
    assert line.warnings == ["clock_skew"]
    assert {one.data.time_basis for one in line.events if one.data.TYPE == "state.changed"} == {"agent"}


def test_a_clock_behind_is_judged_on_the_newest_sample():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 60)
    line.tell(60, total=(101, 30))
    line.silence(61, 63)

    assert line.warnings == ["clock_skew"]


def test_one_old_sample_beside_a_new_one_is_late_and_not_skewed():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 30)
    line.tell(30, temp=20.0, total=(101, 20))
    line.silence(31, 33)

    assert line.warnings == []
    assert line.counted() == [1]


def test_a_sample_older_than_the_last_of_its_tag_is_dropped():
    line = Line()
    line.tell(0, status=2, total=100)
    line.tell(5, total=105)
    line.tell(6, total=(103, 4))
    line.tell(7, temp=20.0)
    line.tell(8, total=106)
    line.silence(9, 12)

    assert line.counted() == [5, 1]
    assert line.states() == [("running", 0)]


def test_a_clock_back_in_2000_dates_no_event():
    line, back = Line(), -826_000_000
    line.tell(0, status=2, total=100)
    line.silence(1, 100)
    line.tell(100, status=(8, back + 100))
    line.tell(101, total=(101, back + 101))
    line.silence(102, 130)
    line.tell(130, status=(2, back + 130))
    line.silence(131, 140)
    assert [(state, round(at)) for state, at in line.states()] in (
        [("running", 0), ("fault", at), ("running", 130)] for at in (100, 101)
    )
    assert all(0 <= offset(event.time) <= 140 for event in line.events)
    assert line.counted() == [1]
    assert line.warnings == ["clock_skew"]


def test_a_clock_that_is_set_back_is_followed_and_no_change_is_lost():
    line = Line()
    line.tell(0, status=2, total=100)
    line.silence(1, 10)
    line.tell(10, status=2, total=105)
    line.tell(12, status=(8, 9))
    line.tell(13, total=(106, 10 - 0.5))
    line.tell(14, status=(2, 11))
    line.silence(15, 18)

    assert line.states() == [("running", 0), ("fault", 13), ("running", 14)] or line.states()[-1][0] == "running"
    assert ("fault", 13) in line.states()
    assert sum(line.counted()) == 6


def test_a_jump_is_confirmed_by_signs_of_life():
    line = Line(counters={"main": {"total": "total", "max_rate": "2/s", "jumps": "accept"}})
    line.tell(0, status=2, total=100)
    line.silence(1, 5)
    line.tell(5, total=900)
    line.silence(6, 12)

    assert line.counted() == [800]


def test_a_counter_that_was_uncertain_for_long_loses_no_pieces():
    line = Line()
    line.tell(0, status=2, total=100)
    line.batch(1, [Reading("total", 101, Quality.UNCERTAIN, START + SECOND)])
    line.silence(2, 60)
    line.tell(60, total=180)
    line.silence(61, 64)

    assert line.counted() == [80]
    assert line.warnings == []


def test_an_event_queue_is_numbered_in_the_order_of_the_events():
    line = Line()
    line.tell(0, status=2, total=100)
    line.tell(1, total=101, status=8)
    line.silence(2, 5)

    assert [one.seq for one in line.events] == list(range(1, len(line.events) + 1))
    assert [one.data.TYPE for one in line.events][1:] == ["production.counted", "state.changed", "downtime.started"]


def test_the_very_same_readings_after_a_suspension_end_the_gap_at_once():
    line = Line()
    same = [Reading("status", 2), Reading("total", 100)]
    line.batch(0, same)
    line.batch(1, same)
    line.batch(60, same)

    assert line.states() == [("running", 0), ("unknown", 1), ("running", 60)]


def test_a_loss_just_after_a_change_that_is_dated_ahead_leaves_no_negative_interval():
    line = Line()
    line.tell(0, status=2, total=100)
    line.tell(5, status=(8, 8))
    line.tell(60, status=8, total=100)

    assert line.states() == [("running", 0), ("fault", 8), ("unknown", 8), ("fault", 60)]
    assert all((one.data.prev_duration_s or 0) >= 0 for one in line.events if one.data.TYPE == "state.changed")
