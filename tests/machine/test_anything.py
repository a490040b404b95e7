"""Whatever a driver hands over, in any order and at any time: the step raises nothing and keeps the laws."""

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.events.codec import machine_encoder
from tests.machine.stories import EPOCH, START, OpcPlc, config, machine

OVEN = {
    "state": {
        "rules": [
            {"state": "running", "when": "burner and temp > 150 and changed_within(trays, 60)"},
            {"state": "starved", "when": "avg(temp, 20) > 100 or rising(burner) or age(meter/kwh) > 30"},
            {"state": "fault", "when": "not burner or code == 'E1'", "reason": "Burner off"},
            {"state": "idle"},
        ],
        "debounce": {"default": "500ms", "fault": "0s"},
    },
    "counters": {
        "main": {"good": "trays", "scrap": "meter/waste", "max_rate": "2/s", "reset_hints": ["code"]},
        "doors": {"total": "burner", "max_rate": "2/s"},
    },
    "downtime": {"microstop": "15s", "reason": "code", "merge_gap": "3s"},
    "measurements": {
        "zone": {"tags": ["temp", "meter/kwh"], "every": "7s"},
        "all": {"tags": ["temp", "code", "meter/kwh"], "on": "change", "deadband": 0.5},
    },
}
TAGS = {"burner": "bool", "temp": "float64", "trays": "uint16", "code": "string"}
METER = {"kwh": "float32", "waste": "int32"}
MADE = config(OVEN, TAGS, kind=OpcPlc, others={"meter": METER})

VALUES = {
    "burner": st.booleans(),
    "temp": st.one_of(st.floats(), st.sampled_from([100.0, 140.0, 160.0, 200.0])),
    "trays": st.integers(0, 65_535) | st.integers(0, 12),
    "code": st.sampled_from(["", "0", "E1", "12"]),
    "kwh": st.floats(0, 1e6) | st.just(float("inf")),
    "waste": st.integers(-5, 40),
}


def readings(tags):
    return st.lists(
        st.sampled_from(sorted(tags)).flatmap(
            lambda tag: st.tuples(
                st.just(tag),
                VALUES[tag],
                st.sampled_from([Quality.GOOD] * 4 + [Quality.UNCERTAIN, Quality.BAD]),
                st.one_of(st.none(), st.just(0.0), st.floats(-30, 8)),
            )
        ),
        max_size=5,
    )


BATCHES = st.one_of(st.tuples(st.just("press"), readings(TAGS)), st.tuples(st.just("meter"), readings(METER)))
RUNS = st.lists(
    st.tuples(
        st.sampled_from([0.1, 0.5, 1.0, 1.0, 4.0, 16.0, 90.0]),
        BATCHES,
        st.sampled_from(["", "", "", "", "restarted", "overflow", "kill", "kill"]),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_no_input_breaks_the_step_or_its_laws(run):
    one, encoder = machine(MADE), machine_encoder(MADE, "press", EPOCH)
    state, events, at, boot = one.initial(Instant(START, 0)).state, [], 0, 0
    saved = one.dump(state)

    def take(outcome, now):
        nonlocal state, saved
        state = outcome.state
        events.extend(outcome.events)
        if outcome.events or outcome.store:
            saved = one.dump(state)
        for event in outcome.events:
            json.loads(encoder.encode(event).body)

    for wait, (device, found), special in run:
        at += round(wait * SECOND)
        now = Instant(START + at, at - boot)
        for _ in range(1000):
            due = one.due(state)
            if due is None or due > now.mono:
                break
            take(one.tick(state, now), now)
        else:
            raise AssertionError("a timer is due for ever")
        if special == "kill":
            boot = at - 5
            now = Instant(START + at, 5)
            take(one.restore(saved, now), now)
        batch = Batch(
            device,
            [
                Reading(
                    tag,
                    None if quality is Quality.BAD else value,
                    quality,
                    None if own is None else now.wall + round(own * SECOND),
                    "" if quality is Quality.GOOD else "why",
                )
                for tag, value, quality, own in found
            ],
            frozenset(tag for tag, *_ in found) if special == "overflow" else frozenset(),
            special == "restarted",
        )
        take(one.step(state, batch, now), now)
        json.dumps(one.describe(state), allow_nan=False)

    changes = [event for event in events if event.data.TYPE == "state.changed"]
    for before, after in itertools.pairwise(changes):
        assert after.data.prev_state == before.data.state != after.data.state
    for lane in {event.lane for event in events}:
        assert [one.seq for one in events if one.lane is lane] == list(
            range(1, sum(event.lane is lane for event in events) + 1)
        )
    totals = {}
    for event in events:
        if event.data.TYPE == "production.counted":
            known = totals.setdefault(event.data.counter, {})
            for member, delta in event.data.delta.items():
                known[member] = known.get(member, 0) + delta
                assert delta >= 0 or event.data.cause == "correction"
            assert known == event.data.totals
            assert event.data.from_at <= event.data.to_at


@settings(deadline=None, max_examples=30)
@given(RUNS)
def test_a_state_comes_back_from_its_bytes_as_it_was(run):
    one = machine(MADE)
    state, at = one.initial(Instant(START, 0)).state, 0
    for wait, (device, found), _ in run:
        at += round(wait * SECOND)
        values = [Reading(tag, value, Quality.GOOD) for tag, value, quality, _ in found if quality is not Quality.BAD]
        state = one.step(state, Batch(device, values), Instant(START + at, at)).state

    dumped = one.dump(state)

    again = one.restore(dumped, Instant(START + at, at)).state
    assert again.held.keys() == state.held.keys()
    for key, held in state.held.items():
        assert again.held[key][:5] == held[:5]
    assert {name: group.parts for name, group in again.groups.items()} == {
        name: group.parts for name, group in state.groups.items()
    }
    ended = state.downtime is None or state.downtime.pausing is not None
    assert (again.downtime is None) == ended
