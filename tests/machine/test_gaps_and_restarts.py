"""What happens when nothing can be seen: event model §3.6, §7.3, §7.4, and the stored state."""

import json

import pytest

from edge_agent.clock import SECOND, Instant
from edge_agent.machine import saved
from edge_agent.machine.machine import Machine
from tests.machine.stories import (
    EPOCH,
    PRESS,
    START,
    TAGS,
    OpcPlc,
    config,
    drive,
    flat,
    lines,
    machine,
    some,
    story,
    warnings,
)

FIRST = {"at": "0s", "status": 2, "fault": 0, "total": 100}
LOST = {"at": "10.5s", "device": "lost"}


def states(events):
    return some([one for one in events if one["type"] == "state.changed"], "state", "time", "trigger")


def test_a_lost_device_makes_the_state_unknown_from_the_last_good_sample():
    events = story(config(), [FIRST, LOST], 60)

    assert states(events) == [("running", 0, "tag"), ("unknown", 10, "comms")]
    unknown = events[-1]
    assert (unknown["group"], unknown["rule"], unknown["quality"]) == ("unknown", "validity", "bad")


def test_a_loss_shorter_than_the_time_out_is_nothing():
    events = story(config(), [FIRST, LOST, {"at": "19.5s", "device": "back"}], 60)

    assert states(events) == [("running", 0, "tag")]
    assert not [one for one in events if one["type"] == "data.gap"]


def test_the_time_out_is_three_scans_of_a_slow_device():
    events = story(config(scan="20s"), [FIRST, {"at": "30s", "device": "lost"}], 200)

    assert states(events)[1] == ("unknown", 20, "comms")
    assert len(states(story(config(scan="20s"), [FIRST, {"at": "30s", "device": "lost"}], 79))) == 1


def test_a_gap_stays_unknown_even_if_both_sides_run():
    events = story(config(), [FIRST, LOST, {"at": "40s", "device": "back", "total": 119}], 60)

    assert some(events[2:], "type", "time") == [
        ("data.gap", 40),
        ("production.counted", 40),
        ("state.changed", 40),
    ]
    gap, counted = events[2], events[3]
    assert (gap["from_at"], gap["to_at"], gap["cause"], gap["affects"]) == (10, 40, "comms_loss", ("state", "count"))
    assert (gap["count_recovered"], gap["recovered_delta"]) == ("exact", {"total": 19})
    assert (counted["delta"], counted["cause"], counted["from_at"]) == ({"total": 19}, "gap_recovery", 10)
    assert states(events)[2] == ("running", 40, "comms")


@pytest.mark.parametrize(
    ("after", "made", "expected"),
    [
        (8, 0, [("downtime.started", 5, None, None)]),
        (
            8,
            4,
            [
                ("downtime.started", 5, None, None),
                ("downtime.ended", 10, None, True),
                ("downtime.started", 40, True, None),
            ],
        ),
        (2, 0, [("downtime.started", 5, None, None), ("downtime.ended", 40, None, True)]),
        (2, 4, [("downtime.started", 5, None, None), ("downtime.ended", 10, None, True)]),
    ],
)
def test_a_downtime_over_a_gap_goes_on_if_nothing_was_made(after, made, expected):
    given = [
        FIRST,
        {"at": "5s", "status": 8},
        LOST,
        {"at": "40s", "device": "back", "status": after, "total": 100 + made},
    ]

    events = story(config(), given, 100, "downtime")

    assert some(events, "type", "time", "start_uncertain", "end_uncertain") == expected


def test_the_time_nothing_was_seen_is_told_at_the_end_of_the_downtime():
    given = [FIRST, {"at": "5s", "status": 8}, LOST, {"at": "40s", "device": "back"}, {"at": "50s", "status": 2}]

    ended = story(config(), given, 100, "downtime.ended")[0]

    assert (ended["unknown_s"], ended["duration_s"], ended.get("end_uncertain")) == (30, 45, None)
    assert [(part.state, part.duration_s) for part in ended["segments"]] == [
        ("fault", 5),
        ("unknown", 30),
        ("fault", 10),
    ]


def test_a_stop_is_not_promoted_while_nothing_is_seen_but_after():
    made = config({**PRESS, "downtime": {"microstop": "60s"}})
    given = [FIRST, {"at": "5s", "status": 8}, LOST, {"at": "100s", "device": "back"}]

    assert story(made, given, 99, "downtime.updated") == []
    assert some(story(made, given, 110, "downtime.updated"), "class") == [("stop",)]


