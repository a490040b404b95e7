"""dict export: one table, three forms, and no code that means two things."""

import csv
import io
import json
from dataclasses import fields as dataclass_fields
from pathlib import Path

import pytest

from edge_agent.cli.exits import ExitCode
from edge_agent.dictionary.entry import COLUMNS
from edge_agent.dictionary.fields import fields
from edge_agent.events import types
from edge_agent.events.types import Data
from tests.in_process import invoke

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))

TWO = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: stamping}}
devices:
  meter:
    driver: modbus
    url: tcp://127.0.0.1:502
    tags:
      kwh: {{holding: 200, type: float32, unit: KWH}}
      shared: {{holding: 10, type: uint16, scale: 0.1}}
machines:
  press-1:
    line: line3
    device:
      driver: simulated
      tags:
        status: {{kind: cycle, values: [1, 2], every: 10s}}
        fault: {{kind: counter}}
        total: {{kind: counter, rate: 30/min}}
    state: {{from: meter/shared, map: {{1: idle, 2: running}}}}
    counters: {{main: {{total: total}}}}
    downtime:
      reason: fault
      reasons: {{12: {{text: Guard | open, category: operator}}, 17: {{category: starved}}}}
    consumption: {{energy: {{kind: energy, tag: meter/kwh, resource: EM-1}}}}
  press-2:
    line: line3
    device:
      driver: simulated
      tags: {{status: {{kind: counter}}, fault: {{kind: counter, unit: KWH}}, hot: {{kind: constant, value: true}}}}
    {second}
"""


def export(tmp_path, second, *more):
    file = tmp_path / "two.yaml"
    file.write_text(TWO.format(second=second), encoding="utf-8")
    return invoke("dict", "export", str(file), *more)


def table(done, delimiter=","):
    return list(csv.DictReader(io.StringIO(done.stdout), delimiter=delimiter))


SAME = "downtime: {reason: fault, reasons: {12: {text: Guard | open, category: operator}}}"


def test_every_name_and_code_of_a_configuration_is_in_the_table(tmp_path):
    done = export(tmp_path, SAME)
    assert done.exit_code == 0, done.stderr
    rows = {(row["kind"], row["asset"], row["name"], row["code"]): row for row in table(done)}
    assert rows["tag", "meter", "kwh", ""]["unit"] == "KWH"
    assert rows["tag", "meter", "kwh", ""]["source"] == "holding 200"
    assert rows["tag", "meter", "shared", ""]["text"] == "× 0.1"
    assert rows["tag", "press-1", "status", ""]["source"] == "kind cycle, every 10s, values (1, 2)"
    assert rows["tag", "press-1", "total", ""]["source"] == "kind counter, rate 0.5/s"
    assert rows["unit", "", "", "KWH"]["text"] == "kilowatt hour"
    assert rows["state", "press-1", "meter/shared", "2"]["text"] == "running"
    assert rows["reason", "press-1", "fault", "12"]["type"] == "operator"
    assert rows["reason", "press-1", "fault", "12"]["place"] == "machines.press-1.downtime.reasons.12"
    assert rows["counter", "press-1", "main", "total"]["source"] == "press-1/total"
    assert rows["resource", "press-1", "energy", "EM-1"]["unit"] == "KWH"
    assert rows["field", "state.changed", "prev_duration_s", ""]["unit"] == "SEC"
    assert rows["enum", "state.changed", "group", "standby"]
    assert rows["enum", "data.gap", "affects[]", "count"]
    assert rows["field", "cycle.completed", "params.<name>.v", ""]


def test_the_three_forms_hold_the_same_rows(tmp_path):
    comma = [tuple(row.values()) for row in table(export(tmp_path, SAME))]
    semicolon = [tuple(row.values()) for row in table(export(tmp_path, SAME, "--delimiter", ";"), ";")]
    said = json.loads(export(tmp_path, SAME, "-o", "json").stdout)
    assert json.loads(export(tmp_path, SAME, "--format", "json").stdout) == said
    assert said["ok"] is True
    assert said["conflicts"] == []
    markdown = export(tmp_path, SAME, "-f", "markdown").stdout.splitlines()
    assert [tuple(entry.get(name, "") for name in COLUMNS) for entry in said["entries"]] == comma == semicolon
    assert len(markdown) == len(comma) + 2
    assert all(line.replace("\\|", "").count("|") == len(COLUMNS) + 1 for line in markdown)


@pytest.mark.parametrize(
    ("second", "code", "place"),
    [
        (
            "downtime: {reason: fault, reasons: {12: {text: Burner off, category: breakdown}}}",
            "12",
            "machines.press-2.downtime.reasons.12",
        ),
        ("alarms: [{code: 12, text: Too hot, tag: hot}]", "12", "machines.press-2.alarms.0"),
        ("state: {from: meter/shared, map: {2: fault}}", "2", "machines.press-2.state.map.2"),
        (
            "consumption: {power: {kind: energy, tag: fault, resource: EM-1}}",
            "EM-1",
            "machines.press-2.consumption.power",
        ),
    ],
)
def test_a_code_that_means_two_things_is_exit_3_and_both_places_are_named(tmp_path, second, code, place):
    done = export(tmp_path, second)
    assert done.exit_code == ExitCode.PROBLEM
    assert f"the code '{code}' means" in done.stderr
    assert place in done.stderr
    assert "machines.press-1." in done.stderr
    assert table(done), "the table is there all the same"
    (conflict,) = json.loads(export(tmp_path, second, "-o", "json").stdout)["conflicts"]
    assert conflict["code"] == code
    assert conflict["places"][1] == place


def test_one_meaning_in_several_machines_and_raw_values_of_different_tags_are_no_conflict(tmp_path):
    done = export(tmp_path, f"state: {{from: status, map: {{2: fault}}}}\n    {SAME}")
    assert done.exit_code == 0, done.stderr


def test_two_machines_that_use_one_number_for_two_things_are_told_apart_by_codes_of_the_mom(tmp_path):
    second = "downtime: {reason: fault, reasons: {12: {code: OV-12, text: Burner off, category: breakdown}}}"
    done = export(tmp_path, second)
    assert done.exit_code == 0, done.stderr
    rows = [row for row in table(done) if (row["kind"], row["asset"]) == ("reason", "press-2")]
    assert [(row["code"], row["text"]) for row in rows] == [("12", "OV-12"), ("OV-12", "Burner off")]


def test_a_delimiter_is_one_character(tmp_path):
    assert export(tmp_path, SAME, "--delimiter", "--").exit_code == ExitCode.USAGE


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_in_no_example_a_code_means_two_things(file):
    done = invoke("dict", "export", str(file), "-o", "json")
    assert done.exit_code == 0, done.stderr


def test_every_field_of_every_event_type_is_in_the_table():
    rows = {(row.asset, row.name) for row in fields()}
    head = {name for asset, name in rows if asset == "head"}
    for kind in vars(types).values():
        if isinstance(kind, type) and issubclass(kind, Data) and kind.TYPE:
            shared = {name for asset, name in rows if asset == f"{kind.TYPE.split('.')[0]}.*"}
            own = {name for asset, name in rows if asset == kind.TYPE}
            assert {field.name.rstrip("_") for field in dataclass_fields(kind)} <= own | shared | head, kind.TYPE
