"""Random timelines over the whole of the model: every part of a machine, everything that happens to it.

Two plants, because some things exclude each other: one whose PLC says which order runs and whose state is a map with
signals, one that the MOM commands and whose state is made by rules over time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from config.model import Config
from tests.machine.stories import OpcPlc, config

_COMMON = {
    "downtime": {
        "microstop": "40s",
        "reason": "fault",
        "merge_gap": "3s",
        "reasons": {12: {"text": "Guard open", "category": "operator"}},
        "planned_when": "word >= 8",
    },
    "mode": {"from": "mode", "map": {1: "production", 2: "setup", 3: "maintenance"}},
    "context": {"batch": "batch", "serial": "serial"},
    "alarms": [
        {"code": "T", "tag": "temp", "high": 100, "hysteresis": 5, "delay": "2s", "stops_machine": True},
        {"word": "word", "bits": {0: {"code": "A0", "stops_machine": True}, 1: {"code": "A1", "severity": 300}}},
    ],
    "measurements": {
        "zone": {"tags": ["temp", "meter/kwh"], "every": "7s"},
        "changes": {"tags": ["temp", "serial"], "on": "change", "deadband": 0.5},
        "each": {"tags": ["temp"], "on": "cycle", "statistics": True},
        "lot": {"tags": ["temp"], "on": "batch", "statistics": True},
    },
    "consumption": {
        "energy": {"kind": "energy", "tag": "meter/kwh", "resource": "EM", "every": "1min"},
        "air": {"kind": "media", "tag": "air", "resource": "AIR", "every": "30s"},
    },
    "genealogy": [{"read": "serial", "strobe": "ready", "relation": "consumed_into"}],
    "kpi": {"windows": ["shift", "hour", "order"]},
    "ideal_cycle": "4s",
    "comms_timeout": "13s",
}
_FLOOR = {
    **_COMMON,
    "state": {
        "from": "status",
        "map": {1: "idle", 2: "running", 3: "setup", 4: "starved", 5: "blocked", 8: "fault"},
        "signals": {"blocked": "busy and temp > 90"},
        "debounce": {"starved": "2s"},
    },
    "counters": {
        "main": {"total": "total", "scrap": "reject", "max_rate": "5/s", "resets": "never", "scrap_reason": "fault"},
        "pulses": {"good": "pulse", "max_rate": "1/s"},
    },
    "orders": {"authority": "plc", "tag": "order", "changeover": "order_gap"},
    "cycles": {"start": "busy", "end": "not busy", "params": ["temp"]},
}
_OFFICE = {
    **_COMMON,
    "state": {
        "rules": [
            {"state": "fault", "when": "fault == 17", "reason": "Seventeen"},
            {"state": "running", "when": "busy and changed_within(total, 20)"},
            {"state": "starved", "when": "status == 4 or age(meter/kwh) > 15"},
            {"state": "idle"},
        ],
        "debounce": {"default": "1500ms", "fault": "0s"},
    },
    "counters": {
        "main": {"total": "total", "scrap": "reject", "max_rate": "5/s", "resets": "never", "parts_per_count": "tool"}
    },
    "orders": {"authority": "mom"},
    "cycles": {},
    "activity_watchdog": "enforce",
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
    "serial": "string",
    "ready": "bool",
    "temp": "float32",
    "word": "uint16",
    "busy": "bool",
    "tool": "uint16",
    "air": "float32",
}
_CALENDAR = {
    "shifts": [
        {"name": "A", "start": "00:00", "end": "00:03"},
        {"name": "B", "start": "00:03", "end": "00:08"},
    ],
    "breaks": [{"name": "tea", "start": "00:05", "end": "00:06"}],
    "maintenance": [{"start": "2026-03-02T00:01", "end": "2026-03-02T00:02", "machines": ["press"]}],
}
FIRST = {
    "status": 2,
    "mode": 1,
    "total": 65_500,
    "reject": 0,
    "pulse": False,
    "fault": 0,
    "order": "A",
    "batch": "L1",
    "serial": "",
    "ready": False,
    "temp": 20.0,
    "word": 0,
    "busy": False,
    "tool": 2,
    "air": 5.0,
    "meter/kwh": 10.0,
}


def plant(options: dict[str, Any]) -> Config:
    """Its tags are read seldom, and at once when a line changes them, so that waiting costs little."""
    return config(options, TAGS, scan="4s", kind=OpcPlc, others={"meter": {"kwh": "float32"}}, calendar=_CALENDAR)


PLANTS = {"floor": plant(_FLOOR), "office": plant(_OFFICE)}

_SOME = st.sampled_from
_VALUES = st.one_of(
    st.tuples(st.just("total"), st.integers(1, 4)),
    st.tuples(st.just("total"), st.integers(1, 4)),
    st.tuples(st.just("reject"), st.just(1)),
    st.tuples(st.just("status"), _SOME([1, 2, 2, 3, 4, 5, 8, 77])),
    st.tuples(st.just("fault"), _SOME([0, 12, 17])),
    st.tuples(st.just("order"), _SOME(["", "A", "B"])),
    st.tuples(st.just("batch"), _SOME(["", "L1", "L2"])),
    st.tuples(st.just("serial"), _SOME(["", "S1", "S2"])),
    st.tuples(st.just("ready"), st.booleans()),
    st.tuples(st.just("mode"), _SOME([1, 2, 3, 9])),
    st.tuples(st.just("temp"), _SOME([20.0, 97.0, 120.0])),
    st.tuples(st.just("word"), _SOME([0, 1, 2, 3, 8])),
    st.tuples(st.just("busy"), st.booleans()),
    st.tuples(st.just("pulse"), st.booleans()),
    st.tuples(st.just("tool"), _SOME([1, 2, 4, 0])),
    st.tuples(st.just("air"), _SOME([0.5, 2.0])),
    st.tuples(st.just("meter/kwh"), _SOME([0.5, 1.0])),
)
_COMMANDS = st.one_of(
    st.builds(lambda id_: {"name": "order.start", "order_id": id_, "mode": "switch"}, _SOME(["A", "B"])),
    st.builds(lambda how: {"name": "order.stop", "order_id": "A", "as": how}, _SOME(["completed", "suspended"])),
    st.just({"name": "order.dispatch", "order_id": "B", "planned_qty": 5, "product": "P", "ideal_cycle_s": 3}),
    st.builds(lambda n: {"name": "order.update", "order_id": "A", "planned_qty": n}, st.integers(1, 9)),
    st.just({"name": "production.declare", "class": "scrap", "qty": 1, "move_from": "good"}),
    st.builds(lambda n: {"name": "production.reverse", "command_id": f"c-{n}"}, st.integers(0, 9)),
    st.just({"name": "downtime.assign_reason", "downtime_id": "last", "code": "M", "category": "planned_other"}),
    st.just({"name": "context.set", "batch": "X", "ttl": 20}),
    st.builds(lambda mode: {"name": "context.set", "mode": mode}, _SOME(["maintenance", "setup"])),
    st.just({"name": "alarm.ack", "alarm_id": "last"}),
    st.builds(
        lambda end: {"name": "calendar.set", "shifts": [{"name": "A", "start": "00:00", "end": end}]},
        _SOME(["00:04", "00:07"]),
    ),
)
_HAPPENINGS = st.one_of(
    st.builds(lambda device: {"device": {"lost": device}}, _SOME(["press", "press", "meter"])),
    st.builds(lambda device: {"device": {"back": device}}, _SOME(["press", "press", "meter"])),
    st.builds(
        lambda tags, quality: {"quality": quality, "tags": tags},
        _SOME([["status"], ["total"], ["total", "busy"], ["temp", "meter/kwh"], ["order", "word"]]),
        _SOME(["bad", "bad", "uncertain", "good", "good"]),
    ),
)
RESTARTS = st.just({"plc": "restarted"})
JUMPS = st.builds(lambda by: {"clock": by}, _SOME(["+90s", "-90s", "+3600s"]))
KILLS = st.one_of(st.just({"agent": "killed"}), st.just({"agent": "started"}))
"""What may be mixed into `steps`."""


def steps(*more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of (seconds to wait, what happens then): a change of a tag or a part of a line."""
    what = st.one_of(
        _VALUES, _VALUES, _VALUES, _HAPPENINGS, st.builds(lambda said: {"command": said}, _COMMANDS), *more
    )
    return st.lists(st.tuples(_SOME([0.3, 1, 1, 2, 5, 14, 40]), what), max_size=30)


