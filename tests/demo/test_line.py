"""The simulated line: the truth that the demo's events are held against."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.demo.line import (
    FAULT,
    OVEN_TRAYS_START,
    RUNNING,
    STARVED,
    advance,
    oven,
    oven_registers,
    press,
    press_registers,
    trip,
)

SECOND = 1_000_000


@given(st.sampled_from([press(), oven()]), st.lists(st.integers(0, 30 * SECOND), max_size=8))
def test_many_small_steps_lead_to_the_same_place_as_one(station, steps):
    stepped = station
    for step in steps:
        stepped = advance(stepped, step)
    assert stepped == advance(station, sum(steps))


def test_the_press_makes_parts_only_while_it_runs():
    at_the_stop = advance(press(), 6 * SECOND)
    assert at_the_stop.made == 15
    while_starved = advance(at_the_stop, 2 * SECOND)
    assert (while_starved.now.status, while_starved.made) == (STARVED, 15)


def test_counters_roll_over_within_the_first_minute():
    later_press, later_oven = advance(press(), 60 * SECOND), advance(oven(), 60 * SECOND)
    registers = press_registers(later_press)
    assert registers.total < later_press.made
    assert registers.rejects < later_press.scrapped
    assert oven_registers(later_oven).trays == (OVEN_TRAYS_START + later_oven.made) - (1 << 16)


def test_a_tripped_press_stops_at_once_and_goes_on_after_the_fault():
    tripped = trip(advance(press(), SECOND), 5 * SECOND)
    assert press_registers(tripped).fault > 0
    assert tripped.now.status == FAULT
    assert advance(tripped, 5 * SECOND + 3 * SECOND).now.status == RUNNING


def test_the_oven_is_hot_whenever_it_makes_trays():
    station = trip(advance(oven(), SECOND), 4 * SECOND)
    for _ in range(600):
        before = station
        station = advance(station, SECOND // 10)
        assert station.made == before.made or oven_registers(station).temp > 150
