"""The five invariants of the event model over timelines with every part of the model, kills included.

I4 (immutable bytes) is the outbox's; here it is that an event's number stands for one content.
"""

import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings

from edge_agent.clock import SECOND
from edge_agent.events.codec import machine_encoder
from edge_agent.replay.drive import Made
from tests.machine import everything
from tests.machine.stories import EPOCH, drive, flat, lines

NO_PIECES = ("correction", "declared")
UNSEEN = ("agent_down", "plc_restart", "comms_loss")


def made_of(name: str, told: everything.Told) -> list[Made]:
    made = everything.PLANTS[name]
    played = drive(made).play(lines(made, told.lines), round(told.until * SECOND))
    return [one for one in played if one.machine is not None]


@pytest.mark.parametrize("name", everything.PLANTS)
@settings(deadline=None, max_examples=40)
@given(happened=everything.steps(everything.KILLS, everything.RESTARTS))
def test_the_invariants_hold_whatever_happens(name: str, happened: list[Any]) -> None:
    made = made_of(name, everything.timeline(happened))
    events = [flat(one) for one in made]

    tiles(events)
    adds_up(events)
    has_no_holes(made)
    is_one_story(events)
    if name == "floor" and not any("quality" in what for _, what in happened):
        shows_nothing_unseen(events)


@settings(deadline=None, max_examples=40)
@given(happened=everything.steps(everything.KILLS))
def test_what_the_plc_counted_is_what_was_published(happened: list[Any]) -> None:
    told = everything.timeline(happened)

    counted = [flat(one) for one in made_of("floor", told) if one.event.data.TYPE == "production.counted"]

    main = [event["delta"] for event in counted if event["counter"] == "main" and event["cause"] != "declared"]
    assert sum(delta.get("total", 0) for delta in main) == told.made
    assert sum(delta.get("scrap", 0) for delta in main) == told.scrap


def tiles(events: list[dict[str, Any]]) -> None:
    """I1: state intervals follow on each other, and their lengths are the times between them."""
    for before, after in itertools.pairwise(event for event in events if event["type"] == "state.changed"):
        assert after["prev_state"] == before["state"]
        assert (after["state"], after["mode"], after.get("quality_detail")) != (
            before["state"],
            before["mode"],
            before.get("quality_detail"),
        )
        assert abs(after["prev_duration_s"] - (after["time"] - before["time"])) < 0.002


def adds_up(events: list[dict[str, Any]]) -> None:
    """I2: totals move by what is published, and back only where somebody said so."""
    totals: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    meters: dict[str, float] = defaultdict(float)
    for event in events:
        if event["type"] == "production.counted":
            known = totals[event["counter"]]
            for member, delta in event["delta"].items():
                known[member] += delta
                assert delta >= 0 or event["cause"] in NO_PIECES
            assert all(known[member] == total for member, total in event["totals"].items())
            assert event["from_at"] <= event["to_at"]
        elif event["type"] == "consumption.recorded":
            assert event["delta"] >= 0
            meters[event["resource"]] += event["delta"]
            assert abs(meters[event["resource"]] - event["total"]) < 1e-6


def has_no_holes(made: list[Made]) -> None:
    """I3: in each stream the numbers are 1, 2, 3 …; I4: one number, one content."""
    encoder = machine_encoder(everything.PLANTS["floor"], "press", EPOCH)
    streams: dict[str, list[int]] = defaultdict(list)
    for one in made:
        message = encoder.encode(one.event)
        assert encoder.encode(one.event).body == message.body
        streams[message.stream].append(message.seq)
    for numbers in streams.values():
        assert numbers == list(range(1, len(numbers) + 1))


def is_one_story(events: list[dict[str, Any]]) -> None:
    """At most one downtime is open; its revisions count up, and its segments add up to it."""
    open_: str | None = None
    revisions: dict[str, int] = {}
    for event in events:
        if not event["type"].startswith("downtime."):
            continue
        id_ = event["downtime_id"]
        assert event["rev"] == revisions.get(id_, 0) + 1
        revisions[id_] = event["rev"]
        if event["type"] == "downtime.started":
            assert open_ is None
            open_ = id_
        elif event["type"] == "downtime.ended":
            assert open_ == id_
            open_ = None
            lasted = sum(segment.duration_s for segment in event["segments"])
            assert abs(lasted - event["duration_s"]) < 0.01 * len(event["segments"])
            assert (event["class"] == "stop") == (event["duration_s"] >= 40)
        else:
            assert (event["status"] == "open") == (open_ == id_)


def shows_nothing_unseen(events: list[dict[str, Any]]) -> None:
    """I5: the state is unknown for as long as the device that makes it is not seen. Only `floor` has it on one,
    and a BAD tag may matter for the state or not."""
    states = [(event["time"], event["state"]) for event in events if event["type"] == "state.changed"]
    for gap in events:
        if gap["type"] == "data.gap" and "state" in gap["affects"] and gap["cause"] in UNSEEN:
            for (since, state), (until, _) in itertools.pairwise(states):
                seen = min(until, gap["to_at"]) - max(since, gap["from_at"])
                assert state == "unknown" or seen <= 0
