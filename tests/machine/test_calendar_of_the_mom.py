"""`calendar.set`: the calendar that the MOM sends instead of the configured one, and what it changes from then on."""

from tests.machine.stories import config, story
from tests.machine.test_windows import EARLY, LATE, LUNCH, PRESS, RUNNING, TAGS, at, clock, press, told


def send(hours, **params):
    return at(hours, command={"name": "calendar.set", **params})


def bare(**more):
    return config({**PRESS, **more}, TAGS, zone="Asia/Karachi", scan="60s")


def windows(events):
    return [(event["window"].id, event["window"].from_at, event["window"].to_at, event["rev"]) for event in events]


def wall(hours):
    return 1_772_409_600_000_000 + round(clock(hours) * 1e6)


def test_a_machine_without_a_calendar_gets_one():
    given = [at(5, **RUNNING), send(5.5, shifts=[EARLY, LATE]), at(8, status=8), at(9, status=2)]

    events = story(bare(), given, clock(15))

    answer = next(event for event in events if event["type"] == "command.done")
    assert answer["result"] == {"calendar": "mom"}
    (window,) = [event for event in events if event["type"] == "kpi.window"]
    assert (window["time"].pot_s, window["time"].apt_s, window["time"].adet_s) == (8 * 3600, 7 * 3600, 3600)
    assert [event["ctx"]["shift"] for event in events if event["type"] == "downtime.ended"] == ["2026-03-02/A"]


def test_stops_are_judged_by_it_from_then_on():
    given = [at(5, **RUNNING), send(9, shifts=[EARLY], breaks=[LUNCH]), at(10.1, status=1), at(10.4, status=2)]

    *_, ended = story(press(), given, clock(11), "downtime")

    assert (ended["planned"], ended["category"]) == ("planned", "break")


def test_a_shift_that_is_made_longer_goes_on():
    given = [at(5, **RUNNING), send(13, shifts=[{**EARLY, "end": "16:00"}])]

    assert windows(told(press(), given, 17)) == [("2026-03-02/A", wall(6), wall(16), 1)]


def test_a_shift_that_was_told_and_is_made_longer_is_told_again():
    given = [at(5, **RUNNING), send(15, shifts=[{**EARLY, "end": "16:00"}]), at(15.5, total=20)]

    first, _, again = told(press(), given, 17)

    assert windows([first, again]) == [
        ("2026-03-02/A", wall(6), wall(14), 1),
        ("2026-03-02/A", wall(6), wall(16), 2),
    ]
    assert again["qty"].pq == 20


def test_another_shift_begins_where_the_calendar_does():
    given = [at(5, **RUNNING), send(10, shifts=[{"name": "D", "start": "07:00", "end": "19:00"}])]

    events = told(press(), given, 20)

    assert windows(events) == [
        ("2026-03-02/A", wall(6), wall(10), 1),
        ("2026-03-02/D", wall(10), wall(19), 1),
    ]
    assert [event["time"].unknown_s for event in events] == [0, 0]


def test_it_holds_after_a_kill_and_until_it_is_taken_back():
    given = [
        at(5, **RUNNING),
        send(9, shifts=[{"name": "D", "start": "07:00", "end": "12:00"}], version=7),
        at(11, agent="killed"),
        at(11.2, agent="started"),
        send(12.5, shifts=[]),
    ]

    events = told(press(), given, 15)

    assert windows(events) == [
        ("2026-03-02/A", wall(6), wall(9), 1),
        ("2026-03-02/D", wall(9), wall(12), 1),
        ("2026-03-02/A", wall(6), wall(14), 2),
    ]


def test_its_zone_is_its_own():
    given = [at(5, **RUNNING), send(5.5, shifts=[EARLY], zone="UTC")]

    (window,) = told(bare(), given, 20)

    assert (window["window"].tz, window["window"].from_at) == ("UTC", wall(11))


def test_it_may_be_sent_before_it_holds():
    given = [at(5, **RUNNING), send(6, shifts=[{**EARLY, "end": "10:00"}], effective_at=f"{clock(8)}s")]

    assert windows(told(press(), given, 11)) == [("2026-03-02/A", wall(6), wall(10), 1)]
