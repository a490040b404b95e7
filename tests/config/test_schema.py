"""The schema for editors accepts what the loader accepts, and refuses what is plainly wrong."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config import yaml12
from config.schema import schema
from config.source import read
from drivers.registry import Drivers

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("config/examples/*.yaml"), *ROOT.glob("drivers/*/example.yaml")])


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = schema(Drivers().options())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def as_json(path: Path) -> Any:
    """The file as an editor's JSON Schema engine sees it: every key is text."""
    return _text_keys(yaml12.plain(yaml12.parse(read(path)).root))


def _text_keys(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _text_keys(value) for key, value in data.items()}
    return [_text_keys(item) for item in data] if isinstance(data, list) else data


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_file_is_accepted(validator: jsonschema.Draft202012Validator, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(as_json(path))] == []


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    change.__name__ = ".".join(map(str, path))
    return change


def _delete(*path: str) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    change.__name__ = "without " + ".".join(path)
    return change


NONSENSE = [
    _set("version", value=2),
    _delete("version"),
    _delete("site"),
    _set("colour", value="red"),
    _set("mqtt", "window", value=500),
    _set("mqtt", "insecure", value="yes"),
    _set("mqtt", "protocol", value=4),
    _set("mqtt", "keepalive", value=15),
    _set("buffer", "max_size", value="4GB"),
    _set("devices", "meter-hall-2", "driver", value="modbsu"),
    _delete("devices", "meter-hall-2", "driver"),
    _delete("devices", "meter-hall-2", "url"),
    _set("devices", "meter-hall-2", "tags", "kwh", "type", value="float33"),
    _set("devices", "meter-hall-2", "tags", "kwh", "node", value="ns=1;s=x"),
    _set("devices", "meter hall", value={"driver": "modbus", "url": "tcp://h", "tags": {}}),
    _set("templates", "press", "vars", value="ip"),
    _set("templates", "press", "state", "map", value={"1": "idel"}),
    _set("templates", "press", "device", "wordorder", value="big"),
    _set("templates", "oven", "device", "unit", value="three"),
    _set("templates", "oven", "state", "rules", value=[{"stat": "idle"}]),
    _set("machines", "press-1", "vars", value=["10.0.0.1"]),
    _set("machines", "press-2", "downtime", "microstop", value=120),
    _set("machines", "press-2", "downtime", "micorstop", value="120s"),
    _set("machines", "press-9", value={"device": "meter-hall-2"}),
    _set("machines", "press-9", value={"line": "l", "device": {"driver": "modbus"}}),
    _set("tests", value={}),
]


@pytest.mark.parametrize("change", NONSENSE, ids=lambda change: change.__name__)
def test_nonsense_is_refused(validator: jsonschema.Draft202012Validator, change: Callable[[Any], None]) -> None:
    data = copy.deepcopy(as_json(ROOT / "config/examples/line.yaml"))
    change(data)
    assert not validator.is_valid(data)


SENSE = [
    _set("templates", "press", "ideal_cycle", value="${cycle}"),
    _set("templates", "press", "downtime", "microstop", value="${stop}s"),
    _set("machines", "press-1", "downtime", value=None),
    _set("machines", "press-1", "device", value={"scan": "2s"}),
    _set("machines", "press-1", "device", value="meter-hall-2"),
    _set("machines", "press-9", value={"line": "l", "device": "meter-hall-2"}),
    _set("mqtt", "password", value={"env": "PW"}),
    _delete("agent"),
    _set("machines", value=None),
]


@pytest.mark.parametrize("change", SENSE, ids=lambda change: change.__name__)
def test_what_the_loader_understands_is_accepted(
    validator: jsonschema.Draft202012Validator, change: Callable[[Any], None]
) -> None:
    data = copy.deepcopy(as_json(ROOT / "config/examples/line.yaml"))
    change(data)
    assert [error.message for error in validator.iter_errors(data)] == []


def test_settings_have_hover_texts() -> None:
    made = schema(Drivers().options())
    counter = made["$defs"]["Counter"]["properties"]
    assert counter["wrap"]["description"].startswith("Values until roll-over")
    assert "machines" in made["properties"]
    bare = [
        f"{name}.{key}"
        for name in ("Mqtt", "Counter", "StateOptions", "DowntimeOptions", "MachineOptions", "Buffer", "Site")
        for key, part in made["$defs"][name]["properties"].items()
        if "description" not in part
    ]
    assert bare == []
