"""From tags to states and downtimes: event model §3.2, §3.4, §3.5 and §7."""

import pytest

from tests.machine.stories import PRESS, OpcPlc, config, some, story, warnings

START = {"at": "0s", "status": 2, "fault": 0, "total": 100}


def press(**downtime):
    return config({**PRESS, "downtime": {**PRESS["downtime"], **downtime}})


def test_an_open_guard_is_a_microstop_with_its_reason():
    given = [START, {"at": "10s", "status": 8, "fault": 12}, {"at": "40s", "status": 2, "fault": 0, "total": 101}]

    events = story(config(), given, 60)

    assert some(events, "type", "time") == [
        ("state.changed", 0),
        ("state.changed", 10),
        ("downtime.started", 10),
        ("production.counted", 40),
        ("state.changed", 40),
        ("downtime.ended", 40),
    ]
    started, ended = events[2], events[5]
    assert started["downtime_id"] == ended["downtime_id"] == f"dt-mlu4idc09c7x.{started['seq']}" == events[1]["story"]
    assert started["category"] == "operator"
    assert (ended["class"], ended["duration_s"], ended["rev"]) == ("microstop", 30, 2)
    assert (ended["reason"].code, ended["reason"].text, ended["reason"].source) == ("12", "Guard open", "plc")
    assert ended["parts_during"] == 0
    assert events[3]["delta"] == {"total": 1}
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]


def test_a_flicker_shorter_than_the_debounce_time_is_nothing():
    given = [START, {"at": "10s", "status": 1}, {"at": "10.9s", "status": 2}]

    assert some(story(config(), given, 30, "state", "downtime"), "state") == [("running",)]


def test_a_change_that_lasts_is_dated_back_to_its_first_sample():
    given = [START, {"at": "10.3s", "status": 1}]

    idle = story(config(), given, 30, "state")[1]

    assert (idle["state"], idle["time"], idle["debounced_s"], idle["prev_duration_s"]) == ("idle", 10.3, 1, 10.3)
    assert (idle["group"], idle["rule"], idle["trigger"]) == ("standby", "enum", "tag")
    assert (idle["raw"].tag, idle["raw"].value) == ("press.status", 1)


def test_a_fault_is_not_debounced_unless_told_so():
    given = [START, {"at": "10s", "status": 8}, {"at": "10.2s", "status": 2}, {"at": "20s", "status": 8}]

    assert some(story(config(), given, 30, "state"), "state", "time") == [
        ("running", 0),
        ("fault", 10),
        ("running", 10.2),
        ("fault", 20),
    ]
    slow = {**PRESS, "state": {**PRESS["state"], "debounce": {"fault": "500ms"}}}
    assert some(story(config(slow), given, 30, "state"), "state", "time") == [("running", 0), ("fault", 20)]


def test_the_debounce_of_the_rest_can_be_set():
    slow = {**PRESS, "state": {**PRESS["state"], "debounce": {"default": "5s"}}}
    given = [START, {"at": "10s", "status": 1}, {"at": "14s", "status": 2}, {"at": "20s", "status": 1}]

    assert some(story(config(slow), given, 30, "state"), "state", "time") == [("running", 0), ("idle", 20)]


def test_flicker_is_merged_into_the_state_before_where_that_is_asked_for():
    merged = {**PRESS, "state": {**PRESS["state"], "min_duration": "5s"}}
    given = [START, {"at": "10s", "status": 8}, {"at": "14s", "status": 2}, {"at": "20s", "status": 8}]

    assert some(story(config(merged), given, 30, "state"), "state", "time") == [("running", 0), ("fault", 20)]


def test_a_candidate_that_turns_into_another_starts_anew():
    given = [START, {"at": "10s", "status": 1}, {"at": "10.5s", "status": 3}]

    assert some(story(config(), given, 30, "state"), "state", "time") == [("running", 0), ("setup", 10.5)]


def test_a_value_without_a_mapping_is_the_default_and_a_warning():
    given = [START, {"at": "10s", "status": 77}, {"at": "20s", "status": 2}, {"at": "30s", "status": 77}]

    assert some(story(config(), given, 40, "state"), "state") == [
        ("running",),
        ("unknown",),
        ("running",),
        ("unknown",),
    ]
    assert warnings(config(), given, 40).count("unmapped_value") == 1


