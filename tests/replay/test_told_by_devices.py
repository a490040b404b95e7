"""What a device itself remembers in the language of `tests:`: entries of a ring, a history, conditions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.model import Config
from config.model import Test as Story
from edge_agent.cli.loading import read
from edge_agent.replay.suite import Result, run_test
from edge_agent.replay.summary import short_type

CONFIG = """\
version: 1
agent: {id: a1}
site: {enterprise: acme, site: sz1, area: filling}
machines:
  filler:
    line: line5
    device:
      driver: modbus
      url: tcp://127.0.0.1
      tags:
        run:   {ring: true, type: bool}
        cause: {ring: true, type: uint16}
        parts: {ring: true, type: uint32}
        speed: {holding: 20}
      ring:
        head: {holding: 1000}
        slots: {holding: 1010, count: 64, size: 6}
        code: {at: 0}
        time: {at: 1, form: epoch_ms}
        fields: {reason: {at: 5}}
        codes:
          1:  {run: true, cause: 0}
          2:  {run: false, cause: {field: reason}}
          10: {parts: {add: 1}}
    state:
      rules: [{state: running, when: run}, {state: stopped}]
      debounce: {default: 0s}
    counters: {main: {total: parts, max_rate: 5/s}}
    downtime: {microstop: 300s, reason: cause}
  press:
    line: line5
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1
      publishing: 1s
      tags:
        status: {node: i=1, type: int16}
        faults: {node: i=2253, type: conditions}
    state: {from: status, map: {2: running, 8: fault}}
    downtime: {microstop: 300s}
    conditions: [{from: faults, stops_from: 700}]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path: Path = tmp_path_factory.mktemp("told") / "edge-agent.yaml"
    path.write_text(CONFIG)
    return read(path).config


def run(config: Config, machine: str, text: str) -> Result:
    return run_test(config, Story.model_validate({"name": "x", "machine": machine, **yaml.safe_load(text)}))


def told(config: Config, machine: str, text: str) -> dict[str, list[dict[str, Any]]]:
    """The data of the events of each type."""
    result = run(config, machine, text)
    assert result.fault is None, result.fault
    found: dict[str, list[dict[str, Any]]] = {}
    for event in result.events:
        found.setdefault(short_type(event), []).append(event["data"])
    return found


def test_entries_are_stops_and_parts_at_their_own_times(config: Config) -> None:
    events = told(
        config,
        "filler",
        """
        given:
          - {at: 0s, entries: [{code: 1}, {code: 10}], speed: 4}
          - {at: 10s, entries: [{code: 2, time: 9.2s, reason: 7}, {code: 1, time: 9.5s}, {code: 10, time: 9.7s}]}
        until: 20s
        """,
    )
    (ended,) = events["downtime.ended"]
    assert (ended["duration_s"], ended["class"], ended["reason"]["code"]) == (0.3, "microstop", "7")
    assert [one["delta"]["total"] for one in events["production.counted"]] == [1], (
        "what was there at first does not count"
    )


def test_what_was_noted_while_the_connection_was_down_fills_the_gap(config: Config) -> None:
    events = told(
        config,
        "filler",
        """
        given:
          - {at: 0s, entries: [{code: 1}]}
          - {at: 10s, device: lost}
          - {at: 20s, entries: [{code: 2, reason: 3}]}
          - {at: 30s, entries: [{code: 1}, {code: 10}]}
          - {at: 60s, device: back}
        until: 90s
        """,
    )
    (ended,) = events["downtime.ended"]
    assert ended["duration_s"] == 10
    assert [gap["history_recovered"] for gap in events["data.gap"]] == [True]
    assert sum(one["delta"]["total"] for one in events["production.counted"]) == 1


def test_what_was_noted_while_the_agent_was_down_is_told_when_it_starts(config: Config) -> None:
    events = told(
        config,
        "filler",
        """
        given:
          - {at: 0s, entries: [{code: 1}]}
          - {at: 10s, agent: killed}
          - {at: 20s, entries: [{code: 10}, {code: 10}]}
          - {at: 60s, agent: started}
        until: 90s
        """,
    )
    assert sum(one["delta"]["total"] for one in events["production.counted"]) == 2


