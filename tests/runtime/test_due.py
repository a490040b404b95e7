"""Timers of many machines."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.due import DueTimes

_NAMES = st.sampled_from("abcde")
_SET = st.tuples(_NAMES, st.one_of(st.none(), st.integers(0, 50)))
_TAKE = st.integers(0, 60)


@given(st.lists(st.one_of(_SET, _TAKE)))
def test_every_timer_fires_once_at_the_time_it_was_set_to_last(actions):
    times, model = DueTimes(), {}
    for action in actions:
        if isinstance(action, tuple):
            name, due = action
            times.set(name, due)
            model.pop(name, None)
            if due is not None:
                model[name] = due
        else:
            expected = {name for name, due in model.items() if due <= action}
            assert sorted(times.take(action)) == sorted(expected)
            model = {name: due for name, due in model.items() if name not in expected}
        assert times.next() == min(model.values(), default=None)


def test_who_waits_is_woken_by_an_earlier_timer_only():
    times = DueTimes()
    times.set("a", 50)
    assert times.next() == 50
    times.set("b", 70)
    times.set("a", 60)
    assert not times.earlier.is_set()
    times.set("b", 40)
    assert times.earlier.is_set()
    assert times.next() == 40
    assert not times.earlier.is_set()


def test_a_timer_that_moves_at_every_scan_stands_in_the_queue_once():
    times = DueTimes()
    for at in range(1000):
        times.set("a", 10_000 + at)
    assert len(times._queue) == 1
    assert times.take(10_998) == []
    assert times.take(10_999) == ["a"]
