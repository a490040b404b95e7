"""Key figures of windows as the machine tells them: at the end of a shift, an hour or an order, and again."""

import pytest

from edge_agent.clock import SECOND, parse_rfc3339
from edge_agent.events.codec import machine_encoder
from edge_agent.replay.drive import Drive
from edge_agent.replay.timeline import Reader
from tests.machine.stories import config, flat, machine, some, story
from tests.schema_check import check_message

H = 3600
EARLY = {"name": "A", "start": "06:00", "end": "14:00"}
LATE = {"name": "B", "start": "14:00", "end": "22:00"}
TAGS = {
    "status": "int16",
    "fault": "uint16",
    "total": "uint16",
    "reject": "uint16",
    "rework": "uint16",
    "order": "string",
}
PRESS = {
    "state": {
        "from": "status",
        "map": {1: "idle", 2: "running", 3: "setup", 4: "starved", 8: "fault"},
        "debounce": {"default": "0s"},
    },
    "counters": {"main": {"total": "total", "scrap": "reject", "rework": "rework", "max_rate": "100/s"}},
    "downtime": {"reason": "fault", "reasons": {40: {"text": "Cleaning", "category": "planned_other"}}},
    "ideal_cycle": "20s",
}
RUNNING = {"status": 2, "fault": 0, "total": 0, "reject": 0, "rework": 0, "order": ""}


def press(*windows, shifts=(EARLY, LATE), breaks=(), maintenance=(), scan="60s", **more):
    kpi = {"windows": list(windows or ("shift",)), **more.pop("kpi", {})}
    calendar = {"shifts": list(shifts), "breaks": list(breaks), "maintenance": list(maintenance)}
    return config({**PRESS, **more}, TAGS, calendar=calendar, zone="Asia/Karachi", scan=scan, kpi=kpi)


def at(hours, plus=0, **values):
    """A line at a time of the local clock; the stories begin at 05:00."""
    return {"at": f"{clock(hours) + plus}s", **values}


def clock(hours):
    return round((hours - 5) * H, 3)


def told(made, given, hours):
    return story(made, given, clock(hours), "kpi")


def times(event):
    time = event["time"]
    names = ("pot", "pbt", "apt", "aust", "adet", "adot", "planned_down", "unknown", "microstop")
    return {name: value for name in names if (value := getattr(time, f"{name}_s"))}


def percent(event, *names):
    return [round(event["kpi"][name] * 100, 2) for name in names]


LUNCH = {"name": "lunch", "start": "10:00", "end": "10:30"}
SERVICE = {"start": "2026-03-02 12:00", "end": "2026-03-02 12:30"}


def worked_example():
    """Set-up 1800 s, three faults 1500 s, starved 600 s, eleven micro-stops 600 s, no order 900 s; 900 pieces."""
    lines = [at(5, **{**RUNNING, "status": 1}), at(6, status=3, order="WO-17"), at(6.5, status=2)]
    for hour, status, seconds in ((7, 8, 600), (8, 8, 600), (8.5, 4, 600), (9, 8, 300)):
        lines += [at(hour, status=status), at(hour, seconds, status=2)]
    lines += [at(9.5, total=450, reject=9, rework=4), at(10, status=1), at(10.5, status=2)]
    for number in range(11):
        lines += [at(11, 120 * number, status=1), at(11, 120 * number + (55 if number else 50), status=2)]
    lines += [at(12, status=1), at(12.5, status=2), at(13.5, total=900, reject=18, rework=9)]
    return [*lines, at(13.75, status=1, order="")]


ORDERS = {"orders": {"authority": "plc", "tag": "order"}}


def test_the_worked_example_played_on_a_machine():
    made = press(breaks=[LUNCH], maintenance=[SERVICE], **ORDERS)

    (event,) = told(made, worked_example(), 14.5)

    assert times(event) == {
        "pot": 28_800,
        "pbt": 25_200,
        "apt": 19_800,
        "aust": 1_800,
        "adet": 2_700,
        "adot": 900,
        "planned_down": 3_600,
        "microstop": 600,
    }
    qty = event["qty"]
    assert (qty.pq, qty.gq, qty.sq, qty.rq) == (900, 873, 18, 9)
    assert percent(event, "availability", "effectiveness", "quality_ratio", "oee", "nee") == [
        78.57, 90.91, 97.0, 69.29, 75.58,
    ]  # fmt: skip
    assert event["kpi"]["oee"] == pytest.approx(20 * 873 / 25_200, abs=1e-15)
    assert (event["kpi"]["mttr_s"], event["kpi"]["mtbf_s"]) == (500, 7_200)
    stops = event["stops"]
    assert (stops.microstops, stops.failures) == (11, 3)
    window = event["window"]
    assert (window.id, window.basis, window.tz) == ("2026-03-02/A", "shift", "Asia/Karachi")
    assert (event["rev"], event["final"], event["coverage"], event["quality"]) == (1, False, 1, "good")
    assert event["ctx"] == {"shift": "2026-03-02/A"}