_HEALED = [
    (1, {"agent": "started"}),
    (1, {"device": {"back": "press"}}),
    (1, {"device": {"back": "meter"}}),
    (1, {"quality": "good", "tags": [*FIRST]}),
]


class Told(NamedTuple):
    """`made` and `scrap`: what the PLC has counted in total."""

    lines: list[dict[str, Any]]
    until: float
    made: int
    scrap: int


def timeline(happened: Sequence[Any]) -> Told:
    """The steps as lines that end with everything back and good. Counters and meters advance, the others are set."""
    plc: dict[str, Any] = dict(FIRST)
    given: list[dict[str, Any]] = [{"at": "0s", **plc}]
    at, made = 0.0, 0
    bad: set[str] = set()
    for wait, what in (*happened, *_HEALED):
        at += wait
        line: dict[str, Any] = {"at": f"{at:.1f}s"}
        if isinstance(what, dict):
            line |= what
            if "tags" in what:
                bad = bad - set(what["tags"]) | (set(what["tags"]) if what["quality"] == "bad" else set())
        else:
            tag, value = what
            made += value if tag in ("total", "reject") else 0
            plc["total"] = (FIRST["total"] + made) % 65_536
            if tag != "total":
                plc[tag] = plc[tag] + value if tag in ("reject", "air", "meter/kwh") else value
            line |= {tag: plc[tag], "total": plc["total"]}
            if still := sorted(bad & line.keys()):
                line |= {"quality": "bad", "tags": still}
        given.append(line)
    return Told(given, at + 60, made, plc["reject"])
