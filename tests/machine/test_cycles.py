"""Cycles as stories: by tags, by the counter, with what was noted of each, over gaps and restarts."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine.stories import EPOCH, PRESS, config, some, story

STATES = {"from": "status", "map": {1: "idle", 2: "running", 4: "starved", 5: "blocked", 8: "fault"}}
MACHINE = {**PRESS, "state": STATES, "ideal_cycle": "20s"}
TAGS = {
    "status": "int16",
    "fault": "uint16",
    "total": "uint16",
    "scrap": "uint16",
    "run": "bool",
    "done": "bool",
    "ok": "bool",
    "verdict": "string",
    "code": "uint16",
    "program": "string",
    "force": {"type": "float32", "unit": "KNT"},
    "temp": {"type": "float32", "unit": "CEL"},
}
FIRST = {"at": "0s", "status": 2, "fault": 0, "total": 0, "scrap": 0, "run": False, "done": False, "ok": True}
_SPAN = ("started_at", "ended_at", "duration_s")


def cycles(given: list[dict[str, Any]], until: float, **more: Any) -> list[dict[str, Any]]:
    made = config({**MACHINE, **more}, TAGS)
    return story(made, [FIRST, *given], until, "cycle")


def test_each_advance_of_the_counter_is_a_cycle_when_there_are_no_cycle_tags() -> None:
    found = cycles([{"at": f"{at}s", "total": at // 20} for at in (20, 40, 61)], 90, cycles={})
    assert some(found, *_SPAN, "parts", "ideal_s", "result") == [
        (20, 40, 20, 1, 20, "unknown"),
        (40, 61, 21, 1, 20, "unknown"),
    ]
    assert [one["cycle_id"] for one in found] == [f"cy-{EPOCH}-press-1", f"cy-{EPOCH}-press-2"]


def test_several_pieces_in_one_scan_are_one_entry_that_says_so() -> None:
    found = cycles([{"at": "10s", "total": 1}, {"at": "50s", "total": 3}], 60, cycles={})
    assert some(found, *_SPAN, "parts", "ideal_s", "quality", "quality_detail") == [
        (10, 50, 40, 2, 40, "uncertain", ("several_cycles",))
    ]


def test_a_cycle_makes_as_many_parts_as_the_mould_has_cavities() -> None:
    counters = {"main": {"total": "total", "parts_per_count": 4, "max_rate": "2/s"}}
    found = cycles([{"at": "10s", "total": 1}, {"at": "90s", "total": 2}], 99, cycles={}, counters=counters)
    assert some(found, "duration_s", "parts", "ideal_s", "quality") == [(80, 4, 80, "good")]


def test_without_cycles_in_the_configuration_there_are_none() -> None:
    assert cycles([{"at": "10s", "total": 1}, {"at": "50s", "total": 2}], 60) == []


def test_a_cycle_lies_between_its_start_and_its_end() -> None:
    lines = [
        {"at": "5s", "run": True},
        {"at": "24s", "total": 1},
        {"at": "25s", "run": False, "done": True},
        {"at": "27s", "done": False},
        {"at": "30s", "run": True},
        {"at": "48s", "done": True, "total": 2},
    ]
    found = cycles(lines, 60, cycles={"start": "run", "end": "done"})
    assert some(found, *_SPAN, "parts") == [(5, 25, 20, 1), (30, 48, 18, 1)]


def test_with_one_trigger_a_cycle_goes_from_one_time_to_the_next() -> None:
    lines = [{"at": f"{at}s", "run": at % 2 == 0} for at in (2, 3, 12, 15, 24)]
    for word in ("start", "end"):
        assert some(cycles(lines, 60, cycles={word: "run"}), *_SPAN) == [(2, 12, 10), (12, 24, 12)]


def test_a_trigger_that_is_on_from_the_beginning_is_only_a_level() -> None:
    made = config({**MACHINE, "cycles": {"start": "run"}}, TAGS)
    lines = [{**FIRST, "run": True}, {"at": "9s", "run": False}, {"at": "12s", "run": True}]
    assert story(made, lines, 60, "cycle") == []


def test_rising_works_as_a_trigger() -> None:
    lines = [{"at": f"{at}s", "run": at % 2 == 0} for at in (2, 3, 12, 15, 24)]
    assert some(cycles(lines, 60, cycles={"start": "rising(run)"}), *_SPAN) == [(2, 12, 10), (12, 24, 12)]


def test_a_trigger_may_depend_on_time() -> None:
    lines = [{"at": "5s", "run": True}, {"at": "6s", "run": False}, {"at": "30s", "run": True}]
    found = cycles(lines, 60, cycles={"start": "run", "end": "not run and not changed_within(run, 10)"})
    assert some(found, *_SPAN, "time_basis") == [(5, 16, 11, "derived")]


def test_a_cycle_carries_its_result_its_program_and_its_values() -> None:
    lines = [
        {"at": "5s", "run": True, "force": 1.0, "temp": 20.0, "program": "P7"},
        {"at": "20s", "quality": "bad", "tags": ["temp"]},
        {"at": "25s", "run": False, "ok": False, "force": 812.5},
    ]
    made = cycles(
        lines,
        40,
        cycles={"start": "run", "end": "not run", "result": "ok", "params": ["force", "temp"], "program": "program"},
    )
    assert some(made, "result", "program") == [("scrap", "P7")]
    params = made[0]["params"]
    assert (params["force"].v, params["force"].uom, params["force"].q) == (812.5, "KNT", "good")
    assert (params["temp"].v, params["temp"].uom, params["temp"].q) == (None, "CEL", "bad")


def test_results_are_codes_words_or_truth_and_anything_else_is_unknown() -> None:
    def result(**line: Any) -> str:
        options = {"start": "run", "end": "not run", "result": next(iter(line)), "results": {7: "rework", 8: "scrap"}}
        lines = [{"at": "5s", "run": True}, {"at": "9s", "run": False, **line}]
        found: str = cycles(lines, 20, cycles=options)[0]["result"]
        return found

    assert [result(code=code) for code in (7, 8, 9)] == ["rework", "scrap", "unknown"]
    assert [result(verdict=word) for word in ("Good ", "scrap", "maybe")] == ["good", "scrap", "unknown"]
    assert [result(ok=ok) for ok in (True, False)] == ["good", "scrap"]


def test_the_counter_tells_the_result_when_all_pieces_are_of_one_kind() -> None:
    counters = {"main": {"total": "total", "scrap": "scrap", "max_rate": "2/s"}}
    lines = [{"at": "5s", "total": 1}, {"at": "20s", "total": 2}, {"at": "40s", "total": 3, "scrap": 1}]
    assert some(cycles(lines, 60, cycles={}, counters=counters), "result") == [("good",), ("scrap",)]


def test_waiting_inside_a_cycle_is_told_and_only_that() -> None:
    lines = [
        {"at": "2s", "status": 4},
        {"at": "5s", "run": True},
        {"at": "8s", "status": 2},
        {"at": "12s", "status": 5},
        {"at": "16s", "status": 8},
        {"at": "18s", "status": 4},
        {"at": "25s", "run": False},
        {"at": "26s", "run": True},
        {"at": "30s", "status": 2},
        {"at": "36s", "run": False},
    ]
    found = cycles(lines, 60, cycles={"start": "run", "end": "not run"})
    assert some(found, "duration_s", "wait_s") == [(20, 3 + 4 + 7), (10, 4)]


def test_waiting_that_is_not_yet_accepted_when_the_cycle_ends_is_told_too() -> None:
    """A state is dated back to its first sample, which may lie before the end of the cycle that is over by then."""
    lines = [
        {"at": "5s", "run": True},
        {"at": "12s", "status": 4},
        {"at": "15s", "run": False},
        {"at": "16s", "run": True},
        {"at": "20s", "status": 2},
        {"at": "23s", "run": False},
    ]
    slow = {**STATES, "debounce": {"default": "6s"}}
    found = cycles(lines, 60, cycles={"start": "run", "end": "not run"}, state=slow)
    assert some(found, "duration_s", "wait_s") == [(10, 3), (7, 4)]


def test_a_cycle_that_nobody_saw_ending_is_no_cycle() -> None:
    lines = [
        {"at": "5s", "run": True},
        {"at": "10s", "device": "lost"},
        {"at": "60s", "device": "back", "run": False},
        {"at": "70s", "run": True},
        {"at": "80s", "run": False},
    ]
    found = cycles(lines, 99, cycles={"start": "run", "end": "not run"})
    assert some(found, *_SPAN) == [(70, 80, 10)]


def test_pieces_of_a_gap_are_no_cycle_and_the_next_begins_after_it() -> None:
    lines = [
        {"at": "5s", "total": 1},
        {"at": "10s", "device": "lost"},
        {"at": "60s", "device": "back", "total": 4},
        {"at": "70s", "total": 5},
        {"at": "90s", "total": 6},
    ]
    found = cycles(lines, 99, cycles={})
    assert some(found, *_SPAN, "parts") == [(60, 70, 10, 1), (70, 90, 20, 1)]


def test_numbers_of_cycles_go_on_after_a_kill() -> None:
    lines = [
        {"at": "5s", "total": 1},
        {"at": "15s", "total": 2},
        {"at": "18s", "agent": "killed"},
        {"at": "20s", "agent": "started"},
        {"at": "30s", "total": 3},
        {"at": "40s", "total": 4},
    ]
    assert some(cycles(lines, 60, cycles={}), "cycle_id", "started_at") == [
        (f"cy-{EPOCH}-press-1", 5),
        (f"cy-{EPOCH}-press-3", 30),  # the second was not seen to its end,
    ]


def test_fast_cycles_go_to_the_stream_that_may_be_shed() -> None:
    made = config({**MACHINE, "cycles": {}}, TAGS, scan="100ms")
    lines = [FIRST, *({"at": f"{at}ms", "total": at // 500} for at in range(500, 20_000, 500))]
    slow = [FIRST, *({"at": f"{at}s", "total": at // 2} for at in range(2, 60, 2))]
    from buffer.outbox import Lane
    from tests.machine.stories import drive
    from tests.machine.stories import lines as read

    def lanes(given: Any, until: int) -> set[Lane]:
        played = drive(made).play(read(made, given), until * 1_000_000)
        return {one.event.lane for one in played if one.event.data.TYPE == "cycle.completed"}

    assert lanes(lines, 20) == {Lane.MEASUREMENT}
    assert lanes(slow, 60) == {Lane.PRODUCTION}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["flip", "bad", "count", "kill", "lost"])), max_size=25),
    st.sampled_from([{}, {"start": "run"}, {"end": "run"}, {"start": "run", "end": "not run"}]),
)
def test_cycles_follow_on_each_other_and_never_overlap(walk: list[tuple[int, str]], options: dict[str, str]) -> None:
    lines: list[dict[str, Any]] = []
    at, run, total, blind = 0, False, 0, []
    for pause, what in walk:
        at += pause
        if what == "flip":
            run = not run
            lines.append({"at": f"{at}s", "run": run})
        elif what == "count":
            total += 1
            lines.append({"at": f"{at}s", "total": total})
        elif what == "bad":
            lines.append({"at": f"{at}s", "quality": "bad", "tags": ["run", "total"]})
        else:
            first, second = ("killed", "started") if what == "kill" else ("lost", "back")
            word = "agent" if what == "kill" else "device"
            lines += [{"at": f"{at}s", word: first}, {"at": f"{at + 20}s", word: second, "run": run, "total": total}]
            blind.append((at, at + 20))
            at += 25
    found = cycles(lines, at + 60, cycles=options)
    for one, following in pairwise(found):
        assert one["ended_at"] <= following["started_at"]
    for one in found:
        assert one["duration_s"] == round(one["ended_at"] - one["started_at"], 3)
        assert not any(one["started_at"] < start and one["ended_at"] > end for start, end in blind)
    assert len({one["cycle_id"] for one in found}) == len(found)
