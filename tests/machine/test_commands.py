"""Commands of the MOM: their life, their effects on downtimes and counts, and that a repeat changes nothing."""

import itertools
from contextlib import suppress
from typing import Any

import pytest

from edge_agent.clock import SECOND, Instant, rfc3339
from edge_agent.commands import envelope
from edge_agent.commands.effects import EFFECTS
from edge_agent.events.codec import machine_encoder
from edge_agent.machine.archive import Archive, Result, with_result
from tests.machine.stories import EPOCH, PRESS, START, config, machine, some, story

MOM = {**PRESS, "orders": {"authority": "mom"}, "counters": {"main": {"total": "total", "max_rate": "20/s"}}}
GOOD = {**MOM, "counters": {"main": {"total": "total", "scrap": "reject", "max_rate": "20/s"}}}
RUNS = {"at": "0s", "status": 2, "fault": 0, "total": 100, "reject": 3}
DAY = 86_400


def ask(when: str, name: str, /, **params: Any) -> dict[str, Any]:
    return {"at": when, "command": {"name": name, **params}}


def assign(at: str, code: str = "M-212", **params: Any) -> dict[str, Any]:
    return ask(at, "downtime.assign_reason", downtime_id="last", code=code, **params)


def test_a_command_is_accepted_and_done_with_its_id_as_the_cause_of_what_it_does() -> None:
    events = story(config(MOM), [RUNS, ask("5s", "order.start", order_id="A", id="MOM-1", source="urn:mom:x")], 9)

    assert some(events[1:], "type", "cause_id", "story") == [
        ("command.accepted", "MOM-1", "MOM-1"),
        ("context.changed", "MOM-1", None),
        ("order.started", "MOM-1", "or-mlu4idc09c7x-1"),
        ("command.done", "MOM-1", "MOM-1"),
    ]
    assert (events[-1]["command_source"], events[-1]["result"]["order_id"]) == ("urn:mom:x", "A")


def test_a_repeat_gets_the_stored_result_and_executes_nothing_also_after_a_kill() -> None:
    start = {"name": "order.start", "order_id": "A", "id": "MOM-1"}
    given = [
        RUNS,
        {"at": "5s", "command": start},
        {"at": "10s", "command": start},
        {"at": "20s", "agent": "killed"},
        {"at": "30s", "agent": "started"},
        {"at": "40s", "command": {**start, "expirytime": "35s"}},
    ]
    events = story(config(MOM), given, 60, "order", "command")

    assert some(events, "type", "duplicate") == [
        ("command.accepted", False),
        ("order.started", None),
        ("command.done", False),
        ("command.done", True),
        ("command.done", True),
    ]
    assert events[-1]["result"] == events[2]["result"]


def test_one_id_for_two_commands_is_refused() -> None:
    given = [
        RUNS,
        ask("5s", "order.start", order_id="A", id="MOM-1"),
        ask("6s", "order.start", order_id="B", id="MOM-1"),
        ask("7s", "order.start", order_id="B", id="MOM-1", source="urn:other"),
    ]
    events = story(config(MOM), given, 60, "command")

    assert some(events, "type", "code")[2:4] == [("command.rejected", "invalid"), ("command.accepted", "ok")]


@pytest.mark.parametrize(
    ("said", "type_", "code"),
    [
        ({"name": "order.start", "order_id": "A", "expirytime": "4s"}, "command.expired", "expired"),
        ({"name": "order.start", "order_id": "A", "time": "-700s"}, "command.expired", "expired"),
        ({"name": "order.start", "order_id": "A", "retained": True}, "command.rejected", "retained"),
        ({"name": "order.start", "order_id": "A", "subject": "a/b/c/d/e"}, "command.rejected", "unknown_asset"),
        ({"name": "order.frobnicate", "order_id": "A"}, "command.rejected", "unknown_command"),
        ({"name": "order.start"}, "command.rejected", "invalid"),
        ({"name": "order.start", "order_id": 5}, "command.rejected", "invalid"),
        ({"name": "order.start", "order_id": "A", "expect_ctx_rev": 7}, "command.rejected", "conflict"),
        ({"name": "plc.write", "setpoint": "x", "value": 1}, "command.rejected", "unavailable"),
        ({"name": "calendar.set"}, "command.rejected", "invalid"),
        ({"name": "calendar.set", "shifts": [{"name": "A", "start": "6", "end": "14:00"}]},
         "command.rejected", "invalid"),
        ({"name": "calendar.set", "shifts": [], "zone": "Mars/Olympus"}, "command.rejected", "invalid"),
        ({"name": "snapshot.request"}, "command.rejected", "unavailable"),
        ({"name": "downtime.split", "downtime_id": "x", "at": "9s", "effective_at": "9min"},
         "command.rejected", "invalid"),
    ],
)  # fmt: skip
def test_what_must_not_be_carried_out_is_answered_and_does_nothing(
    said: dict[str, Any], type_: str, code: str
) -> None:
    events = story(config(MOM), [RUNS, {"at": "5s", "command": said}], 20, "command", "order", "context")

    assert some(events, "type", "code") == [(type_, code)]
    assert events[0]["detail"]