def test_the_policy_moves_micro_stops_and_leaves_oee_and_the_times():
    performance = {"microstop_policy": "performance"}
    made = press(breaks=[LUNCH], maintenance=[SERVICE], kpi=performance, **ORDERS)

    (event,) = told(made, worked_example(), 14.5)

    assert percent(event, "availability", "effectiveness", "oee") == [80.95, 88.24, 69.29]
    assert (event["time"].apt_s, event["time"].microstop_s) == (19_800, 600)
    assert event["microstop_policy"] == "performance"


def test_a_machine_that_runs_through_a_break_adds_it_to_the_busy_time():
    given = [at(5, **RUNNING), at(9, total=700)]

    (event,) = told(press(breaks=[LUNCH]), given, 14.1)

    assert times(event) == {"pot": 28_800, "pbt": 28_800, "apt": 28_800}
    assert event["kpi"]["availability"] == 1


def test_running_outside_the_shifts_is_in_no_shift():
    given = [at(5, **RUNNING), at(5.9, total=5), at(13, total=105)]

    (event,) = told(press(shifts=[EARLY]), given, 15)

    assert (times(event)["pot"], event["qty"].pq) == (28_800, 100)


def test_pieces_belong_to_the_shift_in_which_they_were_counted():
    given = [at(5, **RUNNING), at(14, -1, total=11), at(14, 0.5, total=14)]

    first, second = told(
        press(scan="1s", shifts=[{**EARLY, "start": "13:00"}, {**LATE, "end": "15:00"}]), given, 15.1
    )

    assert (first["qty"].pq, second["qty"].pq) == (11, 3)


def test_a_window_waits_for_the_longest_debounce():
    state = {**PRESS["state"], "debounce": {"idle": "20s"}}
    given = [at(5, **RUNNING), at(14, -10, status=1)]

    event = told(press(state=state), given, 14.2)[0]

    assert times(event) == {"pot": 28_800, "pbt": 28_800, "apt": 28_790, "adet": 10, "microstop": 10}
    assert event["rev"] == 1


def test_the_seconds_of_a_stop_are_additive_and_its_number_is_where_it_began():
    given = [at(5, **RUNNING), at(13.5, status=8), at(14.5, status=2)]

    first, *_, second = told(press(shifts=[EARLY, {**LATE, "end": "15:00"}]), given, 15.1)

    assert (first["time"].adet_s, second["time"].adet_s) == (1_800, 1_800)
    assert (first["stops"].count, second["stops"].count) == (1, 0)
    assert (first["stops"].failures, second["stops"].failures) == (1, 0)
    assert first["kpi"]["mttr_s"] == 1_800
    assert "mttr_s" not in second["kpi"]


def test_a_stop_that_turns_out_to_be_a_failure_after_the_shift_revises_it():
    given = [at(5, **RUNNING), at(14, -60, status=8), at(14, 400, status=2)]

    first, again = told(press(), given, 15)

    assert some([first, again], "rev") == [(1,), (2,)]
    assert (first["stops"].microstops, first["stops"].failures, first["time"].microstop_s) == (1, 0, 60)
    assert (again["stops"].microstops, again["stops"].failures, again["time"].microstop_s) == (0, 1, 0)
    assert again["window"] == first["window"]


def test_a_gap_over_the_end_of_a_shift_is_unknown_and_its_pieces_revise_it():
    given = [at(5, **RUNNING), at(12, total=900), at(13.5, device="lost"), at(14.5, device="back", total=960)]

    first, second = [event for event in told(press(), given, 15) if event["window"].id == "2026-03-02/A"]

    assert "oee" not in first["kpi"]
    assert "availability" not in first["kpi"]
    assert first["quality_detail"] == ("count_incomplete",)
    assert (second["rev"], second["qty"].pq, first["qty"].pq) == (2, 960, 900)
    assert 1_800 <= second["time"].unknown_s <= 1_860
    assert percent(second, "oee") == [round(100 * 20 * 960 / 28_800, 2)]
    assert "availability" not in second["kpi"]


