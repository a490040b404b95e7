"""Scanners: each reading once, with what the machine works on."""

from typing import Any

import pytest

from tests.machine.stories import PRESS, TAGS, config, some, story, warnings

TAGS_OF_IT = {**TAGS, "code": "string", "ready": "bool", "number": "uint16", "grade": "string", "batch": "string"}
RUNS = {
    "at": "0s",
    "status": 2,
    "fault": 0,
    "total": 100,
    "code": "",
    "ready": False,
    "number": 4,
    "grade": "",
    "batch": "L1",
}
STROBED = {"read": "code", "strobe": "ready", "relation": "consumed_into"}


def made(*scanners: dict[str, Any]) -> Any:
    return config({**PRESS, "context": {"batch": "batch"}, "genealogy": list(scanners)}, TAGS_OF_IT)


def read(when: str, code: str) -> dict[str, Any]:
    return {"at": when, "code": code, "ready": True}


def low(when: str) -> dict[str, Any]:
    return {"at": when, "ready": False}


def codes(events: list[dict[str, Any]]) -> list[str]:
    return [event["read"].raw for event in events]


def test_a_reading_counts_when_its_strobe_rises() -> None:
    given = [RUNS, {"at": "5s", "code": "C881"}, read("10s", "C88123"), {"at": "11s", "code": "half"}, low("12s")]
    events = story(
        made({**STROBED, "material": "COIL", "qty": 0.42, "uom": "KGM", "grade": "grade"}), given, 30, "genealogy"
    )

    assert some(events, "relation", "time", "station") == [("consumed_into", 10, "press")]
    event = events[0]
    (into,), (out,) = event["inputs"], event["outputs"]
    assert (into.material, into.lot, into.qty, into.uom, into.use) == ("COIL", "C88123", 0.42, "KGM", "consumed")
    assert (out.lot, out.use) == ("L1", "produced")
    assert (event["read"].kind, event["read"].raw, event["read"].grade) == ("barcode", "C88123", None)
    assert event["ctx"]["batch"] == "L1"


def test_the_same_text_again_within_the_window_is_the_same_reading() -> None:
    given = [RUNS]
    for at, code in [(10, "A"), (12, "A"), (14, "B"), (16, "A"), (30, "A")]:
        given += [read(f"{at}s", code), low(f"{at + 1}s")]

    assert codes(story(made(STROBED), given, 60, "genealogy")) == ["A", "B", "A", "A"]


def test_a_reading_is_told_once_over_a_kill_and_a_lost_connection() -> None:
    given = [
        RUNS,
        read("10s", "A"),
        {"at": "12s", "agent": "killed"},
        {"at": "14s", "agent": "started"},
        {"at": "20s", "device": "lost"},
        {"at": "40s", "device": "back"},
    ]

    assert codes(story(made({**STROBED, "duplicates": "0s"}), given, 90, "genealogy")) == ["A"]


def test_a_reading_made_in_a_gap_is_told_after_it() -> None:
    given = [RUNS, {"at": "10s", "device": "lost"}, read("20s", "A"), {"at": "40s", "device": "back"}]

    assert codes(story(made(STROBED), given, 60, "genealogy")) == ["A"]


def test_a_number_that_changes_is_a_strobe_too() -> None:
    scanner = {"read": "code", "strobe": "number", "relation": "produced", "kind": "rfid"}
    given = [RUNS, {"at": "10s", "code": "S1", "number": 5}, {"at": "11s", "code": "S2", "number": 6}]
    events = story(made(scanner), given, 30, "genealogy")

    assert [(event["outputs"][0].serial, event["outputs"][0].lot) for event in events] == [("S1", "L1"), ("S2", "L1")]


def test_without_a_strobe_each_new_text_is_a_reading_but_not_the_one_found() -> None:
    scanner = {"read": "code", "relation": "removed", "identifies": "serial"}
    given = [
        {**RUNS, "code": "old"},
        {"at": "10s", "code": "S1"},
        {"at": "20s", "code": ""},
        {"at": "30s", "code": "S2"},
    ]

    assert codes(story(made(scanner), given, 60, "genealogy")) == ["S1", "S2"]