def test_a_command_that_waits_for_the_agent_expires_meanwhile() -> None:
    given = [
        RUNS,
        {"at": "10s", "agent": "killed"},
        ask("20s", "order.start", order_id="A", expirytime="30s"),
        ask("20s", "order.start", order_id="B", expirytime="60s"),
        {"at": "40s", "agent": "started"},
    ]

    events = story(config(MOM), given, 60, "command", "order")
    assert some(events, "type")[:2] == [("command.expired",), ("command.accepted",)]
    assert events[2]["order_id"] == "B"


def test_the_revision_that_was_expected_lets_the_command_pass() -> None:
    given = [
        RUNS,
        ask("5s", "context.set", batch="L1"),
        ask("6s", "context.set", batch="L2", expect_ctx_rev=1),
        ask("7s", "context.set", batch="L3", expect_ctx_rev=1),
    ]
    events = story(config(MOM), given, 20, "command", "context")

    assert [event["set"] for event in events if event["type"] == "context.changed"] == [
        {"batch": "L1"},
        {"batch": "L2"},
    ]
    assert (events[-1]["code"], events[-1]["detail"]) == ("conflict", "the context has revision 2, not 1")


def test_a_reason_of_the_mom_stays_against_the_machines() -> None:
    given = [
        RUNS,
        {"at": "10s", "status": 8},
        assign("15s", text="Guard switch", category="tooling", planned="unplanned"),
        {"at": "20s", "fault": 12},
        {"at": "40s", "status": 2},
    ]
    events = story(config(MOM), given, 60, "downtime")

    assert some(events, "type", "rev", "category") == [
        ("downtime.started", 1, "breakdown"),
        ("downtime.updated", 2, "tooling"),
        ("downtime.ended", 3, "tooling"),
    ]
    reason = events[-1]["reason"]
    assert (reason.code, reason.text, reason.source, reason.set_by) == ("M-212", "Guard switch", "mom", "mom")
    assert reason.set_at == START + 15_000_000


def test_a_reason_takes_the_place_of_the_machines() -> None:
    events = story(config(MOM), [RUNS, {"at": "10s", "status": 8, "fault": 12}, assign("15s")], 60, "downtime")

    assert [(event["reason"].code, event["reason"].source) for event in events] == [("12", "plc"), ("M-212", "mom")]
    assert events[-1]["category"] == "operator"


@pytest.mark.parametrize("killed", [False, True])
def test_an_ended_downtime_gets_its_reason_late(killed: bool) -> None:
    restart = [{"at": "100s", "agent": "killed"}, {"at": "105s", "agent": "started"}] if killed else []
    given = [
        RUNS,
        {"at": "10s", "status": 8},
        {"at": "40s", "status": 2},
        *restart,
        assign("600s", category="quality"),
        assign("700s", code="M-300"),
    ]
    events = story(config(MOM), given, 800, "downtime")
    late = [event for event in events if event.get("reason")]

    assert some(late, "type", "rev", "status", "category", "duration_s", "ended_at") == [
        ("downtime.updated", 3, "ended", "quality", 30, 40),
        ("downtime.updated", 4, "ended", "quality", 30, 40),
    ]
    assert [event["reason"].code for event in late] == ["M-212", "M-300"]
    assert late[0]["segments"] == events[1]["segments"]