def test_lost_entries_are_a_gap_and_the_count_a_lower_bound(config: Config) -> None:
    events = told(
        config,
        "filler",
        """
        given:
          - {at: 0s, entries: [{code: 1}]}
          - {at: 10s, entries: [{code: 10}, queue_overflow, {code: 10}]}
          - {at: 20s, entries: [{code: 10}, {code: 77}]}
        until: 30s
        """,
    )
    assert [(gap["cause"], gap["count_recovered"]) for gap in events["data.gap"]] == [
        ("queue_overflow", "lower_bound")
    ]
    assert sum(one["delta"]["total"] for one in events["production.counted"]) == 3
    assert [one["code"] for one in events["agent.warning"]] == ["unmapped_entry"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("entries: [{code: 2}]", "code 2 takes reason, which the entry does not have"),
        ("entries: [{code: 1, reson: 7}]", "an entry has no 'reson'; did you mean 'reason'?"),
        ("entries: [{code: 2, reason: 70000}]", "reason: 70000 does not fit into uint16 (0 to 65535)"),
        ("entries: [gone]", "entries are lost by queue_overflow or plc_restart, not 'gone'"),
        ("entries: [{time: 1s}]", "an entry is written {code: 2, time: 9.2s} with the fields of the ring"),
        ("entries: {press: [{code: 1}]}", "there is no device 'press' with a ring"),
        (
            "entries: [{code: 1}], run: true",
            "'run' is told by the `entries` of the ring here; write no value of it",
        ),
        ("history: true", "`history` belongs to `device: back` or `agent: started`"),
    ],
)
def test_an_entry_that_cannot_be_is_said(config: Config, line: str, fault: str) -> None:
    assert run(config, "filler", f"given: [{{at: 1s, {line}}}]").fault == fault


def test_a_history_tells_a_stop_that_nobody_saw(config: Config) -> None:
    story = """
        given:
          - {{at: 0s, status: 2}}
          - {{at: 10s, device: lost}}
          - {{at: 20s, status: 8}}
          - {{at: 50s, status: 2}}
          - {{at: 90s, device: back{more}}}
        until: 120s
    """
    events = told(config, "press", story.format(more=", history: true"))
    (ended,) = events["downtime.ended"]
    assert ended["duration_s"] == 30
    assert [gap["history_recovered"] for gap in events["data.gap"]] == [True]
    assert "downtime.ended" not in told(config, "press", story.format(more=""))


def test_a_history_tells_a_stop_while_the_agent_was_down(config: Config) -> None:
    events = told(
        config,
        "press",
        """
        given:
          - {at: 0s, status: 2}
          - {at: 10s, agent: killed}
          - {at: 20s, status: 8}
          - {at: 50s, status: 2}
          - {at: 90s, agent: started, history: true}
        until: 120s
        """,
    )
    assert [one["duration_s"] for one in events["downtime.ended"]] == [30]
    assert [gap["history_recovered"] for gap in events["data.gap"]] == [True]


def test_conditions_are_raised_acknowledged_and_cleared(config: Config) -> None:
    events = told(
        config,
        "press",
        """
        given:
          - {at: 0s, status: 2}
          - {at: 10s, status: 8, faults: {condition: guard, source: Press, severity: 800, text: Guard open}}
          - {at: 20s, faults: {condition: guard, acked: true, by: miller}}
          - {at: 30s, status: 2, faults: {condition: guard, active: false}}
        until: 60s
        """,
    )
    (raised,), (acked,), (cleared,) = events["alarm.raised"], events["alarm.acked"], events["alarm.cleared"]
    assert (raised["code"], raised["severity"], raised["stops_machine"]) == ("Press.guard", 800, True)
    assert acked["acked_by"] == "miller"
    assert (raised["raised_at"], cleared["cleared_at"]) == ("2026-03-02T00:00:10.000Z", "2026-03-02T00:00:30.000Z")
    (ended,) = events["downtime.ended"]
    assert ended["reason"]["code"] == "Press.guard"


def test_a_condition_that_ended_while_the_connection_was_down_is_cleared_after_it(config: Config) -> None:
    events = told(
        config,
        "press",
        """
        given:
          - {at: 0s, status: 2}
          - {at: 10s, faults: {condition: guard}}
          - {at: 20s, device: lost}
          - {at: 30s, faults: {condition: guard, active: false, acked: true}}
          - {at: 35s, faults: {condition: oil, severity: 300}}
          - {at: 60s, device: back}
        until: 90s
        """,
    )
    assert [one["native"]["condition_id"] for one in events["alarm.cleared"]] == ["guard"]
    assert [(one["code"], one.get("snapshot")) for one in events["alarm.raised"]] == [("guard", None), ("oil", True)]


def test_a_condition_that_cannot_be_is_said(config: Config) -> None:
    result = run(config, "press", "given: [{at: 1s, faults: {condition: guard, severity: high}}]")
    assert result.fault == "faults: 'severity' of a condition is a number from 1 to 1000, not 'high'"
