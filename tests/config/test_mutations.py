"""Whatever is done to a sound file, the answer is a configuration or a list of faults with places."""

import functools
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import yaml12
from config.errors import ConfigFaults, render
from config.load import load_source
from config.model import DeviceOptions
from config.source import Source, decoded
from drivers.registry import Drivers
from edge_agent.machine.expressions import names

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.yaml"))
SECRET = "hunter2hunter2"
TEXTS = [path.read_text("utf-8").replace("{credential: mqtt_password}", SECRET) for path in EXAMPLES]
WORDS = st.sampled_from(
    ["", "~", "true", "0", "-1", "010", "1e400", ".nan", "-.inf", "99999999999999999999", "'x'", '"', "[]", "{}",
     "[1, {a: b}]", "{1: 2}", "{driver: modbus}", "x: y", "*a", "&a b", "!t x", "${ip}", "${", "a/b", "press-1", "5",
     "5s", "1/s", "mqtt://[", "tcp://:x", "ns=0;", "\t", "中文", "\u2028", "\x07", "|", "- a", "? a", "<<: {a: b}",
     "running", "burner and", "age(", "9" * 5000, "a" * 200, "\U0001f600", "%", "@", "`", "#", "null: 1"]
)  # fmt: skip


@functools.cache
def options() -> Mapping[str, type[DeviceOptions]]:
    return Drivers().options()


def verdict(file: str | bytes) -> None:
    """Raises whatever is not a sound report."""
    data = file if isinstance(file, bytes) else file.encode("utf-8", "surrogatepass")
    try:
        loaded = load_source(decoded("x.yaml", data), Path("/x"), options(), names, "h")
    except ConfigFaults as broken:
        faults = broken.faults
        assert any(fault.severity == "error" for fault in faults)
    else:
        faults = loaded.warnings
        assert all(fault.severity == "warning" for fault in faults)
    for fault in faults:
        assert fault.file == "x.yaml"
        assert fault.line >= 1
        assert fault.column >= 1
        assert fault.what
        assert fault.render().count("\n") < 6
        assert str(fault.as_json())
    assert len({fault.render() for fault in faults}) == len(faults), "each fault once"
    if f"  password: {SECRET}".encode() in data:
        assert SECRET not in render(faults)


relaxed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.sampled_from(TEXTS), st.data())
@relaxed
def test_a_value_replaced_by_anything_is_explained(text: str, data: st.DataObject) -> None:
    nodes = [node for _, node in yaml12.walk(yaml12.parse(Source("x", text)).root)]
    lines = text.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        span = data.draw(st.sampled_from(nodes)).span
        line = lines[span.line - 1]
        end = span.end_column - 1 if span.end_line == span.line else len(line) - 1
        lines[span.line - 1] = line[: span.column - 1] + data.draw(WORDS) + line[end:]
    verdict("".join(lines))


@given(st.sampled_from(TEXTS), st.data())
@relaxed
def test_a_key_replaced_by_anything_is_explained(text: str, data: st.DataObject) -> None:
    maps = [node for _, node in yaml12.walk(yaml12.parse(Source("x", text)).root) if isinstance(node, yaml12.Map)]
    keys = [key for node in maps for key, _ in node]
    other = [key.raw for key in keys]
    span = data.draw(st.sampled_from(keys)).span
    lines = text.splitlines(keepends=True)
    line = lines[span.line - 1]
    word = data.draw(st.sampled_from(other) | WORDS)
    lines[span.line - 1] = line[: span.column - 1] + word + line[span.end_column - 1 :]
    verdict("".join(lines))


@given(st.sampled_from(TEXTS), st.data())
@relaxed
def test_lines_lost_doubled_or_moved_are_explained(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    place = st.integers(0, len(lines) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = data.draw(place), data.draw(place)
        match data.draw(st.sampled_from(["lose", "double", "swap", "indent", "cut"])):
            case "lose":
                lines[first] = ""
            case "double":
                lines[second] += lines[first]
            case "swap":
                lines[first], lines[second] = lines[second], lines[first]
            case "indent":
                lines[first] = "  " + lines[first]
            case "cut":
                lines[first] = lines[first][: second % (len(lines[first]) + 1)] + "\n"
    verdict("".join(lines))


@given(st.sampled_from(TEXTS), st.integers(0), st.text(max_size=8))
@relaxed
def test_text_typed_anywhere_is_explained(text: str, where: int, typed: str) -> None:
    place = where % len(text)
    verdict(text[:place] + typed + text[place:])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_explained(data: bytes) -> None:
    verdict(data)
