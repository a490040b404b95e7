"""Alarms as stories: bits, words and limits, chatter, gaps, and which of them is why the machine stands."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Batch, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.alarms import Alarms
from edge_agent.machine.parts import Wiring
from tests.machine.stories import PRESS, config, machine, some, story

TAGS = {
    "status": "int16",
    "fault": "uint16",
    "total": "uint16",
    "guard": "bool",
    "closed": "bool",
    "word": "int16",
    "temp": "float32",
    "note": "string",
}
GUARD = {"code": 17, "tag": "guard", "text": "Guard open", "severity": 800, "stops_machine": True}
HOT = {"code": "T-HIGH", "tag": "temp", "high": 240, "hysteresis": 5, "delay": "3s", "severity": 700}
WORD = {"word": "word", "bits": {0: {"code": "W0"}, 15: {"code": "W15", "text": "Drive", "stops_machine": True}}}
_FIELDS = ("type", "time", "alarm_id", "active")


def alarms(given: list[dict[str, Any]], until: float, *wanted: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    made = config(PRESS, TAGS, alarms=list(wanted), **more)
    return story(made, [{"at": "0s", "status": 2, "fault": 0, "total": 0}, *given], until, "alarm")


def test_a_bit_that_rises_and_falls_is_one_alarm() -> None:
    found = alarms(
        [{"at": "0s", "guard": False}, {"at": "5s", "guard": True}, {"at": "9s", "guard": False}], 20, GUARD
    )
    assert some(found, *_FIELDS, "cleared_at") == [
        ("alarm.raised", 5, "al-press-17-1", True, None),
        ("alarm.cleared", 9, "al-press-17-1", False, 9),
    ]
    assert some(found[:1], "code", "text", "severity", "origin", "acked", "raised_at", "stops_machine") == [
        ("17", "Guard open", 800, "plc", False, 5, True)
    ]
    assert some(found, "snapshot", "start_uncertain") == [(None, None)] * 2


def test_an_alarm_that_is_active_on_connecting_has_no_known_start() -> None:
    found = alarms([{"at": "0s", "guard": True}], 5, GUARD)
    assert some(found, "type", "snapshot", "start_uncertain", "raised_at") == [("alarm.raised", True, True, 0)]


def test_an_inverted_bit_is_an_alarm_while_it_is_off() -> None:
    inverted = {**GUARD, "tag": "closed", "inverted": True}
    found = alarms([{"at": "0s", "closed": True}, {"at": "4s", "closed": False}], 6, inverted)
    assert some(found, *_FIELDS) == [("alarm.raised", 4, "al-press-17-1", True)]


def test_the_bits_of_a_word_are_alarms_of_their_own_even_the_sign_bit() -> None:
    lines = [
        {"at": "0s", "word": 0},
        {"at": "1s", "word": -32768},
        {"at": "2s", "word": -32767},
        {"at": "3s", "word": 1},
    ]
    found = alarms(lines, 6, WORD)
    assert some(found, *_FIELDS) == [
        ("alarm.raised", 1, "al-press-W15-1", True),
        ("alarm.raised", 2, "al-press-W0-1", True),
        ("alarm.cleared", 3, "al-press-W15-1", False),
    ]


def test_a_limit_must_be_passed_for_the_delay_and_is_dated_back() -> None:
    lines = [
        {"at": "0s", "temp": 200.0},
        {"at": "2s", "temp": 250.0},
        {"at": "4s", "temp": 230.0},
        {"at": "10s", "temp": 241.0},
        {"at": "20s", "temp": 236.0},
        {"at": "25s", "temp": 235.0},
    ]
    found = alarms(lines, 40, HOT)
    assert some(found, *_FIELDS, "origin") == [
        ("alarm.raised", 10, "al-press-T-HIGH-1", True, "agent"),
        ("alarm.cleared", 25, "al-press-T-HIGH-1", False, "agent"),
    ]


def test_a_low_limit_works_the_other_way_round() -> None:
    low = {"code": "P", "tag": "temp", "low": 10, "hysteresis": 1}
    lines = [{"at": f"{at}s", "temp": value} for at, value in enumerate((20.0, 9.0, 10.5, 11.0))]
    assert some(alarms(lines, 6, low), *_FIELDS) == [
        ("alarm.raised", 1, "al-press-P-1", True),
        ("alarm.cleared", 3, "al-press-P-1", False),
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_value_that_is_no_number_is_no_alarm(value: str) -> None:
    assert alarms([{"at": "0s", "temp": 200.0}, {"at": "2s", "temp": float(value)}], 9, {**HOT, "delay": "0s"}) == []


def test_a_bad_value_neither_raises_nor_clears() -> None:
    lines = [
        {"at": "0s", "guard": False, "temp": 200.0},
        {"at": "2s", "guard": True},
        {"at": "4s", "quality": "bad", "tags": ["guard", "temp"]},
        {"at": "6s", "guard": True, "temp": 200.0},
        {"at": "8s", "guard": False},
    ]
    found = alarms(lines, 20, GUARD, HOT)
    assert some(found, *_FIELDS) == [
        ("alarm.raised", 2, "al-press-17-1", True),
        ("alarm.cleared", 8, "al-press-17-1", False),
    ]


def test_a_delay_goes_on_over_a_bad_value_but_ends_with_a_gap() -> None:
    lines = [
        {"at": "0s", "temp": 200.0},
        {"at": "5s", "temp": 250.0},
        {"at": "6s", "quality": "bad", "tags": ["temp"]},
        {"at": "12s", "temp": 250.0},
    ]
    assert some(alarms(lines, 14, HOT), "time") == [(5,)]
    lost = [*lines[:2], {"at": "6s", "device": "lost"}, {"at": "60s", "device": "back"}]
    assert some(alarms(lost, 90, {**HOT, "delay": "15s"}), "time", "snapshot") == [(60, True)]


def test_an_alarm_over_a_gap_is_the_same_if_it_is_still_active_and_ends_uncertain_if_not() -> None:
    lines = [{"at": "0s", "guard": False}, {"at": "5s", "guard": True}, {"at": "10s", "device": "lost"}]
    back = {"at": "60s", "device": "back"}
    assert some(alarms([*lines, back], 90, GUARD), "type") == [("alarm.raised",)]
    gone = alarms([*lines, {**back, "guard": False}], 90, GUARD)
    assert some(gone[1:], "type", "cleared_at", "quality", "quality_detail") == [
        ("alarm.cleared", 60, "uncertain", ("gap_recovery",))
    ]


def test_an_alarm_raised_unseen_is_a_snapshot() -> None:
    lines = [
        {"at": "0s", "guard": False},
        {"at": "10s", "agent": "killed"},
        {"at": "30s", "agent": "started", "guard": True},
    ]
    assert some(alarms(lines, 60, GUARD), "type", "snapshot", "raised_at") == [("alarm.raised", True, 30)]


def test_numbers_of_occurrences_go_on_after_a_restart() -> None:
    lines: list[dict[str, Any]] = [{"at": "0s", "guard": False}]
    lines += [{"at": "5s", "guard": True}, {"at": "8s", "guard": False}]
    lines += [{"at": "10s", "agent": "killed"}, {"at": "12s", "agent": "started"}, {"at": "30s", "guard": True}]
    assert some(alarms(lines, 40, GUARD), "alarm_id") == [("al-press-17-1",)] * 2 + [("al-press-17-2",)]


def test_chatter_is_one_alarm_that_says_what_was_merged() -> None:
    lines: list[dict[str, Any]] = [{"at": "0s", "guard": False}]
    for at in range(1, 21):
        lines.append({"at": f"{at}s", "guard": at % 2 == 1})
    found = alarms(lines, 200, {**GUARD, "chatter": {"edges": 6, "within": "30s"}})
    assert some(found, "type", "time", "alarm_id", "suppressed_count") == [
        ("alarm.raised", 1, "al-press-17-1", None),
        ("alarm.cleared", 2, "al-press-17-1", None),
        ("alarm.raised", 3, "al-press-17-2", None),
        ("alarm.cleared", 4, "al-press-17-2", None),
        ("alarm.raised", 5, "al-press-17-3", None),
        ("alarm.cleared", 6, "al-press-17-3", None),
        ("alarm.raised", 7, "al-press-17-4", None),
        ("alarm.cleared", 20, "al-press-17-4", 12),
    ]


def test_chatter_that_gets_out_of_sight_ends_when_it_came_to_rest() -> None:
    lines: list[dict[str, Any]] = [{"at": "0s", "guard": False}]
    lines += [{"at": f"{at}s", "guard": at % 2 == 1} for at in range(1, 5)]
    lines.append({"at": "10s", "device": "lost"})
    found = alarms(lines, 60, {**GUARD, "chatter": {"edges": 2, "within": "50s"}})
    assert some(found[-1:], "type", "time") == [("alarm.cleared", 4)]


def test_the_alarm_of_the_same_scan_is_the_cause_of_the_downtime() -> None:
    lines = [{"at": "0s", "guard": False}, {"at": "10s", "status": 8, "guard": True, "fault": 12}]
    made = config(PRESS, TAGS, alarms=[GUARD])
    found = story(made, [{"at": "0s", "status": 2, "fault": 0, "total": 0}, *lines], 20)
    state, started = [one for one in found if one["type"] in ("state.changed", "downtime.started")][1:]
    assert state["cause_alarm"] == "al-press-17-1"
    assert started["cause_alarms"] == ("al-press-17-1",)
    assert (started["reason"].code, started["reason"].text, started["reason"].source) == ("17", "Guard open", "plc")


def _caused(*lines: dict[str, Any], until: float = 60) -> list[dict[str, Any]]:
    first = {"at": "0s", "status": 2, "fault": 0, "total": 0, "guard": False, "word": 0}
    made = config(PRESS, TAGS, alarms=[GUARD, WORD])
    return story(made, [first, *lines], until, "downtime", "alarm")


@pytest.mark.parametrize(
    ("raised", "is_cause"), [(7.5, False), (8, True), (9, True), (10, True), (13, True), (13.5, False)]
)
def test_an_alarm_is_the_cause_from_two_seconds_before_the_stop_to_three_after(raised: float, is_cause: bool) -> None:
    lines = sorted(
        [{"at": f"{raised}s", "guard": True}, {"at": "10s", "status": 8}, {"at": "30s", "status": 2}],
        key=lambda line: float(line["at"].rstrip("s")),
    )
    ended = _caused(*lines)[-1]
    assert ended["type"] == "downtime.ended"
    assert ended.get("cause_alarms") == (("al-press-17-1",) if is_cause else None)


def test_alarms_that_follow_never_replace_the_first_one() -> None:
    found = _caused(
        {"at": "9s", "guard": True},
        {"at": "10s", "status": 8},
        {"at": "11s", "word": -32768},
        {"at": "30s", "status": 2},
    )
    ended = found[-1]
    assert ended["cause_alarms"] == ("al-press-17-1", "al-press-W15-1")
    assert (ended["reason"].code, ended["rev"]) == ("17", 2)


def test_the_first_alarm_goes_before_the_reason_of_a_tag() -> None:
    found = _caused({"at": "10s", "status": 8, "fault": 12}, {"at": "11s", "guard": True}, {"at": "30s", "status": 2})
    downtimes = [one for one in found if one["type"].startswith("downtime")]
    assert [(one["type"], one["reason"].code, one["rev"]) for one in downtimes] == [
        ("downtime.started", "12", 1),
        ("downtime.updated", "17", 2),
        ("downtime.ended", "17", 3),
    ]


def test_an_alarm_learned_on_connecting_is_no_cause() -> None:
    made = config(PRESS, TAGS, alarms=[GUARD])
    found = story(made, [{"at": "0s", "status": 8, "fault": 0, "total": 0, "guard": True}], 5, "downtime")
    assert some(found, "cause_alarms") == [(None,)]


def test_a_downtime_takes_the_category_of_its_alarm() -> None:
    made = config(PRESS, TAGS, alarms=[{**GUARD, "category": "starved"}])
    first = {"at": "0s", "status": 2, "fault": 0, "total": 0, "guard": False}
    found = story(made, [first, {"at": "10s", "status": 8, "guard": True}], 15, "downtime")
    assert some(found, "category") == [("starved",)]


class _Desk:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def production(self, time: int, data: Any, correlation: str | None = None, causation: str | None = None) -> None:
        self.events.append((time, data, causation))


def test_an_alarm_is_acknowledged_once_and_only_if_it_is_the_last_of_its_code() -> None:
    made = config(PRESS, TAGS, alarms=[GUARD])
    part = Alarms(Wiring(made, "press"))
    whole = machine(made)
    state = whole.initial(Instant(0, 0)).state
    for second, guard in enumerate((False, True)):
        now = Instant(second * SECOND, second * SECOND)
        state = whole.step(state, Batch("press", [Reading("guard", guard)]), now).state
    known, desk, at = state.parts["alarms"], _Desk(), Instant(9 * SECOND, 9 * SECOND)
    assert part.ack(known, "al-press-17-2", "E1", at, desk)[1] == "not_found"
    known, code = part.ack(known, "al-press-17-1", "E1", at, desk, "c1")
    assert code == "ok"
    assert part.ack(known, "al-press-17-1", "E1", at, desk) == (known, "ok")
    ((time, data, causation),) = desk.events
    assert (time, data.acked, data.acked_by, data.active, causation) == (9 * SECOND, True, "E1", True, "c1")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([True, False, 200.0, 241.0, float("nan"), "bad", "lost", "back", "kill"]), max_size=25)
)
def test_every_alarm_is_raised_and_cleared_in_turn_whatever_happens(walk: list[Any]) -> None:
    lines: list[dict[str, Any]] = [{"at": "0s", "guard": False, "temp": 200.0}]
    lost = dead = False
    for at, what in enumerate(walk, 1):
        line: dict[str, Any] = {"at": f"{2 * at}s"}
        if what == "kill":
            line["agent"] = "started" if dead else "killed"
            dead = not dead
        elif what in ("lost", "back"):
            if lost is (what == "lost") or dead:
                continue
            lost = not lost
            line["device"] = what
        elif what == "bad":
            line |= {"quality": "bad", "tags": ["guard", "temp"]}
        else:
            line["guard" if isinstance(what, bool) else "temp"] = what
        lines.append(line)
    if dead:
        lines.append({"at": "60s", "agent": "started"})
    open_: dict[str, str] = {}
    seen: set[str] = set()
    for one in alarms(lines, 90, GUARD, {**HOT, "chatter": {"edges": 3, "within": "10s"}}):
        if one["type"] == "alarm.raised":
            assert one["code"] not in open_
            assert one["alarm_id"] not in seen
            open_[one["code"]] = one["alarm_id"]
            seen.add(one["alarm_id"])
        else:
            assert open_.pop(one["code"]) == one["alarm_id"]


def test_numbers_of_occurrences_go_on_when_alarms_are_taken_out_and_put_back() -> None:
    with_alarms, without = config(PRESS, TAGS, alarms=[GUARD]), config(PRESS, TAGS)
    whole, bare = machine(with_alarms), machine(without)
    at, ids = 0, []

    def play(state: Any, *guards: bool) -> Any:
        nonlocal at
        for guard in guards:
            at += SECOND
            outcome = whole.step(state, Batch("press", [Reading("guard", guard)]), Instant(at, at))
            ids.extend(one.data.alarm_id for one in outcome.events if one.data.TYPE == "alarm.raised")
            state = outcome.state
        return state

    state = play(whole.initial(Instant(0, 0)).state, False, True, False)
    state = bare.restore(whole.dump(state), Instant(at, at)).state
    state = whole.restore(bare.dump(state), Instant(at, at)).state
    play(state, *[False] * 8, True)
    assert ids == ["al-press-17-1", "al-press-17-2"]
