"""Meters as stories: intervals of the clock, resets and steps, gaps and restarts, orders and states."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine.stories import PRESS, config, drive, lines, some, story, warnings

TAGS: dict[str, Any] = {
    "status": "int16",
    "fault": "uint16",
    "total": "uint16",
    "kwh": {"type": "float64", "unit": "KWH"},
    "water": {"type": "uint32", "unit": "LTR"},
}
ENERGY = {"kind": "energy", "tag": "kwh", "resource": "EM-1", "every": "1min", "resolution": 0.1}
FIRST = {"at": "0s", "status": 2, "fault": 0, "total": 0, "kwh": 100.0, "water": 7}
_AMOUNTS = ("from_at", "to_at", "delta", "total")


def used(given: list[dict[str, Any]], until: float, *families: str, **options: Any) -> list[dict[str, Any]]:
    made = config({**PRESS, "consumption": {"energy": {**ENERGY, **options}}}, TAGS)
    return story(made, [FIRST, *given], until, *(families or ("consumption",)))


def test_what_was_used_is_published_at_the_full_interval_of_the_clock() -> None:
    found = used([{"at": "30s", "kwh": 100.4}, {"at": "70s", "kwh": 101.0}], 200)
    assert some(found, *_AMOUNTS) == [(0, 60, 0.4, 0.4), (60, 120, 0.6, 1)]
    assert some(found[:1], "kind", "resource", "uom", "flags", "quality") == [("energy", "EM-1", "KWH", None, "good")]
    register = found[1]["register"]
    assert (register.prev, register.now) == (100.4, 101)


def test_a_meter_that_stands_still_says_nothing() -> None:
    assert used([], 600) == []


def test_amounts_smaller_than_the_resolution_are_no_amounts() -> None:
    found = used([{"at": f"{at}s", "kwh": 100 + at * 0.002} for at in range(1, 50)], 70)
    assert some(found, "delta") == [(0.1,)]


def test_a_meter_set_to_zero_goes_on_from_there() -> None:
    found = used([{"at": "10s", "kwh": 100.5}, {"at": "20s", "kwh": 0.2}, {"at": "30s", "kwh": 0.7}], 70)
    assert some(found, "delta", "flags") == [(1.2, ("lower_bound", "reset"))]


def test_a_meter_set_to_zero_that_stays_there_is_believed_at_the_end_of_the_interval() -> None:
    found = used([{"at": "10s", "kwh": 0.2}, {"at": "90s", "kwh": 0.4}], 130)
    assert some(found, "delta", "total") == [(0.2, 0.2), (0.2, 0.4)]


def test_a_single_reading_of_zero_is_not_used_up() -> None:
    found = used([{"at": "10s", "kwh": 0.0}, {"at": "11s", "kwh": 100.5}], 70)
    assert some(found, "delta", "flags") == [(0.5, None)]


def test_a_meter_that_was_replaced_counts_nothing_for_that() -> None:
    steps = [{"at": "10s", "kwh": 60.0}, {"at": "20s", "kwh": 60.3}]
    assert some(used(steps, 70), "delta", "flags") == [(0.3, ("lower_bound",))]
    made = config({**PRESS, "consumption": {"energy": ENERGY}}, TAGS)
    assert warnings(made, [FIRST, *steps], 70) == ["meter_step"]


def test_a_jump_beyond_the_greatest_rate_is_not_believed() -> None:
    glitch = [{"at": "10s", "kwh": 1e9}, {"at": "11s", "kwh": 100.2}]
    assert some(used(glitch, 70, max_rate="360/h"), "delta", "flags") == [(0.2, None)]
    moved = [{"at": "10s", "kwh": 5000.0}, {"at": "20s", "kwh": 5000.2}]
    assert some(used(moved, 70, max_rate="360/h"), "delta", "flags") == [(0.2, ("lower_bound",))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0])
def test_a_reading_that_no_meter_shows_is_none(value: float) -> None:
    found = used([{"at": "10s", "kwh": value}, {"at": "20s", "kwh": 100.3}], 70)
    assert some(found, "delta", "flags") == [(0.3, None)]


@pytest.mark.parametrize("quality", ["bad", "uncertain"])
def test_a_reading_that_is_not_good_is_none(quality: str) -> None:
    found = used([{"at": "10s", "quality": quality, "tags": ["kwh"]}, {"at": "15s", "kwh": 100.3}], 70)
    assert some(found, "delta") == [(0.3,)]


def test_what_was_used_in_a_gap_is_published_for_the_gap() -> None:
    lines = [
        {"at": "10s", "kwh": 100.2},
        {"at": "20s", "device": "lost"},
        {"at": "200s", "device": "back", "kwh": 103.2},
        {"at": "210s", "kwh": 103.3},
    ]
    found = used(lines, 250, "consumption", "data")
    assert [one["type"] for one in found] == ["consumption.recorded", "data.gap", *["consumption.recorded"] * 2]
    assert "consumption" in found[1]["affects"]
    spent = [one for one in found if one["type"] == "consumption.recorded"]
    assert some(spent, "delta", "quality_detail") == [(0.2, None), (3, ("gap_recovery",)), (0.1, None)]
    assert [one["to_at"] for one in spent] == [one["from_at"] for one in spent[1:]] + [240]


def test_the_total_goes_on_over_a_kill_and_nothing_is_lost_or_counted_twice() -> None:
    lines = [
        {"at": "10s", "kwh": 100.2},
        {"at": "70s", "kwh": 100.9},
        {"at": "78s", "agent": "killed"},
        {"at": "90s", "agent": "started", "kwh": 102.0},
        {"at": "100s", "kwh": 102.5},
    ]
    found = used(lines, 130)
    assert round(sum(one["delta"] for one in found), 6) == 2.5
    assert found[-1]["total"] == 2.5


def test_consumption_is_split_by_state_when_every_state_lasts_for_two_samples() -> None:
    lines = [{"at": "20s", "kwh": 104.0}, {"at": "21s", "status": 1}, {"at": "40s", "kwh": 104.5}]
    found = used(lines, 70)
    assert some(found, "delta", "by_state") == [(4.5, {"running": 4, "idle": 0.5})]
    short = [{"at": "20s", "kwh": 104.0}, {"at": "21s", "status": 8}, {"at": "22s", "status": 2}]
    assert some(used(short, 70), "delta", "by_state") == [(4, None)]


def test_a_debounced_state_takes_what_was_used_since_it_really_began() -> None:
    made = config(
        {**PRESS, "consumption": {"energy": ENERGY}, "state": {**PRESS["state"], "debounce": {"default": "10s"}}},
        TAGS,
    )
    given = [
        FIRST,
        {"at": "19s", "kwh": 104.0},
        {"at": "20s", "status": 1},
        {"at": "25s", "kwh": 104.5},
        {"at": "50s", "kwh": 104.6},
    ]
    found = story(made, given, 70, "consumption")
    assert some(found, "by_state") == [({"running": 4, "idle": 0.6},)]


def test_a_whole_number_stays_a_whole_number() -> None:
    made = config({**PRESS, "consumption": {"water": {"kind": "media", "tag": "water", "resolution": 1}}}, TAGS)
    found = story(made, [FIRST, {"at": "10s", "water": 19}], 901, "consumption")
    assert some(found, "delta", "uom", "resource", "to_at") == [(12, "LTR", "water", 900)]
    assert isinstance(found[0]["delta"], int)


def test_totals_survive_another_resolution() -> None:
    first = config({**PRESS, "consumption": {"energy": ENERGY}}, TAGS)
    second = config({**PRESS, "consumption": {"energy": {**ENERGY, "resolution": 0.01}}}, TAGS)
    from edge_agent.clock import SECOND, Instant
    from tests.machine.stories import machine

    whole = drive(first)
    list(whole.play(lines(first, [FIRST, {"at": "30s", "kwh": 104.5}]), 70 * SECOND))
    old, new = machine(first), machine(second)
    stored = old.dump(whole.states["press"])
    state = new.restore(stored, Instant(10**15, 5)).state
    assert new.describe(state)["consumption"] == {"energy": {"total": 4.5, "uom": "KWH"}}


_STEP = st.tuples(st.integers(1, 40), st.sampled_from(["use", "bad", "nan", "lost", "kill", "idle", "run"]))


@settings(max_examples=50, deadline=None)
@given(st.lists(_STEP, max_size=25))
def test_deltas_add_up_to_the_total_and_to_what_the_meter_moved(walk: list[tuple[int, str]]) -> None:
    given: list[dict[str, Any]] = []
    at, reading = 1, 1000
    for pause, what in walk:
        at += pause
        if what == "use":
            reading += pause
            given.append({"at": f"{at}s", "kwh": reading / 10})
        elif what == "nan":
            given.append({"at": f"{at}s", "kwh": float("nan")})
        elif what == "bad":
            given.append({"at": f"{at}s", "quality": "bad", "tags": ["kwh"]})
        elif what in ("idle", "run"):
            given.append({"at": f"{at}s", "status": 1 if what == "idle" else 2})
        else:
            reading += pause
            first, second = ("killed", "started") if what == "kill" else ("lost", "back")
            word = "agent" if what == "kill" else "device"
            given += [{"at": f"{at}s", word: first}, {"at": f"{at + 20}s", word: second, "kwh": reading / 10}]
            at += 20
    given.append({"at": f"{at + 5}s", "kwh": reading / 10})
    found = used(given, at + 150)
    total = 0.0
    for one in found:
        assert one["delta"] > 0
        total = round(total + one["delta"], 6)
        assert one["total"] == total
        if one.get("by_state"):
            assert round(sum(one["by_state"].values()), 6) == one["delta"]
    assert total == round(reading / 10 - 100, 6)
    for one, following in pairwise(found):
        assert one["to_at"] <= following["from_at"]
