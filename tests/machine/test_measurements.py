"""Sample sets: what is published when, with which quality and time (event model §2.8, §7.16)."""

import json

import pytest

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.tag_table import tag_table
from tests.machine.stories import START, OpcPlc, config, machine, some, story

TAGS = {"a": {"type": "float32", "unit": "CEL"}, "b": {"type": "float32"}, "name": "string"}


def sampled(options, given, until, **more):
    made = config({"measurements": {"zone": options}}, TAGS, **more)
    return story(made, given, until, "measurement")


def steps(options, batches, *, tags=TAGS, **more):
    """Events of batches given as lists of readings, one a second."""
    one = machine(config({"measurements": {"zone": options}}, tags, **more))
    state = one.initial(Instant(START, 0)).state
    events = []
    for second, readings in enumerate(batches):
        at = second * SECOND
        outcome = one.step(state, Batch("press", readings), Instant(START + at, at))
        state = outcome.state
        events += outcome.events
    return events


def test_on_change_publishes_the_first_values_and_then_what_changes():
    given = [{"at": "0s", "a": 1.0, "b": 2.0}, {"at": "5s", "a": 1.5}, {"at": "7s", "b": 2.5, "a": 1.5}]

    events = sampled({"tags": ["a", "b"], "on": "change"}, given, 20)

    assert some(events, "time", "values", "uom", "trigger", "quality") == [
        (0, {"a": 1.0, "b": 2.0}, {"a": "CEL"}, "change", "good"),
        (5, {"a": 1.5}, {"a": "CEL"}, "change", "good"),
        (7, {"b": 2.5}, None, "change", "good"),
    ]


def test_units_can_be_left_to_the_dictionary():
    events = sampled({"tags": ["a"], "on": "change"}, [{"at": "0s", "a": 1.0}], 2, inline_units=False)

    assert some(events, "uom") == [(None,)]
    assert events[0]["tags_rev"] >= 0


def test_the_number_of_the_dictionary_changes_with_it_alone():
    tags = {"a": {"type": "float32", "unit": "CEL"}, "b": {"type": "float32", "unit": "BAR", "hi": 6.0}}
    known = tag_table(config({}, tags), "press")

    assert known.tags["b"] == {"tag": "press.b", "type": "float32", "unit": "BAR", "hi": 6.0}
    assert tag_table(config({}, dict(reversed(tags.items()))), "press") == known
    assert (
        tag_table(config({}, {**tags, "a": {"type": "float32", "unit": "FAH"}}), "press").revision != known.revision
    )


def test_a_change_within_the_deadband_is_no_event_however_often_it_comes():
    given = [{"at": f"{at}s", "a": 1.0 + at * 0.2} for at in range(8)]

    events = sampled({"tags": ["a"], "on": "change", "deadband": 0.5}, given, 20)

    assert [round(event["values"]["a"], 1) for event in events] == [1.0, 1.6, 2.2]


def test_intervals_are_stretched_from_the_next_on_and_back_again():
    one = machine(config({"measurements": {"zone": {"tags": ["a"], "every": "2s"}}}, TAGS))
    state, times = one.initial(Instant(START, 0)).state, []
    for second in range(30):
        at = second * SECOND
        if second in (5, 20):
            state = one.stretched(state, 5 if second == 5 else 1)
        outcome = one.step(state, Batch("press", [Reading("a", float(second))]), Instant(START + at, at))
        state = outcome.state
        times += [second for event in outcome.events if event.data.TYPE == "measurement.sampled"]

    assert times == [0, 2, 4, 6, 16, 26, 28]


def test_a_bad_value_is_named_and_absent():
    events = steps(
        {"tags": ["a", "b"], "on": "change"},
        [
            [Reading("a", 1.0), Reading("b", 2.0)],
            [Reading("a", None, Quality.BAD), Reading("b", 2.5)],
            [Reading("a", None, Quality.BAD), Reading("b", 2.5)],
            [Reading("a", 1.0, Quality.UNCERTAIN), Reading("b", None, Quality.BAD)],
        ],
    )

    assert [(one.data.values, one.data.q, one.data.quality) for one in events] == [
        ({"a": 1.0, "b": 2.0}, None, "good"),
        ({"b": 2.5}, {"a": "bad"}, "good"),
        ({"a": 1.0}, {"b": "bad"}, "uncertain"),
    ]


def test_values_with_a_time_of_their_own_name_it():
    at = START
    events = steps(
        {"tags": ["a", "b"], "on": "change"},
        [[Reading("a", 1.0, source_time=at - 250_000), Reading("b", 2.0, source_time=at - 10_000)]],
        kind=OpcPlc,
    )

    (event,) = events
    assert (event.time, event.data.at_ms, event.data.time_basis) == (at - 10_000, {"a": -240}, "source")


