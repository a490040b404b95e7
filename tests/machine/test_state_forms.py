"""The forms of `state`: presets, signals, lamps and activity, and the mode beside them (event model §3.1 to §3.3)."""

import pytest
from pydantic import ValidationError

from config.errors import Problem
from config.mapping import ModeOptions, StateOptions
from config.presets import PRECEDENCE, PRESETS
from config.states import State
from tests.machine.stories import config, some, story, warnings

TAGS = {"status": "int16", "total": "uint16", "mode": "int16", "starved": "bool", "blocked": "bool", "power": "bool"}
COUNTER = {"main": {"total": "total", "max_rate": "2/s"}}


def plc(state, **more):
    return config({"state": state, "counters": COUNTER, **more}, TAGS)


def states(made, given, until=100):
    return some(story(made, given, until, "state"), "state", "time")


PACKML = {
    "undefined": "unknown",
    "clearing": "fault",
    "stopped": "stopped",
    "starting": "idle",
    "idle": "idle",
    "suspended": "idle",
    "execute": "running",
    "stopping": "stopped",
    "aborting": "fault",
    "aborted": "fault",
    "holding": "stopped",
    "held": "stopped",
    "unholding": "running",
    "suspending": "idle",
    "unsuspending": "running",
    "resetting": "idle",
    "completing": "running",
    "complete": "idle",
}
TR88 = dict(enumerate(PACKML))
TMC = dict(enumerate([
    "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting", "aborted", "holding", "held",
    "unholding", "suspending", "unsuspending", "resetting", "completing", "complete", "clearing",
]))  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "said", "state"),
    [
        *(("packml_tr88", number, PACKML[name]) for number, name in TR88.items()),
        *(("packml_tmc", number, PACKML[name]) for number, name in TMC.items()),
        ("machinery_item_state", 0, "off"),
        ("machinery_item_state", 1, "fault"),
        ("machinery_item_state", 2, "idle"),
        ("machinery_item_state", 3, "running"),
        ("mtconnect_execution", "ACTIVE", "running"),
        ("mtconnect_execution", "READY", "idle"),
        ("mtconnect_execution", "PROGRAM_COMPLETED", "idle"),
        ("mtconnect_execution", "WAIT", "idle"),
        ("mtconnect_execution", "FEED_HOLD", "stopped"),
        ("mtconnect_execution", "INTERRUPTED", "stopped"),
        ("mtconnect_execution", "OPTIONAL_STOP", "stopped"),
        ("mtconnect_execution", "PROGRAM_STOPPED", "stopped"),
        ("mtconnect_execution", "STOPPED", "stopped"),
        ("mtconnect_execution", "UNAVAILABLE", "unknown"),
    ],
)
def test_a_preset_says_what_its_vocabulary_means(preset, said, state):
    made = config(
        {"state": {"from": "status", "preset": preset}}, {"status": "string" if isinstance(said, str) else "int16"}
    )

    assert states(made, [{"at": "0s", "status": said}], 5) == [(state, 0)]
    assert PRESETS[preset].states[said] == state


def test_every_number_of_packml_has_a_meaning_in_both_countings():
    assert sorted(PRESETS["packml_tr88"].states) == list(range(18))
    assert sorted(PRESETS["packml_tmc"].states) == list(range(17))


def test_a_map_beside_a_preset_says_what_differs():
    made = plc({"from": "status", "preset": "packml_tr88", "map": {11: "blocked"}})

    given = [{"at": "0s", "status": 6, "total": 0}, {"at": "10s", "status": 11}]
    assert states(made, given) == [("running", 0), ("blocked", 10)]


def test_the_evidence_of_a_preset_has_the_name_of_the_number_in_its_vocabulary():
    made = plc({"from": "status", "preset": "packml_tmc", "map": {99: "idle"}})
    given = [{"at": f"{10 * index}s", "status": number, "total": 0} for index, number in enumerate((4, 9, 99))]
    events = story(made, given, 40, "state")
    assert [(one["raw"].value, one["raw"].text) for one in events] == [(4, "execute"), (9, "held"), (99, None)]