def test_a_machine_that_stands_after_a_gap_began_to_at_an_uncertain_time():
    given = [FIRST, LOST, {"at": "40s", "device": "back", "status": 8}]

    started = story(config(), given, 60, "downtime")[0]

    assert (started["started_at"], started["start_uncertain"]) == (40, True)


def test_tags_that_were_bad_for_long_share_one_gap():
    given = [
        FIRST,
        {"at": "5s", "quality": "bad", "tags": ["status", "total"]},
        {"at": "30s", "status": 2, "total": 120},
    ]

    events = story(config(), given, 60)

    assert states(events) == [("running", 0, "tag"), ("unknown", 4, "quality"), ("running", 30, "quality")]
    assert some([one for one in events if one["type"] == "data.gap"], "cause", "affects", "count_recovered") == [
        ("bad_quality", ("state", "count"), "exact")
    ]


@pytest.mark.parametrize(
    "outage", [("lost", "back", "device", "comms_loss"), ("killed", "started", "agent", "agent_down")]
)
@pytest.mark.parametrize("good", [45, 70])
@pytest.mark.parametrize("made", [19, 3000])
def test_a_count_that_is_bad_when_the_device_is_seen_again_is_told_when_it_is_good(outage, good, made):
    """Neither a piece is lost nor is the late value a jump; until then nobody says that the count is known."""
    away, here, what, cause = outage
    given = [
        FIRST,
        {"at": "10.5s", what: away},
        {"at": "39s", "quality": "bad", "tags": ["total"]},
        {"at": "40s", what: here},
        {"at": f"{good}s", "total": 100 + made},
        {"at": "90s", "total": 103 + made},
    ]

    events = story(config(), given, 100, "data", "production")

    gaps = [event for event in events if event["type"] == "data.gap"]
    assert some(gaps, "from_at", "to_at", "cause", "affects", "count_recovered", "recovered_delta") == [
        (10, 40, cause, ("state",), None, None),
        (10, good, cause, ("count",), "exact", {"total": made}),
    ]
    counted = [event for event in events if event["type"] == "production.counted"]
    assert some(counted, "delta", "cause") == [({"total": made}, "gap_recovery"), ({"total": 3}, "machine")]
    assert counted[0]["from_at"] == 10


def test_a_state_that_is_bad_when_the_device_is_seen_again_is_unknown_until_it_is_good():
    given = [
        FIRST,
        LOST,
        {"at": "39s", "quality": "bad", "tags": ["status"]},
        {"at": "40s", "device": "back"},
        {"at": "47s", "status": 2},
    ]

    events = story(config(), given, 100, "state", "data")

    assert states(events) == [("running", 0, "tag"), ("unknown", 10, "comms"), ("running", 47, "comms")]
    gaps = [event for event in events if event["type"] == "data.gap"]
    assert some(gaps, "from_at", "to_at", "affects") == [(10, 40, ("count",)), (10, 47, ("state",))]


def test_a_tag_that_is_good_for_a_moment_in_a_gap_and_bad_at_its_end_is_not_believed():
    given = [
        FIRST,
        {"at": "5s", "quality": "bad", "tags": ["status", "total"]},
        {"at": "30s", "status": 2},
        {"at": "30.5s", "quality": "bad", "tags": ["status"]},
        {"at": "31s", "total": 110, "quality": "good", "tags": ["total"]},
        {"at": "60s", "status": 8},
    ]

    assert states(story(config(), given, 100)) == [
        ("running", 0, "tag"),
        ("unknown", 4, "quality"),
        ("fault", 60, "quality"),
    ]


def test_a_bad_value_is_held_until_the_time_out():
    given = [FIRST, {"at": "5s", "quality": "bad", "tags": ["status"]}, {"at": "12s", "status": 2}]

    assert states(story(config(), given, 60)) == [("running", 0, "tag")]


def test_a_tag_of_another_device_does_not_make_the_state_unknown():
    made = config(
        {**PRESS, "counters": {"main": {"total": "scale/pieces", "max_rate": "2/s"}}},
        others={"scale": {"pieces": "uint32"}},
    )
    given = [
        {**FIRST, "scale/pieces": 10},
        {"at": "10.5s", "device": {"lost": "scale"}},
        {"at": "60s", "device": {"back": "scale"}, "scale/pieces": 30},
    ]

    events = story(made, given, 90)

    assert states(events) == [("running", 0, "tag")]
    assert some(events[1:], "type", "affects", "recovered_delta") == [
        ("data.gap", ("count",), {"total": 20}),
        ("production.counted", None, None),
    ]


