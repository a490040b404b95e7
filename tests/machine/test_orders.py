"""Order runs: who starts them, how they end, and that every piece belongs to one of them or to none."""

from typing import Any

import pytest
from pydantic import ValidationError

from config.machine import MachineOptions
from tests.machine.stories import PRESS, TAGS, config, some, story, warnings

MOM = {**PRESS, "orders": {"authority": "mom"}}
PLC = {
    **PRESS,
    "orders": {"authority": "plc", "tag": "order", "quantity": "planned"},
    "context": {"product": "product", "batch": "batch"},
    "codes": {"product": {12: "BRKT-4411", 13: "BRKT-4412"}},
}
PLC_TAGS = {**TAGS, "order": "string", "planned": "uint16", "product": "uint16", "batch": "string"}
RUNS = {"at": "0s", "status": 2, "fault": 0, "total": 100}
RUN_1, RUN_2, RUN_3 = (f"or-mlu4idc09c7x-{n}" for n in (1, 2, 3))


def ask(at: str, name: str, **params: Any) -> dict[str, Any]:
    return {"at": at, "command": {"name": name, **params}}


def counted(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(order, delta of total, order total) of each count."""
    return [
        (event.get("ctx", {}).get("order_id"), event["delta"]["total"], event.get("order_totals", {}).get("total"))
        for event in events
        if event["type"] == "production.counted"
    ]


def test_an_order_of_the_mom_runs_from_start_to_stop_with_its_own_totals() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            {"at": "3s", "total": 102},
            ask("10s", "order.dispatch", order_id="WO-1", product="BRKT", planned_qty=3, ideal_cycle_s=2, batch="L1"),
            ask("11s", "order.start", order_id="WO-1"),
            {"at": "14s", "total": 105},
            {"at": "20s", "total": 106},
            ask("30s", "order.stop", order_id="WO-1", **{"as": "completed"}),
            {"at": "33s", "total": 108},
        ],
        60,
    )

    started = next(event for event in events if event["type"] == "order.started")
    completed = next(event for event in events if event["type"] == "order.completed")
    assert started["order_run_id"] == completed["order_run_id"] == started["story"] == RUN_1
    assert (started["time"], started["verified"], started["job_state"], started["origin"]) == (
        11,
        True,
        "running",
        "mom",
    )
    assert (started["product"], started["planned_qty"], started["uom"], started["ideal_cycle_s"]) == (
        "BRKT",
        3,
        "H87",
        2,
    )
    assert completed["totals"] == {"total": 4}
    assert (completed["job_state"], completed["end_reason"]) == ("ended", "qty_reached")
    assert (completed["times"].apt_s, completed["times"].adet_s) == (19, 0)
    assert counted(events) == [(None, 2, None), ("WO-1", 3, 3), ("WO-1", 1, 4), (None, 2, None)]
    assert started["ctx"] == {
        "order_id": "WO-1", "product": "BRKT", "batch": "L1", "order_run_id": RUN_1, "rev": 1
    }  # fmt: skip
    assert events[-1]["ctx"] == {"rev": 2}


def test_pieces_wait_for_no_flush_when_the_order_changes() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("10s", "order.start", order_id="WO-1"),
            {"at": "12s", "total": 101},
            ask("13s", "order.start", order_id="WO-2"),
            {"at": "14s", "total": 102},
        ],
        60,
    )

    assert counted(events) == [("WO-1", 1, 1), ("WO-2", 1, 1)]
    assert some(events, "type", "time")[-6:-1][0] != ("production.counted", 16)


def test_an_urgent_order_suspends_the_running_one_in_one_story() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("5s", "order.dispatch", order_id="WO-1"),
            ask("10s", "order.start", order_id="WO-1"),
            {"at": "12s", "total": 103},
            ask("20s", "order.start", order_id="RUSH", mode="switch"),
            {"at": "22s", "total": 104},
            ask("30s", "order.stop", order_id="RUSH", **{"as": "completed"}),
            ask("30s", "order.start", order_id="WO-1", mode="switch"),
            {"at": "32s", "total": 106},
        ],
        60,
        "order",
    )

    names = (
        "type",
        "order_id",
        "order_run_id",
        "story",
        "change",
        "prev_order_id",
        "job_state",
        "totals",
        "verified",
    )
    assert some(events, *names) == [
        ("order.started", "WO-1", RUN_1, RUN_1, None, None, "running", None, True),
        ("order.changed", "WO-1", RUN_1, RUN_2, "suspended", None, "interrupted", {"total": 3}, True),
        ("order.started", "RUSH", RUN_2, RUN_2, None, "WO-1", "running", None, False),
        ("order.completed", "RUSH", RUN_2, RUN_2, None, None, "ended", {"total": 1}, False),
        ("order.started", "WO-1", RUN_3, RUN_3, None, None, "running", None, True),
    ]


def test_an_order_that_follows_another_supersedes_it() -> None:
    events = story(
        config(MOM),
        [RUNS, ask("10s", "order.start", order_id="A"), ask("20s", "order.start", order_id="B")],
        30,
        "order",
    )

    assert some(events, "type", "order_id", "end_reason") == [
        ("order.started", "A", None),
        ("order.completed", "A", "superseded"),
        ("order.started", "B", None),
    ]


def test_reaching_the_planned_quantity_ends_nothing() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("1s", "order.dispatch", order_id="A", planned_qty=2),
            ask("2s", "order.start", order_id="A"),
            {"at": "5s", "total": 104},
        ],
        600,
        "order",
    )

    assert some(events, "type") == [("order.started",)]


def test_an_aborted_order_says_what_it_made() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("2s", "order.start", order_id="A"),
            {"at": "5s", "total": 104},
            ask("9s", "order.stop", order_id="A", **{"as": "aborted"}),
        ],
        20,
        "order",
    )

    assert some(events, "type", "change", "job_state", "totals") == [
        ("order.started", None, "running", None),
        ("order.changed", "aborted", "aborted", {"total": 4}),
    ]


def test_the_plc_is_the_authority_for_its_order_number() -> None:
    events = story(
        config(PLC, PLC_TAGS),
        [
            {**RUNS, "order": "WO-1", "planned": 5, "product": 12, "batch": "L1"},
            {"at": "3s", "total": 103},
            {"at": "10s", "order": "WO-2", "planned": 2, "product": 13, "total": 104},
            {"at": "13s", "total": 106},
            {"at": "20s", "order": "", "planned": 0, "product": 0},
        ],
        30,
        "order",
        "production",
    )

    names = ("type", "order_id", "product", "planned_qty", "change", "end_reason", "totals", "verified", "time")
    assert some(events, *names) == [
        ("order.started", "WO-1", "BRKT-4411", 5, None, None, None, False, 0),
        ("production.counted", None, None, None, None, None, {"total": 3}, None, 3),
        ("production.counted", None, None, None, None, None, {"total": 4}, None, 10),
        ("order.changed", "WO-1", "BRKT-4411", 5, "suspended", None, {"total": 4}, False, 10),
        ("order.started", "WO-2", "BRKT-4412", 2, None, None, None, False, 10),
        ("production.counted", None, None, None, None, None, {"total": 6}, None, 13),
        ("order.completed", "WO-2", "BRKT-4412", 2, None, "qty_reached", {"total": 2}, False, 20),
    ]
    assert [event["ctx"].get("order_id") for event in events] == ["WO-1"] * 4 + ["WO-2"] * 3


def test_a_dispatched_order_gives_the_floors_number_its_meaning() -> None:
    events = story(
        config(PLC, PLC_TAGS),
        [
            {**RUNS, "order": "", "planned": 0, "product": 0, "batch": ""},
            ask("5s", "order.dispatch", order_id="WO-9", operation="0020", product="P", planned_qty=7, recipe="R1"),
            {"at": "10s", "order": "WO-9"},
        ],
        20,
        "order.started",
    )

    assert some(events, "operation", "product", "planned_qty", "verified") == [("0020", "P", 7, True)]
    assert events[0]["ctx"]["recipe"] == "R1"


def test_a_product_number_without_a_meaning_is_said_and_not_guessed() -> None:
    made = config(PLC, PLC_TAGS)
    given = [{**RUNS, "order": "WO-1", "planned": 0, "product": 99, "batch": "L1"}, {"at": "10s", "product": 98}]

    assert "product" not in story(made, given, 20, "order.started")[0]
    assert warnings(made, given, 20) == ["unmapped_code", "unmapped_code"]


def test_the_mom_cannot_start_an_order_where_the_plc_does() -> None:
    events = story(
        config(PLC, PLC_TAGS),
        [{**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""}, ask("5s", "order.start", order_id="X")],
        20,
        "command",
    )

    assert some(events, "type", "code") == [("command.rejected", "conflict")]
    assert "set by its PLC" in events[0]["detail"]


def test_an_order_change_in_a_downtime_is_a_new_segment_of_the_same_downtime() -> None:
    events = story(
        config(PLC, PLC_TAGS),
        [
            {**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""},
            {"at": "10s", "status": 8},
            {"at": "30s", "order": "WO-2"},
            {"at": "40s", "status": 1},
            {"at": "60s", "status": 2},
        ],
        90,
        "downtime",
    )

    assert [event["type"] for event in events] == ["downtime.started", "downtime.ended"]
    told = [(one.state, one.duration_s, one.order_id) for one in events[-1]["segments"]]
    assert told == [("fault", 20, "WO-1"), ("fault", 10, "WO-2"), ("idle", 20, "WO-2")]


def test_a_state_that_began_before_the_order_change_keeps_the_context_of_its_time() -> None:
    events = story(
        config(PLC, PLC_TAGS, scan="200ms"),
        [
            {**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""},
            {"at": "10s", "status": 1},
            {"at": "10.4s", "order": "WO-2"},
        ],
        30,
        "state",
        "downtime",
    )

    assert [(event["type"], event["time"], event["ctx"]["order_id"]) for event in events[1:]] == [
        ("state.changed", 10, "WO-1"),
        ("downtime.started", 10, "WO-1"),
    ]


def test_a_register_that_the_new_order_resets_counts_for_the_new_order() -> None:
    machine = {**PLC, "counters": {"main": {"total": "total", "resets": "order", "reset_hints": ["order"]}}}
    events = story(
        config(machine, PLC_TAGS),
        [
            {**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""},
            {"at": "5s", "total": 103},
            {"at": "20s", "order": "WO-2", "total": 2},
            {"at": "30s", "total": 3},
        ],
        60,
        "production",
    )

    assert counted(events) == [("WO-1", 3, 3), ("WO-2", 2, 2), ("WO-2", 1, 3)]


def test_a_change_dated_in_the_past_books_the_pieces_again() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("10s", "order.start", order_id="A"),
            {"at": "20s", "total": 103},
            {"at": "40s", "total": 107},
            ask("60s", "order.start", order_id="B", effective_at="30s"),
            {"at": "70s", "total": 108},
        ],
        100,
        "order",
        "production",
    )

    assert some(events, "type", "time") == [
        ("order.started", 10),
        ("production.counted", 20),
        ("production.counted", 40),
        ("production.counted", 60),
        ("order.completed", 30),
        ("order.started", 30),
        ("production.counted", 60),
        ("production.counted", 70),
    ]
    counts = [event for event in events if event["type"] == "production.counted"]
    assert counted(events) == [("A", 3, 3), ("A", 4, 7), ("A", -4, 3), ("B", 4, 4), ("B", 1, 5)]
    assert [event["cause"] for event in counts] == ["machine", "machine", "correction", "correction", "machine"]
    assert [event["totals"]["total"] for event in counts] == [3, 7, 3, 7, 8]
    assert events[4]["totals"] == {"total": 3}


def test_pieces_that_were_not_yet_published_are_booked_again_too() -> None:
    events = story(
        config(MOM),
        [
            RUNS,
            ask("10s", "order.start", order_id="A"),
            {"at": "20s", "total": 103},
            {"at": "40s", "total": 105},
            ask("41s", "order.start", order_id="B", effective_at="30s"),
        ],
        100,
        "order",
        "production",
    )

    assert counted(events) == [("A", 3, 3), ("A", 2, 5), ("A", -2, 3), ("B", 2, 2)]


def test_a_change_too_far_in_the_past_is_refused_and_changes_nothing() -> None:
    events = story(
        config(MOM),
        [RUNS, {"at": "9s", "total": 104}, ask("400s", "order.start", order_id="A", effective_at="60s")],
        500,
        "order",
        "production",
        "command",
    )

    assert some(events, "type", "code") == [("production.counted", None), ("command.rejected", "too_old")]


def test_a_start_that_lies_ahead_waits_for_its_time_also_over_a_kill() -> None:
    given = [
        RUNS,
        ask("10s", "order.start", order_id="A", effective_at="120s"),
        {"at": "20s", "agent": "killed"},
        {"at": "40s", "agent": "started"},
    ]
    events = story(config(MOM), given, 200, "order", "command")

    assert some(events, "type", "time", "cause_id") == [
        ("command.accepted", 10, "command-1"),
        ("order.started", 120, "command-1"),
        ("command.done", 120, "command-1"),
    ]


def test_a_start_that_lies_ahead_can_be_called_off() -> None:
    given = [
        RUNS,
        ask("10s", "order.start", order_id="A", effective_at="120s"),
        ask("20s", "order.revoke", order_id="A"),
    ]
    events = story(config(MOM), given, 200, "order", "command")

    assert some(events, "type", "command_id", "code") == [
        ("command.accepted", "command-1", "ok"),
        ("command.accepted", "command-2", "ok"),
        ("command.failed", "command-1", "conflict"),
        ("command.done", "command-2", "ok"),
    ]


def test_an_order_change_in_a_gap_makes_its_burst_ambiguous() -> None:
    events = story(
        config(PLC, PLC_TAGS),
        [
            {**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""},
            {"at": "10s", "device": "lost"},
            {"at": "40s", "order": "WO-2", "total": 120},
            {"at": "60s", "device": "back"},
        ],
        100,
        "production",
        "order",
    )

    count = next(event for event in events if event["type"] == "production.counted")
    assert counted(events) == [("WO-1", 20, 20)]
    assert count["flags"] == ("ambiguous_order",)
    assert [event["order_id"] for event in events if event["type"] == "order.started"] == ["WO-1", "WO-2"]


@pytest.mark.parametrize("before", ["A", None])
def test_pieces_of_a_gap_belong_to_the_order_at_its_start_also_if_the_mom_changed_it_meanwhile(
    before: str | None,
) -> None:
    first = [ask("2s", "order.start", order_id="A"), {"at": "5s", "total": 102}] if before else []
    given = [
        RUNS,
        *first,
        {"at": "10s", "device": "lost"},
        ask("30s", "order.start", order_id="B"),
        {"at": "40s", "total": 112},
        {"at": "60s", "device": "back"},
        {"at": "70s", "total": 113},
    ]
    events = story(config(MOM), given, 100, "production")

    known = [("A", 2, 2), ("A", 10, 12)] if before else [(None, 12, None)]
    assert counted(events) == [*known, ("B", 1, 1)]
    assert [event.get("flags") for event in events[-2:]] == [("ambiguous_order",), None]
    if before:
        assert events[-2]["ctx"]["order_run_id"] == RUN_1


def test_a_change_over_from_the_last_piece_to_the_first_is_set_up() -> None:
    machine = {**PLC, "orders": {**PLC["orders"], "changeover": "order_gap"}}
    events = story(
        config(machine, PLC_TAGS),
        [
            {**RUNS, "order": "WO-1", "planned": 0, "product": 12, "batch": ""},
            {"at": "10s", "total": 101},
            {"at": "20s", "status": 1},
            {"at": "40s", "order": "WO-2"},
            {"at": "50s", "status": 2},
            {"at": "60s", "status": 1},
            {"at": "70s", "status": 2},
            {"at": "80s", "total": 102},
            {"at": "90s", "status": 1},
        ],
        120,
        "downtime",
    )

    assert some(events, "type", "rev", "category", "started_at") == [
        ("downtime.started", 1, "unclassified", 20),
        ("downtime.ended", 2, "unclassified", 20),
        ("downtime.started", 1, "unclassified", 60),
        ("downtime.ended", 2, "unclassified", 60),
        ("downtime.updated", 3, "setup", 20),
        ("downtime.updated", 3, "setup", 60),
        ("downtime.started", 1, "unclassified", 90),
    ]


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("order.stop", {"order_id": "Z", "as": "completed"}, "not_found"),
        ("order.start", {"order_id": "A"}, "conflict"),
        ("order.revoke", {"order_id": "A"}, "conflict"),
        ("order.revoke", {"order_id": "Z"}, "not_found"),
        ("order.update", {"order_id": "Z", "planned_qty": 4}, "not_found"),
        ("order.update", {"order_id": "A"}, "invalid"),
        ("order.start", {"order_id": ""}, "invalid"),
        ("order.start", {"order_id": "B", "mode": "soon"}, "invalid"),
        ("order.start", {"order_id": "B", "planned_qty": 4}, "invalid"),
        ("order.start", {"order_id": "B", "effective_at": "3s"}, "conflict"),
        ("order.dispatch", {"order_id": "B", "planned_qty": -4}, "invalid"),
    ],
)
def test_what_does_not_fit_the_orders_is_refused(name: str, params: dict[str, Any], code: str) -> None:
    given = [RUNS, ask("5s", "order.start", order_id="A"), ask("10s", name, **params)]
    events = story(config(MOM), given, 20, "order", "command")

    assert some(events, "type", "code")[3:] == [("command.rejected", code)]


def test_the_list_of_orders_is_bounded_and_makes_room_for_what_is_done() -> None:
    dispatched = [ask(f"{n}s", "order.dispatch", order_id=f"WO-{n}") for n in range(1, 51)]
    full = [RUNS, *dispatched, ask("60s", "order.dispatch", order_id="WO-51")]
    worked = [
        ask("70s", "order.start", order_id="WO-7"),
        ask("80s", "order.stop", order_id="WO-7", **{"as": "completed"}),
        ask("90s", "order.dispatch", order_id="WO-51"),
    ]
    events = story(config(MOM), [*full, *worked], 100, "command")

    assert events[100]["code"] == "unavailable"
    assert events[-1]["type"] == "command.done"
    assert events[-1]["result"] == {"order_id": "WO-51", "dispatched": 50}


def test_a_new_quantity_and_a_new_product_are_changes_of_the_run() -> None:
    given = [
        RUNS,
        ask("5s", "order.dispatch", order_id="A", planned_qty=10),
        ask("6s", "order.start", order_id="A"),
        ask("7s", "order.update", order_id="A", planned_qty=20),
        ask("8s", "order.update", order_id="A", product="P2"),
    ]
    events = story(config(MOM), given, 20, "order", "context")

    assert some(events, "type", "change", "planned_qty", "product", "set") == [
        ("context.changed", None, None, None, {"order": "A"}),
        ("order.started", None, 10, None, None),
        ("order.changed", "quantity", 20, None, None),
        ("context.changed", None, None, None, {"product": "P2"}),
        ("order.changed", "relabelled", 20, "P2", None),
    ]


def test_an_authority_on_the_floor_needs_its_tag() -> None:
    with pytest.raises(ValidationError, match="needs 'tag'"):
        MachineOptions.model_validate({"line": "l", "device": "d", "orders": {"authority": "plc"}})
    with pytest.raises(ValidationError, match="no meaning with 'authority: mom'"):
        MachineOptions.model_validate({"line": "l", "device": "d", "orders": {"authority": "mom", "tag": "order"}})


def test_a_break_is_in_none_of_the_times_of_an_order() -> None:
    lunch = {"shifts": [{"name": "A", "start": "00:00", "end": "08:00"}]}
    lunch["breaks"] = [{"name": "lunch", "start": "01:00", "end": "01:30"}]
    given = [
        RUNS,
        ask("1800s", "order.start", order_id="WO-1"),
        {"at": "3600s", "status": 1},
        {"at": "6000s", "status": 2},
        ask("7200s", "order.stop", order_id="WO-1", **{"as": "completed"}),
    ]

    events = story(config(MOM, calendar=lunch), given, 7300)

    times = next(event for event in events if event["type"] == "order.completed")["times"]
    assert (times.apt_s, times.adet_s, times.adot_s, times.unknown_s) == (3_000, 600, 0, 0)


def test_a_machine_that_runs_without_an_order_is_warned_of_unless_that_counts() -> None:
    given = [RUNS, {"at": "60s", "status": 1}, ask("70s", "order.start", order_id="A"), {"at": "80s", "status": 2}]
    given += [{"at": "90s", "status": 1}]

    free = {**MOM, "orders": {"authority": "mom", "count_without_order": True}}
    assert warnings(config(MOM), given, 100) == ["running_without_order"]
    assert warnings(config(free), given, 100) == []
    assert warnings(config(PRESS), given[:2], 100) == []
