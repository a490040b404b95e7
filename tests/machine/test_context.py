"""The context on every event: from tags and from the MOM, in revisions, at the time of occurrence."""

from typing import Any

import pytest

from edge_agent.machine import context
from tests.machine.stories import PRESS, TAGS, config, some, story, warnings

MACHINE = {
    **PRESS,
    "context": {"batch": "batch", "serial": "serial", "operators": "badge", "tool": "tool", "recipe": "recipe"},
    "codes": {"tool": {7: "DIE-7"}, "operators": {1001: "E1001"}},
    "measurements": {"scraps": {"tags": ["reject"], "on": "change"}},
}
ALL_TAGS = {**TAGS, "batch": "string", "serial": "string", "badge": "string", "tool": "uint16", "recipe": "string"}
RUNS = {"at": "0s", "status": 2, "fault": 0, "total": 100, "reject": 0}
NOTHING = {"batch": "", "serial": "", "badge": "", "tool": 0, "recipe": ""}


def set_context(when: str, **params: Any) -> dict[str, Any]:
    return {"at": when, "command": {"name": "context.set", **params}}


def test_tags_make_the_context_and_each_change_a_revision() -> None:
    given = [
        {**RUNS, **NOTHING},
        {"at": "10s", "batch": "L1", "tool": 7},
        {"at": "20s", "badge": "1001", "recipe": "R12"},
        {"at": "30s", "batch": "", "serial": "S1"},
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 40, "context")

    assert [(event["rev"], event["set"], event.get("cleared")) for event in events] == [
        (1, {"batch": "L1", "tool": "DIE-7"}, None),
        (2, {"operators": ("E1001",), "recipe": "R12"}, None),
        (3, {"serial": "S1"}, ("batch",)),
    ]
    assert events[-1]["ctx"] == {
        "serial": "S1", "operators": ("E1001",), "tool": "DIE-7", "recipe": "R12", "rev": 3
    }  # fmt: skip


def test_operators_are_listed_once_each() -> None:
    machine = {**MACHINE, "codes": {}}
    events = story(config(machine, ALL_TAGS), [{**RUNS, **NOTHING, "badge": "E2; E3 E2"}], 5, "context")

    assert events[0]["set"] == {"operators": ("E2", "E3")}


def test_counts_and_samples_carry_the_context_of_their_time() -> None:
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        {"at": "10s", "total": 101, "reject": 1},
        {"at": "11s", "batch": "L2"},
        {"at": "12s", "total": 102, "reject": 2},
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 40, "production", "measurement")

    assert [(event["type"].split(".")[0], event["time"], event["ctx"]["batch"]) for event in events[-4:]] == [
        ("measurement", 10, "L1"),
        ("production", 10, "L1"),
        ("measurement", 12, "L2"),
        ("production", 12, "L2"),
    ]


def test_a_code_without_a_meaning_takes_the_word_away_and_is_said_once() -> None:
    given = [
        {**RUNS, **NOTHING, "tool": 7},
        {"at": "10s", "tool": 8},
        {"at": "20s", "tool": 7},
        {"at": "30s", "tool": 8},
    ]
    made = config(MACHINE, ALL_TAGS)

    assert some(story(made, given, 40, "context"), "set", "cleared")[:2] == [
        ({"tool": "DIE-7"}, None),
        ({}, ("tool",)),
    ]
    assert warnings(made, given, 40) == ["unmapped_code"]


def test_what_the_mom_sets_stays_until_the_tag_says_something_else() -> None:
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        set_context("10s", batch="L9", operators=["E5"]),
        {"at": "20s", "total": 101},
        {"at": "30s", "batch": "L2"},
        set_context("40s", operators=[]),
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 50, "context")

    assert some(events, "set", "cleared", "origin") == [
        ({"batch": "L1"}, None, "plc"),
        ({"batch": "L9", "operators": ("E5",)}, None, "mom"),
        ({"batch": "L2"}, None, "plc"),
        ({}, ("operators",), "mom"),
    ]


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_set_for_a_time_goes_and_the_tag_stands_again(killed: bool) -> None:
    restart = [{"at": "20s", "agent": "killed"}, {"at": "30s", "agent": "started"}] if killed else []
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        set_context("10s", batch="L9", operators="E5", ttl="1min"),
        *restart,
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 100, "context")

    assert some(events[1:], "time", "set", "cleared") == [
        (10, {"batch": "L9", "operators": ("E5",)}, None),
        (70, {"batch": "L1"}, ("operators",)),
    ]


