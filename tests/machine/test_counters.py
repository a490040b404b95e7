"""The nine cases of event model §4 and the table below them, each on a timeline."""

import pytest

from tests.machine.stories import config, some, story, warnings

STATUS = {"from": "status", "map": {2: "running"}}


def counter(**options):
    return {"state": STATUS, "counters": {"main": {"total": "total", "max_rate": "5/s", **options}}}


def tell(values, *, options=None, kind="uint16", tags=None, until=None, **more):
    """The counter's values at their seconds; returns what was published of it and of gaps."""
    lines = [
        {"at": f"{at}s", "status": 2, **(v if isinstance(v, dict) else {"total": v})} for at, v in values.items()
    ]
    known = {"status": "int16", "total": kind, **(tags or {})}
    end = until or max(values) + 6
    return story(config(counter(**(options or {})), known, **more), lines, end, "production", "data")


def counted(events, *names):
    return [
        tuple(dict(event["delta"]) if name == "delta" else event.get(name) for name in ("delta", *names))
        for event in events
        if event["type"] == "production.counted"
    ]


def test_the_first_sample_is_a_baseline_and_no_event():
    assert tell({0: 5000}) == []


def test_a_normal_advance_reports_the_difference():
    events = tell({0: 100, 1: 103})

    assert counted(events, "from_at", "to_at", "cause") == [({"total": 3}, 0, 1, "machine")]
    assert (events[0]["raw"][0].tag, events[0]["raw"][0].prev, events[0]["raw"][0].now) == ("press.total", 100, 103)


def test_counts_are_gathered_for_the_flush_time():
    events = tell({0: 100, 1: 101, 2: 103, 3: 104, 4: 105})

    assert counted(events, "from_at", "to_at") == [({"total": 3}, 0, 2), ({"total": 2}, 2, 4)]


def test_a_counter_that_rolls_over_reports_the_parts_made():
    events = tell({0: 65534, 1: 2})

    assert counted(events, "flags", "cause") == [({"total": 4}, ("rollover",), "machine")]


def test_a_decimal_counter_rolls_over_where_it_says():
    assert counted(tell({0: 9998, 1: 1}, options={"wrap": 10000}), "flags") == [({"total": 3}, ("rollover",))]
    assert counted(tell({0: 9999, 1: 2}, options={"wrap": 10000, "wrap_to": 1}), "flags") == [
        ({"total": 2}, ("rollover",))
    ]


def test_a_signed_counter_is_read_as_unsigned():
    assert counted(tell({0: 32766, 1: -32767}, kind="int16"), "flags") == [({"total": 3}, None)]


def test_a_negative_value_of_a_wide_counter_is_no_sample():
    assert counted(tell({0: 100, 1: -1, 2: 101}, kind="int32")) == [({"total": 1},)]


def test_a_fall_that_is_no_roll_over_is_a_reset():
    events = tell({0: 40000, 1: 3})

    assert counted(events, "flags") == [({"total": 3}, ("lower_bound", "reset"))]


def test_pieces_before_a_reset_go_out_before_it():
    events = tell({0: 39997, 1: 40000, 2: 3})

    assert counted(events, "flags") == [({"total": 3}, None), ({"total": 3}, ("lower_bound", "reset"))]


@pytest.mark.parametrize(
    ("kind", "before", "after"), [("bool", False, True), ("uint32", 900, 2), ("string", "WO-1", "WO-2")]
)
def test_a_hint_makes_a_lower_value_a_reset_even_where_a_roll_over_is_plausible(kind, before, after):
    events = tell(
        {0: {"total": 65530, "hint": before}, 1: {"total": 3, "hint": after}},
        options={"reset_hints": ["hint"]},
        tags={"hint": kind},
    )

    assert counted(events, "flags") == [({"total": 3}, ("lower_bound", "reset"))]


def test_a_hint_alone_invents_nothing():
    events = tell(
        {0: {"total": 500, "hint": "A"}, 1: {"total": 500, "hint": "B"}, 2: {"total": 501, "hint": "B"}},
        options={"reset_hints": ["hint"]},
        tags={"hint": "string"},
    )

    assert counted(events) == [({"total": 1},)]


def test_a_jump_is_held_and_then_refused_with_a_gap_and_a_warning():
    values = {0: 100, 1: 5000, 2: 5001, 3: 5002, 8: 5003}
    events = tell(values)

    assert counted(events) == [({"total": 1},)]
    gap = events[0]
    assert (gap["type"], gap["cause"], gap["count_recovered"], gap["affects"]) == (
        "data.gap",
        "counter_jump",
        "none",
        ("count",),
    )
    lines = [{"at": f"{at}s", "status": 2, "total": value} for at, value in values.items()]
    assert warnings(config(counter()), lines, 9).count("counter_jump") == 1


def test_a_jump_is_counted_where_that_is_configured():
    events = tell({0: 100, 1: 5000}, options={"jumps": "accept"})

    assert counted(events, "flags") == [({"total": 4900}, ("burst",))]