def test_a_reason_after_a_week_or_for_nothing_is_not_found() -> None:
    given = [
        RUNS,
        {"at": "10s", "status": 8},
        {"at": "40s", "status": 2},
        {"at": f"{DAY}s", "device": "lost"},
        ask("100000s", "downtime.assign_reason", downtime_id="dt-nothing.7", code="M-1"),
    ]

    assert story(config(MOM, scan="1h"), given, 100_001, "command")[-1]["code"] == "not_found"


def test_a_downtime_is_split_and_its_parts_have_reasons_of_their_own() -> None:
    given = [
        RUNS,
        {"at": "10s", "status": 8},
        ask("60s", "downtime.split", downtime_id="last", at="30s"),
        assign("70s", code="M-1", segment=0, category="tooling"),
        {"at": "90s", "status": 2},
        ask("100s", "downtime.split", downtime_id="last", at="50s"),
        assign("110s", code="M-2", segment=2),
    ]
    events = story(config(MOM), given, 200, "downtime")

    assert some(events, "type", "rev") == [
        ("downtime.started", 1),
        ("downtime.updated", 2),
        ("downtime.updated", 3),
        ("downtime.ended", 4),
        ("downtime.updated", 5),
        ("downtime.updated", 6),
    ]
    told = [(one.duration_s, one.category, one.reason and one.reason.code) for one in events[-1]["segments"]]
    assert told == [(20, "tooling", "M-1"), (20, None, None), (40, None, "M-2")]


@pytest.mark.parametrize("at", ["5s", "10s", "60s", "100s"])
def test_a_split_outside_of_the_downtime_is_refused(at: str) -> None:
    given = [RUNS, {"at": "10s", "status": 8}, ask("60s", "downtime.split", downtime_id="last", at=at)]

    assert story(config(MOM), given, 70, "command")[-1]["code"] == "out_of_range"


def test_scrap_that_was_counted_as_good_moves_and_the_total_stays() -> None:
    given = [
        RUNS,
        ask("1s", "order.start", order_id="A"),
        {"at": "10s", "total": 110},
        ask("20s", "production.declare", **{"class": "scrap"}, qty=3, reason="Q-07", move_from="good", order_id="A"),
        ask("30s", "order.stop", order_id="A", **{"as": "completed"}),
    ]
    events = story(config(GOOD), given, 60, "production", "order.completed")

    declared = events[1]
    assert (declared["cause"], declared["delta"]) == ("declared", {"good": -3, "scrap": 3})
    assert declared["totals"] == declared["order_totals"] == {"total": 10, "good": 7, "scrap": 3}
    assert declared["scrap_reasons"] == ({"code": "Q-07", "qty": 3},)
    assert events[-1]["totals"] == {"total": 10, "good": 7, "scrap": 3}


def test_new_pieces_are_declared_and_reversed_once() -> None:
    given = [
        RUNS,
        ask("1s", "order.start", order_id="A"),
        ask("20s", "production.declare", **{"class": "good"}, qty=5, id="D-1"),
        {"at": "25s", "total": 101},
        ask("30s", "production.reverse", command_id="D-1"),
        ask("40s", "production.reverse", command_id="D-1"),
        ask("50s", "production.reverse", command_id="D-2"),
    ]
    events = story(config(GOOD), given, 60, "production", "command")
    counts = [event for event in events if event["type"] == "production.counted"]

    assert some(counts, "cause", "delta") == [
        ("declared", {"total": 5, "good": 5}),
        ("machine", {"total": 1, "good": 1, "scrap": 0}),
        ("correction", {"total": -5, "good": -5}),
    ]
    assert counts[-1]["totals"]["total"] == counts[-1]["order_totals"]["total"] == 1
    assert [event["code"] for event in events if event["type"] == "command.rejected"] == ["conflict", "not_found"]


