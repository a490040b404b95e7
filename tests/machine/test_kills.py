"""A run in which the agent was killed and resumed tells the same as one in which it was not and saw as little.

While the agent is down it sees nothing, and while a device is lost it sees nothing: over random timelines with every
part of the model, an outage of the one kind must leave the same events as one of the other, but for its cause. What
is due after the last sample and before the outage is noticed is told by the blind run alone, so that time is kept
short and free of timers here.
"""

import itertools
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine.stories import config, story

PLANT = {
    "state": {
        "from": "status",
        "map": {1: "idle", 2: "running", 3: "setup", 4: "starved", 8: "fault"},
        "debounce": {"default": "0s"},
    },
    "mode": {"from": "mode", "map": {1: "production", 3: "maintenance"}},
    "counters": {
        "main": {"total": "total", "scrap": "reject", "max_rate": "5/s", "resets": "never", "scrap_reason": "fault"},
        "pulses": {"good": "pulse", "max_rate": "1/s"},
    },
    "downtime": {"microstop": "40100ms", "reason": "fault", "merge_gap": "2100ms"},
    "orders": {"authority": "plc", "tag": "order"},
    "context": {"batch": "batch"},
    "alarms": [
        {"code": "T", "tag": "temp", "high": 100, "hysteresis": 5, "severity": 700, "stops_machine": True},
        {"word": "word", "bits": {0: {"code": "A0", "severity": 500}, 1: {"code": "A1", "severity": 300}}},
    ],
    "cycles": {"start": "busy", "end": "not busy", "params": ["temp"]},
    "consumption": {"energy": {"kind": "energy", "tag": "kwh", "resource": "EM", "every": "1min"}},
    "kpi": {"windows": ["shift", "order"]},
}
TAGS = {
    "status": "int16",
    "mode": "int16",
    "total": "uint16",
    "reject": "uint16",
    "pulse": "bool",
    "fault": "uint16",
    "order": "string",
    "batch": "string",
    "temp": "float32",
    "word": "uint16",
    "busy": "bool",
    "kwh": "float32",
}
SHIFTS = {
    "shifts": [
        {"name": "A", "start": "00:00", "end": "00:03"},
        {"name": "B", "start": "00:03", "end": "00:08"},
    ],
    "breaks": [{"name": "tea", "start": "00:05", "end": "00:06"}],
}
FIRST = {
    "status": 2,
    "mode": 1,
    "total": 65_500,
    "reject": 0,
    "pulse": False,
    "fault": 0,
    "order": "A",
    "batch": "",
    "temp": 20.0,
    "word": 0,
    "busy": False,
    "kwh": 10.0,
}

CHANGES = st.one_of(
    st.tuples(st.just("total"), st.integers(1, 4)),
    st.tuples(st.just("reject"), st.just(1)),
    st.tuples(st.just("status"), st.sampled_from([1, 2, 2, 3, 4, 8])),
    st.tuples(st.just("fault"), st.sampled_from([0, 12])),
    st.tuples(st.just("order"), st.sampled_from(["", "A", "B"])),
    st.tuples(st.just("batch"), st.sampled_from(["", "L1", "L2"])),
    st.tuples(st.just("mode"), st.sampled_from([1, 3])),
    st.tuples(st.just("temp"), st.sampled_from([20.0, 97.0, 120.0])),
    st.tuples(st.just("word"), st.integers(0, 3)),
    st.tuples(st.just("busy"), st.booleans()),
    st.tuples(st.just("pulse"), st.booleans()),
    st.tuples(st.just("kwh"), st.sampled_from([0.5, 1.0])),
)
STRETCHES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 9), CHANGES), max_size=6),
        st.sampled_from([0, 0, 20, 60, 200]),
        st.lists(CHANGES, max_size=3),
    ),
    max_size=6,
)
"""Changes that are seen, with the seconds before them; then an outage of so many seconds, with what changed in it."""


def timeline(stretches: list[Any], outage: tuple[dict[str, str], dict[str, str]]) -> tuple[list[dict[str, Any]], int]:
    """Outages begin and end on the grid of storing, 5 s, right after a scan."""
    plc = dict(FIRST)
    lines: list[dict[str, Any]] = [{"at": "0s", **plc}]
    at = 0

    def change(what: str, value: Any) -> dict[str, Any]:
        plc[what] = plc[what] + value if what in ("total", "reject", "kwh") else value
        if what == "reject":
            plc["total"] += value
        plc["total"] %= 65_536
        return {what: plc[what], "total": plc["total"]}

    for seen, away, unseen in stretches:
        for wait, (what, value) in seen:
            at += wait
            lines.append({"at": f"{at}s", **change(what, value)})
        if away:
            at += -at % 5 + 5
            lines.append({"at": f"{at}.2s", **outage[0]})
            for what, value in unseen:
                at += 1
                lines.append({"at": f"{at}s", **change(what, value)})
            at += away - at % 5
            lines.append({"at": f"{at}s", **outage[1]})
    return lines, max(at + 30, 600)


LOST = {"device": "lost"}, {"device": "back"}
KILLED = {"agent": "killed"}, {"agent": "started"}
_CAUSES = {"agent_down": "comms_loss", "agent_restart": "comms"}


def told(stretches: list[Any], outage: tuple[dict[str, str], dict[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """What was told, by family, without the numbers of events and with one word for both kinds of outage."""
    lines, until = timeline(stretches, outage)
    plant = config(PLANT, TAGS, calendar=SHIFTS, comms_timeout="1050ms")
    known: dict[str, list[dict[str, Any]]] = defaultdict(list)
    names: dict[str, str] = {}
    for event in story(plant, lines, until):
        flat = {key: value for key, value in event.items() if key not in ("seq", "cause_id", "debounced_s")}
        for key in ("story", "downtime_id"):
            if str(flat.get(key)).startswith("dt-"):
                flat[key] = names.setdefault(flat[key], f"downtime {len(names)}")
        for key in ("trigger", "cause"):
            if key in flat:
                flat[key] = _CAUSES.get(flat[key], flat[key])
        known[event["type"].split(".")[0]].append(flat)
    return known


@settings(deadline=None, max_examples=60)
@given(STRETCHES)
def test_a_killed_and_resumed_run_tells_what_one_tells_that_was_blind_for_as_long(stretches: list[Any]) -> None:
    killed, blind = told(stretches, KILLED), told(stretches, LOST)

    for family in sorted(killed.keys() | blind.keys()):
        for one, other in itertools.zip_longest(killed[family], blind[family]):
            assert one == other
