"""Downtimes, counts and context against the calendar: shifts, breaks, planned maintenance, planned_when."""

from tests.machine.stories import PRESS, TAGS, config, some, story

EARLY = {"name": "A", "start": "06:00", "end": "14:00"}
LATE = {"name": "B", "start": "14:00", "end": "22:00"}
NIGHT = {"name": "N", "start": "22:00", "end": "06:00"}
H = 3600


def day(*shifts, breaks=(), maintenance=()):
    return {"shifts": list(shifts), "breaks": list(breaks), "maintenance": list(maintenance)}


def press(calendar, machine=PRESS, tags=TAGS, **more):
    return config(machine, tags, calendar=calendar, zone="Asia/Karachi", scan="60s", **more)


def at(hours, **values):
    """A line at a time of the local clock; the stories begin at 05:00."""
    return {"at": f"{clock(hours):g}s", **values}


def clock(hours):
    return round((hours - 5) * H, 3)


def test_a_stop_outside_the_shifts_is_no_downtime():
    given = [at(5, status=1, fault=0, total=0), at(5.1, status=8), at(5.2, status=2)]

    assert story(press(day(EARLY)), given, clock(5), "downtime") == []


def test_a_machine_that_stands_when_the_shift_begins_is_down_from_then_on():
    given = [at(5, status=1, fault=0, total=0), at(6.25, status=2)]

    started, promoted, ended = story(press(day(EARLY)), given, clock(7), "downtime")

    assert (started["time"], started["started_at"], started["category"]) == (clock(6), clock(6), "unclassified")
    assert "start_uncertain" not in started
    assert promoted["time"] == clock(6) + 300
    assert (ended["duration_s"], ended["planned"]) == (900, "unplanned")


def test_a_machine_that_starts_just_before_the_shift_was_never_down():
    given = [at(5, status=1, fault=0, total=0), {"at": f"{clock(6) - 0.5}s", "status": 2}]

    assert story(press(day(EARLY)), given, clock(7), "downtime") == []


def test_a_start_that_was_none_leaves_the_machine_down_since_the_shift_began():
    given = [
        at(5, status=1, fault=0, total=0),
        {"at": f"{clock(6) - 0.5}s", "status": 2},
        {"at": f"{clock(6) + 0.3}s", "status": 1},
    ]

    (started, *_) = story(press(day(EARLY)), given, clock(6) + 60, "downtime")

    assert started["started_at"] == clock(6)


def test_a_downtime_over_two_shifts_is_one_with_a_segment_for_each():
    given = [at(6, status=2, fault=0, total=0), at(13.5, status=8), at(14.5, status=1), at(15, status=2)]

    events = story(press(day(EARLY, LATE)), given, clock(16), "downtime")

    ended = events[-1]
    assert [event["type"] for event in events] == ["downtime.started", "downtime.updated", "downtime.ended"]
    assert [
        (segment.state, segment.duration_s / H, segment.shift, segment.planned) for segment in ended["segments"]
    ] == [
        ("fault", 0.5, "2026-03-02/A", False),
        ("fault", 0.5, "2026-03-02/B", False),
        ("idle", 0.5, "2026-03-02/B", False),
    ]


def test_a_downtime_over_two_shifts_and_a_kill_of_the_agent_is_still_one():
    given = [
        at(6, status=2, fault=0, total=0),
        at(13.5, status=8),
        at(13.75, agent="killed"),
        at(14.25, agent="started"),
        at(15, status=2),
    ]

    events = story(press(day(EARLY, LATE)), given, clock(16), "downtime")

    assert len({event["downtime_id"] for event in events}) == 1
    ended = events[-1]
    assert (ended["type"], ended["duration_s"]) == ("downtime.ended", 1.5 * H)
    assert [(segment.state, segment.shift) for segment in ended["segments"]] == [
        ("fault", "2026-03-02/A"),
        ("unknown", "2026-03-02/A"),
        ("unknown", "2026-03-02/B"),
        ("fault", "2026-03-02/B"),
    ]
    assert sum(segment.duration_s for segment in ended["segments"]) == ended["duration_s"]
    assert abs(ended["unknown_s"] - 0.5 * H) <= 60


