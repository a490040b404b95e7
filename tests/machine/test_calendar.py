"""Shifts, breaks and maintenance in local time, through weekends, midnights and both changes of the clocks."""

import itertools
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from config.calendar import CalendarOptions
from config.model import Config, Site
from edge_agent.clock import SECOND
from edge_agent.machine.calendar import DAY, HOUR, calendar_of, instant

BERLIN = "Europe/Berlin"
THREE = [
    {"name": "A", "days": "mon-fri", "start": "06:00", "end": "14:00"},
    {"name": "B", "days": "mon-fri", "start": "14:00", "end": "22:00"},
    {"name": "N", "days": "sun-thu", "start": "22:00", "end": "06:00"},
]


def made(shifts=(), breaks=(), maintenance=(), zone=BERLIN, machine="press-1"):
    written = {"shifts": shifts, "breaks": breaks, "maintenance": maintenance}
    config = Config.model_construct(
        calendar=CalendarOptions.model_validate(written),
        site=Site(enterprise="acme", site="sz1", area="stamping", timezone=zone),
    )
    return calendar_of(config, machine)


def at(text, zone=BERLIN):
    return instant(datetime.fromisoformat(text), ZoneInfo(zone))


def name(calendar, text):
    shift = calendar.shift(at(text))
    return None if shift is None else shift.id


def hours(calendar, text):
    shift = calendar.shift(at(text))
    return (shift.end - shift.start) / HOUR


def test_without_shifts_operation_is_always_planned_and_nothing_ever_changes():
    calendar = made()

    assert calendar.at(at("2026-03-02 03:00"))[2:] == (None, None, True)
    assert calendar.next(at("2026-03-02 03:00")) is None
    assert not calendar.has_shifts


def test_a_shift_is_named_by_the_local_date_of_its_start():
    calendar = made(THREE)

    assert name(calendar, "2026-03-02 06:00") == "2026-03-02/A"
    assert name(calendar, "2026-03-02 13:59:59.999999") == "2026-03-02/A"
    assert name(calendar, "2026-03-02 14:00") == "2026-03-02/B"
    assert name(calendar, "2026-03-03 02:00") == "2026-03-02/N"
    assert name(calendar, "2026-03-02 00:00") == "2026-03-01/N"
    assert name(calendar, "2026-03-06 22:00") is None
    assert not calendar.at(at("2026-03-07 12:00")).on


def test_an_end_at_midnight_is_the_midnight_after_the_start():
    calendar = made([{"name": "B", "days": "fri", "start": "16:00", "end": "00:00"}])

    assert hours(calendar, "2026-03-06 23:59") == 8
    assert name(calendar, "2026-03-07 00:00") is None
    whole = made([{"name": "D", "days": ["sat", "sun"], "start": "00:00", "end": "24:00"}])
    assert hours(whole, "2026-03-07 00:00") == 24
    assert name(whole, "2026-03-08 00:00") == "2026-03-08/D"
    assert name(whole, "2026-03-09 00:00") is None


def test_the_next_boundary_after_a_weekend_is_found():
    calendar = made(THREE[:1])

    assert calendar.next(at("2026-03-06 14:00")) == at("2026-03-09 06:00")
    assert calendar.at(at("2026-03-08 12:00")).start == at("2026-03-06 14:00")


def test_a_distant_maintenance_does_not_hide_the_boundaries_before_it():
    calendar = made(THREE[:1], maintenance=[{"start": "2026-09-01 06:00", "end": "2026-09-02 06:00"}])

    assert calendar.next(at("2026-03-06 14:00")) == at("2026-03-09 06:00")
    only = made(maintenance=[{"start": "2026-09-01 06:00", "end": "2026-09-02 06:00"}])
    assert only.next(at("2026-03-06 14:00")) == at("2026-09-01 06:00")
    assert only.at(at("2026-09-01 12:00"))[2:] == (None, "planned_maintenance", True)


