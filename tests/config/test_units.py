from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import Problem
from config.units import duration, duration_text, rate, size, size_text


@pytest.mark.parametrize(
    ("text", "micros"),
    [("250ms", 250_000), ("2s", 2_000_000), ("5min", 300_000_000), ("72h", 259_200_000_000), ("0s", 0),
     ("14d", 1_209_600_000_000), ("1.5s", 1_500_000), ("10us", 10)],
)  # fmt: skip
def test_a_duration_is_microseconds(text: str, micros: int) -> None:
    assert duration(text) == micros


@pytest.mark.parametrize(("text", "count"), [("64KiB", 65536), ("4GiB", 4 << 30), ("1B", 1), ("0.5MiB", 1 << 19)])
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(("text", "per_second"), [("2/s", 2.0), ("30/min", 0.5), ("900/h", 0.25)])
def test_a_rate_is_per_second(text: str, per_second: float) -> None:
    assert rate(text) == per_second


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (1000, "did you mean 1000ms?"),
        (5, "did you mean 5s or 5ms?"),
        ("5", "did you mean 5s or 5ms?"),
        ("5 s", "did you mean 5s?"),
        ("5sec", "did you mean 5s?"),
        ("3 minutes", "did you mean 3min?"),
        ("5m", "did you mean 5min?"),
        ("5S", "did you mean 5s?"),
        ("soon", ""),
        (True, ""),
        (None, ""),
        (-1, ""),
        ("-1s", ""),
        ("１s", ""),
        ("1s\n", "did you mean 1s?"),
    ],
)
def test_what_is_no_duration_says_what_was_probably_meant(value: object, fix: str) -> None:
    with pytest.raises(Problem) as refused:
        duration(value)
    assert (refused.value.code, refused.value.fix) == ("E308", fix)


@pytest.mark.parametrize(
    ("read", "value", "fix"),
    [(size, 4, "did you mean 4MiB?"), (size, "4GB", "did you mean 4GiB?"), (size, "4 kb", "did you mean 4KiB?"),
     (rate, 2, "did you mean 2/s?"), (rate, "2 per minute", "did you mean 2/min?"),
     (rate, "2/m", "did you mean 2/min?")],
)  # fmt: skip
def test_sizes_and_rates_say_what_was_probably_meant(
    read: Callable[[object], float], value: object, fix: str
) -> None:
    with pytest.raises(Problem) as refused:
        read(value)
    assert refused.value.fix == fix


@given(st.integers(0, 1 << 62))
def test_a_duration_that_was_written_is_read_back(micros: int) -> None:
    assert duration(duration_text(micros)) == micros


@given(st.integers(0, 1 << 62))
def test_a_size_that_was_written_is_read_back(count: int) -> None:
    assert size(size_text(count)) == count


READERS = (duration, size, rate)


@given(st.text(max_size=30) | st.integers() | st.floats() | st.booleans() | st.none())
def test_whatever_is_written_is_a_number_or_a_problem(value: object) -> None:
    for read in READERS:
        assert amount_or_code(read, value) in ("E308", "number")


@given(st.from_regex(r"\A\d{1,30}(\.\d{1,12})?(us|ms|s|min|h|d|B|TiB|/s|/h)\Z"))
def test_huge_numbers_are_problems_not_crashes(text: str) -> None:
    for read in READERS:
        assert amount_or_code(read, text) in ("E308", "number")


def amount_or_code(read: Callable[[object], float], value: object) -> str:
    try:
        amount = read(value)
    except Problem as problem:
        return problem.code
    return "number" if 0 <= amount <= 1e19 else str(amount)