def test_a_word_is_masked_before_it_is_mapped():
    made = plc({"from": "status", "mask": 0x0F0, "map": {2: "running", 8: "fault"}})

    given = [
        {"at": "0s", "status": 0x321, "total": 0},
        {"at": "10s", "status": 0x781},
        {"at": "20s", "status": 0x121},
    ]
    assert states(made, given) == [("running", 0), ("fault", 10), ("running", 20)]


SIGNALS = {"starved": "starved", "blocked": "blocked"}
FREE = {"at": "0s", "status": 6, "total": 0, "starved": False, "blocked": False}


def test_a_suspended_machine_is_starved_or_blocked_when_a_signal_says_so():
    made = plc({"from": "status", "preset": "packml_tr88", "signals": SIGNALS})
    given = [
        FREE,
        {"at": "10s", "status": 5, "starved": True},
        {"at": "20s", "status": 6, "starved": False},
        {"at": "30s", "status": 5, "blocked": True},
        {"at": "40s", "starved": True},
        {"at": "50s", "status": 6},
    ]

    events = story(made, given, 60, "state", "downtime.started")

    assert some(events, "state", "time", "category") == [
        ("running", 0, None),
        ("starved", 10, None),
        (None, 10, "starved"),
        ("running", 20, None),
        ("blocked", 30, None),
        (None, 30, "blocked"),
        ("running", 50, None),
    ]


def test_an_executing_packml_machine_runs_whatever_its_bits_say():
    made = plc({"from": "status", "preset": "packml_tr88", "signals": SIGNALS})

    assert states(made, [FREE, {"at": "10s", "blocked": True}]) == [("running", 0)]


def test_beside_a_map_a_signal_wins_by_its_rank_and_the_order_can_be_changed():
    by_rank = {"from": "status", "map": {6: "running"}, "signals": SIGNALS}
    given = [FREE, {"at": "10s", "blocked": True}]

    assert states(plc(by_rank), given) == [("running", 0), ("blocked", 10)]
    assert states(plc({**by_rank, "order": ["running"]}), given) == [("running", 0)]


def test_a_higher_signal_that_cannot_be_seen_leaves_the_state_as_it_was_and_then_unknown():
    made = plc({"from": "status", "map": {6: "running", 4: "idle"}, "signals": SIGNALS})
    given = [FREE, {"at": "10s", "quality": "bad", "tags": ["blocked"]}, {"at": "12s", "status": 4}]

    assert states(made, given, 40) == [("running", 0), ("unknown", 9)]


def test_off_is_said_by_a_power_bit_even_when_the_plc_is_silent():
    made = plc({"from": "status", "map": {6: "running"}, "signals": {"off": "not power"}})
    given = [
        {**FREE, "power": True},
        {"at": "10s", "quality": "bad", "tags": ["status"]},
        {"at": "10s", "power": False},
    ]

    assert states(made, given, 60) == [("running", 0), ("off", 10)]


def test_silence_alone_is_unknown_and_never_off():
    made = plc({"from": "status", "map": {6: "running"}, "signals": {"off": "not power"}})

    assert states(made, [{**FREE, "power": True}, {"at": "10.5s", "device": "lost"}], 60) == [
        ("running", 0),
        ("unknown", 10),
    ]


def test_the_usual_precedence_is_that_of_the_event_model():
    assert [state.value for state in PRECEDENCE] == [
        "off", "fault", "maintenance", "setup", "blocked", "starved", "running", "stopped", "idle", "unknown",
    ]  # fmt: skip
    own = StateOptions.model_validate({"from": "x", "map": {1: "idle"}, "order": ["running", "blocked"]})
    assert sorted(own.ranks, key=own.ranks.__getitem__)[:4] == ["running", "blocked", "off", "fault"]
    assert set(own.ranks) == set(State)


MODES = {"mode": {"from": "mode", "map": {1: "production", 2: "setup", 3: "maintenance", 4: "manual"}}}
MAP = {"from": "status", "map": {1: "idle", 2: "running", 8: "fault"}}


def test_the_mode_stands_beside_the_state():
    given = [{"at": "0s", "status": 1, "mode": 1, "total": 0}, {"at": "10s", "mode": 4}, {"at": "20s", "status": 2}]

    events = story(plc(MAP, **MODES), given, 40, "state")

    assert some(events, "state", "mode", "time", "prev_state") == [
        ("idle", "production", 0, None),
        ("idle", "manual", 10, "idle"),
        ("running", "manual", 20, "idle"),
    ]