def test_what_is_declared_for_an_order_that_has_ended_is_booked_to_it() -> None:
    given = [
        RUNS,
        ask("1s", "order.start", order_id="A"),
        {"at": "5s", "total": 104},
        ask("10s", "order.start", order_id="B"),
        {"at": "15s", "total": 105},
        ask("20s", "production.declare", **{"class": "scrap"}, qty=1, move_from="good", order_id="A", id="D-1"),
        ask("30s", "production.reverse", command_id="D-1"),
    ]
    events = story(config(GOOD), given, 60, "production")

    assert [(event["ctx"]["order_id"], event["order_totals"]["good"]) for event in events] == [
        ("A", 4), ("B", 1), ("A", 3), ("A", 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "params", "code"),
    [
        (GOOD, {"class": "scrap", "qty": 30, "move_from": "good"}, "out_of_range"),
        (GOOD, {"class": "good", "qty": 3, "move_from": "good"}, "invalid"),
        (GOOD, {"class": "scrap", "qty": 0}, "invalid"),
        (GOOD, {"class": "scrap", "qty": 1.5}, "invalid"),
        (GOOD, {"class": "scrap", "qty": 1, "order_id": "Z"}, "not_found"),
        (GOOD, {"class": "scrap", "qty": 1, "counter": "side"}, "not_found"),
        (MOM, {"class": "scrap", "qty": 1, "move_from": "good"}, "invalid"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(machine: dict[str, Any], params: dict[str, Any], code: str) -> None:
    given = [RUNS, {"at": "5s", "total": 110}, ask("20s", "production.declare", **params)]
    events = story(config(machine), given, 60, "production", "command")

    assert some(events[1:], "type", "code") == [("command.rejected", code)]


def test_declared_pieces_do_not_end_a_downtime_and_are_no_parts_in_it() -> None:
    given = [
        RUNS,
        {"at": "10s", "status": 8},
        ask("20s", "production.declare", **{"class": "good"}, qty=4),
        {"at": "30s", "device": "lost"},
        {"at": "60s", "device": "back"},
        {"at": "80s", "status": 2},
    ]
    events = story(config(GOOD), given, 100, "downtime")

    assert some(events, "type", "parts_during") == [("downtime.started", None), ("downtime.ended", 0)]


def test_serial_numbers_of_scrap_are_removed() -> None:
    given = [
        RUNS,
        {"at": "5s", "total": 110},
        ask("20s", "production.declare", **{"class": "scrap"}, qty=2, move_from="good", serials=["S1", "S2"]),
    ]
    link = story(config(GOOD), given, 30, "genealogy")[0]

    assert (link["relation"], [piece.serial for piece in link["inputs"]]) == ("removed", ["S1", "S2"])


def test_results_are_bounded_but_only_what_has_expired_is_forgotten() -> None:
    archive = Archive()
    for n in range(2100):
        kept = Result("d", "x", "done", "ok", None, None, START + n, START + (10**12 if n < 50 else n))
        archive = with_result(archive, f"s\n{n}", kept, START + 5000)

    assert len(archive.results) == 2000
    assert {f"s\n{n}" for n in range(50)} < archive.results.keys()
    assert "s\n2099" in archive.results


def test_results_of_commands_that_never_expire_are_bounded_too() -> None:
    kept = Result("d", "x", "done", "ok", None, None, START, START + 10**15)
    archive = Archive(results={f"s\n{n}": kept for n in range(4000)})

    archive = with_result(archive, "s\nnewest", kept, START)

    assert (len(archive.results), "s\nnewest" in archive.results, "s\n0" in archive.results) == (4000, True, False)


EVENT = {
    "specversion": "1.0",
    "id": "MOM-88f1",
    "source": "urn:mom:acme:sz1",
    "type": "dev.edgeagent.cmd.downtime.assign_reason.v1",
    "subject": "acme/sz1/stamping/line3/press07",
    "time": rfc3339(START),
    "data": {"issued_by": "E0077", "downtime_id": "dt-1", "code": "M-212"},
}


def test_a_cloud_event_is_read_as_a_command_with_the_life_of_its_class() -> None:
    command = envelope.read(EVENT)

    assert (command.name, command.issued_by) == ("downtime.assign_reason", "E0077")
    assert command.params == {"downtime_id": "dt-1", "code": "M-212"}
    assert command.expires == START + 600_000_000
    assert envelope.loaded(envelope.stored(command)) == command


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "dev.edgeagent.cmd.order.start.v2"},
        {"type": "order.start"},
        {"id": ""},
        {"source": None},
        {"time": "yesterday"},
        {"data": []},
        {"data": {}},
        {"data": {"issued_by": "x", "expect_ctx_rev": "7"}},
        {"data": {"issued_by": "x", "effective_at": 5}},
        {"data": {"issued_by": "x", "effective_at": "9999-12-31T23:59:59-14:00"}},
        {"data": {"issued_by": "x", "ttl": float("inf")}},
        {"data": {"issued_by": "half of a character: \ud800"}},
        {"type": "dev.edgeagent.cmd.\ud800.v1"},
        {"id": "x" * 501},
    ],
)
def test_a_message_that_is_no_command_is_malformed(wrong: dict[str, Any]) -> None:
    with pytest.raises(envelope.Malformed):
        envelope.read({**EVENT, **wrong})


