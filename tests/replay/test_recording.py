"""A recording, played back, tells what happened: rows, their order, their forms, and the events that come of them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import Config
from drivers.base import Batch, Quality, Reading
from edge_agent.cli.loading import read
from edge_agent.clock import SECOND, Instant, parse_rfc3339
from edge_agent.events.codec import data_json
from edge_agent.events.types import ConnectionChanged
from edge_agent.machine.machine import Machine
from edge_agent.replay.drive import Drive
from edge_agent.replay.recording import Recording, Row
from edge_agent.replay.rows import form_for
from edge_agent.replay.samples import parse
from edge_agent.replay.suite import replay_epoch
from edge_agent.replay.timeline import Reader

START = parse_rfc3339("2026-03-02T00:00:00Z")
EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))
CONFIGS = {path.stem: read(path).config for path in EXAMPLES}


def at(seconds: float, wall: float = 0) -> Instant:
    """Wall and monotonic time; `wall` is by how much the wall clock was set meanwhile."""
    return Instant(round(START + (seconds + wall) * SECOND), round(1000 * SECOND + seconds * SECOND))


def reading(tag, value, quality=Quality.GOOD, source=None):
    time = None if source is None else round(START + source * SECOND)
    return Reading(tag, value, quality, time)


def recorded(*steps, end=60):
    """Rows of ("device", seconds, readings) and ("device", seconds) for a loss, times in seconds from START."""
    recording = Recording()
    rows = []
    for device, seconds, *readings in steps:
        if readings:
            rows += recording.take(Batch(device, readings[0]), at(seconds))
        else:
            rows += recording.lost(device, at(seconds))
    return [*rows, *recording.flush(at(end))]


def told(rows):
    return [((row.at - START) / SECOND, row.tag, row.value) for row in rows]


def text(rows, suffix):
    form = form_for(suffix)
    return form.begin() + form.write(rows)


def test_only_changes_are_written_and_the_last_value_closes_the_recording():
    rows = recorded(
        ("a", 0, [reading("x", 1), reading("y", 2)]),
        ("a", 1, [reading("x", 1), reading("y", 2)]),
        ("a", 2, [reading("x", 1), reading("y", 3)]),
        end=10,
    )
    assert told(rows) == [(0, "a/x", 1), (0, "a/y", 2), (2, "a/y", 3), (10, "a/y", 3)]


def test_a_value_of_another_type_or_quality_is_a_change():
    rows = recorded(
        ("a", 0, [reading("x", 1)]),
        ("a", 1, [reading("x", True)]),
        ("a", 2, [reading("x", True, Quality.UNCERTAIN)]),
        ("a", 3, [reading("x", None, Quality.BAD)]),
        ("a", 4, [reading("x", float("nan"))]),
    )
    assert [(row.value, row.quality) for row in rows] == [
        (1, Quality.GOOD),
        (True, Quality.GOOD),
        (True, Quality.UNCERTAIN),
        (None, Quality.BAD),
        (None, Quality.BAD),
    ]


def test_values_of_several_devices_stand_in_the_order_of_their_source_times():
    rows = recorded(
        ("a", 0, [reading("x", 1, source=0)]),
        ("b", 0.1, [reading("x", 1)]),
        ("b", 1.0, [reading("x", 2)]),
        ("a", 1.2, [reading("x", 2, source=0.8), reading("x", 3, source=1.1)]),
        end=5,
    )
    assert told(rows)[:5] == [(0, "a/x", 1), (0.1, "b/x", 1), (0.8, "a/x", 2), (1.0, "b/x", 2), (1.1, "a/x", 3)]


def test_a_source_time_of_a_wrong_clock_or_of_long_ago_is_not_the_place_of_a_value():
    rows = recorded(
        ("a", 10, [reading("x", 1, source=-3600), reading("y", 1, source=3600)]), ("b", 11, [reading("x", 1)])
    )
    assert told(rows)[:3] == [(10, "a/x", 1), (10, "a/y", 1), (11, "b/x", 1)]


def test_a_sample_that_is_older_than_the_newest_of_its_tag_says_its_source_time():
    rows = recorded(("a", 5, [reading("x", 1, source=5)]), ("a", 6, [reading("x", 0, source=2)]))
    assert rows[1] == Row(START + 6 * SECOND, "a/x", 0, Quality.GOOD, START + 2 * SECOND)


def test_a_lost_device_is_told_once_right_after_its_last_batch_and_comes_back_with_its_values():
    rows = recorded(
        ("a", 0, [reading("x", 1)]),
        ("a", 1, [reading("x", 1)]),
        ("a", 3),
        ("a", 5),
        ("a", 8, [reading("x", 2)]),
        end=9,
    )
    assert told(rows) == [
        (0, "a/x", 1),
        (1.001, "device", "lost a"),
        (8, "a/x", 2),
        (8, "device", "back a"),
        (9, "a/x", 2),
    ]


def test_a_wall_clock_that_is_set_is_a_row_and_time_goes_on():
    recording = Recording()
    rows = [
        *recording.take(Batch("a", [reading("x", 1)]), at(0)),
        *recording.take(Batch("a", [reading("x", 2)]), at(10, wall=-3600)),
        *recording.flush(at(20, wall=-3600)),
    ]
    assert told(rows) == [(0, "a/x", 1), (10, "clock", "-3600.000s"), (10, "a/x", 2), (20, "a/x", 2)]


def test_the_three_forms_say_the_same():
    rows = recorded(
        ("press-1", 0, [reading("status", 2), reading("tonnage", 800.25), reading("total", 7)]),
        ("press-1", 4.5, [reading("status", None, Quality.BAD), reading("total", 8, Quality.UNCERTAIN)]),
        ("press-1", 6),
        ("press-1", 30, [reading("status", 8), reading("total", 8)]),
    )
    devices = CONFIGS["press"].devices
    reader = Reader(devices, "press-1", START)

    def type_of(ref):
        device, tag = reader.key(ref, ref)
        return devices[device].value_type(tag)

    lines = [reader.read(sample.line for sample in parse(text(rows, ".csv"), type_of))]
    lines.append(reader.read(sample.line for sample in parse(text(rows, ".jsonl"), type_of)))
    pasted = text(rows, ".yaml")
    assert pasted.startswith("start: '2026-03-02T00:00:00.000Z'\ngiven:\n  - {at: 0s, press-1/status: 2, ")
    given = [line.removeprefix("  - ") for line in pasted.splitlines()[2:]]
    lines.append(reader.read(_plain(line) for line in given))
    assert lines[0] == lines[1] == lines[2]


def _plain(line):
    """One line of `given:` as the configuration would read it."""
    import yaml

    return yaml.safe_load(line)


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 4_000_000),
        st.lists(
            st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.one_of(st.none(), st.integers(-6, 1))), max_size=4
        ),
        st.booleans(),
        st.sampled_from([0, 0, 0, 0, 0, -3_600_000_000, 90_000_000]),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(STEPS)
def test_whatever_comes_rows_are_in_order_and_each_tag_says_its_values_in_their_order(steps):
    recording, rows, wall, mono = Recording(), [], START, 10**9
    said: dict[str, list[int]] = {}
    for device, wait, readings, lost, jump in steps:
        wall, mono = wall + wait + jump, mono + wait
        now = Instant(wall, mono)
        if lost:
            rows += recording.lost(device, now)
            continue
        batch = [
            Reading(tag, n, source_time=None if late is None else wall + late * SECOND) for tag, n, late in readings
        ]
        for tag, n, _ in readings:
            told_so_far = said.setdefault(f"{device}/{tag}", [])
            if told_so_far[-1:] != [n]:
                told_so_far.append(n)
        rows += recording.take(Batch(device, batch), now)
        rows += recording.tick(now)
    rows += recording.flush(Instant(wall, mono))
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    *body, _ = rows or [None]
    written: dict[str, list[int]] = {}
    for row in body:
        if not row.special:
            written.setdefault(row.tag, []).append(row.value)
    for tag, values in written.items():
        assert values == said[tag][: len(values)]


STORIES = [
    pytest.param(config, test, id=f"{name}: {test.name}")
    for name, config in CONFIGS.items()
    for test in config.tests
    if not any({"agent", "command"} & line.keys() for line in test.given)
]


class Tapped:
    """A machine whose batches are recorded."""

    def __init__(self, machine, take):
        self._machine = machine
        self._take = take

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def step(self, state, batch, now):
        self._take(batch, now)
        return self._machine.step(state, batch, now)


@pytest.mark.parametrize(("config", "test"), STORIES)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_recording_of_a_story_replays_to_its_events(config: Config, test, suffix):
    start = parse_rfc3339(test.start)
    home = config.machines[test.machine].device
    reader = Reader(config.devices, home, start)
    lines = reader.read(test.given)
    until = max(test.until or 0, lines[-1].at if lines else 0)
    recording, rows = Recording(), []
    tapped = Tapped(
        Machine(config, test.machine, epoch=replay_epoch(start)),
        lambda batch, now: rows.extend(recording.take(batch, now)),
    )
    live = Drive([tapped], config.devices, start=start)
    made = []
    for event in live.play(lines, until):
        made.append(event)
        data = event.event.data
        if isinstance(data, ConnectionChanged) and data.status == "down":
            rows += recording.lost(data.endpoint, live.now(round(event.event.recorded - start)))
    rows += recording.flush(live.now(until))

    def type_of(ref):
        device, tag = reader.key(ref, ref)
        return config.devices[device].value_type(tag)

    again = Drive([Machine(config, test.machine, epoch=replay_epoch(start))], config.devices, start=start)
    samples = list(parse(text(rows, suffix), type_of))
    replayed = again.play(reader.read(sample.line for sample in samples), until)
    assert _machines(replayed) == _machines(made)


def _machines(made):
    """What the machine said."""
    return [
        (each.event.time, each.event.data.TYPE, json.loads(data_json(each.event.data)))
        for each in made
        if each.machine
    ]
