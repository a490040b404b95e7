"""validate, init, test, replay, once: what needs no running agent."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from edge_agent.cli.exits import ExitCode

Run = Callable[..., Result]


def test_validate_counts_what_it_has_checked(edge_agent: Run, configuration: Path) -> None:
    done = edge_agent("validate")
    assert done.exit_code == 0
    assert done.stdout == "edge-agent.yaml: OK, 1 device, 1 machine, 3 tags\n"


def test_validate_tells_a_program_the_same(edge_agent: Run, configuration: Path) -> None:
    told = json.loads(edge_agent("validate", str(configuration), "-o", "json").stdout)
    assert (told["ok"], told["devices"], told["machines"], told["tags"], told["tests"]) == (True, 1, 1, 3, 0)
    assert told["faults"] == []
    assert told["file"] == str(configuration)


def test_a_fault_of_the_configuration_is_exit_78_with_its_place(edge_agent: Run, configuration: Path) -> None:
    configuration.write_text(configuration.read_text(encoding="utf-8").replace("2: running", "2: runing"), "utf-8")
    done = edge_agent("validate")
    assert done.exit_code == ExitCode.BAD_CONFIG
    assert done.stdout == ""
    assert "edge-agent.yaml:17:" in done.stderr
    assert "running" in done.stderr
    told = json.loads(edge_agent("validate", "-o", "json").stdout)
    (fault,) = told["faults"]
    assert (told["ok"], fault["line"], fault["severity"]) == (False, 17, "error")


def test_a_code_is_explained_without_a_network(edge_agent: Run) -> None:
    assert edge_agent("explain", "e102").stdout.startswith("E102: A key written twice\n")
    assert json.loads(edge_agent("explain", "E102", "-o", "json").stdout)["title"] == "A key written twice"
    unknown = edge_agent("explain", "E1O2")
    assert unknown.exit_code == ExitCode.USAGE
    assert "did you mean" in unknown.stderr


def test_the_schema_is_json(edge_agent: Run) -> None:
    assert json.loads(edge_agent("config", "schema").stdout)["title"] == "edge-agent.yaml"


@pytest.mark.parametrize("name", ["validate", "run", "once", "status", "test", "tail"])
def test_a_missing_configuration_is_exit_78_and_says_what_to_do(edge_agent: Run, name: str) -> None:
    done = edge_agent(name)
    assert done.exit_code == ExitCode.BAD_CONFIG
    assert "edge-agent init" in done.stderr


def test_a_configuration_that_is_named_but_missing_is_named(edge_agent: Run, tmp_path: Path) -> None:
    assert "line9.yaml does not exist" in edge_agent("validate", "-c", "line9.yaml").stderr
    assert "is a folder" in edge_agent("validate", str(tmp_path)).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--opcua", "opc.tcp://10.20.1.11:4840", "--offline"],
        ["--opcua", "plc-7", "--offline"],
        ["--modbus", "10.20.1.31"],
    ],
)
def test_the_first_configuration_is_right_and_its_test_passes(edge_agent: Run, arguments: list[str]) -> None:
    assert edge_agent("init", *arguments).exit_code == 0
    done = edge_agent("validate")
    assert done.exit_code == 0, done.stderr
    assert "warning" not in done.stderr
    done = edge_agent("test")
    assert done.exit_code == 0, done.stdout


def test_a_first_configuration_with_examples_says_that_they_are_examples(edge_agent: Run) -> None:
    assert "the tags are examples" in edge_agent("init", "--modbus", "10.20.1.31").stderr
    assert "leave --offline out" in edge_agent("init", "--force", "--opcua", "plc-7", "--offline").stderr
    assert "examples" not in edge_agent("init", "--force").stderr


def test_init_does_not_overwrite(edge_agent: Run, tmp_path: Path) -> None:
    (tmp_path / "edge-agent.yaml").write_text("precious")
    done = edge_agent("init")
    assert done.exit_code == ExitCode.WILL_NOT_OVERWRITE
    assert (tmp_path / "edge-agent.yaml").read_text() == "precious"
    assert edge_agent("init", "--force").exit_code == 0
    assert edge_agent("validate").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--opcua", "http://plc", "--offline"],
        ["--modbus", "ftp://plc"],
        ["--modbus", "a", "--opcua", "b"],
        ["no/such/folder.yaml"],
    ],
)
def test_init_refuses_what_cannot_be_right_and_writes_nothing(
    edge_agent: Run, tmp_path: Path, arguments: list[str]
) -> None:
    assert edge_agent("init", *arguments).exit_code == ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


STORY = """\
tests:
  - name: a fault is a downtime
    machine: press-1
    given:
      - {at: 0s, status: 2, total: 100}
      - {at: 10s, status: 8}
      - {at: 40s, status: 2, total: 101}
    until: 60s
    expect:
      - {type: downtime.ended, started_at: 10s, duration_s: 30}
  - name: a wrong expectation
    machine: press-1
    given:
      - {at: 0s, status: 2, total: 100}
      - {at: 10s, status: 8}
      - {at: 40s, status: 2, total: 101}
    until: 60s
    expect:
      - {type: downtime.ended, started_at: 11s, duration_s: 30, class: stop, parts: 1}
      - {type: data.gap}
    never: [production]
  - name: a wrong line
    machine: press-1
    given:
      - {at: 0s, status: fast}
