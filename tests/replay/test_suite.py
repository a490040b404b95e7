"""The language of `tests:` with real machines: what config.md promises, told as tests of tests."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.model import Config
from config.model import Test as Story
from edge_agent.cli.loading import read
from edge_agent.replay.suite import Result, event_types, replay_epoch, run_test

CONFIG = """\
version: 1
agent: {id: a1}
site: {enterprise: acme, site: sz1, area: stamping}
devices:
  meter: {driver: modbus, url: tcp://127.0.0.1, scan: 10s, tags: {kwh: {holding: 0, type: float32, unit: KWH}}}
machines:
  press-1:
    line: line3
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1:4840
      publishing: 1s
      tags:
        status:  {node: 'nsu=urn:acme:press;s=Status', type: int16}
        fault:   {node: 'nsu=urn:acme:press;s=FaultCode', type: uint16}
        total:   {node: 'nsu=urn:acme:press;s=Total', type: uint16}
        reject:  {node: 'nsu=urn:acme:press;s=Rejects', type: uint16}
    state:
      from: status
      map: {1: idle, 2: running, 8: fault}
    counters:
      main: {total: total, scrap: reject, wrap: 65536, max_rate: 2/s}
    downtime:
      microstop: 300s
      reason: fault
      reasons: {12: {text: Guard open, category: operator}}
    measurements:
      energy: {tags: [meter/kwh], on: change}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path: Path = tmp_path_factory.mktemp("suite") / "edge-agent.yaml"
    path.write_text(CONFIG)
    return read(path).config


def run(config: Config, text: str) -> Result:
    return run_test(config, Story.model_validate({"name": "x", "machine": "press-1", **yaml.safe_load(text)}))


def outcome(config: Config, text: str) -> list[tuple[str, Any, Any]]:
    result = run(config, text)
    assert result.fault is None, result.fault
    return [
        difference for miss in result.misses for difference in miss.differences or (("no event", miss.entry, ""),)
    ]


RUNS = "{at: 0s, status: 2, fault: 0, total: 100, reject: 3}"


def test_the_example_of_the_manual_passes(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given:
          - {RUNS}
          - {{at: 10s, status: 8, fault: 12}}
          - {{at: 40s, status: 2, fault: 0, total: 101}}
        until: 60s
        expect:
          - {{type: downtime.started, started_at: 10s, category: operator}}
          - {{type: downtime.ended, started_at: 10s, duration_s: 30, class: microstop,
              reason: {{code: "12", text: Guard open}}}}
          - {{type: production.counted, delta: {{total: 1}}}}
        """,
    )


def test_a_downtime_is_followed_through_its_life_by_its_id(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 10s, status: 8}}, {{at: 400s, status: 2}}]
        until: 410s
        expect:
          - {{type: downtime.started, downtime_id: $d, rev: 1, class: microstop, ended_at: null}}
          - {{type: downtime.updated, downtime_id: $d, class: stop, time: 310s}}
          - {{type: downtime.ended, downtime_id: $d, status: ended, ended_at: 400s, correlationid: $d}}
        only: [downtime]
        """,
    )


def test_a_lost_device_makes_the_state_unknown_from_the_last_scan(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 60.5s, device: lost}}, {{at: 100.5s, total: 119}}, {{at: 120.5s, device: back}}]
        until: 130s
        expect:
          - {{type: connection.changed, status: up}}
          - {{type: connection.changed, status: down, since: 60s}}
          - {{type: connection.changed, status: up, since: 120.5s}}
          - {{type: state.changed, state: running}}
          - {{type: state.changed, state: unknown, time: 60s, trigger: comms, recordedtime: 70s}}
          - {{type: state.changed, state: running, time: 120.5s}}
          - {{type: data.gap, from_at: 60s, to_at: 120.5s, cause: comms_loss}}
          - {{type: production.counted, cause: gap_recovery, delta: {{total: 19}}}}
        """,
    )


def test_a_short_loss_is_no_state(config: Config) -> None:
    result = run(
        config,
        f"given: [{RUNS}, {{at: 60s, device: lost}}, {{at: 65s, device: back}}]\nuntil: 80s\nnever: [state.unknown]",
    )
    assert result.fault == "there is no event type or family 'state.unknown'"
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 60s, device: lost}}, {{at: 65s, device: back}}]
        until: 80s
        expect: [{{type: state.changed, state: running, time: 0s}}]
        only: [state]
        """,
    )