def test_a_stop_in_a_break_is_planned_and_its_rest_is_not():
    lunch = {"name": "lunch", "start": "10:00", "end": "10:30"}
    given = [at(6, status=2, fault=0, total=0), at(10.1, status=1), at(10.75, status=2)]

    started, _, ended = story(press(day(EARLY, breaks=[lunch])), given, clock(11), "downtime")

    assert (started["planned"], started["category"]) == ("planned", "break")
    assert (ended["planned"], ended["category"]) == ("planned", "break")
    assert [(segment.duration_s, segment.planned) for segment in ended["segments"]] == [
        (0.4 * H, True),
        (0.25 * H, False),
    ]


def test_a_stop_that_lasts_into_a_break_stays_what_it_was():
    lunch = {"name": "lunch", "start": "10:00", "end": "10:30"}
    given = [at(6, status=2, fault=0, total=0), at(9.75, status=8), at(10.75, status=2)]

    *_, ended = story(press(day(EARLY, breaks=[lunch])), given, clock(11), "downtime")

    assert (ended["planned"], ended["category"]) == ("unplanned", "breakdown")
    assert [(segment.duration_s / H, segment.planned) for segment in ended["segments"]] == [
        (0.25, False),
        (0.5, True),
        (0.25, False),
    ]


def test_a_machine_that_runs_through_a_break_is_not_down():
    lunch = {"name": "lunch", "start": "10:00", "end": "10:30"}
    given = [at(6, status=2, fault=0, total=0)]

    assert story(press(day(EARLY, breaks=[lunch])), given, clock(11), "downtime") == []


def test_a_stop_in_planned_maintenance_keeps_its_category_whatever_the_plc_says():
    planned = {"start": "2026-03-02 08:00", "end": "2026-03-02 09:00"}
    given = [at(6, status=2, fault=0, total=0), at(8, status=8), at(8.1, fault=12), at(9, status=2)]

    events = story(press(day(EARLY, maintenance=[planned])), given, clock(10), "downtime")

    assert {(event["planned"], event["category"]) for event in events} == {("planned", "planned_maintenance")}
    assert events[-1]["reason"].code == "12"


def test_outside_the_shifts_an_open_downtime_goes_on_and_nothing_was_asked_of_the_machine():
    given = [at(6, status=2, fault=0, total=0), at(13, status=8), at(31, status=2)]

    *_, ended = story(press(day(EARLY)), given, clock(32), "downtime")

    assert [(segment.duration_s / H, segment.shift, segment.planned) for segment in ended["segments"]] == [
        (1, "2026-03-02/A", False),
        (16, None, True),
        (1, "2026-03-03/A", False),
    ]


def test_counts_are_flushed_at_the_end_of_the_shift():
    given = [
        at(13, status=2, fault=0, total=10),
        {"at": f"{clock(14) - 1}s", "total": 11},
        {"at": f"{clock(14) + 0.5}s", "total": 12},
    ]

    counted = story(press(day(EARLY, LATE)), given, clock(15), "production")

    assert some(counted, "to_at", "delta") == [(clock(14), {"total": 1}), (clock(14) + 0.5, {"total": 1})]


def planned_press(when):
    downtime = {**PRESS["downtime"], "planned_when": when}
    return config({**PRESS, "downtime": downtime}, {**TAGS, "clean": "bool"})


def test_a_stop_is_planned_while_planned_when_is_true():
    given = [
        {"at": "0s", "status": 2, "fault": 0, "total": 0, "clean": False},
        {"at": "60s", "clean": True, "status": 1},
        {"at": "100s", "clean": False},
        {"at": "130s", "status": 2},
    ]

    started, ended = story(planned_press("clean"), given, 200, "downtime")

    assert (started["planned"], started["category"]) == ("planned", "planned_other")
    assert (ended["planned"], ended["category"]) == ("planned", "planned_other")
    assert [(segment.duration_s, segment.planned) for segment in ended["segments"]] == [(40, True), (30, False)]