def test_a_mode_of_set_up_or_maintenance_makes_the_state_but_a_fault_stays_one():
    given = [
        {"at": "0s", "status": 2, "mode": 1, "total": 0},
        {"at": "10s", "mode": 2},
        {"at": "20s", "status": 8},
        {"at": "30s", "mode": 3},
        {"at": "40s", "status": 1},
    ]

    events = story(plc(MAP, **MODES), given, 60, "state")

    assert some(events, "state", "mode", "time", "rule") == [
        ("running", "production", 0, "enum"),
        ("setup", "setup", 10, "priority"),
        ("fault", "setup", 20, "enum"),
        ("fault", "maintenance", 30, "enum"),
        ("maintenance", "maintenance", 40, "priority"),
    ]
    assert events[1]["raw"].tag == "press.mode"


def test_where_the_order_says_so_a_machine_that_runs_in_set_up_mode_runs():
    made = plc({**MAP, "order": ["fault", "running"]}, **MODES)
    given = [{"at": "0s", "status": 2, "mode": 1, "total": 0}, {"at": "10s", "mode": 2}]

    assert some(story(made, given, 30, "state"), "state", "mode") == [("running", "production"), ("running", "setup")]


def test_counts_are_published_before_the_mode_changes():
    given = [{"at": "0s", "status": 2, "mode": 1, "total": 0}, {"at": "10s", "total": 1}, {"at": "11s", "mode": 4}]

    events = story(plc(MAP, **MODES), given, 30)

    assert some(events, "type", "time") == [("state.changed", 0), ("production.counted", 11), ("state.changed", 11)]


def test_a_change_of_mode_alone_adds_nothing_to_a_downtime():
    given = [
        {"at": "0s", "status": 2, "mode": 1, "total": 0},
        {"at": "10s", "status": 8},
        {"at": "20s", "mode": 4},
        {"at": "30s", "status": 2},
    ]

    events = story(plc(MAP, **MODES), given, 60, "downtime")

    assert some(events, "type") == [("downtime.started",), ("downtime.ended",)]
    assert [(part.state, part.duration_s) for part in events[1]["segments"]] == [("fault", 20)]


def test_a_mode_without_a_meaning_is_unknown_and_said_once():
    given = [{"at": "0s", "status": 2, "mode": 1, "total": 0}, {"at": "10s", "mode": 9}]

    assert some(story(plc(MAP, **MODES), given, 30, "state"), "state", "mode") == [
        ("running", "production"),
        ("running", "unknown"),
    ]
    assert warnings(plc(MAP, **MODES), given, 30) == ["unmapped_value"]


def test_the_modes_of_packml_and_of_opc_ua_machinery_have_tables():
    assert ModeOptions.model_validate({"from": "m", "preset": "packml_unit_mode"}).modes[2] == "maintenance"
    assert ModeOptions.model_validate({"from": "m", "preset": "machinery_operation_mode"}).modes[2] == "setup"


LAMPS = {"red": "bool", "amber": "bool", "green": "bool", "total": "uint16"}
TOWER = {"preset": "tower_light", "lamps": {"red": "red", "amber": "amber", "green": "green"}}
DARK = {"at": "0s", "red": False, "amber": False, "green": True}


def tower(**more):
    return config({"state": {**TOWER, **more}}, LAMPS, scan="100ms")


def flashing(tag, start, end, half=0.5):
    count = round((end - start) / half)
    return [{"at": f"{start + number * half}s", tag: number % 2 == 0} for number in range(count + 1)]


def test_lamps_say_the_state_and_the_first_in_rank_wins():
    given = [DARK, {"at": "10s", "amber": True}, {"at": "20s", "red": True}, {"at": "30s", "red": False}]
    given += [{"at": "40s", "green": False}, {"at": "50s", "amber": False}]

    events = story(tower(map={"amber": "idle"}), given, 60, "state")

    assert some(events, "state", "time", "rule") == [
        ("running", 0, "priority"),
        ("fault", 20, "priority"),
        ("running", 30, "priority"),
        ("idle", 40, "priority"),
        ("stopped", 50, "priority"),
    ]
    assert (events[1]["raw"].tag, events[1]["raw"].value) == ("press.red", "red")