def test_a_killed_agent_leaves_a_gap_from_what_was_stored(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 63s, agent: killed}}, {{at: 80s, total: 105}}, {{at: 90s, agent: started}}]
        until: 100s
        expect:
          - {{type: agent.started, clean_stop: true, time: 0s}}
          - {{type: agent.started, clean_stop: false, time: 90s}}
          - {{type: data.gap, from_at: 60s, to_at: 90s, cause: agent_down}}
          - {{type: production.counted, delta: {{total: 5}}}}
        """,
    )


def test_bad_quality_and_late_values_are_no_samples(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given:
          - {RUNS}
          - {{at: 10s, total: 105}}
          - {{at: 20s, quality: bad, tags: [total]}}
          - {{at: 30s, total: 107}}
          - {{at: 40s, total: 101, source_at: 5s}}
        until: 50s
        expect:
          - {{type: production.counted, delta: {{total: 5}}, totals: {{total: 5}}}}
          - {{type: production.counted, delta: {{total: 2}}, totals: {{total: 7}}}}
        only: [production]
        """,
    )


def test_a_clock_jump_moves_times_but_no_durations(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 10s, status: 8}}, {{at: 20s, clock: +3600s}}, {{at: 40s, status: 2}}]
        until: 50s
        expect:
          - {{type: agent.clock_adjusted, offset_s: 3600, time: 3620s}}
          - {{type: downtime.ended, duration_s: 30}}
        """,
    )


def test_a_tag_of_another_device_is_named_with_it(config: Config) -> None:
    assert not outcome(
        config,
        f"""
        given: [{RUNS}, {{at: 30s, meter/kwh: 12.5}}]
        until: 35s
        expect: [{{type: measurement.sampled, set: energy, values: {{meter/kwh: 12.5}}, time_basis: agent}}]
        """,
    )


def test_what_only_and_never_forbid_is_found(config: Config) -> None:
    base = f"given: [{RUNS}, {{at: 10s, status: 8}}]\nuntil: 20s\n"
    assert run(config, base).passed
    assert not run(config, base + "only: [downtime]").passed
    assert not run(config, base + "never: [downtime.started]").passed
    assert run(config, base + "never: [downtime.ended, production]").passed
    assert run(config, base + "expect: [{type: downtime.started}]\nonly: [downtime]").passed


@pytest.mark.parametrize(
    ("text", "part", "entry", "said"),
    [
        ("given: [{at: 0s, statsu: 2}]", "given", 0, "did you mean 'status'"),
        ("given: [{at: 0s, status: 2}, {at: 1s, command: order.start}]", "given", 1, "a command is written like"),
        ("given: [{at: 9s, status: 2}]\nuntil: 5s", "given", 0, "after `until`"),
        ("given: []\nexpect: [{type: state.changed, time: 5}]", "expect", 0, "as an offset"),
        ("given: []\nexpect: [{type: order.begun}]", "expect", 0, "no event type 'order.begun'"),
        ("given: []\nonly: [downtimes]", "only", None, "'downtimes'"),
        ("given: []\nstart: '14:00'", "start", None, "`start`"),
    ],
)
def test_what_is_wrong_with_a_test_is_told_with_its_place(
    config: Config, text: str, part: str, entry: int | None, said: str
) -> None:
    test = Story.model_construct(**{"name": "x", "machine": "press-1", "until": None, **_plain(text)})
    result = run_test(config, test)
    assert not result.passed
    assert result.fault is not None
    assert said in result.fault
    assert result.place is not None
    assert (result.place.part, result.place.entry) == (part, entry)


def _plain(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    return found | {"until": 5_000_000 if "until" in found else None}


def test_the_same_timeline_gives_the_same_bytes(config: Config) -> None:
    text = f"given: [{RUNS}, {{at: 10s, status: 8}}]\nuntil: 20s\n"
    assert run(config, text).events == run(config, text).events


def test_the_epoch_depends_on_the_start_alone() -> None:
    assert replay_epoch(1_772_409_600_000_000) == "mm8eww000000"


def test_every_type_that_exists_may_be_expected() -> None:
    assert {"state.changed", "downtime.ended", "data.gap", "agent.started"} <= event_types()