def test_planned_when_on_a_bad_tag_makes_nothing_planned():
    given = [
        {"at": "0s", "status": 2, "fault": 0, "total": 0, "clean": False},
        {"at": "50s", "quality": "bad", "tags": ["clean"]},
        {"at": "60s", "status": 1},
        {"at": "100s", "status": 2},
    ]

    *_, ended = story(planned_press("clean"), given, 200, "downtime")

    assert (ended["planned"], ended["category"]) == ("unplanned", "unclassified")


def test_a_downtime_over_a_night_shift_has_three_shifts_in_local_time():
    calendar = {"shifts": [NIGHT, EARLY, LATE]}
    given = [at(21, status=2, fault=0, total=0), at(21.5, status=8), at(30.5, status=2)]

    *_, ended = story(press(calendar), given, clock(31), "downtime")

    assert [segment.shift for segment in ended["segments"]] == ["2026-03-02/B", "2026-03-02/N", "2026-03-03/A"]


def test_a_machine_that_stands_without_an_order_has_none():
    orders = {"orders": {"authority": "plc", "tag": "order"}}
    given = [
        {"at": "0s", "status": 2, "fault": 0, "total": 0, "order": "WO-1"},
        {"at": "60s", "status": 1},
        {"at": "90s", "status": 2},
        {"at": "100s", "order": ""},
        {"at": "110s", "status": 1},
        {"at": "130s", "status": 2},
    ]

    events = story(config({**PRESS, **orders}, {**TAGS, "order": "string"}), given, 200, "downtime.started")

    assert some(events, "category", "planned") == [("unclassified", "unplanned"), ("no_order", "undecided")]


def test_a_state_says_whether_the_stop_is_planned_as_its_segment_does():
    lunch = {"name": "lunch", "start": "10:00", "end": "10:30"}
    given = [
        at(5, status=1, fault=0, total=0),
        at(5.5, status=2),
        at(9, status=8),
        at(9.5, status=2),
        at(10.1, status=1),
        at(10.4, status=2),
        at(11, status=3),
        at(11.5, status=1),
        at(12, status=2),
    ]

    events = story(press(day(EARLY, breaks=[lunch])), given, clock(13), "state", "downtime.ended")

    states = [event for event in events if event["type"] == "state.changed"]
    assert some(states, "state", "planned") == [
        ("idle", True),
        ("running", None),
        ("fault", False),
        ("running", None),
        ("idle", True),
        ("running", None),
        ("setup", None),
        ("idle", None),
        ("running", None),
    ]
    segments = [segment for event in events for segment in event.get("segments", ())]
    assert [(segment.state, segment.planned) for segment in segments] == [
        ("fault", False),
        ("idle", True),
        ("setup", None),
        ("idle", None),
    ]


def test_a_downtime_over_two_shifts_an_order_change_and_a_kill_is_one_downtime():
    given = [
        at(6, status=2, fault=0, total=0, order="A"),
        at(13.5, status=8),
        at(13.75, agent="killed"),
        at(14.25, agent="started"),
        at(14.5, order="B"),
        at(15, status=2),
    ]
    machine = {**PRESS, "orders": {"authority": "plc", "tag": "order"}}

    events = story(press(day(EARLY, LATE), machine, {**TAGS, "order": "string"}), given, clock(16), "downtime")

    assert [event["type"] for event in events] == ["downtime.started", "downtime.updated", "downtime.ended"]
    assert len({event["downtime_id"] for event in events}) == 1
    assert [(one.state, one.shift, one.order_id) for one in events[-1]["segments"]] == [
        ("fault", "2026-03-02/A", "A"),
        ("unknown", "2026-03-02/A", "A"),
        ("unknown", "2026-03-02/B", "A"),
        ("fault", "2026-03-02/B", "A"),
        ("fault", "2026-03-02/B", "B"),
    ]
    assert sum(one.duration_s for one in events[-1]["segments"]) == events[-1]["duration_s"] == 1.5 * H