def test_a_plc_that_restarts_is_not_believed_before_it_has_settled():
    given = [
        FIRST,
        {"at": "10.5s", "plc": "restarted", "status": 1, "total": 0},
        {"at": "13s", "status": 2, "total": 2},
    ]

    events = story(config(), given, 30)

    assert states(events) == [("running", 0, "tag"), ("unknown", 10, "plc_restart"), ("running", 15.5, "plc_restart")]
    gap, counted = events[2], events[3]
    assert (gap["cause"], gap["from_at"], gap["to_at"]) == ("plc_restart", 10, 15.5)
    assert (counted["delta"], counted["flags"]) == ({"total": 2}, ("lower_bound", "reset"))


def test_a_counter_that_survives_the_restart_of_its_plc_is_not_counted_again():
    events = story(
        config(), [FIRST, {"at": "10.5s", "plc": "restarted"}, {"at": "30s", "total": 101}], 60, "production"
    )

    assert some(events, "delta", "flags") == [({"total": 1}, None)]


def test_a_small_count_that_survives_the_restart_of_a_fast_plc_is_not_counted_again():
    fast = {**PRESS, "counters": {"main": {"total": "total", "max_rate": "500/s"}}}
    events = story(
        config(fast), [FIRST, {"at": "10.5s", "plc": "restarted"}, {"at": "30s", "total": 101}], 60, "production"
    )

    assert sum(one["delta"]["total"] for one in events) == 1


def test_a_restart_of_the_agent_is_a_gap_however_short():
    given = [
        FIRST,
        {"at": "5s", "total": 103},
        {"at": "10.5s", "agent": "killed"},
        {"at": "12s", "agent": "started", "total": 105},
    ]

    events = story(config(), given, 30)

    assert states(events) == [
        ("running", 0, "tag"),
        ("unknown", 10, "agent_restart"),
        ("running", 12, "agent_restart"),
    ]
    gap, counted = events[3], events[4]
    assert (gap["cause"], gap["from_at"], gap["to_at"], gap["recovered_delta"]) == (
        "agent_down",
        10,
        12,
        {"total": 2},
    )
    assert (counted["delta"], counted["totals"]) == ({"total": 2}, {"total": 5})
    assert [one["seq"] for one in events] == list(range(1, 7))


def test_what_waited_for_the_flush_when_the_agent_was_killed_is_published_by_the_next():
    given = [
        FIRST,
        {"at": "10s", "total": 103},
        {"at": "10.2s", "agent": "killed"},
        {"at": "30s", "agent": "started"},
    ]

    events = story(config(), given, 60, "production")

    assert sum(one["delta"]["total"] for one in events) == 3


def test_a_downtime_goes_on_over_a_restart():
    given = [FIRST, {"at": "5s", "status": 8}, {"at": "10.5s", "agent": "killed"}, {"at": "20s", "agent": "started"}]

    events = story(config(), [*given, {"at": "50s", "status": 2}], 60, "downtime")

    assert some(events, "type", "rev", "time") == [("downtime.started", 1, 5), ("downtime.ended", 2, 50)]
    assert events[1]["unknown_s"] == 10
    assert events[0]["downtime_id"] == events[1]["downtime_id"]


def test_a_restart_while_the_device_is_lost_keeps_the_first_gap():
    given = [
        FIRST,
        LOST,
        {"at": "30s", "agent": "killed"},
        {"at": "40s", "agent": "started"},
        {"at": "60s", "device": "back"},
    ]

    events = story(config(), given, 90)

    assert states(events) == [("running", 0, "tag"), ("unknown", 10, "comms"), ("running", 60, "comms")]
    assert some([one for one in events if one["type"] == "data.gap"], "from_at", "to_at") == [(10, 60)]


def test_a_loss_in_the_queue_is_a_gap():
    made = config(kind=OpcPlc)
    played = drive(made)
    list(played.play(lines(made, [FIRST]), 5 * SECOND))
    from drivers.base import Batch, Reading

    one = machine(made)
    now = played.now(5 * SECOND + 500_000)
    outcome = one.step(
        played.states["press"], Batch("press", [Reading("status", 2)], frozenset({"status", "total"})), now
    )

    (gap,) = outcome.events
    assert (gap.data.cause, gap.data.affects, gap.data.count_recovered) == (
        "queue_overflow",
        ("state", "count"),
        "exact",
    )