def test_a_reason_of_the_mom_that_comes_after_the_shift_revises_it():
    given = [at(5, **RUNNING), at(9, status=8), at(9.5, status=2)]
    given += [at(10, 60 * count, status=1 + count % 2) for count in range(8)]
    stopped = story(press(), given, clock(9.1), "downtime")[0]["downtime_id"]
    reason = {"downtime_id": stopped, "code": "P1", "category": "planned_other", "issued_by": "E1"}
    given += [at(14.1, command={"name": "downtime.assign_reason", **reason})]

    first, again = told(press(), given, 14.3)

    assert (first["rev"], first["stops"].failures, first["time"].planned_down_s) == (1, 1, 0)
    assert (again["rev"], again["stops"].failures, again["time"].planned_down_s) == (2, 0, 1_800)
    assert first["time"].adet_s - again["time"].adet_s == 1_800
    assert "mttr_s" in first["kpi"]
    assert "mttr_s" not in again["kpi"]


def test_a_reason_of_a_planned_category_makes_the_time_planned_at_once():
    given = [at(5, **RUNNING), at(9, status=1, fault=40), at(9.5, status=2, fault=0)]

    (event,) = told(press(), given, 14.1)

    assert times(event) == {"pot": 28_800, "pbt": 27_000, "apt": 27_000, "planned_down": 1_800}


def test_a_start_in_the_middle_of_a_shift_leaves_what_was_before_unknown():
    given = [at(10, **RUNNING), at(12, total=400)]

    (event,) = told(press(breaks=[LUNCH]), given, 14.1)

    assert times(event) == {"pot": 28_800, "pbt": 28_800, "apt": 14_400, "unknown": 14_400}
    assert "oee" not in event["kpi"]


def test_an_agent_that_was_down_at_the_end_of_a_shift_tells_it_when_it_starts():
    given = [at(5, **RUNNING), at(12, total=900), at(13, agent="killed"), at(15, agent="started")]

    events = [event for event in told(press(), given, 15.5) if event["window"].id == "2026-03-02/A"]

    assert [event["rev"] for event in events] == [1, 2]
    assert 3_600 <= events[-1]["time"].unknown_s <= 3_660
    assert "oee" not in events[0]["kpi"]
    assert "oee" in events[-1]["kpi"]


def test_hours_follow_each_other_and_add_up_to_the_shift():
    given = worked_example()
    events = told(press("shift", "hour", breaks=[LUNCH], maintenance=[SERVICE], **ORDERS), given, 14.1)
    hours = [event for event in events if event["window"].basis == "hour" and event["time"].pot_s]
    (shift,) = [event for event in events if event["window"].basis == "shift"]

    assert [event["window"].id[:13] for event in hours] == [f"2026-03-02T{hour:02d}" for hour in range(6, 14)]
    assert hours[0]["window"].id == "2026-03-02T06:00+05:00"
    for name, value in times(shift).items():
        assert sum(times(event).get(name, 0) for event in hours) == value
    assert sum(event["qty"].pq for event in hours) == 900
    assert sum(event["stops"].count for event in hours) == shift["stops"].count


def test_an_hour_in_which_nothing_was_planned_and_nothing_happened_is_not_told():
    given = [at(5, **{**RUNNING, "status": 1})]

    events = told(press("hour", shifts=[EARLY]), given, 17.1)

    assert len(events) == 8


def test_an_order_has_a_window_of_its_own():
    given = [at(5, **RUNNING), at(7, order="WO-1"), at(8, total=100), at(8.5, order=""), at(9, order="WO-2")]

    (event,) = told(press("order", **ORDERS), given, 9.5)

    assert (event["window"].basis, event["ctx"]["order_id"]) == ("order", "WO-1")
    assert event["window"].id == event["ctx"]["order_run_id"]
    assert times(event) == {"pot": 5_400, "pbt": 5_400, "apt": 5_400}
    assert event["qty"].pq == 100
    assert event["kpi"]["throughput_per_h"] == pytest.approx(100 / 1.5)