def test_a_torn_read_that_goes_away_leaves_no_trace():
    events = tell({0: 65535, 1: 131071, 2: 65536}, kind="uint32")

    assert counted(events, "flags") == [({"total": 1}, None)]
    assert len(events) == 1


def test_a_small_step_back_is_a_correction_when_it_stays():
    events = tell({0: 1000, 2: 995})

    assert counted(events, "cause", "totals") == [({"total": -5}, "correction", {"total": -5})]


def test_a_step_back_for_one_scan_is_nothing():
    assert tell({0: 1000, 2: 995, 3: 1000}) == []


def test_a_correction_can_be_ignored_until_the_counter_has_passed_it():
    events = tell({0: 1000, 2: 995, 5: 998, 6: 1002}, options={"backward": "ignore"})

    assert counted(events, "cause") == [({"total": 2}, "machine")]


def test_a_correction_can_be_a_reset():
    events = tell({0: 1000, 2: 995}, options={"backward": "reset"})

    assert counted(events, "flags") == [({"total": 995}, ("lower_bound", "reset"))]


def test_a_step_back_to_what_a_fresh_counter_may_show_is_a_reset():
    assert counted(tell({0: 12, 1: 2}), "flags") == [({"total": 2}, ("lower_bound", "reset"))]


def test_a_step_back_of_more_than_the_limit_is_a_reset():
    assert counted(tell({0: 1000, 1: 900}), "flags") == [({"total": 900}, ("lower_bound", "reset"))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3.0])
def test_what_can_be_no_count_is_no_sample(value):
    assert counted(tell({0: 100.0, 1: value, 2: 102.0}, kind="float32")) == [({"total": 2},)]


def test_a_float_counter_above_its_exact_integers_is_flagged():
    events = tell({0: 16_777_216.0, 1: 16_777_218.0}, kind="float32")

    assert counted(events, "flags") == [({"total": 2}, ("precision",))]


def test_noise_of_a_float_counter_is_no_piece():
    assert tell({0: 100.0, 1: 100.3, 2: 99.8}, kind="float32") == []


def test_an_uncertain_counter_value_is_not_counted():
    lines = {0: {"total": 100}, 1: {"total": 150, "quality": "uncertain", "tags": ["total"]}, 3: {"total": 103}}

    assert counted(tell(lines)) == [({"total": 3},)]


def test_bad_values_count_nothing_and_the_good_one_after_them_counts_all():
    lines = {0: {"total": 100}, 1: {"quality": "bad", "tags": ["total"]}, 4: {"total": 103}}

    assert counted(tell(lines)) == [({"total": 3},)]


def test_cavities_multiply_the_count():
    events = tell({0: 100, 1: 103}, options={"parts_per_count": 4})

    assert counted(events, "parts_per_count") == [({"total": 12}, 4)]


def test_a_pulse_counts_rising_edges_after_a_known_level():
    lines = {0: True, 1: False, 2: True, 3: True, 4: False, 5: True}

    events = tell(lines, kind="bool")

    assert sum(event["delta"]["total"] for event in events) == 2
    assert {event["cause"] for event in events} == {"pulse"}


@pytest.mark.parametrize(
    ("members", "values", "delta", "detail"),
    [
        ({"total": "a", "scrap": "b"}, (5, 2), {"total": 5, "good": 3, "scrap": 2}, ("derived_good",)),
        ({"good": "a", "scrap": "b"}, (3, 2), {"total": 5, "good": 3, "scrap": 2}, ("derived_total",)),
        ({"total": "a", "good": "b"}, (5, 3), {"total": 5, "good": 3, "scrap": 2}, ("derived_scrap",)),
        ({"good": "a"}, (3, 0), {"total": 3, "good": 3}, ("derived_total",)),
        ({"total": "a"}, (3, 0), {"total": 3}, None),
        ({"total": "a", "assume_good": True}, (3, 0), {"total": 3, "good": 3}, ("derived_good",)),
        ({"scrap": "b"}, (0, 2), {"scrap": 2}, None),
    ],
)
def test_the_member_that_follows_from_the_others_is_derived(members, values, delta, detail):
    machine = {"state": STATUS, "counters": {"main": {"max_rate": "5/s", **members}}}
    known = {"status": "int16", "a": "uint16", "b": "uint16"}
    lines = [{"at": "0s", "status": 2, "a": 10, "b": 20}, {"at": "1s", "a": 10 + values[0], "b": 20 + values[1]}]

    events = story(config(machine, known), lines, 5, "production")

    assert some(events, "delta", "quality_detail") == [(delta, detail)]


def test_a_good_piece_that_is_rejected_later_never_makes_a_negative_delta():
    machine = {"state": STATUS, "counters": {"main": {"max_rate": "5/s", "total": "a", "scrap": "b"}}}
    known = {"status": "int16", "a": "uint16", "b": "uint16"}
    lines = [
        {"at": "0s", "status": 2, "a": 10, "b": 20},
        {"at": "1s", "a": 11},
        {"at": "10s", "b": 21},
        {"at": "20s", "a": 12},
    ]

    events = story(config(machine, known), lines, 30, "production")

    assert some(events, "delta") == [
        ({"total": 1, "good": 1, "scrap": 0},),
        ({"total": 0, "good": 0, "scrap": 1},),
        ({"total": 1, "good": 0, "scrap": 0},),
    ]
    assert events[-1]["totals"] == {"total": 2, "good": 1, "scrap": 1}


