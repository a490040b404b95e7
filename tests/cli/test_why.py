"""Questions to an agent that runs: why, what differs from the file, and the reload that takes it over."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.conftest import SIMULATED

SECRET = "hunter2-hunter2"


Run = Callable[..., Result]


def asked(edge_agent: Run, *arguments: str, code: int = 0) -> Any:
    done = edge_agent(*arguments, "-o", "json")
    assert done.exit_code == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_machine_is_explained_from_its_tags_to_the_confirmation(
    running: "subprocess.Popen[str]", edge_agent: Run, tmp_path: Path
) -> None:
    told = asked(edge_agent, "explain", "press-1")
    assert told["kind"] == "machine"
    inputs = {tag["tag"]: tag for tag in told["inputs"]}
    assert inputs["status"]["used_for"] == ["state"]
    assert inputs["total"]["used_for"] == ["counter main.total"]
    assert inputs["status"]["quality"] == "GOOD"
    assert inputs["status"]["written"].startswith(str(tmp_path / "edge-agent.yaml"))
    assert told["devices"]["press-1"]["status"] == "UP"
    assert {event["delivery"] for event in told["events"]} <= {"waiting"}, (
        "nothing listens where the broker should be"
    )
    assert any("the broker is DOWN" in why or "CONNECTING" in why for why in told["why"])
    text = edge_agent("explain", "press-1").stdout
    assert "machine press-1 is " in text
    assert "press-1/status" in text
    assert "why: " in text


def test_a_tag_is_explained_with_those_who_use_it(running: "subprocess.Popen[str]", edge_agent: Run) -> None:
    told = asked(edge_agent, "explain", "press-1/total")
    assert told["used_by"] == {"press-1": ["counter main.total"]}
    assert asked(edge_agent, "explain", "note")["name"] == "press-1/note"
    assert "no machine uses this tag" in edge_agent("explain", "note").stdout
    wrong = edge_agent("explain", "press-2")
    assert wrong.exit_code == 2
    assert "did you mean 'press-1'?" in wrong.stderr


def test_the_file_is_compared_with_what_runs_and_taken_over(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    assert asked(edge_agent, "config", "diff")["differences"] == []
    configuration.write_text(SIMULATED.replace("max_rate: 40/s", "max_rate: 50/s"), encoding="utf-8")
    (found,) = asked(edge_agent, "config", "diff", code=3)["differences"]
    assert found == {"path": "machines.press-1.counters.main.max_rate", "running": 40.0, "file": 50.0}
    status = edge_agent("status", "-o", "json")
    assert json.loads(status.stdout)["file_changed"] is True
    told = asked(edge_agent, "reload")
    assert told["machines"]["changed"] == ["press-1"]
    assert told["devices"]["kept"] == ["press-1"]
    assert asked(edge_agent, "config", "diff")["differences"] == []
    assert asked(edge_agent, "reload")["changed"] is False
    more = "    downtime: {microstop: 90s, reason: status, reasons: {12: {text: Guard open}}}\n"
    configuration.write_text(configuration.read_text("utf-8") + more, encoding="utf-8")
    assert [line.partition("  ")[0] for line in edge_agent("config", "diff").stdout.splitlines()] == [
        "machines.press-1.downtime.microstop: nothing -> 90s",
        'machines.press-1.downtime.reason: nothing -> "status"',
        'machines.press-1.downtime.reasons.12.text: nothing -> "Guard open"',
        "1 difference; edge-agent reload takes it over",
    ]


def test_a_broken_file_is_not_taken_over(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    configuration.write_text(SIMULATED.replace("id: a1", "id: a2"), encoding="utf-8")
    refused = edge_agent("reload")
    assert refused.exit_code == 78
    assert "the agent keeps the old configuration: agent.id cannot change" in refused.stderr
    configuration.write_text(SIMULATED.replace("from: status", "from: statsu"), encoding="utf-8")
    refused = edge_agent("reload")
    assert refused.exit_code == 78
    assert "E401" in refused.stderr
    looked = edge_agent("status", "-o", "json")
    assert looked.exit_code == 3
    assert json.loads(looked.stdout)["file_changed"] is True
    assert "the agent goes on with what it has read" in looked.stderr
    assert asked(edge_agent, "explain", "press-1")["name"] == "press-1"
    configuration.write_text("machines: [", encoding="utf-8")
    assert edge_agent("tail", "-n", "1").exit_code == 0, "its buffer is where it is by default"
    configuration.write_text("buffer: {path: elsewhere.db}\nmachines: [", encoding="utf-8")
    assert edge_agent("config", "diff").exit_code == 78
    configuration.write_text(SIMULATED, encoding="utf-8")
    assert asked(edge_agent, "config", "diff")["ok"] is True


def test_top_shows_one_status_after_the_other(running: "subprocess.Popen[str]", edge_agent: Run) -> None:
    shown = edge_agent("top", "-n", "2", "--every", "0.2")
    assert shown.exit_code == 0
    assert shown.stdout.count("agent    a1") == 2
    assert "\x1b" not in shown.stdout
    lines = edge_agent("top", "-n", "2", "--every", "0.2", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["agent"]["id"] for line in lines] == ["a1", "a1"]


def test_show_expands_templates_says_where_and_hides_secrets(edge_agent: Run, tmp_path: Path) -> None:
    (tmp_path / "edge-agent.yaml").write_text(
        "version: 1\nsite: {enterprise: acme, site: sz1, area: hall}\n"
        f"mqtt: {{url: mqtt://127.0.0.1:1, username: u, password: {SECRET}}}\n"
        "templates:\n  saw:\n    vars: [ip]\n    line: l1\n"
        "    device: {driver: modbus, url: 'tcp://${ip}', tags: {run: {coil: 0}}}\n"
        "    state: {from: run, map: {0: idle, 1: running}}\n"
        "machines: {saw-1: {template: saw, vars: {ip: 10.0.0.1}}}\n"
    )
    text = edge_agent("config", "show").stdout
    assert "    url: 'tcp://10.0.0.1' " in text
    assert "# template saw, edge-agent.yaml:8" in text
    assert "'***'" in text
    one = edge_agent("config", "show", "--machine", "saw-1").stdout
    assert "mqtt" not in one
    data = asked(edge_agent, "config", "show")
    assert data["config"]["devices"]["saw-1"]["url"] == "tcp://10.0.0.1"
    assert data["origins"]["machines.saw-1.state.from"] == {"file": "edge-agent.yaml", "line": 9, "template": "saw"}
    assert SECRET not in text + json.dumps(data)


def test_what_is_shown_is_a_configuration_that_means_the_same(edge_agent: Run, tmp_path: Path) -> None:
    for example in sorted((Path(__file__).parents[2] / "config/examples").glob("*.yaml")):
        shown = edge_agent("config", "show", str(example)).stdout
        again = tmp_path / example.name
        again.write_text(shown.replace("'***'", "{credential: mqtt_password}"), encoding="utf-8")
        first, second = (edge_agent("validate", str(path), "-o", "json").stdout for path in (example, again))
        assert json.loads(first)["hash"] == json.loads(second)["hash"], example.name


@pytest.mark.parametrize(("text", "says"), [("version: 2\n", "version 2"), ("site: {}\n", "no version")])
def test_a_file_of_another_version_is_not_touched(edge_agent: Run, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "edge-agent.yaml").write_text(text)
    told = edge_agent("config", "migrate")
    assert told.exit_code == 78
    assert says in told.stderr
    (tmp_path / "edge-agent.yaml").write_text("version: 1\n")
    assert edge_agent("config", "migrate").exit_code == 0
