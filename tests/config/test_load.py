"""What a sound file becomes."""

import json
import re
from pathlib import Path

import pytest

from config.errors import ConfigFaults, Problem
from config.load import Loaded, Origin, load, load_source
from config.model import Category, State
from config.source import Source, decoded
from drivers.registry import Drivers
from edge_agent.machine.expressions import names

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))
HEAD = "version: 1\nsite: {enterprise: acme, site: sz1, area: stamping}\n"
TEMPLATE = """
templates:
  press:
    vars: [ip, unit]
    line: line3
    device:
      driver: modbus
      url: tcp://${ip}:502
      unit: ${unit}
      tags:
        status: {holding: 0}
        total:  {holding: 2, type: uint32}
    state: {from: status, map: {1: idle, 2: running}}
    downtime: {microstop: 300s, reasons: {12: {text: Guard open, category: operator}}}
    measurements: {slow: {tags: [total], every: 1min}}
"""


def loaded(text: str, folder: Path = Path("/plant"), host_name: str = "ipc01") -> Loaded:
    return load_source(decoded("edge-agent.yaml", text.encode()), folder, Drivers().options(), names, host_name)


def faults(text: str) -> list[str]:
    """Code and the word under the caret."""
    with pytest.raises(ConfigFaults) as broken:
        loaded(text)
    lines = text.splitlines()
    words = [re.split(r"[,:}\]]", lines[fault.line - 1][fault.column - 1 :])[0] for fault in broken.value.faults]
    return [f"{fault.code} {word}" for fault, word in zip(broken.value.faults, words, strict=True)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_shipped_example_has_nothing_to_complain_about(example: Path) -> None:
    result = load(example, Drivers().options(), check_expression=names)
    assert result.warnings == ()
    assert result.config.tests
    first = example.read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./edge-agent.schema.json"


def test_the_press_is_what_the_file_says() -> None:
    config = load(EXAMPLES[-1], Drivers().options()).config
    press = config.machines["press-1"]
    assert press.device == "press-1"
    assert press.state is not None
    assert press.state.map == {1: State.IDLE, 2: State.RUNNING, 3: State.SETUP, 8: State.FAULT}
    assert press.counters["main"].max_rate == 2.0
    assert press.downtime is not None
    assert press.downtime.microstop == 300_000_000
    assert press.downtime.reasons[12].category is Category.OPERATOR
    assert config.devices["press-1"].endpoint == "opc.tcp://10.20.1.11:4840"
    assert config.resolve("press-1", "status") == ("press-1", "status")
    assert config.subject("press-1") == "acme/sz1/stamping/line3/press-1"


def test_the_agent_is_named_after_its_computer_in_letters_that_topics_know() -> None:
    assert loaded(HEAD, host_name="IPC 01.plant.local").config.agent.id == "IPC-01-plant-local"
    assert loaded(HEAD + "agent: {id: mine}\n").config.agent.id == "mine"
    assert loaded(HEAD, host_name="工控机").config.agent.id == "edge-agent"


def test_a_template_is_filled_and_overridden_by_name() -> None:
    config = loaded(
        HEAD
        + TEMPLATE
        + """
machines:
  press-1: {template: press, vars: {ip: 10.0.0.1, unit: 4}}
  press-2:
    template: press
    vars: {ip: 10.0.0.2, unit: 5}
    line: line4
    device: {scan: 2s, tags: {extra: {coil: 1}}}
    state: {map: {2: setup, 8: fault}}
    downtime: {microstop: 120s, reasons: {17: {text: No material}}}
    measurements: {slow: {tags: [extra]}}
"""
    ).config
    first, second = config.machines["press-1"], config.machines["press-2"]
    assert (first.line, second.line) == ("line3", "line4")
    assert config.devices["press-1"].model_dump()["unit"] == 4
    assert [device.scan for device in config.devices.values()] == [1_000_000, 2_000_000]
    assert set(config.devices["press-2"].tags) == {"status", "total", "extra"}
    assert second.state is not None
    assert second.state.map == {1: State.IDLE, 2: State.SETUP, 8: State.FAULT}
    assert second.downtime is not None
    assert (second.downtime.microstop, set(second.downtime.reasons)) == (120_000_000, {12, 17})
    assert second.measurements["slow"].tags == ("extra",)
    assert second.measurements["slow"].every == 60_000_000


def test_an_empty_override_takes_the_templates_value_away() -> None:
    machine = "\nmachines:\n  press-1:\n    template: press\n    vars: {ip: 10.0.0.1, unit: 1}\n    downtime:\n"
    rules = "    state: {from: , map: , rules: [{state: running, when: total > 5}, {state: idle}]}\n"
    press = loaded(HEAD + TEMPLATE + machine + rules).config.machines["press-1"]
    assert press.downtime is None
    assert press.state is not None
    assert press.state.source is None
    assert press.state.rules is not None
    assert [rule.state for rule in press.state.rules] == ["running", "idle"]


def test_machines_share_a_device_that_stands_by_itself() -> None:
    config = loaded(
        HEAD
        + """
devices:
  plc: {driver: modbus, url: tcp://10.0.0.1, tags: {a: {holding: 0}, b: {holding: 1}}}
machines:
  left:  {line: l1, device: plc, state: {from: a, map: {1: running}}}
  right: {line: l1, device: plc, state: {from: plc/b, map: {1: running}}}
"""
    ).config
    assert list(config.devices) == ["plc"]
    assert config.resolve("right", "plc/b") == ("plc", "b")


def test_true_and_false_in_a_map_are_the_numbers_of_a_bool_tag() -> None:
    machine = "machines: {m: {line: l, device: {driver: modbus, url: tcp://10.0.0.1, tags: {run: {coil: 0}}},"
    state = (
        loaded(HEAD + machine + " state: {from: run, map: {true: running, false: idle}}}}\n")
        .config.machines["m"]
        .state
    )
    assert state is not None
    assert state.map == {1: State.RUNNING, 0: State.IDLE}


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    mqtt = "mqtt: {url: mqtts://mom.example, ca_file: certs/ca.pem, password: {file: mqtt.txt}}\n"
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.pem").touch()
    result = loaded(HEAD + mqtt + "devices: {}\n", tmp_path)
    assert result.config.mqtt.ca_file == str(tmp_path / "certs/ca.pem")
    assert result.config.buffer.path == str(tmp_path / "data/buffer.db")
    bigger = loaded(HEAD + "buffer: {max_size: 1GiB}\n", tmp_path)
    assert bigger.config.buffer.path == str(tmp_path / "data/buffer.db")
    assert [fault.code for fault in result.warnings] == ["W407"]
    missing = loaded(HEAD + mqtt, tmp_path / "elsewhere")
    assert "W112" in [fault.code for fault in missing.warnings]


def test_the_hash_knows_the_meaning_and_neither_the_folder_nor_secrets_nor_tests() -> None:
    mqtt = "mqtt: {url: mqtts://mom.example, ca_file: ca.pem, keepalive: %s, password: %s}\n"
    one = loaded(HEAD + mqtt % ("60s", "hunter2")).hash
    assert loaded("# other\n" + HEAD + mqtt % ("1min", "hunter3"), Path("/elsewhere")).hash == one
    assert loaded(HEAD + mqtt % ("61s", "hunter2")).hash != one
    assert loaded(HEAD).hash != one
    assert len(one) == 16


def test_every_value_remembers_where_it_was_written() -> None:
    machine = "    template: press\n    vars: {ip: 10.0.0.1, unit: 4}\n    downtime: {microstop: 9s}\n"
    machines = "\nmachines:\n  press-1:\n" + machine
    result = loaded(HEAD + TEMPLATE + machines)
    text = (HEAD + TEMPLATE + machines).splitlines()
    assert (result.running().origins, result.running().hash) == (result.origins, result.hash)
    override = result.origins["machines.press-1.downtime.microstop"]
    assert override == Origin("edge-agent.yaml", len(text))
    given = result.origins["machines.press-1.state.from"]
    assert text[given.line - 1].startswith("    state: {from: status")
    assert str(given) == f"template press, edge-agent.yaml:{given.line}"
    assert result.origins["devices.press-1.unit"].line == len(text) - 1, "a variable's value is the machine's"
    assert result.origins["site.area"].line == 2


def test_faults_of_different_parts_do_not_hide_each_other() -> None:
    text = HEAD + (
        "machines:\n"
        "  a: {line: l, device: {driver: modbus, url: tcp://h, tags: {x: {coil: 0, type: bol}, y: {holding: 1}}},\n"
        "      state: {from: z, map: {1: idle, 2: runing}}, counters: {main: {total: y, wrap: 1}}, flush: 2}\n"
        "  b: {line: l, device: c}\n"
    )
    assert faults(text) == ["E301 bol", "E401 z", "E301 runing", "E309 1", "E308 2", "E408 c"]


def test_what_a_failed_template_would_have_given_is_not_missed_elsewhere() -> None:
    text = (
        HEAD
        + TEMPLATE
        + (
            "machines:\n"
            "  press-1: {template: press, vars: {ip: 10.0.0.1}}\n"
            "  press-2: {line: l, device: press-1, state: {from: press-1/status, map: {1: idle}}}\n"
            "tests: [{name: a, machine: press-1, given: [{at: 0s, status: 1}]}]\n"
        )
    )
    assert faults(text) == ["E202 vars"]


def test_a_fault_has_stable_keys_for_programs() -> None:
    with pytest.raises(ConfigFaults) as broken:
        loaded(HEAD + "mqtt: {window: 500}\n")
    data = broken.value.faults[0].as_json()
    assert json.loads(json.dumps(data)) == {
        "file": "edge-agent.yaml",
        "line": 3,
        "column": 16,
        "code": "E309",
        "severity": "error",
        "message": "'window' must be at most 100",
        "why": "it is 500",
        "fix": "",
        "path": "mqtt.window",
    }


def test_an_expression_is_checked_by_whoever_knows_expressions() -> None:
    def check(text: str) -> set[str]:
        if text == "bad":
            raise Problem("E402", "no such thing", fix="write good")
        return {"nowhere/x"}

    rules = "state: {rules: [{state: idle, when: %s}, {state: running}]}"
    machine = (
        "machines: {m: {line: l, device: {driver: modbus, url: tcp://h, tags: {a: {coil: 0}}}, " + rules + "}}\n"
    )

    def source(when: str) -> Source:
        return decoded("x.yaml", (HEAD + machine % when).encode())

    drivers = Drivers().options()
    assert load_source(source("bad"), Path(), drivers).config.machines
    with pytest.raises(ConfigFaults, match="E402: no such thing"):
        load_source(source("bad"), Path(), drivers, check)
    with pytest.raises(ConfigFaults, match="E408: no device 'nowhere'"):
        load_source(source("good"), Path(), drivers, check)


def test_many_machines_of_one_template_load_fast_enough_to_check_on_every_save() -> None:
    machines = "machines:\n" + "".join(
        f"  press-{i}: {{template: press, vars: {{ip: 10.0.0.{i % 250}, unit: 1}}}}\n" for i in range(300)
    )
    assert len(loaded(HEAD + TEMPLATE + machines).config.machines) == 300