"""
TOLD = """\
PASS  a fault is a downtime
FAIL  a wrong expectation  (edge-agent.yaml:30)
   edge-agent.yaml:38: no event matches {type: downtime.ended, started_at: 11s, duration_s: 30, class: stop, parts: 1}
     nearest:      40s  downtime.ended       class=microstop category=breakdown duration_s=30
       field       expected  got
       started_at  11s       10s
       class       stop      microstop
       parts       1         absent
   edge-agent.yaml:39: no event matches {type: data.gap}
     there is no data.gap at all
   forbidden by `never`:      40s  production.counted   counter=main delta={total: 1} cause=machine
   what happened:
           0s  agent.started        version=replay
           0s  state.changed        state=running trigger=tag
           0s  connection.changed   endpoint=press-1 status=up
          10s  state.changed        prev_state=running state=fault trigger=tag
          10s  downtime.started     class=microstop category=breakdown
          40s  production.counted   counter=main delta={total: 1} cause=machine
          40s  state.changed        prev_state=fault state=running trigger=tag
          40s  downtime.ended       class=microstop category=breakdown duration_s=30
FAIL  a wrong line  (edge-agent.yaml:41)
   edge-agent.yaml:44: status: the tag is a number (int64), not 'fast'
1 passed, 2 failed
"""


@pytest.fixture
def stories(configuration: Path) -> Path:
    configuration.write_text(configuration.read_text(encoding="utf-8") + STORY, encoding="utf-8")
    return configuration


def test_a_failing_test_shows_the_difference_beside_what_happened(edge_agent: Run, stories: Path) -> None:
    done = edge_agent("test")
    assert done.exit_code == ExitCode.PROBLEM
    assert done.stdout == TOLD
    assert edge_agent("test", "-q").stdout == TOLD.partition("\n")[2]


def test_tests_are_chosen_by_a_part_of_their_name(edge_agent: Run, stories: Path) -> None:
    done = edge_agent("test", "-k", "DOWNTIME")
    assert (done.exit_code, done.stdout) == (0, "PASS  a fault is a downtime\n1 passed\n")
    assert edge_agent("test", "-k", "nothing").exit_code == ExitCode.USAGE


def test_results_of_tests_have_stable_keys(edge_agent: Run, stories: Path) -> None:
    done = edge_agent("test", "-o", "json")
    assert done.exit_code == ExitCode.PROBLEM
    told = json.loads(done.stdout)
    assert (told["ok"], told["passed"], told["failed"]) == (False, 1, 2)
    _, wrong, fault = told["tests"]
    assert wrong["place"] == "edge-agent.yaml:30"
    assert wrong["misses"][0]["differences"][0]["field"] == "started_at"
    assert wrong["misses"][1]["nearest"] is None
    assert [event["type"] for event in wrong["forbidden"]] == ["dev.edgeagent.production.counted.v1"]
    assert "not 'fast'" in fault["fault"]


def test_without_tests_nothing_fails(edge_agent: Run, configuration: Path) -> None:
    done = edge_agent("test")
    assert (done.exit_code, done.stdout) == (0, "no tests\n")


def test_replay_prints_events_as_json_lines_and_is_deterministic(
    edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "shift.csv"
    csv.write_text(
        "at,tag,value\n0s,status,2\n0s,total,100\n10s,status,8\n40s,press-1/status,2\n45s,total,105\n50s,total,105\n"
    )
    first = edge_agent("replay", str(configuration), str(csv))
    assert first.exit_code == 0, first.stderr
    events = [json.loads(line) for line in first.stdout.splitlines()]
    ended = [event for event in events if event["type"] == "dev.edgeagent.downtime.ended.v1"]
    assert ended[0]["data"]["duration_s"] == 30
    assert ended[0]["time"] == "2026-03-02T00:00:40.000Z"
    assert edge_agent("replay", str(configuration), str(csv)).stdout == first.stdout
    assert edge_agent("replay", str(configuration), "-", input=csv.read_text()).stdout == first.stdout


def test_replay_and_record_take_the_usual_configuration_where_none_is_named(
    edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    assert edge_agent("record", "new.csv", "--for", "1ms").exit_code == 0
    (tmp_path / "s.csv").write_text("at,tag,value\n0s,status,2\n10s,status,8\n")
    named = edge_agent("replay", str(configuration), "s.csv")
    assert (named.exit_code, edge_agent("replay", "s.csv").stdout) == (0, named.stdout)
    assert edge_agent("replay", "a", "b", "c").exit_code == ExitCode.USAGE
    for command in (["record"], ["tags", "export"], ["browse", "press-1", "--save"], ["backup"]):
        done = edge_agent(*command, "nowhere/x.csv")
        assert (done.exit_code, "is the folder there?" in done.stderr) == (ExitCode.USAGE, True), done.stderr


def test_replay_takes_its_start_from_recorded_times(edge_agent: Run, configuration: Path, tmp_path: Path) -> None:
    lines = tmp_path / "fault.jsonl"
    lines.write_text('{"at": "2026-05-04T03:02:01Z", "status": 2}\n{"at": "2026-05-04T03:02:11Z", "status": 8}\n')
    done = edge_agent("replay", str(configuration), str(lines), "--until", "20s")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    started = [event["data"]["started_at"] for event in events if "downtime.started" in event["type"]]
    assert started == ["2026-05-04T03:02:11.000Z"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("at,tag,value\n0s,status,fast\n", ExitCode.PROBLEM, "s.csv:2: 'fast' is not a value"),
        ("at,tag,value\n0s,status,2\n0s,speed,2\n", ExitCode.PROBLEM, "s.csv:3: device 'press-1' has no tag 'speed'"),
        ("at,tag,value\n5s,status,2\n1s,status,2\n", ExitCode.PROBLEM, "s.csv:3: the line is earlier"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(
    edge_agent: Run, configuration: Path, tmp_path: Path, text: str, code: int, said: str
) -> None:
    (tmp_path / "s.csv").write_text(text)
    done = edge_agent("replay", str(configuration), str(tmp_path / "s.csv"))
    assert done.exit_code == code
    assert said in done.stderr


def test_replay_of_a_file_that_is_missing_is_wrong_usage(edge_agent: Run, configuration: Path) -> None:
    assert edge_agent("replay", str(configuration), "nothing.csv").exit_code == ExitCode.USAGE
    assert edge_agent("replay", str(configuration), "nothing.csv", "-m", "press-9").exit_code == ExitCode.USAGE


def test_once_shows_every_tag_and_what_would_be_sent(edge_agent: Run, configuration: Path) -> None:
    done = edge_agent("once", "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(row["tag"], row["quality"]) for row in told["readings"]] == [
        ("status", "GOOD"),
        ("total", "GOOD"),
        ("note", "GOOD"),
    ]
    assert told["events"][0]["type"] == "dev.edgeagent.state.changed.v1"
    assert told["published"] is None
    assert "state.changed" in edge_agent("once").stdout


def test_once_with_a_bad_tag_is_exit_3_and_names_it(edge_agent: Run, configuration: Path) -> None:
    configuration.write_text(
        configuration.read_text(encoding="utf-8").replace("{kind: constant, value: 急停}", "{kind: broken}"), "utf-8"
    )
    done = edge_agent("once")
    assert done.exit_code == ExitCode.PROBLEM
    (line,) = [line for line in done.stdout.splitlines() if "press-1/note" in line]
    assert " - " in line
    assert "BAD(" in line


def test_once_without_a_device_is_exit_69_and_shows_the_others(edge_agent: Run, configuration: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    text = configuration.read_text(encoding="utf-8")
    text += f"devices:\n  oven: {{driver: modbus, url: tcp://127.0.0.1:{port}, tags: {{temp: {{coil: 0}}}}}}\n"
    configuration.write_text(text, encoding="utf-8")
    done = edge_agent("once", "-o", "json")
    assert done.exit_code == ExitCode.UNREACHABLE
    told = json.loads(done.stdout)
    assert [(device["device"], device["code"]) for device in told["unreachable"]] == [("oven", "C501")]
    assert {row["quality"] for row in told["readings"] if row["device"] == "press-1"} == {"GOOD"}
    assert {row["quality"] for row in told["readings"] if row["device"] == "oven"} == {"NEVER"}