def test_counts_are_flushed_when_the_candidate_appears():
    given = [START, {"at": "9s", "total": 101}, {"at": "10s", "status": 1}, {"at": "10.5s", "total": 102}]

    events = story(config(), given, 30)

    assert some(events, "type", "time", "to_at")[1:] == [
        ("production.counted", 10, 10),
        ("state.changed", 10, None),
        ("downtime.started", 10, None),
        ("production.counted", 10.5, 10.5),
    ]


def test_parts_made_while_the_machine_says_it_stands_are_evidence():
    given = [START, {"at": "10s", "status": 8}, {"at": "15s", "total": 103}, {"at": "20s", "status": 2, "total": 104}]

    ended = story(config(), given, 30, "downtime.ended")[0]

    assert ended["parts_during"] == 3


def test_a_stop_is_promoted_once_when_it_has_lasted():
    given = [START, {"at": "10s", "status": 8}, {"at": "100s", "status": 2}]

    events = story(press(microstop="60s"), given, 200, "downtime")

    assert some(events, "type", "time", "class", "rev", "status") == [
        ("downtime.started", 10, "microstop", 1, "open"),
        ("downtime.updated", 70, "stop", 2, "open"),
        ("downtime.ended", 100, "stop", 3, "ended"),
    ]


def test_a_stop_is_not_promoted_while_running_is_a_candidate():
    given = [START, {"at": "10s", "status": 8}, {"at": "69.5s", "status": 2}]

    events = story(press(microstop="60s"), given, 200, "downtime")

    assert some(events, "type", "class") == [("downtime.started", "microstop"), ("downtime.ended", "microstop")]


def test_a_stop_is_promoted_late_when_the_candidate_went_away():
    given = [START, {"at": "10s", "status": 8}, {"at": "69.5s", "status": 2}, {"at": "70.2s", "status": 8}]

    events = story(press(microstop="60s"), given, 90, "downtime")

    assert some(events, "type", "class") == [("downtime.started", "microstop"), ("downtime.updated", "stop")]


def test_a_stop_of_exactly_the_threshold_is_a_stop():
    given = [START, {"at": "10s", "status": 8}, {"at": "70s", "status": 2}]

    assert story(press(microstop="60s"), given, 90, "downtime.ended")[0]["class"] == "stop"


def test_several_states_are_segments_of_one_downtime():
    given = [START, {"at": "10s", "status": 8}, {"at": "30s", "status": 1}, {"at": "50s", "status": 2}]

    events = story(config(), given, 90, "downtime")

    assert some(events, "type") == [("downtime.started",), ("downtime.ended",)]
    ended = events[1]
    assert [(part.state, part.duration_s, part.planned) for part in ended["segments"]] == [
        ("fault", 20, False),
        ("idle", 20, False),
    ]
    assert (ended["category"], ended["planned"]) == ("breakdown", "unplanned")


@pytest.mark.parametrize(
    ("status", "category", "planned"),
    [(1, "unclassified", "unplanned"), (3, "setup", "undecided"), (8, "breakdown", "unplanned")],
)
def test_the_category_follows_from_the_state(status, category, planned):
    started = story(config(), [START, {"at": "10s", "status": status}], 30, "downtime")[0]

    assert (started["category"], started["planned"], started.get("reason")) == (category, planned, None)


def test_a_reason_that_comes_late_is_an_update_and_the_first_one_stays():
    given = [START, {"at": "10s", "status": 8}, {"at": "12s", "fault": 12}, {"at": "14s", "fault": 17}]

    events = story(config(), [*given, {"at": "20s", "status": 2}], 30, "downtime")

    assert some(events, "type", "rev", "category") == [
        ("downtime.started", 1, "breakdown"),
        ("downtime.updated", 2, "operator"),
        ("downtime.ended", 3, "operator"),
    ]
    assert [event.get("reason") and event["reason"].code for event in events] == [None, "12", "12"]


def test_a_reason_that_came_and_went_within_the_debounce_time_is_kept():
    given = [START, {"at": "10s", "status": 1, "fault": 12}, {"at": "10.5s", "fault": 0}]

    assert story(config(), given, 30, "downtime")[0]["reason"].code == "12"