def test_a_break_is_planned_and_the_shift_is_still_on():
    calendar = made(THREE, [{"name": "lunch", "days": "mon-fri", "start": "10:00", "end": "10:30"}])

    slices = list(calendar.slices(at("2026-03-02 09:00"), at("2026-03-02 15:00")))

    assert [(each.planned, (each.end - each.start) / HOUR) for each in slices] == [
        (None, 1),
        ("break", 0.5),
        (None, 3.5),
        (None, 1),
    ]
    assert all(each.on for each in slices)


def test_maintenance_is_for_the_machines_that_it_names():
    planned = [
        {"start": "2026-03-02 08:00", "end": "2026-03-02 09:00", "machines": ["press-1"]},
        {"start": "2026-03-02T09:00:00Z", "end": "2026-03-02T10:00:00Z"},
    ]

    assert made(THREE, maintenance=planned).at(at("2026-03-02 08:30")).planned == "planned_maintenance"
    assert made(THREE, maintenance=planned, machine="oven-1").at(at("2026-03-02 08:30")).planned is None
    assert made(THREE, maintenance=planned, machine="oven-1").at(at("2026-03-02 10:30")).planned is not None


def test_a_night_shift_has_seven_hours_in_spring_and_nine_in_autumn():
    calendar = made([{"name": "N", "start": "22:00", "end": "06:00"}])

    assert hours(calendar, "2026-03-28 23:00") == 7
    assert hours(calendar, "2026-10-24 23:00") == 9
    assert hours(calendar, "2026-03-29 23:00") == 8
    assert name(calendar, "2026-03-29 05:00") == "2026-03-28/N"


def test_a_skipped_local_time_is_the_next_valid_one_and_a_doubled_one_the_first():
    assert at("2026-03-29 02:30") == at("2026-03-29 03:00")
    assert at("2026-03-29 02:00") == at("2026-03-29 03:00")
    doubled = datetime.fromisoformat("2026-10-25T02:30+02:00")
    assert at("2026-10-25 02:30") == round(doubled.timestamp() * SECOND)
    calendar = made(
        [
            {"name": "X", "days": "sun", "start": "00:00", "end": "02:30"},
            {"name": "Y", "days": "sun", "start": "02:30", "end": "04:00"},
        ]
    )
    assert hours(calendar, "2026-03-29 01:00") == 2
    assert hours(calendar, "2026-03-29 03:30") == 1
    assert hours(calendar, "2026-10-25 01:00") == 2.5
    assert hours(calendar, "2026-10-25 03:30") == 2.5


def test_a_break_that_daylight_saving_swallows_does_not_take_place():
    calendar = made(THREE, [{"name": "tea", "start": "02:15", "end": "02:45"}])
    night = calendar.shift(at("2026-03-30 05:00"))

    swallowed = made(
        [{"name": "N", "start": "22:00", "end": "06:00"}], [{"name": "tea", "start": "02:15", "end": "02:45"}]
    )
    spring = swallowed.shift(at("2026-03-29 01:00"))
    assert [each.planned for each in swallowed.slices(spring.start, spring.end)] == [None]
    assert [each.planned for each in calendar.slices(night.start, night.end)] == [None, "break", None]


def test_the_hour_is_that_of_the_local_clock():
    half = made(zone="Asia/Kolkata")
    start, end = half.hour(at("2026-03-02 08:10", "Asia/Kolkata"))

    assert half.local(start).strftime("%H:%M") == "08:00"
    assert end - start == HOUR