def test_a_strobe_without_a_text_is_said_and_links_nothing() -> None:
    given = [RUNS, read("10s", "")]

    assert not story(made(STROBED), given, 30, "genealogy")
    assert warnings(made(STROBED), given, 30) == ["empty_read"]


@pytest.mark.parametrize("quality", ["bad", "uncertain"])
def test_a_text_that_is_not_good_is_no_reading_or_says_so(quality: str) -> None:
    given = [RUNS, {"at": "10s", "code": "A", "ready": True, "quality": quality, "tags": ["code"]}]
    events = story(made(STROBED), given, 30, "genealogy")

    assert [event["quality"] for event in events] == ([] if quality == "bad" else ["uncertain"])


def test_a_gs1_text_says_itself_what_it_holds() -> None:
    given = [RUNS, read("10s", "(01)06901234567892(10)L77(21)S260302000598")]
    (piece,) = story(made({**STROBED, "relation": "produced"}), given, 30, "genealogy")[0]["outputs"]

    assert (piece.material, piece.lot, piece.serial) == ("06901234567892", "L77", "S260302000598")


def test_what_is_packed_goes_into_what_is_read() -> None:
    given = [RUNS, read("10s", "BOX-1")]
    event = story(made({**STROBED, "relation": "packed_into", "station": "packer"}), given, 30, "genealogy")[0]

    assert (event["outputs"][0].serial, event["inputs"][0].lot, event["station"]) == ("BOX-1", "L1", "packer")


def test_readings_are_valid_on_the_wire() -> None:
    from edge_agent.events.codec import machine_encoder
    from tests.machine.stories import EPOCH, drive, lines
    from tests.schema_check import check_message

    scanners = [
        {**STROBED, "relation": relation, "grade": "grade", "position": "1"}
        for relation in ("consumed_into", "produced", "packed_into", "split", "merged", "relabelled", "removed")
    ]
    built = made(*scanners)
    encoder = machine_encoder(built, "press", EPOCH)
    sent = [
        encoder.encode(one.event)
        for one in drive(built).play(lines(built, [RUNS, {**read("10s", "A"), "grade": "B"}]), 20_000_000)
        if one.event.data.TYPE == "genealogy.linked"
    ]
    for message in sent:
        check_message(message.topic, message.body)
    assert len(sent) == 7


def test_a_reading_names_the_cycle_in_which_it_was_made() -> None:
    plant = config(
        {**PRESS, "cycles": {"start": "number == 5", "end": "number == 6"}, "genealogy": [STROBED]}, TAGS_OF_IT
    )
    given = [RUNS, read("3s", "BEFORE"), low("4s"), {"at": "10s", "number": 5}, read("12s", "IN"), low("13s")]
    given += [{"at": "20s", "number": 6}, read("22s", "AFTER"), low("23s")]

    events = story(plant, given, 40, "genealogy", "cycle")

    linked = {event["read"].raw: event.get("cycle_id") for event in events if "read" in event}
    (cycle,) = [event["cycle_id"] for event in events if event["type"] == "cycle.completed"]
    assert linked == {"BEFORE": None, "IN": cycle, "AFTER": None}


def test_the_cycle_that_nobody_saw_ending_gives_its_name_to_no_other() -> None:
    plant = config(
        {**PRESS, "cycles": {"start": "number == 5", "end": "number == 6"}, "genealogy": [STROBED]}, TAGS_OF_IT
    )
    given = [RUNS, {"at": "10s", "number": 5}, read("12s", "IN"), low("13s")]
    given += [{"at": "15s", "device": "lost"}, {"at": "40s", "number": 4}, {"at": "45s", "device": "back"}]
    given += [{"at": "50s", "number": 5}, {"at": "55s", "number": 6}]

    events = story(plant, given, 90, "genealogy", "cycle")

    assert [event["cycle_id"].rpartition("-")[2] for event in events] == ["1", "2"]
