"""Sample sets at the end of cycles and batches, statistics instead of values, and values judged by their limits."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Quality, Reading
from edge_agent.machine.reduction import Window, add
from edge_agent.machine.reduction import statistics as reduced
from tests.machine.stories import EPOCH, PRESS, OpcPlc, config, some, story

TAGS: dict[str, Any] = {
    "status": "int16",
    "fault": "uint16",
    "total": "uint16",
    "run": "bool",
    "batch": "string",
    "force": {"type": "float64", "unit": "KNT", "target": 100, "lo": 90, "hi": 110},
    "note": "string",
}
FIRST = {"at": "0s", "status": 2, "fault": 0, "total": 0, "run": False, "force": 1.0, "batch": "L1", "note": "a"}


def sampled(given: list[dict[str, Any]], until: float, **more: Any) -> list[dict[str, Any]]:
    return story(config({**PRESS, **more}, TAGS), [FIRST, *given], until, "measurement")


def test_a_set_is_taken_at_the_end_of_each_cycle_and_names_it() -> None:
    sets = {"forming": {"tags": ["force"], "on": "cycle"}}
    found = sampled(
        [
            {"at": "5s", "total": 1, "force": 95.0},
            {"at": "15s", "total": 2, "force": 120.0},
            {"at": "16s", "force": 7.0},
            {"at": "25s", "total": 3},
        ],
        40,
        measurements=sets,
    )
    assert some(found, "time", "trigger", "values", "cycle_id") == [
        (15, "cycle", {"force": 120}, f"cy-{EPOCH}-press-1"),
        (25, "cycle", {"force": 7}, f"cy-{EPOCH}-press-2"),
    ]


def test_values_are_judged_by_the_limits_of_their_tags() -> None:
    sets = {"zone": {"tags": ["force", "note"], "every": "10s"}}
    found = sampled([{"at": "5s", "force": 95.0}, {"at": "15s", "force": float("nan")}], 21, measurements=sets)
    judged = [one.get("judged") for one in found]
    assert [
        (one["force"].ok, one["force"].target, one["force"].lo, one["force"].hi) for one in judged[:2] if one
    ] == [
        (False, 100, 90, 110),
        (True, 100, 90, 110),
    ]
    assert judged[2] is None


def test_statistics_stand_for_all_samples_of_an_interval() -> None:
    sets = {"zone": {"tags": ["force", "note"], "every": "10s", "statistics": True}}
    found = sampled([{"at": "4s", "force": 3.0}, {"at": "8s", "note": "b"}], 10, measurements=sets)
    (one,) = found
    (row,) = one["stats"]
    values = [1.0] * 4 + [3.0] * 6
    assert (row.name, row.uom, row.n, row.min, row.max, row.first, row.last) == ("force", "KNT", 10, 1, 3, 1, 3)
    assert math.isclose(row.mean, statistics.fmean(values))
    assert math.isclose(row.sd or 0, statistics.stdev(values))
    assert (row.window_s, one["trigger"], one["values"]) == (10, "interval", {"note": "b"})


def test_without_a_sample_there_are_no_statistics() -> None:
    sets = {"zone": {"tags": ["force"], "every": "10s", "statistics": True}}
    lost = [{"at": "12s", "device": "lost"}, {"at": "60s", "device": "back"}]
    assert [one["time"] for one in sampled(lost, 90, measurements=sets)] == [10, 20, 70, 80, 90]


def test_statistics_of_a_cycle_are_of_that_cycle_alone() -> None:
    sets = {"forming": {"tags": ["force"], "on": "cycle", "statistics": True}}
    found = sampled(
        [
            {"at": "5s", "run": True, "force": 10.0},
            {"at": "8s", "force": 20.0},
            {"at": "10s", "run": False},
            {"at": "11s", "force": 99.0},
            {"at": "20s", "run": True, "force": 5.0},
            {"at": "22s", "run": False},
        ],
        40,
        measurements=sets,
        cycles={"start": "run", "end": "not run"},
    )
    rows = [one["stats"][0] for one in found]
    assert [(row.min, row.max, row.window_s) for row in rows] == [(10, 20, 5), (5, 5, 2)]


def test_readings_after_the_end_of_a_cycle_belong_to_the_next_one_even_in_one_batch() -> None:
    sets = {"forming": {"tags": ["force"], "on": "cycle"}}
    made = config({**PRESS, "measurements": sets, "cycles": {"start": "run"}}, TAGS, kind=OpcPlc, scan="60s")
    given = [
        FIRST,
        {"at": "20s", "source_at": "5s", "run": True},
        {"at": "20s", "source_at": "6s", "run": False},
        {"at": "20s", "source_at": "10s", "force": 44.0},
        {"at": "20s", "source_at": "12s", "run": True},
        {"at": "20s", "source_at": "14s", "force": 55.0},
    ]
    assert some(story(made, given, 30, "measurement"), "values") == [({"force": 44},)]


def test_a_set_is_taken_when_the_batch_ends_and_belongs_to_it() -> None:
    sets = {"lot": {"tags": ["force"], "on": "batch"}}
    found = sampled(
        [{"at": "5s", "force": 50.0}, {"at": "10s", "batch": "L2"}, {"at": "20s", "batch": "L3"}],
        30,
        measurements=sets,
        context={"batch": "batch"},
    )
    assert some(found, "time", "trigger", "values") == [(10, "batch", {"force": 50}), (20, "batch", {"force": 50})]


_VALUES = st.lists(st.floats(-1e9, 1e9) | st.integers(-(10**9), 10**9), min_size=1, max_size=50)


@settings(max_examples=100, deadline=None)
@given(_VALUES, st.integers(0, 50))
def test_statistics_are_those_of_the_values_however_they_came(values: list[float], cut: int) -> None:
    readings = [Reading("force", value) for value in values]
    window = add(add(Window(), {"force": "f"}, readings[:cut]), {"force": "f"}, readings[cut:])
    (row,) = reduced(window, {}, 1)
    assert (row.n, row.min, row.max) == (len(values), min(values), max(values))
    assert (row.first, row.last) == (values[0], values[-1])
    assert math.isclose(row.mean, statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-3)
    if len(values) > 1:
        assert math.isclose(row.sd or 0, statistics.stdev(values), rel_tol=1e-6, abs_tol=1e-3)
    else:
        assert row.sd is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_no_number_is_in_no_statistics(value: Any) -> None:
    quality = Quality.BAD if value is None else Quality.GOOD
    assert reduced(add(Window(), {"force": "f"}, [Reading("force", value, quality)]), {}, 1) == ()