def test_a_reason_of_a_planned_category_makes_the_downtime_planned():
    reasons = {"MNT": {"text": "Service", "category": "planned_maintenance"}}
    made = config(
        {**PRESS, "downtime": {"reason": "why", "reasons": reasons}},
        {"status": "int16", "total": "uint16", "why": "string"},
    )
    given = [{"at": "0s", "status": 2, "total": 1, "why": ""}, {"at": "10s", "status": 1, "why": "MNT"}]

    started = story(made, given, 30, "downtime")[0]

    assert (started["category"], started["planned"], started["reason"].text) == (
        "planned_maintenance",
        "planned",
        "Service",
    )


def test_a_reason_has_the_code_that_the_mom_gave_it_and_keeps_its_text_and_category():
    reasons = {12: {"code": "M-210", "text": "Guard open", "category": "operator"}}
    made = config({**PRESS, "downtime": {"reason": "fault", "reasons": reasons}})
    given = [START, {"at": "10s", "status": 8, "fault": 12}, {"at": "20s", "status": 2, "fault": 0}]

    events = story(made, given, 30, "downtime")

    assert {(event["reason"].code, event["reason"].text, event["category"]) for event in events} == {
        ("M-210", "Guard open", "operator")
    }


def test_the_first_state_of_an_epoch_has_nothing_before_it():
    events = story(config(), [{**START, "status": 8}], 10)

    assert some(events, "type", "prev_state", "prev_duration_s", "start_uncertain") == [
        ("state.changed", None, None, None),
        ("downtime.started", None, None, True),
    ]


def test_before_the_first_sample_there_is_nothing():
    assert story(config(), [{"at": "600s", **{key: START[key] for key in ("status", "total")}}], 500) == []


def test_a_short_burst_does_not_end_a_downtime_where_they_are_merged():
    given = [START, {"at": "10s", "status": 8}, {"at": "30s", "status": 2}, {"at": "33s", "status": 8}]

    events = story(press(merge_gap="10s"), [*given, {"at": "50s", "status": 2}], 90, "downtime")

    assert some(events, "type", "time") == [("downtime.started", 10), ("downtime.ended", 50)]
    assert [(part.state, part.duration_s) for part in events[1]["segments"]] == [
        ("fault", 20),
        ("running", 3),
        ("fault", 17),
    ]


def test_a_burst_that_makes_a_piece_ends_the_downtime():
    given = [
        START,
        {"at": "10s", "status": 8},
        {"at": "30s", "status": 2},
        {"at": "32s", "total": 101},
        {"at": "33s", "status": 8},
    ]

    events = story(press(merge_gap="10s"), given, 90, "downtime")

    assert some(events, "type", "time") == [
        ("downtime.started", 10),
        ("downtime.ended", 30),
        ("downtime.started", 33),
    ]


RULES = {
    "state": {
        "rules": [
            {"state": "running", "when": "burner and temp > 150"},
            {"state": "fault", "when": "not burner", "reason": "Burner off"},
            {"state": "idle"},
        ],
    }
}
OVEN = {"burner": "bool", "temp": "float32"}


def test_the_first_rule_that_is_true_decides_and_gives_the_reason():
    given = [
        {"at": "0s", "burner": True, "temp": 180.0},
        {"at": "10s", "temp": 140.0},
        {"at": "20s", "burner": False},
        {"at": "30s", "burner": True, "temp": 151.0},
    ]

    events = story(config(RULES, OVEN), given, 50)

    assert some([one for one in events if one["type"] == "state.changed"], "state", "time", "rule") == [
        ("running", 0, "expr"),
        ("idle", 10, "expr"),
        ("fault", 20, "expr"),
        ("running", 30, "expr"),
    ]
    given[1] = {"at": "10s", "burner": False}
    given[2] = {"at": "20s", "burner": False}
    started = story(config(RULES, OVEN), given, 25, "downtime")[0]
    assert (started["reason"].text, started["reason"].source) == ("Burner off", "rule")


