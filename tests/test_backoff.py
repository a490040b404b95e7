from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.backoff import Backoff

SECOND = 1_000_000


def test_waits_double_up_to_the_longest_and_start_again_after_a_reset() -> None:
    backoff = Backoff(1 * SECOND, 30 * SECOND, Random(1))
    for step in (1, 2, 4, 8, 16, 30, 30, 30):
        assert step / 2 <= backoff.next() <= step
    backoff.reset()
    assert backoff.next() <= 1


def test_a_silent_peer_is_asked_every_few_seconds_however_often_another_kind_of_failure_came() -> None:
    backoff = Backoff(1 * SECOND, 60 * SECOND, Random(1), silent=5 * SECOND)
    for _ in range(10):
        backoff.next()
    for step in (1, 2, 4, 5, 5):
        assert step / 2 <= backoff.next(silent=True) <= step
    assert backoff.next() >= 30


def test_the_longest_wait_for_a_silent_peer_lies_between_the_first_and_the_longest_of_all() -> None:
    assert Backoff(10 * SECOND, 60 * SECOND, Random(1), silent=5 * SECOND).next(silent=True) >= 5
    short = Backoff(1 * SECOND, 2 * SECOND, Random(1), silent=5 * SECOND)
    assert max(short.next(silent=True) for _ in range(9)) <= 2


@given(st.integers(1, 3_600 * SECOND), st.integers(1, 3_600 * SECOND), st.integers(0, 200), st.integers())
def test_no_wait_is_longer_than_the_longest_nor_nothing(initial: int, longest: int, attempts: int, seed: int) -> None:
    backoff = Backoff(initial, longest, Random(seed))
    for _ in range(attempts):
        assert 0 < backoff.next() <= longest / 1e6


def test_two_agents_do_not_come_back_at_the_same_moment() -> None:
    waits = {round(Backoff(60 * SECOND, 60 * SECOND, Random(seed)).next(), 3) for seed in range(50)}
    assert len(waits) > 40