def test_a_clock_that_is_wrong_is_not_used_and_warned_of_once():
    made = config(kind=OpcPlc)
    given = [FIRST, {"at": "10s", "status": 8, "source_at": "30s"}, {"at": "20s", "status": 2, "source_at": "45s"}]

    assert warnings(made, given, 21).count("clock_skew") == 1
    assert states(story(made, given, 20.5))[1] == ("fault", 10, "tag")


def test_a_late_state_is_dropped():
    made = config(kind=OpcPlc)
    given = [FIRST, {"at": "10s", "status": 8, "source_at": "7s"}]

    assert states(story(made, given, 30)) == [("running", 0, "tag")]


def test_the_time_of_the_device_dates_the_change():
    made = config(kind=OpcPlc, scan="5s")
    given = [FIRST, {"at": "10s", "status": 8, "source_at": "8.5s"}]

    fault = story(made, given, 10.1, "state")[1]

    assert (fault["time"], fault["time_basis"], fault["prev_duration_s"]) == (8.5, "source", 8.5)


def play(made, given, until):
    """Play; returns the machine's last state and the time."""
    played = drive(made)
    events = [flat(one) for one in played.play(lines(made, given), round(until * SECOND)) if one.machine]
    return played.states["press"], played.now(round(until * SECOND)), events


def test_the_state_survives_its_bytes():
    state, now, _ = play(config(), [FIRST, {"at": "5s", "status": 8, "fault": 12}, {"at": "9s", "total": 103}], 9.2)
    one = machine(config())

    restored = one.restore(one.dump(state), Instant(now.wall + SECOND, 77)).state

    assert restored.downtime.id == state.downtime.id
    assert restored.groups["main"].totals == {"total": 3}
    assert restored.groups["main"].registers == {
        "total": state.groups["main"].registers["total"]._replace(at=restored.groups["main"].registers["total"].at)
    }
    assert restored.downtime.started.wall == state.downtime.started.wall
    assert 77 - restored.downtime.started.mono == now.mono + SECOND - state.downtime.started.mono


@pytest.mark.parametrize("damage", [b"", b"null", b"[]", b"[99]", b"{}", b"\xff\xfe", b"[1,2,3]"])
def test_bytes_that_cannot_be_read_start_anew_with_a_warning(damage):
    one = machine(config())

    outcome = one.restore(damage, Instant(START, 0))

    assert [warning.code for warning in outcome.warnings] == ["state_unreadable"]
    assert outcome.store
    assert outcome.events == []


def test_a_field_that_a_later_version_added_has_its_default_in_a_state_of_before():
    state, now, _ = play(config(), [FIRST, {"at": "5s", "status": 8, "fault": 12}], 9.2)
    one = machine(config())
    plain = json.loads(one.dump(state))
    plain[saved.Saved._fields.index("tracked")].pop()
    for group in plain[saved.Saved._fields.index("groups")].values():
        group.pop()

    outcome = one.restore(json.dumps(plain).encode(), now)

    assert outcome.warnings == []
    assert outcome.state.groups["main"].totals == state.groups["main"].totals
    assert outcome.state.downtime.id == state.downtime.id


def test_any_one_field_that_is_damaged_starts_anew():
    state, now, _ = play(config(), [FIRST, {"at": "5s", "status": 8, "fault": 12}], 9.2)
    one = machine(config())
    plain = json.loads(one.dump(state))

    for index in range(1, len(plain)):
        if plain[index] in (None, {}):
            continue
        broken = [*plain[:index], "nonsense", *plain[index + 1 :]]
        outcome = one.restore(json.dumps(broken).encode(), now)
        assert [warning.code for warning in outcome.warnings] == ["state_unreadable"], index


def restart_with(before, after, given, then, until):
    """Run with one configuration until the last line, then with another; returns the events after the restart."""
    state, now, _ = play(before, given, 10.2)
    old, new = machine(before), machine(after)
    later = Instant(now.wall + 2 * SECOND, 5)
    outcome = new.restore(old.dump(state), later)
    events = list(outcome.events)
    state = outcome.state
    from drivers.base import Batch, Reading

    for second in range(until):
        at = Instant(later.wall + second * SECOND, later.mono + second * SECOND)
        outcome = new.step(state, Batch("press", [Reading(tag, value) for tag, value in then.items()]), at)
        state, events = outcome.state, [*events, *outcome.events]
    return state, [one.data for one in events]


def test_a_new_mapping_closes_the_open_state():
    new = {**PRESS, "state": {"from": "status", "map": {2: "setup"}}}

    _, events = restart_with(config(), config(new), [FIRST], {"status": 2, "total": 104, "fault": 0}, 5)

    assert [(one.state, one.trigger) for one in events if one.TYPE == "state.changed"] == [
        ("unknown", "config"),
        ("setup", "config"),
    ]
    assert [one.cause for one in events if one.TYPE == "data.gap"] == ["config_change"]