def test_a_blinking_lamp_is_told_from_a_steady_one_and_dated_to_its_first_change():
    made = tower(map={"amber_blinking": "starved", "amber": "idle"}, order=["starved"])
    given = [DARK, *flashing("amber", 10, 20), {"at": "30s", "green": False, "amber": True}]

    events = story(made, given, 60, "state")

    assert some(events, "state", "time") == [("running", 0), ("starved", 10), ("running", 20), ("idle", 30)]


def test_one_flash_within_three_seconds_is_a_blink_and_one_change_is_not():
    made = tower(map={"amber_blinking": "starved"}, order=["starved"])

    assert states(made, [DARK, {"at": "10s", "amber": True}], 40) == [("running", 0)]
    assert states(made, [DARK, {"at": "10s", "amber": True}, {"at": "13s", "amber": False}], 40) == [("running", 0)]


def test_a_lamp_that_cannot_be_seen_leaves_the_state_as_it_was():
    given = [DARK, {"at": "10s", "quality": "bad", "tags": ["red"]}, {"at": "12s", "green": False}]

    assert states(tower(), given, 60) == [("running", 0), ("unknown", 9.9)]


def active(cycle=None, **activity):
    more = {} if cycle is None else {"ideal_cycle": cycle}
    counter = {"main": {"total": "total", "max_rate": "2/s"}}
    return config({"state": {"activity": activity}, "counters": counter, **more}, {"total": "uint16"})


def counting(start, end, every=1, first=1):
    return [{"at": f"{at}s", "total": first + index} for index, at in enumerate(range(start, end, every))]


def test_a_counter_that_advances_is_a_machine_that_runs_and_its_loss_begins_a_cycle_after_the_last_piece():
    given = [{"at": "0s", "total": 0}, *counting(10, 50, 5), {"at": "120s", "total": 9}]

    events = story(active("5s"), given, 200, "state", "downtime")

    assert some(events, "type", "state", "time", "rule", "trigger") == [
        ("state.changed", "running", 10, "activity", "tag"),
        ("state.changed", "stopped", 50, "activity", "timeout"),
        ("downtime.started", None, 50, None, None),
        ("state.changed", "running", 120, "activity", "tag"),
        ("downtime.ended", None, 120, None, None),
        ("state.changed", "stopped", 125, "activity", "timeout"),
        ("downtime.started", None, 125, None, None),
    ]
    assert events[4]["parts_during"] == 0


def test_the_timeout_of_activity_can_be_set_and_is_else_at_least_ten_seconds():
    given = [{"at": "0s", "total": 0}, {"at": "1s", "total": 1}, {"at": "12s", "total": 2}, {"at": "40s", "total": 3}]

    assert states(active(), given, 35) == [("running", 1), ("stopped", 1), ("running", 12), ("stopped", 12)]
    assert states(active(timeout="30s"), given, 45) == [("running", 1)]


def test_a_counter_that_never_moved_is_a_machine_that_stood_from_its_first_sample():
    assert states(active("5s"), [{"at": "2s", "total": 7}], 60) == [("stopped", 2)]


def test_a_gap_proves_no_activity_even_if_the_count_moved_in_it():
    given = [
        {"at": "0s", "total": 0},
        *counting(5, 30, 5),
        {"at": "26s", "device": "lost"},
        {"at": "100s", "device": "back"},
        {"at": "100s", "total": 15},
    ]

    assert states(active("5s"), given, 200) == [("running", 5), ("unknown", 25), ("stopped", 100)]


def test_a_correction_is_no_activity():
    given = [{"at": "0s", "total": 1000}, {"at": "1s", "total": 1001}, {"at": "30s", "total": 995}]

    assert states(active("5s"), given, 60) == [("running", 1), ("stopped", 6)]


def watched(**more):
    return plc(MAP, ideal_cycle="5s", **more)


SILENT = [{"at": "0s", "status": 2, "total": 0}, *counting(5, 30, 5), {"at": "100s", "total": 6}]


def test_running_without_output_is_said_and_stays_running():
    events = story(watched(), SILENT, 110, "state", "downtime")

    assert some(events, "state", "time", "quality", "quality_detail") == [
        ("running", 0, "good", None),
        ("running", 30, "uncertain", ("no_output",)),
        ("running", 100, "good", None),
    ]
    assert warnings(watched(), SILENT, 110) == ["no_output"]


