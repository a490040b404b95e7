"""The laws of the event model over random timelines, with losses, bad tags and kills at random points.

A kill leaves what was stored: the state and the events of the last outcome that asked for it; the rest is gone.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from tests.machine.stories import START, config, machine, story

PRESS = {
    "state": {"from": "status", "map": {1: "idle", 2: "running", 3: "setup", 8: "fault", 9: "unknown"}},
    "counters": {"main": {"total": "total", "scrap": "reject", "max_rate": "5/s", "resets": "never"}},
    "downtime": {"microstop": "20s", "reason": "fault"},
}

ACTIONS = st.one_of(
    st.tuples(st.just("make"), st.integers(1, 3)),
    st.tuples(st.just("make"), st.integers(1, 3)),
    st.tuples(st.just("scrap"), st.just(1)),
    st.tuples(st.just("status"), st.sampled_from([1, 2, 2, 3, 8, 9, 77])),
    st.tuples(st.just("fault"), st.sampled_from([0, 12, 17])),
    st.tuples(st.just("lost"), st.just(0)),
    st.tuples(st.just("back"), st.just(0)),
    st.tuples(st.just("killed"), st.just(0)),
    st.tuples(st.just("started"), st.just(0)),
    st.tuples(st.just("bad"), st.sampled_from([("status",), ("total",), ("total", "status"), ("reject",)])),
    st.tuples(st.just("good"), st.just(0)),
)
STEPS = st.lists(st.tuples(st.sampled_from([0.3, 1.0, 1.0, 2.5, 12.0, 30.0]), ACTIONS), max_size=40)


class Told(NamedTuple):
    """A timeline and what the PLC did in it."""

    lines: list[dict[str, Any]]
    until: float
    made: int
    scrap: int


def tell(steps: Sequence[tuple[float, tuple[str, Any]]], first: int = 65_500) -> Told:
    """The random steps as a timeline that ends with everything back and read."""
    at, made, scrap = 5.0, 0, 0
    lines: list[dict[str, Any]] = [{"at": "0s", "status": 2, "fault": 0, "total": first, "reject": 7}]
    bad: set[str] = set()
    alive, lost = True, False
    for wait, (what, value) in [*steps, (1.0, ("started", 0)), (1.0, ("back", 0)), (1.0, ("good", 0))]:
        at += wait
        line: dict[str, Any] = {"at": f"{at:.1f}s"}
        if what == "make":
            made += value
            line["total"] = (first + made) % 65_536
        elif what == "scrap":
            scrap, made = scrap + 1, made + 1
            line |= {"reject": 7 + scrap, "total": (first + made) % 65_536}
        elif what in ("status", "fault"):
            line[what] = value
        elif what in ("lost", "back"):
            if lost == (what == "lost"):
                continue
            lost, line["device"] = what == "lost", what
        elif what in ("killed", "started"):
            if alive == (what == "started"):
                continue
            alive, line["agent"] = what == "started", what
        elif what == "bad":
            bad |= set(value)
            line |= {"quality": "bad", "tags": list(value)}
        elif bad:
            line |= {"quality": "good", "tags": sorted(bad)}
            bad = set()
        if len(line) > 1:
            still = {tag for tag in bad if tag in line}
            if still and "quality" not in line:
                line |= {"quality": "bad", "tags": sorted(still)}
            lines.append(line)
    return Told(lines, at + 30, made, scrap)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_state_intervals_tile_the_time_line(steps):
    told = tell(steps)

    changes = story(config(PRESS), told.lines, told.until, "state")

    for before, after in itertools.pairwise(changes):
        assert after["prev_state"] == before["state"] != after["state"]
        assert after["time"] >= before["time"]
        assert abs(after["prev_duration_s"] - (after["time"] - before["time"])) < 0.002


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_the_sum_of_deltas_is_what_the_plc_counted(steps):
    told = tell(steps)

    counted = story(config(PRESS), told.lines, told.until, "production")

    assert sum(event["delta"]["total"] for event in counted) == told.made
    assert sum(event["delta"]["scrap"] for event in counted) == told.scrap
    running = dict.fromkeys(("total", "scrap", "good"), 0)
    for event in counted:
        for member, delta in event["delta"].items():
            running[member] += delta
            assert delta >= 0
        assert event["totals"] == running
        assert event["from_at"] <= event["to_at"]


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_sequence_numbers_have_no_holes_and_every_downtime_is_one_story(steps):
    told = tell(steps)

    events = story(config(PRESS), told.lines, told.until)

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    open_one: dict[str, Any] | None = None
    for event in events:
        if event["type"] == "downtime.started":
            assert open_one is None
            assert event["rev"] == 1
            open_one = event
        elif event["type"].startswith("downtime"):
            assert open_one is not None
            assert (event["downtime_id"], event["rev"]) == (open_one["downtime_id"], open_one["rev"] + 1)
            promoted = (
                event["class"] == "stop" and open_one["class"] == "stop" and event["type"] == "downtime.updated"
            )
            assert not promoted or event.get("reason") != open_one.get("reason")
            open_one = event
            if event["type"] == "downtime.ended":
                parts = sum(segment.duration_s for segment in event["segments"])
                assert abs(parts - event["duration_s"]) < 0.01 * len(event["segments"])
                assert (event["class"] == "stop") == (event["duration_s"] >= 20)
                open_one = None


@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_nothing_is_made_up_when_nothing_good_is_read(steps):
    told = tell(steps)
    blind = [{**line, "quality": "bad", "tags": ["status", "total", "reject", "fault"]} for line in told.lines]

    events = story(config(PRESS), blind, told.until)

    assert events == []


def played(steps, *, timely: bool):
    """Events of random batches, with the timers called at their times or only with the next batch, as after a
    suspension of the process."""
    one = machine(config(PRESS))
    state = one.initial(Instant(START, 0)).state
    told, at, plc = [], 0, {"status": 2, "fault": 0, "total": 65_500, "reject": 7}
    for wait, (what, value) in steps:
        target = at + round(wait * SECOND)
        while timely and (due := one.due(state)) is not None and due <= target:
            outcome = one.tick(state, Instant(START + due, due))
            state = outcome.state
            told += outcome.events
            later = one.due(state)
            assert later is None or later > due
        at = target
        quality = Quality.GOOD
        if what in ("status", "fault"):
            plc[what] = value
        elif what in ("make", "scrap"):
            plc["total"] = (plc["total"] + value) % 65_536
        elif what == "bad":
            quality = Quality.BAD
        readings = [
            Reading(tag, None, quality) if quality is Quality.BAD and tag in value else Reading(tag, now)
            for tag, now in plc.items()
        ]
        if what in ("lost", "killed"):
            continue
        outcome = one.step(state, Batch("press", readings, restarted=what == "started"), Instant(START + at, at))
        state = outcome.state
        told += outcome.events
    return [dataclasses.replace(event, recorded=0) for event in told]


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_timers_that_are_called_late_tell_the_same_as_timely_ones(steps):
    end = [(600.0, ("good", 0))]

    assert played([*steps, *end], timely=False) == played([*steps, *end], timely=True)
