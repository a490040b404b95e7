from hypothesis import given
from hypothesis import strategies as st

from drivers.ticker import Schedule, Ticker


def test_every_scan_class_is_due_at_the_start():
    assert Schedule([500, 200, 500], start=7).take(7) == ((200, 500), 0)


def test_a_scan_class_is_due_once_per_period():
    schedule = Schedule([200, 500], start=0)
    schedule.take(0)
    assert schedule.next() == 200
    assert schedule.take(200) == ((200,), 0)
    assert schedule.take(400) == ((200,), 0)
    assert schedule.take(500) == ((500,), 0)
    assert schedule.take(999) == ((200,), 1)


def test_ticks_that_passed_are_skipped_and_counted_and_the_grid_stays():
    schedule = Schedule([100], start=0)
    schedule.take(0)
    assert schedule.take(1_050) == ((100,), 9)
    assert schedule.next() == 1_100


@given(
    periods=st.sets(st.integers(1, 50), min_size=1, max_size=4),
    steps=st.lists(st.integers(0, 300), max_size=30),
)
def test_every_tick_of_the_grid_is_either_taken_or_counted_as_skipped(periods, steps):
    schedule = Schedule(periods, start=0)
    now, taken, skipped = 0, 0, 0
    for step in steps:
        now += step
        due, late = schedule.take(now)
        assert len(due) == len(set(due))
        taken += len(due)
        skipped += late
        assert all(at > now for at in [schedule.next()])
    if steps:
        assert taken + skipped == sum(now // period + 1 for period in periods)


async def test_the_ticker_waits_until_the_time_has_come():
    times = iter([0, 0, 0, 99, 100, 100, 205, 205])
    ticker = Ticker([100], now=lambda: next(times))
    assert await ticker.tick() == ((100,), 0)
    assert await ticker.tick() == ((100,), 0)
    assert await ticker.tick() == ((100,), 0)