STRANGE = (None, True, -1, 1.5, 10**30, 1e300, "", "x" * 60_000, "9999-12-31T23:59:59.999Z", [], [[]], ["x"] * 9_000,
           {}, "400d", "A")  # fmt: skip
ASKED = {"order_id": "A", "as": "completed", "downtime_id": "d", "code": "c", "at": "2026-03-02T00:00:10Z",
         "class": "good", "qty": 1, "command_id": "q", "alarm_id": "al"}  # fmt: skip


@pytest.mark.parametrize("name", EFFECTS)
def test_whatever_is_asked_is_answered_with_events_that_every_broker_takes(name: str) -> None:
    one = machine(config({**GOOD, "context": {"batch": "reject"}, "counters": {"main": {"good": "total"}}}))
    encoder = machine_encoder(config(GOOD), "press", EPOCH)
    now = Instant(START + 60 * SECOND, 60 * SECOND)
    fields = [field.alias or key for key, field in EFFECTS[name].parameters.model_fields.items()]
    asked = {key: value for key, value in ASKED.items() if key in fields}
    for key, value in itertools.product((*fields, "effective_at", "expect_ctx_rev"), STRANGE):
        data = {"issued_by": "E0077", **asked, key: value}
        event = {**EVENT, "type": f"dev.edgeagent.cmd.{name}.v1", "subject": encoder.place.subject, "data": data}
        with suppress(envelope.Malformed):
            done = one.command(one.initial(Instant(START, 0)).state, envelope.read(event), now)
            later = one.tick(done.state, Instant(now.wall + DAY * SECOND, now.mono + DAY * SECOND))
            for each in (*done.events, *later.events):
                assert len(encoder.encode(each).body) <= 65_536, (key, str(value)[:20])


def test_every_answer_and_effect_is_valid_on_the_wire() -> None:
    from tests.machine.stories import drive, lines
    from tests.schema_check import check_message

    given = [
        RUNS,
        ask("1s", "order.dispatch", order_id="A", planned_qty=5, product="P", batch="L1", uom="H87"),
        ask("2s", "order.start", order_id="A"),
        {"at": "5s", "total": 110},
        ask("6s", "production.declare", **{"class": "scrap"}, qty=1, reason="Q", move_from="good", serials=["S"]),
        {"at": "10s", "status": 8},
        ask("12s", "downtime.split", downtime_id="last", at="11s"),
        assign("13s", segment=0, category="tooling"),
        {"at": "40s", "status": 2},
        assign("50s", planned="planned"),
        ask("60s", "order.start", order_id="B", mode="switch", effective_at="55s"),
        ask("61s", "order.start", order_id="C", effective_at="90s"),
        ask("62s", "order.stop", order_id="Z", **{"as": "aborted"}),
        ask("70s", "order.stop", order_id="B", **{"as": "aborted"}),
        ask("71s", "context.set", operators=["E1"], tool="T", ttl="1min"),
    ]
    made = config(GOOD)
    encoder = machine_encoder(made, "press", EPOCH)
    seen = set()
    for one in drive(made).play(lines(made, given), 200_000_000):
        if one.machine is not None:
            message = encoder.encode(one.event)
            check_message(message.topic, message.body)
            seen.add(one.event.data.TYPE)
    assert {"order.started", "order.changed", "context.changed", "command.done", "genealogy.linked"} < seen
