from typing import Any

import pytest

from edge_agent.clock import SECOND, rfc3339
from edge_agent.replay.match import ABSENT, ExpectationFault, Matcher, check

START = 1_772_409_600 * SECOND


def at(seconds: float) -> str:
    return rfc3339(START + round(seconds * SECOND))


def event(type_: str, time: float = 0, **data: Any) -> dict[str, Any]:
    return {"type": f"dev.edgeagent.{type_}.v1", "time": at(time), "id": f"e.{time}", "data": data}


def matches(entry: dict[str, Any], happened: dict[str, Any]) -> bool:
    return not Matcher([happened], START).match([entry]).misses


ENDED = event(
    "downtime.ended",
    time=40,
    started_at=at(10),
    duration_s=30.0004,
    total=3,
    planned=False,
    reason={"code": "12", "text": "Guard open"},
    segments=[{"state": "fault", "started_at": at(10)}, {"state": "idle", "started_at": at(20)}],
    flags=["reset", "lower_bound"],
    delta={"total": 1, "scrap": 0},
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"started_at": "10s"}, True),
        ({"started_at": "10.0009s"}, True),
        ({"started_at": "10.002s"}, False),
        ({"started_at": "2026-03-02T00:00:10Z"}, True),
        ({"started_at": "2026-03-02T08:00:10+08:00"}, True),
        ({"time": "40s"}, True),
        ({"time": "41s"}, False),
        ({"duration_s": 30}, True),
        ({"duration_s": 30.002}, False),
        ({"total": 3}, True),
        ({"total": 3.0000005}, True),
        ({"total": 3.001}, False),
        ({"total": True}, False),
        ({"planned": False}, True),
        ({"planned": 0}, False),
        ({"reason": {"code": "12"}}, True),
        ({"reason": {"code": 12}}, False),
        ({"reason": {"code": "12", "source": None}}, True),
        ({"reason": {"code": "12", "text": None}}, False),
        ({"reason": "12"}, False),
        ({"mode": None}, True),
        ({"mode": "production"}, False),
        ({"reason": None}, False),
        ({"delta": {"total": 1}}, True),
        ({"delta": {"good": 1}}, False),
        ({"segments": [{"state": "fault"}, {"started_at": "20s"}]}, True),
        ({"segments": [{"state": "fault"}]}, False),
        ({"segments": [{"state": "idle"}, {"state": "fault"}]}, False),
        ({"flags": ["lower_bound", "reset"]}, True),
        ({"flags": ["reset"]}, False),
        ({"id": "e.40"}, True),
        ({"data": {"total": 3}}, True),
    ],
)
def test_an_entry_matches_by_subset_with_tolerances(fields: dict[str, Any], expected: bool) -> None:
    assert matches({"type": "downtime.ended", **fields}, ENDED) is expected


def test_data_wins_over_the_envelope() -> None:
    happened = event("kpi.window", time=5) | {"data": {"time": {"apt_s": 10}}}
    assert matches({"type": "kpi.window", "time": {"apt_s": 10}}, happened)


def test_entries_of_one_type_are_a_subsequence_of_the_events_of_that_type() -> None:
    happened = [event("state.changed", n, state=state) for n, state in enumerate(["idle", "running", "fault"])]
    matcher = Matcher(happened, START)

    def missed(*states: str) -> list[int]:
        return [miss.entry for miss in matcher.match([{"type": "state.changed", "state": s} for s in states]).misses]

    assert missed("idle", "fault") == []
    assert missed("fault", "idle") == [1]
    assert missed("idle", "idle") == [1]


def test_the_order_of_different_types_is_free() -> None:
    happened = [event("downtime.started", 1), event("state.changed", 2)]
    assert not Matcher(happened, START).match([{"type": "state.changed"}, {"type": "downtime.started"}]).misses


def test_a_name_is_bound_at_its_first_use_and_must_be_equal_later() -> None:
    happened = [event("downtime.started", 1, downtime_id="a"), event("downtime.ended", 2, downtime_id="b")]
    entries = [{"type": "downtime.started", "downtime_id": "$d"}, {"type": "downtime.ended", "downtime_id": "$d"}]
    (miss,) = Matcher(happened, START).match(entries).misses
    assert miss.differences[0].path == "downtime_id"
    assert miss.differences[0].got == "b"
    assert not Matcher([happened[0], event("downtime.ended", 2, downtime_id="a")], START).match(entries).misses


def test_a_name_is_bound_to_the_event_with_which_everything_fits() -> None:
    happened = [
        event("downtime.started", 1, downtime_id="a"),
        event("downtime.started", 2, downtime_id="b"),
        event("downtime.ended", 3, downtime_id="b", class_="stop"),
    ]
    entries = [{"type": "downtime.started", "downtime_id": "$d"}, {"type": "downtime.ended", "downtime_id": "$d"}]
    verdict = Matcher(happened, START).match(entries)
    assert verdict.matched == (1, 2)


def test_many_events_that_could_bind_a_name_are_searched_in_bounded_time() -> None:
    happened = [event("downtime.started", n, downtime_id=str(n)) for n in range(60)]
    entries = [{"type": "downtime.started", "downtime_id": f"$d{n}"} for n in range(30)]
    entries.append({"type": "downtime.ended", "downtime_id": "$d0"})
    assert [miss.entry for miss in Matcher(happened, START).match(entries).misses] == [30]


def test_a_miss_shows_the_nearest_event_that_is_still_free_and_goes_on() -> None:
    happened = [
        event("downtime.ended", 1, duration_s=30, category="operator"),
        event("downtime.ended", 2, duration_s=32, category="operator"),
        event("production.counted", 3),
    ]
    entries = [
        {"type": "downtime.ended", "duration_s": 30},
        {"type": "downtime.ended", "duration_s": 30, "category": "operator"},
        {"type": "production.counted"},
    ]
    verdict = Matcher(happened, START).match(entries)
    assert verdict.matched == (0, None, 2)
    assert verdict.misses == ((1, 1, (("duration_s", 30, 32),)),)


def test_a_field_that_is_absent_is_not_zero() -> None:
    (miss,) = (
        Matcher([event("production.counted", delta={})], START)
        .match([{"type": "production.counted", "delta": {"good": 0}}])
        .misses
    )
    assert miss.differences == (("delta.good", 0, ABSENT),)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"state": "idle"}, "names no `type`"),
        ({"type": "state.change"}, "no event type 'state.change'"),
        ({"type": "state.changed", "time": 10}, "write it as an offset"),
        ({"type": "state.changed", "segments": [{"started_at": "ten"}]}, "write it as an offset"),
    ],
)
def test_an_entry_that_cannot_be_read_is_a_fault(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ExpectationFault, match=said):
        check([entry], {"state.changed"})
