"""Counters beyond one register: toggle bits, parts per count from a tag, resolutions, defect codes."""

import pytest

from tests.machine.stories import config, drive, lines, some, story, warnings

STATE = {"from": "status", "map": {1: "idle", 2: "running"}}


def made(tags, counter, **more):
    options = {"state": STATE, "counters": {"main": {"max_rate": "5/s", **counter}}, **more}
    return config(options, {"status": "int16", **tags})


def counted(config_, given, until=60):
    return [dict(event["delta"]) for event in story(config_, given, until, "production")]


def test_a_toggle_bit_counts_each_of_its_changes():
    toggle = made({"turn": "bool"}, {"total": "turn", "toggle": True})
    given = [{"at": f"{at}s", "status": 2, "turn": bool(at // 10 % 2)} for at in range(0, 50, 10)]

    assert counted(toggle, given) == [{"total": 1}] * 4
    pulse = made({"turn": "bool"}, {"total": "turn"})
    assert counted(pulse, given) == [{"total": 1}] * 2


def test_a_toggle_bit_that_changed_in_a_gap_tells_nothing_of_how_often():
    toggle = made({"turn": "bool"}, {"total": "turn", "toggle": True})
    given = [
        {"at": "0s", "status": 2, "turn": False},
        {"at": "10s", "device": "lost"},
        {"at": "60s", "device": "back", "turn": True},
        {"at": "70s", "turn": False},
    ]

    events = story(toggle, given, 90, "production", "data")

    assert some(events, "type", "count_recovered", "delta") == [
        ("data.gap", "none", None),
        ("production.counted", None, {"total": 1}),
    ]


CAVITIES = {"shots": "uint16", "cavities": "uint16"}
PER_SHOT = {"total": "shots", "parts_per_count": "cavities"}


def test_parts_per_count_are_those_of_the_tool_and_a_change_of_it_publishes_first():
    given = [
        {"at": "0s", "status": 2, "shots": 10, "cavities": 4},
        {"at": "10s", "shots": 11},
        {"at": "11s", "cavities": 2},
        {"at": "12s", "shots": 12},
    ]

    events = story(made(CAVITIES, PER_SHOT), given, 30, "production")

    assert some(events, "delta", "totals", "parts_per_count", "time") == [
        ({"total": 4}, {"total": 4}, 4, 10),
        ({"total": 2}, {"total": 6}, 2, 12),
    ]


def test_without_known_parts_per_count_nothing_is_counted_and_then_from_the_first_shot():
    given = [
        {"at": "0s", "status": 2, "shots": 10, "quality": "bad", "tags": ["cavities"]},
        {"at": "5s", "shots": 13},
        {"at": "10s", "cavities": 4},
        {"at": "20s", "shots": 14},
    ]

    assert counted(made(CAVITIES, PER_SHOT), given) == [{"total": 4}]


@pytest.mark.parametrize("nonsense", [0, 60_000])
def test_a_number_that_is_no_number_of_cavities_leaves_the_last_one_and_is_said(nonsense):
    given = [
        {"at": "0s", "status": 2, "shots": 10, "cavities": 4},
        {"at": "10s", "cavities": nonsense},
        {"at": "20s", "shots": 11},
    ]

    assert counted(made(CAVITIES, PER_SHOT), given) == [{"total": 4}]
    assert warnings(made(CAVITIES, PER_SHOT), given, 60) == ["parts_per_count"]


def test_shots_of_a_gap_count_with_the_tool_of_its_start():
    given = [
        {"at": "0s", "status": 2, "shots": 10, "cavities": 4},
        {"at": "10.5s", "device": "lost"},
        {"at": "60s", "device": "back", "shots": 12, "cavities": 2},
        {"at": "70s", "shots": 13},
    ]

    assert counted(made(CAVITIES, PER_SHOT), given, 90) == [{"total": 8}, {"total": 2}]


SCRAP = {"total": "total", "scrap": "reject", "scrap_reason": "why"}
BENCH = {"total": "uint16", "reject": "uint16", "why": "uint16"}


def test_scrapped_parts_carry_the_defect_code_of_their_time():
    given = [
        {"at": "0s", "status": 2, "total": 0, "reject": 0, "why": 0},
        {"at": "10s", "total": 5, "reject": 1, "why": 7},
        {"at": "11s", "total": 6, "reject": 3, "why": 9},
        {"at": "20s", "total": 7, "reject": 4, "why": 0},
        {"at": "30s", "total": 8},
    ]

    events = story(made(BENCH, SCRAP), given, 60, "production")

    assert some(events, "scrap_reasons") == [
        (({"code": "7", "qty": 1}, {"code": "9", "qty": 2}),),
        (None,),
        (None,),
    ]
    assert [event["delta"]["scrap"] for event in events] == [3, 1, 0]


def test_scrap_of_a_gap_has_no_reason():
    given = [
        {"at": "0s", "status": 2, "total": 0, "reject": 0, "why": 7},
        {"at": "10.5s", "device": "lost"},
        {"at": "60s", "device": "back", "total": 9, "reject": 3},
    ]

    assert some(story(made(BENCH, SCRAP), given, 90, "production"), "cause", "scrap_reasons") == [
        ("gap_recovery", None)
    ]


def test_a_register_in_steps_that_are_no_parts_is_counted_in_its_resolution():
    scaled = made({"total": "float64"}, {"total": "total", "resolution": 0.5})
    given = [
        {"at": "0s", "status": 2, "total": 10.0},
        {"at": "10s", "total": 10.2},
        {"at": "20s", "total": 11.5},
    ]

    events = story(scaled, given, 60, "production")

    assert some(events, "delta") == [({"total": 3},)]
    assert (events[0]["raw"][0].prev, events[0]["raw"][0].now) == (10.0, 11.5)


def test_a_sum_of_a_thousand_steps_of_a_float_is_exact():
    scaled = made({"total": "float64"}, {"total": "total", "resolution": 0.1, "max_rate": "50/s"})
    given = [{"at": f"{at}s", "status": 2, "total": at * 0.1} for at in range(1000)]

    assert sum(delta["total"] for delta in counted(scaled, given, 1010)) == 999


def test_the_counts_that_wait_survive_a_kill_with_their_defects():
    config_ = made(BENCH, SCRAP)
    given = [
        {"at": "0s", "status": 2, "total": 0, "reject": 0, "why": 7},
        {"at": "10s", "total": 2, "reject": 2},
        {"at": "10.5s", "agent": "killed"},
        {"at": "11s", "agent": "started"},
    ]

    played = drive(config_).play(lines(config_, given), 60_000_000)

    counts = [one.event.data for one in played if one.event.data.TYPE == "production.counted"]
    assert sum(count.delta["scrap"] for count in counts) == 2
