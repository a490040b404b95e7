"""Laws of timelines and expectations, tried on random ones with a real machine."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config.model import Config
from config.model import Test as Story
from edge_agent.cli.loading import read
from edge_agent.replay.match import Matcher
from edge_agent.replay.suite import run_test
from edge_agent.replay.summary import short_type
from edge_agent.replay.told import offset

CONFIG = """\
version: 1
agent: {id: a1}
site: {enterprise: acme, site: sz1, area: stamping}
machines:
  press-1:
    line: line3
    device:
      driver: modbus
      url: tcp://127.0.0.1
      scan: 1s
      tags: {status: {holding: 0, type: int16}, total: {holding: 1, type: uint16}}
    state: {from: status, map: {1: idle, 2: running, 8: fault}}
    counters: {main: {total: total, max_rate: 5/s}}
    downtime: {microstop: 10s}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path: Path = tmp_path_factory.mktemp("laws") / "edge-agent.yaml"
    path.write_text(CONFIG)
    return read(path).config


change = st.one_of(
    st.fixed_dictionaries({"status": st.sampled_from([1, 2, 8])}),
    st.fixed_dictionaries({"total": st.integers(0, 65535)}),
    st.fixed_dictionaries({"status": st.sampled_from([2, 8]), "total": st.integers(0, 60)}),
    st.sampled_from(
        [
            {"quality": "bad", "tags": ["total"]},
            {"device": "lost"},
            {"device": "back"},
            {"plc": "restarted"},
            {"agent": "killed"},
            {"agent": "started"},
            {"clock": "+7s"},
        ]
    ),
)
timeline = st.lists(st.tuples(st.integers(1, 120), change), max_size=12).map(
    lambda lines: [
        {"at": "0s", "status": 2, "total": 10},
        *({"at": f"{at / 2:g}s", **said} for at, said in sorted(lines, key=lambda line: line[0])),
    ]
)


def story(given_: list[dict[str, Any]], **more: Any) -> Story:
    return Story.model_validate({"name": "x", "machine": "press-1", "given": given_, "until": "70s", **more})


@settings(max_examples=25, deadline=None)
@given(timeline=timeline, data=st.data())
def test_what_happened_is_what_is_expected_of_it(config: Config, timeline: list[dict[str, Any]], data: Any) -> None:
    result = run_test(config, story(timeline))
    assert result.fault is None
    chosen = sorted(data.draw(st.sets(st.integers(0, len(result.events) - 1), min_size=1)))
    expected = []
    for position in chosen:
        event = result.events[position]
        entry = {"type": short_type(event), "time": offset(event["time"], result.start), **event["data"]}
        kept = data.draw(st.sets(st.sampled_from(sorted(entry))))
        expected.append({key: value for key, value in entry.items() if key == "type" or key in kept})
    assert not Matcher(result.events, result.start).match(expected).misses


@settings(max_examples=25, deadline=None)
@given(timeline=timeline, at=st.integers(1, 59))
def test_a_line_that_says_what_is_held_anyway_changes_nothing(
    config: Config, timeline: list[dict[str, Any]], at: int
) -> None:
    said = [line for line in timeline if float(line["at"][:-1]) <= at]
    plain = all(line.keys() <= {"at", "status", "total"} for line in said)
    assume(plain or at - float(said[-1]["at"][:-1]) > 5)  # one more sign of life, and a gap ends one scan earlier
    held = {key: value for line in said for key, value in line.items() if key in ("status", "total")}
    if any(line.get("quality") for line in said):
        held.pop("total")
    repeated = [*said, {"at": f"{at}s", **held}, *timeline[len(said) :]]
    assert run_test(config, story(repeated)).events == run_test(config, story(timeline)).events


@settings(max_examples=15, deadline=None)
@given(timeline=timeline)
def test_the_numbers_of_a_stream_follow_each_other(config: Config, timeline: list[dict[str, Any]]) -> None:
    events = run_test(config, story(timeline)).events
    numbers: dict[str, int] = {}
    for event in events:
        numbers[event["source"]] = numbers.get(event["source"], 0) + 1
        assert int(event["sequence"]) == numbers[event["source"]]