def test_registers_that_disagree_for_long_are_warned_of_once():
    machine = {"state": STATUS, "counters": {"main": {"total": "a", "good": "b", "scrap": "c", "max_rate": "5/s"}}}
    known = {"status": "int16", "a": "uint16", "b": "uint16", "c": "uint16"}
    lines = [{"at": "0s", "status": 2, "a": 0, "b": 0, "c": 0}, {"at": "1s", "a": 3, "b": 2}]

    assert warnings(config(machine, known), [*lines, {"at": "3s", "c": 1}], 30).count("count_mismatch") == 0
    assert warnings(config(machine, known), lines, 30).count("count_mismatch") == 1


def test_a_burst_after_a_gap_is_one_event_over_the_whole_gap():
    lines = {0: 100, 5: {"device": "lost"}, 60: {"device": "back", "total": 180}}

    events = tell(lines)

    assert some(events, "type", "from_at", "to_at", "cause") == [
        ("data.gap", 4, 60, "comms_loss"),
        ("production.counted", 4, 60, "gap_recovery"),
    ]
    assert events[0]["recovered_delta"] == events[1]["delta"] == {"total": 80}
    assert events[0]["count_recovered"] == "exact"


def test_a_roll_over_in_a_gap_is_believed_only_if_the_counter_never_resets():
    lines = {0: 65500, 5: {"device": "lost"}, 60: {"device": "back", "total": 30}}

    assert counted(tell(lines), "flags") == [({"total": 30}, ("lower_bound", "reset"))]
    events = tell(lines, options={"resets": "never"})
    assert counted(events, "flags") == [({"total": 66}, ("rollover",))]
    assert events[0]["count_recovered"] == "exact"


def test_more_than_one_turn_in_a_gap_is_a_lower_bound():
    lines = {0: 90, 5: {"device": "lost"}, 60: {"device": "back", "total": 30}}

    events = tell(lines, options={"resets": "never", "wrap": 100})

    assert events[0]["count_recovered"] == "lower_bound"
    assert counted(events) == [({"total": 40},)]


def test_a_jump_over_a_gap_is_counted_when_it_stays():
    lines = {0: 100, 5: {"device": "lost"}, 20: {"device": "back", "total": 5000}}

    events = tell(lines)

    assert some(events, "type", "to_at") == [("data.gap", 20), ("production.counted", 22)]
    assert counted(events, "flags") == [({"total": 4900}, ("burst",))]


def test_a_counter_that_is_zero_straight_after_a_gap_is_read_twice():
    lines = {0: 100, 5: {"device": "lost"}, 20: {"device": "back", "total": 0}, 20.5: 104}

    assert counted(tell(lines), "flags") == [({"total": 4}, None)]


def test_edges_in_a_gap_are_gone():
    lines = {0: False, 5: {"device": "lost"}, 20: {"device": "back", "total": True}, 22: False, 23: True}

    events = tell(lines, kind="bool")

    assert events[0]["count_recovered"] == "none"
    assert counted(events) == [({"total": 1},)]


def test_a_slow_tag_beside_fast_ones_is_judged_by_its_own_period():
    known = {"status": "int16", "total": {"type": "uint16", "scan": "10s"}}
    lines = [{"at": "0s", "status": 2, "total": 0}, {"at": "9s", "total": 45}]

    events = story(config(counter(), known), lines, 30, "production")

    assert some(events, "delta") == [({"total": 45},)]


def test_a_late_lower_sample_is_ignored():
    from tests.machine.stories import OpcPlc

    lines = {0: 100, 5: 105, 8: {"total": 103, "source_at": "4s"}}

    assert counted(tell(lines, kind="uint16", until=20)) == [({"total": 5},)]
    events = story(
        config(counter(), {"status": "int16", "total": "uint16"}, kind=OpcPlc),
        [{"at": f"{at}s", "status": 2, **(v if isinstance(v, dict) else {"total": v})} for at, v in lines.items()],
        20,
        "production",
    )
    assert some(events, "delta") == [({"total": 5},)]


@pytest.mark.parametrize(("away", "home", "made"), [((5000, 5000, 5000), 100, 1), ((5000, 5001, 5002, 5003), 103, 4)])
def test_a_counter_that_comes_back_from_a_refused_jump_goes_on_where_it_was(away, home, made):
    values = dict(enumerate([100, *away, home, home + 1]))

    events = tell(values)

    assert [event["cause"] for event in events if event["type"] == "data.gap"] == ["counter_jump"]
    assert sum(delta["total"] for (delta,) in counted(events)) == made
    assert not [event for event in events if event.get("flags")]