def test_a_counter_with_another_register_starts_from_a_new_baseline_and_keeps_its_total():
    new = {**PRESS, "counters": {"main": {"total": "reject", "max_rate": "2/s"}}}
    given = [FIRST, {"at": "5s", "total": 103}]

    state, events = restart_with(config(), config(new), given, {"status": 2, "reject": 9000, "fault": 0}, 5)

    assert state.groups["main"].totals == {"total": 3}
    assert not [one for one in events if one.TYPE == "production.counted"]
    assert [one.count_recovered for one in events if one.TYPE == "data.gap"] == ["none"]


def test_a_counter_that_was_taken_away_and_comes_back_goes_on_with_its_total():
    without = {**PRESS, "counters": {}}
    given = [FIRST, {"at": "5s", "total": 103}]
    state, _ = restart_with(config(), config(without), given, {"status": 2, "fault": 0}, 5)
    old, new = machine(config(without)), machine(config())

    back = new.restore(old.dump(state), Instant(START + 60 * SECOND, 9)).state

    assert back.groups["main"].totals == {"total": 3}


def test_other_tags_of_the_device_do_not_touch_the_state():
    more = config(PRESS, {**TAGS, "extra": "int16"})
    state, now, _ = play(config(), [FIRST], 10.2)

    outcome = machine(more).restore(machine(config()).dump(state), now)

    assert [one.data.trigger for one in outcome.events] == ["agent_restart"]


def test_what_is_shown_of_a_machine_is_plain():
    state, _, _ = play(config(), [FIRST, {"at": "5s", "status": 8, "fault": 12}, {"at": "6s", "total": 103}], 9.2)
    one = machine(config())

    shown = one.describe(state)

    assert json.loads(json.dumps(shown)) == shown
    assert (shown["state"], shown["group"], shown["since"]) == ("fault", "fault", START + 5 * SECOND)
    assert shown["downtime"]["class"] == "microstop"
    assert shown["downtime"]["reason"] == {"code": "12", "text": "Guard open", "source": "plc"}
    assert shown["counters"] == {"main": {"totals": {"total": 3}, "raw": {"total": 103}}}
    assert (shown["last_good_at"], shown["quality"]) == (START + 9 * SECOND, "good")


def test_before_anything_was_read_there_is_nothing_to_show():
    one = Machine(config(), "press", epoch=EPOCH)

    shown = one.describe(one.initial(Instant(START, 0)).state)

    assert "state" not in shown
    assert shown["quality"] == "bad"


def test_a_block_of_zeros_straight_after_a_gap_is_read_twice():
    zero = {**PRESS, "state": {"from": "status", "map": {0: "off", 2: "running"}}}
    given = [
        FIRST,
        LOST,
        {"at": "40s", "device": "back", "status": 0, "total": 0},
        {"at": "40.5s", "status": 2, "total": 104},
    ]

    assert states(story(config(zero), given, 60))[2:] == [("running", 40, "comms")]
    stays = [*given[:3], {"at": "60s", "status": 2, "total": 3}]
    assert states(story(config(zero), stays, 70))[2:] == [("off", 40, "comms"), ("running", 60, "tag")]


def test_a_plc_that_restarted_while_it_was_lost_settles_too():
    given = [
        FIRST,
        LOST,
        {"at": "40s", "plc": "restarted"},
        {"at": "41s", "device": "back", "status": 1, "total": 0},
        {"at": "43s", "status": 2, "total": 2},
    ]

    events = story(config(), given, 60)

    assert states(events) == [("running", 0, "tag"), ("unknown", 10, "comms"), ("running", 46, "plc_restart")]
    (gap,) = [one for one in events if one["type"] == "data.gap"]
    assert (gap["cause"], gap["from_at"], gap["to_at"], gap["recovered_delta"]) == (
        "plc_restart",
        10,
        46,
        {"total": 2},
    )


def test_a_wall_clock_that_was_set_back_while_the_agent_was_down_makes_no_time_negative():
    state, now, _ = play(config(), [FIRST, {"at": "5s", "status": 8}], 9.2)
    one = machine(config())

    outcome = one.restore(one.dump(state), Instant(now.wall - 3600 * SECOND, 50))

    assert outcome.state.downtime.started.mono <= 50
    assert outcome.state.at.mono == 50
    assert outcome.events[0].data.prev_duration_s == 4