def test_the_watchdog_may_take_running_away_until_the_next_piece():
    events = story(watched(activity_watchdog="enforce"), SILENT, 110, "state", "downtime")

    assert some(events, "type", "state", "time", "rule") == [
        ("state.changed", "running", 0, "enum"),
        ("state.changed", "stopped", 30, "activity"),
        ("downtime.started", None, 30, None),
        ("state.changed", "running", 100, "enum"),
        ("downtime.ended", None, 100, None),
    ]
    assert events[4]["parts_during"] == 0


def test_without_an_ideal_cycle_nobody_knows_how_long_is_too_long():
    assert states(plc(MAP, activity_watchdog="enforce"), SILENT, 110) == [("running", 0)]


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "packml_tr88"},
        {"from": "a", "preset": "tower_light", "lamps": {"red": "b"}},
        {"preset": "tower_light"},
        {"from": "a", "map": {1: "idle"}, "lamps": {"red": "b"}},
        {"activity": {}, "rules": [{"state": "idle"}]},
        {"activity": {}, "from": "a"},
        {"rules": [{"state": "idle"}], "signals": {"fault": "a"}},
        {"preset": "tower_light", "lamps": {"red": "b"}, "map": {"purple": "idle"}},
        {},
    ],
)
def test_forms_that_do_not_go_together_are_refused(options):
    with pytest.raises((Problem, ValidationError)):
        StateOptions.model_validate(options)


def test_a_machine_that_makes_four_parts_a_cycle_may_be_silent_four_times_as_long():
    counters = {"main": {**COUNTER["main"], "parts_per_count": 4}}
    given = [{"at": "0s", "status": 2, "total": 0}, {"at": "10s", "total": 1}]

    one = story(config({"state": MAP, "counters": COUNTER, "ideal_cycle": "5s"}, TAGS), given, 100, "state")
    four = story(config({"state": MAP, "counters": counters, "ideal_cycle": "5s"}, TAGS), given, 100, "state")

    assert some(one, "time", "quality") == [(0, "good"), (15, "uncertain")]
    assert some(four, "time", "quality") == [(0, "good"), (30, "uncertain")]


def test_the_silence_of_a_mould_is_that_of_the_cavities_its_tag_says():
    counters = {"main": {**COUNTER["main"], "parts_per_count": "tool"}}
    tool = config({"state": MAP, "counters": counters, "ideal_cycle": "5s"}, {**TAGS, "tool": "uint16"})
    given = [{"at": "0s", "status": 2, "total": 0, "tool": 4}, {"at": "10s", "total": 1}]

    assert some(story(tool, given, 100, "state"), "time", "quality") == [(0, "good"), (30, "uncertain")]


@pytest.mark.parametrize("form", [{"state": MAP, "ideal_cycle": "5s"}, {"state": {"activity": {"timeout": "15s"}}}])
def test_silence_that_nobody_saw_is_no_silence(form):
    made = config({**form, "counters": COUNTER}, TAGS, comms_timeout="20s")
    given = [{"at": "0s", "status": 2, "total": 0}, {"at": "10s", "total": 1}, {"at": "12.5s", "device": "lost"}]

    *_, last, unknown = story(made, given, 100, "state")

    assert (last["state"], last["quality"]) == ("running", "good")
    assert (unknown["state"], unknown["time"], unknown["trigger"]) == ("unknown", 12, "comms")


MAINTAINED = {**MAP, "map": {**MAP["map"], 7: "maintenance"}}


@pytest.mark.parametrize(
    ("line", "category", "planned"),
    [({"mode": 3}, "planned_maintenance", True), ({"status": 7}, "breakdown", False)],
)
def test_maintenance_is_planned_if_somebody_chose_its_mode(line, category, planned):
    given = [{"at": "0s", "status": 2, "mode": 1, "total": 0}, {"at": "20s", **line}]

    *_, state, downtime = story(plc(MAINTAINED, **MODES), given, 100, "state", "downtime")

    assert (state["state"], state["planned"]) == ("maintenance", planned)
    assert (downtime["category"], downtime["planned"]) == (category, "planned" if planned else "unplanned")