def test_the_mom_sets_the_mode_for_a_time() -> None:
    given = [
        {**RUNS, **NOTHING, "status": 1},
        {"at": "5s", "status": 2},
        set_context("20s", mode="setup", ttl="30s"),
        set_context("100s", mode="maintenance"),
        {"at": "110s", "agent": "killed"},
        {"at": "115s", "agent": "started"},
        set_context("150s", mode="production"),
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 200, "state")

    assert some(events[1:], "time", "state", "mode", "rule", "trigger") == [
        (5, "running", "production", "enum", "tag"),
        (20, "setup", "setup", "command", "command"),
        (50, "running", "production", "enum", "command"),
        (100, "maintenance", "maintenance", "command", "command"),
        (105, "unknown", "maintenance", "validity", "agent_restart"),
        (115, "maintenance", "maintenance", "command", "agent_restart"),
        (150, "running", "production", "enum", "command"),
    ]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"mode": {"from": "tool", "map": {0: "production"}}}, "conflict"),
        ({"orders": {"authority": "mom", "changeover": "order_gap"}}, "conflict"),
        ({"state": None}, "unavailable"),
    ],
)
def test_a_mode_that_has_another_source_is_not_set_by_command(more: dict[str, Any], code: str) -> None:
    given = [{**RUNS, **NOTHING}, set_context("10s", mode="setup")]

    assert story(config({**MACHINE, **more}, ALL_TAGS), given, 20, "command")[-1]["code"] == code


def test_a_time_that_is_set_again_begins_anew() -> None:
    given = [{**RUNS, **NOTHING}, set_context("10s", tool="X", ttl=60), set_context("40s", tool="Y", ttl=60)]

    assert some(story(config(MACHINE, ALL_TAGS), given, 200, "context"), "time", "cleared")[-1] == (100, ("tool",))


def test_a_restart_changes_no_context() -> None:
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        {"at": "20s", "agent": "killed"},
        {"at": "30s", "agent": "started"},
        {"at": "40s", "total": 103},
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 100, "context", "production")

    assert some(events, "type") == [("context.changed",), ("production.counted",)]
    assert events[-1]["ctx"] == {"batch": "L1", "rev": 1}


def test_a_tag_that_is_bad_for_long_keeps_its_last_word() -> None:
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        {"at": "20s", "quality": "bad", "tags": ["batch"]},
        {"at": "60s", "total": 101},
        {"at": "80s", "batch": "L1"},
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 100, "context", "production")

    assert [event["ctx"]["batch"] for event in events] == ["L1", "L1"]


def test_a_clock_that_jumps_back_brings_no_old_context_back() -> None:
    given = [
        {**RUNS, **NOTHING, "batch": "L1"},
        {"at": "10s", "batch": "L2"},
        {"at": "20s", "clock": "-3600s"},
        {"at": "30s", "total": 101},
    ]
    events = story(config(MACHINE, ALL_TAGS), given, 60, "production")

    assert [event["ctx"]["batch"] for event in events] == ["L2"]


def test_events_of_one_revision_share_one_mapping() -> None:
    from tests.machine.stories import drive, lines

    made = config(MACHINE, ALL_TAGS)
    given = [{**RUNS, **NOTHING, "batch": "L1"}, {"at": "10s", "total": 101}, {"at": "20s", "total": 102}]
    events = [one.event for one in drive(made).play(lines(made, given), 40_000_000) if one.machine is not None]

    assert len({id(event.ctx) for event in events if event.ctx is not None}) == 1


@pytest.mark.parametrize(
    ("value", "word"),
    [("  X1 \0", "X1"), ("", None), ("   ", None), (0, None), (12, "12"), (12.0, "12"), (1.5, "1.5"), (True, "1")],
)
def test_words_of_tags(value: Any, word: str | None) -> None:
    assert context.plain(value) == word