def test_running_faster_than_the_ideal_cycle_is_reported_and_warned_of():
    given = [at(5, **RUNNING), at(9, total=2_000)]
    made = press()

    played = list(Drive([machine(made)], made.devices, start=parse_rfc3339("2026-03-02T00:00:00Z")).play(
        Reader(made.devices, "press", parse_rfc3339("2026-03-02T00:00:00Z")).read(given), round(clock(14.1) * SECOND)
    ))  # fmt: skip

    (event,) = [flat(one) for one in played if one.event.data.TYPE == "kpi.window"]
    assert event["kpi"]["effectiveness"] == pytest.approx(2_000 * 20 / 28_800)
    assert "ideal_cycle_too_long" in [one.event.data.code for one in played if one.event.data.TYPE == "agent.warning"]


@pytest.mark.parametrize(
    ("start", "hours", "date"),
    [("2026-03-28T20:00:00Z", 7, "2026-03-28"), ("2026-10-24T19:00:00Z", 9, "2026-10-24")],
)
def test_a_night_shift_over_a_change_of_the_clocks_carries_its_real_span(start, hours, date):
    night = {"name": "N", "start": "22:00", "end": "06:00"}
    made = config(PRESS, TAGS, calendar={"shifts": [night]}, zone="Europe/Berlin", scan="60s")
    wall = parse_rfc3339(start)
    given = [{"at": "0s", **RUNNING}, {"at": "4h", "total": 300}]

    lines = Reader(made.devices, "press", wall).read(given)
    played = Drive([machine(made)], made.devices, start=wall).play(lines, 12 * H * SECOND)

    (event,) = [one.event.data for one in played if one.event.data.TYPE == "kpi.window"]
    assert event.window.id == f"{date}/N"
    assert event.window.to_at - event.window.from_at == hours * H * SECOND
    assert (event.time.pot_s, event.time.apt_s) == (hours * H, hours * H)
    assert event.coverage == 1


def test_a_clock_that_jumps_over_an_hour_leaves_that_hour_unknown():
    given = [at(5, **RUNNING), at(8, clock="+3600s"), at(9, total=100)]

    (event,) = told(press(), given, 13.1)

    assert times(event) == {"pot": 28_800, "pbt": 28_800, "apt": 25_200, "unknown": 3_600}


def test_without_shifts_there_are_no_windows_of_shifts():
    assert story(config(PRESS, TAGS), [{"at": "0s", **RUNNING}], 4000, "kpi") == []


def test_windows_fit_their_schema_on_the_wire():
    made = press("shift", "hour", "order", breaks=[LUNCH], maintenance=[SERVICE], **ORDERS)
    encoder = machine_encoder(made, "press", "mlu4idc09c7x")
    wall = parse_rfc3339("2026-03-02T00:00:00Z")
    lines = Reader(made.devices, "press", wall).read(worked_example())

    played = Drive([machine(made)], made.devices, start=wall).play(lines, round(clock(14.5) * SECOND))
    sent = [encoder.encode(one.event) for one in played if one.event.data.TYPE == "kpi.window"]

    assert len(sent) > 9
    for message in sent:
        check_message(message.topic, message.body)


def test_a_reason_that_a_micro_stop_gets_after_the_shift_revises_it():
    given = [at(5, **RUNNING), at(9, status=8), at(9, 120, status=2)]
    given += [at(10, 60 * count, status=1 + count % 2) for count in range(8)]
    stopped = story(press(), given, clock(9.1), "downtime")[0]["downtime_id"]
    reason = {"downtime_id": stopped, "code": "P1", "category": "planned_other", "issued_by": "E1"}
    given += [at(14.1, command={"name": "downtime.assign_reason", **reason})]

    first, again = told(press(), given, 14.3)

    assert (first["rev"], again["rev"]) == (1, 2)
    assert again["time"].planned_down_s - first["time"].planned_down_s == 120
    assert first["time"].microstop_s - again["time"].microstop_s == 120
    assert first["stops"].microstops == again["stops"].microstops


def test_micro_stops_do_not_drive_out_the_stops_whose_reason_may_come():
    given = [at(5, **RUNNING), at(7, status=8), at(7.5, status=2)]
    given += [at(8, 30 * count, status=1 + count % 2) for count in range(160)]
    stopped = story(press(), given, clock(7.1), "downtime")[0]["downtime_id"]
    reason = {"downtime_id": stopped, "code": "P1", "category": "planned_other", "issued_by": "E1"}
    given += [at(14.1, command={"name": "downtime.assign_reason", **reason})]

    *_, again = told(press(scan="10s"), given, 14.3)

    assert (again["rev"], again["time"].planned_down_s) == (2, 1_800)
