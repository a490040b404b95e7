"""A batch that says nothing new leaves what a whole step leaves."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.contracts import Outcome
from edge_agent.machine.machine import Machine
from edge_agent.machine.quiet import quiet
from tests.machine import everything
from tests.machine.stories import PRESS, START, config, machine
from tests.machine.test_anything import OVEN, OpcPlc

_FLOOR = {key: value for key, value in everything._FLOOR.items() if key != "measurements"}
_OVEN = {key: value for key, value in OVEN.items() if key != "measurements"}
_TAGS = {"burner": "bool", "temp": "float64", "trays": "uint16", "code": "string"}
_METER = {"kwh": "float32", "waste": "int32"}
_QUALITIES = st.sampled_from([*[Quality.GOOD] * 5, *Quality])
_SORTER = {**PRESS, "counters": {"main": {"total": "total", "good": "fault", "scrap": "reject"}}, "downtime": {}}
MADE = {
    "press": config(),
    "sorter": config(_SORTER),
    "floor": everything.plant(_FLOOR),
    "oven": config(_OVEN, _TAGS, kind=OpcPlc, others={"meter": _METER}),
}
_PRESS = {"press": {"status": [1, 2, 8], "fault": [0, 12], "total": [5, 6, 7, 500, 0], "reject": [0, 1]}}
NEW = {
    "press": _PRESS,
    "sorter": _PRESS,
    "floor": {
        "press": {
            "status": [1, 2, 8],
            "total": [5, 6, 7, 500, 0],
            "busy": [True, False],
            "pulse": [True, False],
            "order": ["A", "B"],
            "temp": [20.0, 120.0],
        },
        "meter": {"kwh": [10.0, 11.0]},
    },
    "oven": {
        "press": {
            "burner": [True, False],
            "temp": [100.0, 160.0],
            "trays": [1, 2, 90],
            "code": ["", "E1"],
            "spare": [1],
        },
        "meter": {"kwh": [1.0, 2.0], "waste": [3, 4, 900]},
    },
}


def _runs(tags: dict[str, dict[str, list[object]]]) -> st.SearchStrategy[list[tuple[object, ...]]]:
    """Lists of (seconds to wait, device, what is new of it, what is special)."""

    def batch(device: str) -> st.SearchStrategy[tuple[str, dict[str, tuple[object, Quality]]]]:
        values = [
            st.tuples(st.just(tag), st.tuples(st.sampled_from(some), _QUALITIES))
            for tag, some in tags[device].items()
        ]
        new = st.lists(st.one_of(values), max_size=3).map(dict)
        return st.tuples(st.just(device), st.one_of(st.just({}), st.just({}), new))

    wait = st.sampled_from([0.1, 1.0, 1.0, 1.0, 1.0, 4.0, 16.0])
    special = st.sampled_from([*[""] * 8, "restarted", "overflow", "late"])
    return st.lists(st.tuples(wait, st.sampled_from(sorted(tags)).flatmap(batch), special), max_size=40)


def _whole(one: Machine, state: object, batch: Batch, now: Instant) -> Outcome:
    step = one._step(state, now)
    step.batch(batch)
    return step.finish()


_SAME = (1.0, ("press", {}), "")


@example(("press", [_SAME, _SAME, (1.0, ("press", {"total": (500, Quality.GOOD)}), ""), *[_SAME] * 6]))
@example(
    ("oven", [_SAME, (1.0, ("press", {"temp": (160.0, Quality.GOOD)}), ""), *[(10.0, ("press", {}), "late")] * 8])
)
@example(("sorter", [_SAME, (1.0, ("press", {"total": (6, Quality.GOOD)}), ""), *[_SAME] * 12]))
@settings(deadline=None, max_examples=90)
@given(st.sampled_from(sorted(MADE)).flatmap(lambda name: st.tuples(st.just(name), _runs(NEW[name]))))
def test_a_batch_leaves_what_a_whole_step_leaves(run: tuple[str, list[tuple[object, ...]]]) -> None:
    name, happened = run
    one, at = machine(MADE[name]), 0
    state = one.initial(Instant(START, 0)).state
    last: dict[str, dict[str, Reading]] = {}
    for wait, (device, new), special in happened:
        at += round(wait * SECOND)
        now = Instant(START + at, at)
        while (due := one.due(state)) is not None and due <= now.mono and special != "late":
            state = one.tick(state, now).state
        known = last.setdefault(device, {tag: Reading(tag, some[0]) for tag, some in NEW[name][device].items()})
        for tag, (value, quality) in new.items():
            known[tag] = Reading(tag, None if quality is Quality.BAD else value, quality)
        lost = frozenset(known) if special == "overflow" else frozenset[str]()
        batch = Batch(device, tuple(known.values()), lost, special == "restarted")

        outcome, whole = one.step(state, batch, now), _whole(one, state, batch, now)

        assert outcome.state == whole.state
        assert list(outcome.events) == list(whole.events)
        assert list(outcome.warnings) == list(whole.warnings)
        assert (outcome.store, outcome.rows) == (whole.store, whole.rows)
        state = outcome.state


def test_a_machine_that_stands_still_takes_no_step_for_each_scan() -> None:
    one = machine(MADE["press"])
    batch = Batch("press", tuple(Reading(tag, 1) for tag in ("status", "fault", "total", "reject")))
    state, now = one.initial(Instant(START, 0)).state, Instant(START, 0)
    for second in range(1, 4):
        now = Instant(START + second * SECOND, second * SECOND)
        state = one.step(state, batch, now).state

    after = quiet(one._plan, state, batch, Instant(now.wall + SECOND, now.mono + SECOND))

    assert after is not None
    assert after.devices["press"].seen == Instant(START + 4 * SECOND, 4 * SECOND)