def test_a_bad_input_of_a_higher_rule_holds_the_state_and_then_makes_it_unknown():
    given = [
        {"at": "0s", "burner": True, "temp": 180.0},
        {"at": "5s", "quality": "bad", "tags": ["temp"]},
        {"at": "12s", "temp": 100.0},
        {"at": "20s", "quality": "bad", "tags": ["temp"]},
        {"at": "40s", "temp": 100.0},
    ]

    events = story(config(RULES, OVEN), given, 50)

    assert some(events, "type", "state", "time", "trigger", "cause") == [
        ("state.changed", "running", 0, "tag", None),
        ("state.changed", "idle", 12, "tag", None),
        ("downtime.started", None, 12, None, None),
        ("state.changed", "unknown", 19, "quality", None),
        ("data.gap", None, 40, None, "bad_quality"),
        ("state.changed", "idle", 40, "quality", None),
    ]


def test_a_bad_input_that_cannot_change_the_result_does_not_matter():
    given = [{"at": "0s", "burner": False, "temp": 180.0}, {"at": "5s", "quality": "bad", "tags": ["temp"]}]

    assert some(story(config(RULES, OVEN), given, 50, "state"), "state") == [("fault",)]


def test_a_rule_over_time_changes_when_its_time_has_come():
    rules = {"rules": [{"state": "running", "when": "changed_within(total, 30)"}, {"state": "stopped"}]}
    given = [{"at": "0s", "total": 1}, {"at": "10s", "total": 2}, {"at": "100s", "total": 3}]

    events = story(config({"state": rules}, {"total": "uint16"}, kind=OpcPlc), given, 120, "state")

    assert some(events, "state", "time") == [("running", 0), ("stopped", 40), ("running", 100)]


def test_an_average_is_weighted_with_time():
    rules = {"rules": [{"state": "running", "when": "avg(load, 10) > 5"}, {"state": "idle"}]}
    given = [{"at": "0s", "load": 10.0}, {"at": "20s", "load": 0.0}]

    events = story(config({"state": rules}, {"load": "float32"}), given, 60, "state")

    assert some(events, "state", "time") == [("running", 0), ("idle", 25)]


def test_a_uncertain_value_decides_and_says_so():
    given = [START, {"at": "10s", "status": 1, "quality": "uncertain", "tags": ["status"]}]

    idle = story(config(), given, 20, "state")[1]

    assert (idle["state"], idle["quality"], idle["quality_detail"]) == ("idle", "uncertain", ("Uncertain",))


def test_a_jump_of_the_wall_clock_changes_no_duration():
    given = [START, {"at": "10s", "status": 8}, {"at": "20s", "clock": "+3600s"}, {"at": "40s", "status": 2}]

    ended = story(config(), given, 60, "downtime.ended")[0]

    assert (ended["started_at"], ended["ended_at"], ended["duration_s"]) == (10, 3640, 30)


def test_a_jump_back_of_the_wall_clock_changes_no_duration_and_no_state():
    given = [START, {"at": "10s", "status": 8}, {"at": "20s", "clock": "-3600s"}, {"at": "40s", "status": 2}]

    events = story(config(), given, 60)

    assert some([one for one in events if one["type"] == "state.changed"], "state", "prev_duration_s") == [
        ("running", None),
        ("fault", 10),
        ("running", 30),
    ]
    assert events[-1]["duration_s"] == 30


def test_many_segments_do_not_make_an_event_too_large():
    given = [START, {"at": "10s", "status": 8}]
    for turn in range(700):
        given.append({"at": f"{20 + 2 * turn}s", "status": 1 if turn % 2 else 3})

    ended = story(config(), [*given, {"at": "1500s", "status": 2}], 1600, "downtime.ended")[0]

    assert len(ended["segments"]) == 300
    assert sum(part.duration_s for part in ended["segments"]) == pytest.approx(ended["duration_s"])
    assert ended["quality_detail"] == ("segments_merged",)


def test_what_is_no_number_is_a_missing_input_and_not_false():
    given = [{"at": "0s", "burner": True, "temp": 180.0}, {"at": "10s", "temp": float("nan")}]

    assert some(story(config(RULES, OVEN), given, 60, "state"), "state", "time") == [("running", 0), ("unknown", 9)]


def test_a_reason_that_comes_and_goes_while_the_stop_is_a_candidate_is_kept():
    given = [START, {"at": "10s", "status": 1}, {"at": "10.3s", "fault": 12}, {"at": "10.6s", "fault": 0}]

    assert story(config(), given, 30, "downtime")[0]["reason"].code == "12"