@pytest.mark.parametrize(
    ("shifts", "says"),
    [
        (
            [{"name": "A", "start": "06:00", "end": "14:00"}, {"name": "B", "start": "13:59", "end": "22:00"}],
            "shift 'B' begins before shift 'A' has ended",
        ),
        (
            [
                {"name": "N", "days": "sun", "start": "22:00", "end": "06:01"},
                {"name": "A", "days": "mon", "start": "06:00", "end": "14:00"},
            ],
            "shift 'A' begins before shift 'N' has ended",
        ),
        ([{"name": "A", "start": "6 Uhr", "end": "14:00"}], "a time of the day is written like"),
        ([{"name": "A", "days": "mon-fry", "start": "06:00", "end": "14:00"}], "'fry' is no day"),
        (
            [
                {"name": "A", "days": "mon-wed", "start": "06:00", "end": "10:00"},
                {"name": "A", "days": "wed-fri", "start": "12:00", "end": "14:00"},
            ],
            "shift 'A' begins twice on wed",
        ),
    ],
)
def test_a_calendar_that_contradicts_itself_is_refused(shifts, says):
    with pytest.raises(ValidationError, match=says):
        made(shifts)


ZONES = st.sampled_from([
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Asia/Kolkata", "Australia/Lord_Howe",
    "Africa/Cairo", "America/Sao_Paulo", "Pacific/Chatham",
])  # fmt: skip
MINUTE = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
CUTS = st.lists(MINUTE, min_size=2, max_size=5, unique=True).map(sorted)
DAYS = st.sampled_from(["mon-fri", "sat", "mon-sun", "fri-mon", ["mon", "wed"], ["tue-thu", "sun"]])


@st.composite
def calendars(draw):
    """Shifts that follow each other around the clock, on some days, with breaks and maintenance anywhere."""
    cuts, days = draw(CUTS), draw(DAYS)
    pairs = zip(cuts, [*cuts[1:], cuts[0]], strict=True)
    shifts = [{"name": f"S{n}", "days": days, "start": a, "end": b} for n, (a, b) in enumerate(pairs)]
    spans = st.tuples(MINUTE, MINUTE).filter(lambda span: span[0] != span[1])
    breaks = [{"name": "b", "start": a, "end": b} for a, b in draw(st.lists(spans, max_size=2))]
    day = draw(st.integers(1, 28))
    maintenance = [{"start": f"2026-03-{day:02d} 01:30", "end": f"2026-03-{day:02d} 23:59"}] * draw(st.integers(0, 1))
    return made(shifts[: draw(st.integers(0, len(shifts)))], breaks, maintenance, zone=draw(ZONES))


INSTANTS = st.integers(
    round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), round(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
).map(lambda second: second * SECOND)


@settings(deadline=None, max_examples=60)
@given(calendars(), INSTANTS)
def test_boundaries_strictly_increase_and_nothing_changes_between_them(calendar, wall):
    seen = wall
    for _ in range(25):
        here = calendar.at(seen)
        assert here.start <= seen < here.end
        following = calendar.next(seen)
        if following is None:
            break
        assert following == here.end > seen
        middle = calendar.at((max(seen, here.start) + following) // 2)
        assert middle == here
        after = calendar.at(following)
        assert after.start == following
        seen = following


@settings(deadline=None, max_examples=60)
@given(calendars(), INSTANTS)
def test_the_slices_of_a_window_tile_it_and_shifts_do_not_overlap(calendar, wall):
    slices = list(calendar.slices(wall, wall + 3 * DAY))

    assert slices[0].start == wall
    assert slices[-1].end == wall + 3 * DAY
    assert all(before.end == after.start for before, after in itertools.pairwise(slices))
    shifts = list(dict.fromkeys(each.shift for each in slices if each.shift is not None))
    assert len({shift.id for shift in shifts}) == len(shifts)
    for before, after in itertools.pairwise(shifts):
        assert before.start < before.end <= after.start
    for each in slices:
        if each.shift is not None:
            assert each.shift.start <= each.start
            assert each.end <= each.shift.end


@settings(deadline=None, max_examples=60)
@given(ZONES, INSTANTS)
def test_hours_tile_the_time_line(zone, wall):
    calendar = made(zone=zone)
    start, end = calendar.hour(wall)

    assert start <= wall < end
    assert calendar.hour(end)[0] == end
    assert calendar.hour(end - 1) == (start, end)