def test_several_values_of_one_tag_are_several_events():
    events = steps(
        {"tags": ["a", "b"], "on": "change"},
        [[Reading("a", value, source_time=START - 3000 + value) for value in (1, 2, 3)] + [Reading("b", 7)]],
    )

    assert [one.data.values for one in events] == [{"a": 1, "b": 7}, {"a": 2}, {"a": 3}]
    assert [one.seq for one in events] == [1, 2, 3]


def test_an_interval_set_publishes_all_values_at_its_time():
    given = [{"at": "0s", "a": 1.0}, {"at": "0.5s", "b": 2.0}, {"at": "5.5s", "a": 3.0}]

    events = sampled({"tags": ["a", "b"], "every": "4s"}, given, 12)

    assert some(events, "time", "values", "trigger") == [
        (0, {"a": 1.0}, "interval"),
        (4, {"a": 1.0, "b": 2.0}, "interval"),
        (8, {"a": 3.0, "b": 2.0}, "interval"),
        (12, {"a": 3.0, "b": 2.0}, "interval"),
    ]


def test_an_interval_set_over_two_devices_is_one_event():
    made = config(
        {"measurements": {"zone": {"tags": ["a", "meter/a"], "every": "5s"}}}, TAGS, others={"meter": {"a": "uint32"}}
    )
    given = [{"at": "0s", "a": 1.0, "meter/a": 9}]

    events = story(made, given, 6, "measurement")

    assert events[-1]["values"] == {"a": 1.0, "meter/a": 9}


def test_nothing_is_sampled_from_a_device_that_is_lost():
    given = [{"at": "0s", "a": 1.0}, {"at": "2.5s", "device": "lost"}, {"at": "60s", "device": "back"}]

    events = sampled({"tags": ["a"], "every": "1s"}, given, 62)

    times = [event["time"] for event in events]
    assert [time for time in times if 12 <= time < 60] == []
    assert times[-3:] == [60, 61, 62]


def test_a_set_that_is_too_large_is_split_in_parts():
    tags = {f"temperature-of-zone-{number:04}": {"type": "float64", "unit": "CEL"} for number in range(1500)}
    (first, *_) = batches = [[Reading(tag, number / 7) for number, tag in enumerate(tags)]]

    events = steps({"tags": list(tags), "on": "change"}, batches, tags=tags)

    assert len(events) > 1
    assert [(one.data.part, one.data.parts) for one in events] == [
        (n, len(events)) for n in range(1, len(events) + 1)
    ]
    whole = {}
    for one in events:
        data = one.data
        assert len(json.dumps({"v": data.values, "u": data.uom, "q": data.q, "t": data.at_ms})) < 64_000
        assert set(data.uom) == set(data.values)
        whole |= data.values
    assert whole == {reading.tag: reading.value for reading in first}


def test_a_set_that_fits_is_not_split():
    events = steps({"tags": ["a", "name"], "on": "change"}, [[Reading("a", 1.0), Reading("name", "x" * 100)]])

    assert [(one.data.part, one.data.parts) for one in events] == [(None, None)]


def test_long_texts_go_into_events_of_their_own():
    events = steps({"tags": ["a", "name"], "on": "change"}, [[Reading("a", 1.0), Reading("name", "x" * 61_000)]])

    assert [list(one.data.values) for one in events] == [["a"], ["name"]]


def test_samples_have_numbers_of_their_own():
    made = config(
        {"measurements": {"zone": {"tags": ["a"], "on": "change"}}, "state": {"from": "b", "map": {1: "running"}}},
        TAGS,
    )
    given = [{"at": "0s", "a": 1.0, "b": 1.0}, {"at": "5s", "a": 2.0}]

    events = story(made, given, 20)

    assert some(events, "type", "seq") == [
        ("state.changed", 1),
        ("measurement.sampled", 1),
        ("measurement.sampled", 2),
    ]


def test_after_a_restart_the_numbers_go_on():
    given = [{"at": "0s", "a": 1.0}, {"at": "5s", "agent": "killed"}, {"at": "6s", "agent": "started"}]

    assert some(sampled({"tags": ["a"], "on": "change"}, given, 20), "seq", "values") == [
        (1, {"a": 1.0}),
        (2, {"a": 1.0}),
    ]


@pytest.mark.parametrize("same", [True, False])
def test_a_reading_that_did_not_change_changes_nothing_but_the_time(same):
    one = machine(config({"measurements": {"zone": {"tags": ["a"], "on": "change"}}}, TAGS))
    reading = Reading("a", 1.0)
    state = one.step(one.initial(Instant(START, 0)).state, Batch("press", [reading]), Instant(START, 0)).state

    again = reading if same else Reading("a", 1.0)
    outcome = one.step(state, Batch("press", [again]), Instant(START + SECOND, SECOND))

    assert (outcome.events, outcome.store) == ([], False)


def test_what_is_no_number_is_bad():
    events = steps({"tags": ["a", "b", "name"], "on": "change"}, [[Reading("a", float("nan")), Reading("b", 2.0)]])

    assert [(one.data.values, one.data.q) for one in events] == [({"b": 2.0}, {"a": "bad"})]
