"""tags export and import: to a spreadsheet and back, without loss, and into the file without touching the rest."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import Result

from config.source import Source
from config.yaml12 import Map, parse, plain
from edge_agent import tag_edits
from edge_agent.cli.exits import ExitCode
from edge_agent.tag_table import Row, flow, read, written, yaml_line

Run = Callable[..., Result]
LINE = """\
version: 1
agent: {id: a1}
site: {enterprise: acme, site: sz1, area: hall}   # the hall at the river
mqtt: {url: mqtt://127.0.0.1:1883, password: {env: MOM}, username: a}

devices:
  meter:
    driver: modbus
    url: tcp://10.20.1.30
    tags: {kwh: {holding: 200, type: float32, unit: KWH}, on: {coil: 4}}

machines:
  # the old oven
  oven-1:
    line: line3
    device:
      driver: modbus
      url: tcp://10.20.1.31
      tags:
        burner: {coil: 0}          # on while it heats
        temp:                      # in the middle zone
          reference: 30101
          type: float32            # IEEE 754
          scale: 0.1
          # the sensor is new
          unit: CEL

        trays:  {holding: 200, type: uint32}
      # nothing below
    counters:
      main: {good: trays}
  press-1: {template: press, line: line3, vars: {ip: 10.20.1.11}}

templates:
  press:
    vars: [ip]
    device:
      driver: opcua
      url: "opc.tcp://${ip}:4840"
      tags:
        total: {node: 'nsu=urn:acme:press;s="Press"."Total"', type: uint16}
    counters: {main: {total: total}}
"""


@pytest.fixture
def line(tmp_path: Path, edge_agent: Run) -> Path:
    path = tmp_path / "edge-agent.yaml"
    path.write_text(LINE, encoding="utf-8")
    return path


def cells(path: Path) -> list[list[str]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=";"))


@pytest.mark.parametrize("delimiter", [";", ",", "\\t"])
def test_what_is_exported_and_imported_again_changes_nothing(edge_agent: Run, line: Path, delimiter: str) -> None:
    done = edge_agent("tags", "export", "tags.csv", "--delimiter", delimiter)
    assert done.exit_code == 0, done.stderr
    assert (line.parent / "tags.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    done = edge_agent("tags", "import", "tags.csv")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "tags.csv changes nothing: 6 tags are as they are in the configuration\n"
    assert line.read_text("utf-8") == LINE
    assert sorted(os.listdir(line.parent)) == ["edge-agent.yaml", "tags.csv"]


def test_numbers_have_a_comma_where_cells_have_a_semicolon(edge_agent: Run, line: Path) -> None:
    assert edge_agent("tags", "export", "tags.csv", "--device", "oven-1").exit_code == 0
    header, burner, temp, _ = cells(line.parent / "tags.csv")
    assert header == ["device", "tag", "coil", "holding", "reference", "type", "unit", "scale"]
    assert burner == ["oven-1", "burner", "0", "", "", "", "", ""]
    assert temp == ["oven-1", "temp", "", "", "30101", "float32", "CEL", "0,1"]
    assert edge_agent("tags", "export", "tags.csv").exit_code == ExitCode.WILL_NOT_OVERWRITE


def test_only_what_differs_is_written_and_comments_stay(edge_agent: Run, line: Path) -> None:
    (line.parent / "new.csv").write_text(
        "device;tag;coil;holding;reference;type;scale;unit;deadband\n"
        "oven-1;burner;7;;;;;;\n"
        "oven-1;temp;;;30101;float32;0,5;;0,2\n"
        "oven-1;door;3;;;;;;\n"
        "meter;kwh;;200;;float32;;KWH;\n"
        "meter;amps;;210;;float32;;AMP;\n",
        encoding="utf-8",
    )
    done = edge_agent("tags", "import", "new.csv")
    assert done.exit_code == ExitCode.WILL_NOT_OVERWRITE
    assert "new.csv:2: oven-1/burner" in done.stderr
    assert line.read_text("utf-8") == LINE
    dry = edge_agent("tags", "import", "new.csv", "--on-conflict", "overwrite", "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert "-        burner: {coil: 0}          # on while it heats" in dry.stdout
    assert line.read_text("utf-8") == LINE
    done = edge_agent("tags", "import", "new.csv", "--on-conflict", "overwrite", "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["added"], told["changed"], told["unchanged"]) == (
        ["oven-1/door", "meter/amps"], ["oven-1/burner", "oven-1/temp"], 1
    )  # fmt: skip
    expected = (
        LINE.replace("burner: {coil: 0} ", "burner: {coil: 7} ")
        .replace("scale: 0.1\n", "scale: 0.5\n")
        .replace("          unit: CEL\n", "          deadband: 0.2\n")
        .replace("type: uint32}\n", "type: uint32}\n        door: {coil: 3}\n")
        .replace("on: {coil: 4}}", "on: {coil: 4}, amps: {holding: 210, type: float32, unit: AMP}}")
    )
    assert line.read_text("utf-8") == expected
    assert (line.parent / "edge-agent.yaml.bak").read_text("utf-8") == LINE
    assert edge_agent("validate").exit_code == 0


def test_skip_leaves_what_is_there_and_adds_the_rest(edge_agent: Run, line: Path) -> None:
    (line.parent / "new.csv").write_text("tag,coil\nburner,7\ndoor,3\n", encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--device", "oven-1", "--on-conflict", "skip")
    assert done.exit_code == 0, done.stderr
    assert "1 tag added, 0 changed, 0 as they were, 1 skipped" in done.stdout
    assert line.read_text("utf-8") == LINE.replace("type: uint32}\n", "type: uint32}\n        door: {coil: 3}\n")


def test_a_tag_without_a_row_stays_unless_it_is_to_be_taken_out(edge_agent: Run, line: Path) -> None:
    (line.parent / "new.csv").write_text(
        "device;tag;holding;type\noven-1;trays;200;uint32\nmeter;amps;210;float32\n", encoding="utf-8"
    )
    kept = edge_agent("tags", "import", "new.csv", "--dry-run").stdout
    assert kept.endswith("1 tag would be added, 0 would be changed, 1 as they were\n")
    dry = edge_agent("tags", "import", "new.csv", "--prune", "--dry-run")
    assert "4 would be taken out: oven-1/burner, oven-1/temp, meter/kwh, meter/on" in dry.stdout
    assert "-        burner: {coil: 0}          # on while it heats" in dry.stdout
    assert line.read_text("utf-8") == LINE
    done = edge_agent("tags", "import", "new.csv", "--prune", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["removed"] == ["oven-1/burner", "oven-1/temp", "meter/kwh", "meter/on"]
    start, end = LINE.index("        burner:"), LINE.index("\n        trays:")
    text = LINE[:start] + LINE[end:]
    before, after = (
        "{kwh: {holding: 200, type: float32, unit: KWH}, on: {coil: 4}}",
        "{amps: {holding: 210, type: float32}}",
    )
    assert line.read_text("utf-8") == text.replace(before, after)
    assert edge_agent("validate").exit_code == 0
    assert (line.parent / "edge-agent.yaml.bak").read_text("utf-8") == LINE


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("device;tag;coil\noven-1;burner;0\n", "edge-agent.yaml:24:20: error E401"),
        (
            "device;tag;node;type\npress-1;other;i=1;bool\n",
            "press-1/total has no row, and stands in template press",
        ),
    ],
)
def test_a_tag_that_is_used_or_of_a_template_is_not_taken_out(
    edge_agent: Run, line: Path, rows: str, said: str
) -> None:
    (line.parent / "new.csv").write_text(rows, encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--prune")
    assert done.exit_code == ExitCode.BAD_CONFIG, done.stdout
    assert said in done.stderr
    assert line.read_text("utf-8") == LINE


def test_tags_that_devices_share_are_taken_out_once_and_of_all_or_none(edge_agent: Run, line: Path) -> None:
    shared = LINE.replace("  meter:\n", "  pump:\n    driver: modbus\n    url: tcp://10.20.1.32\n    tags: &tags\n"
        "      on: {coil: 4}\n      amps: {holding: 2}\n      volts: {holding: 3}\n"
        "  spare: {driver: modbus, url: tcp://10.20.1.33, tags: *tags}\n  meter:\n")  # fmt: skip
    line.write_text(shared, encoding="utf-8")
    rows = "device;tag;coil;holding\npump;on;4;\npump;volts;;3\n"
    (line.parent / "new.csv").write_text(rows, encoding="utf-8")
    refused = edge_agent("tags", "import", "new.csv", "--prune")
    assert refused.exit_code == ExitCode.BAD_CONFIG
    assert "pump/amps has no row, and its lines are those of spare/amps too" in refused.stderr
    assert line.read_text("utf-8") == shared
    (line.parent / "new.csv").write_text(f"{rows}spare;on;4;\nspare;volts;;3\n", encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--prune")
    assert done.exit_code == 0, done.stderr
    assert line.read_text("utf-8") == shared.replace("      amps: {holding: 2}\n", "")
    (line.parent / "new.csv").write_text("device;tag;coil\npump;on;5\nspare;on;61\n", encoding="utf-8")
    differ = edge_agent("tags", "import", "new.csv", "--on-conflict", "overwrite")
    assert "rows of devices that share their tags differ" in differ.stderr


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("device;tag;coil\noven-2;door;3\n", "new.csv:2:1: error E206: there is no device 'oven-2'"),
        ("tag;coil\ndoor;3\n", "new.csv:2:1: error E206: it does not say of which device it is"),
        ("device;tag;coil\noven-1;door;99999\n", "new.csv:2:13: error E309"),
        ("device;tag;coil;holding\noven-1;door;3;4\n", "new.csv:2:8: error E302"),
        ("device;tag;coil\noven-1;the door;3\n", "new.csv:2:8: error E3"),
        (
            "device;tag;node;type\npress-1;x;i=1;bool\n",
            "new.csv:2:9: error E206: the tags of press-1 stand in template",
        ),
        ("device;tag;node;type\npress-1;total;i=1;bool\n", "press-1/total stands in template press, line 41"),
        ("device;tag;coil\noven-1;door;3;4\n", "new.csv:2:1: error E206: this row has 4 cells"),
        ("device;tag;index\noven-1;door;[1\n", "new.csv:2:13: error E206"),
    ],
)
def test_a_fault_is_named_by_line_and_column_and_nothing_is_written(
    edge_agent: Run, line: Path, table: str, said: str
) -> None:
    (line.parent / "new.csv").write_text(table, encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--on-conflict", "overwrite")
    assert done.exit_code == ExitCode.BAD_CONFIG, done.stdout
    assert said in done.stderr
    assert line.read_text("utf-8") == LINE
    assert sorted(os.listdir(line.parent)) == ["edge-agent.yaml", "new.csv"]


def test_an_included_file_is_written_where_the_tags_stand(edge_agent: Run, tmp_path: Path) -> None:
    main = "version: 1\r\nsite: {enterprise: acme, site: sz1, area: hall}\r\ninclude: [meters.yaml]\r\n"
    meters = (
        "devices:\r\n  meter:\r\n    driver: modbus\r\n    url: tcp://10.0.0.1\r\n    tags:\r\n      a: {holding: 1}"
    )
    (tmp_path / "edge-agent.yaml").write_bytes(main.encode())
    (tmp_path / "meters.yaml").write_bytes(meters.encode())
    (tmp_path / "new.csv").write_text("tag;holding\nb;2\nc;3\n", encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "edge-agent.yaml").read_bytes() == main.encode()
    assert (tmp_path / "meters.yaml").read_bytes().decode() == (
        f"{meters}\r\n      b: {{holding: 2}}\r\n      c: {{holding: 3}}\r\n"
    )


@pytest.mark.parametrize(
    ("tags", "row", "expected"),
    [
        ("{\n      a: {coil: 1},\n    }", "b;;2", "{\n      a: {coil: 1},\n    b: {coil: 2}}"),
        (
            "\n      a:\n        holding: 1\n        unit:\n",
            "a;KWH;;1",
            "\n      a:\n        holding: 1\n        unit: KWH\n",
        ),
        ("\n      a:\n        coil: 1 # x\n      # y\n", "a;;2", "\n      a:\n        coil: 2 # x\n      # y\n"),
        ("\n      a: {coil: 1}\n  # y\n", "b;;2", "\n      a: {coil: 1}\n      b: {coil: 2}\n  # y\n"),
        (
            "\n      a:\n        coil:\n          1\n",
            "b;;2",
            "\n      a:\n        coil:\n          1\n      b: {coil: 2}\n",
        ),
    ],
)
def test_however_tags_are_laid_out_the_edit_fits_in(
    edge_agent: Run, tmp_path: Path, tags: str, row: str, expected: str
) -> None:
    head = "version: 1\nsite: {enterprise: a, site: b, area: c}\ndevices:\n  m:\n    driver: modbus\n"
    head += "    url: tcp://10.0.0.1\n    tags: "
    path = tmp_path / "edge-agent.yaml"
    path.write_text(head + tags, encoding="utf-8")
    (tmp_path / "new.csv").write_text(f"tag;unit;coil;holding\n{row}\n", encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--on-conflict", "overwrite")
    assert done.exit_code == 0, done.stderr
    assert path.read_text("utf-8").rstrip("\n") == (head + expected).rstrip("\n")


def test_a_secret_of_the_file_is_not_shown_in_the_difference(edge_agent: Run, line: Path) -> None:
    line.write_text(LINE.replace("password: {env: MOM}", "password: hunter2"), encoding="utf-8")
    (line.parent / "new.csv").write_text("tag;coil\ndoor;3\n", encoding="utf-8")
    done = edge_agent("tags", "import", "new.csv", "--device", "meter", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12)
VALUE = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXT,
                  st.lists(st.integers(0, 9), max_size=3))  # fmt: skip
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "node": TEXT, "unit": TEXT, "scale": st.floats(allow_nan=False, allow_infinity=False), "holding": VALUE,
        "value": VALUE, "index": VALUE, "type": TEXT,
    },
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.sampled_from('tagdeviceholng;,\t"[]{}01.-+: \n\r\u2028\x85é'), max_size=80),
    st.sampled_from(["", "tag;holding\n"]),
)
def test_whatever_a_spreadsheet_holds_is_read_or_named(text: str, head: str) -> None:
    rows, faults = read(Source("t.csv", head + text))
    assert all(fault.line >= 1 and fault.code in ("E102", "E103", "E206") for fault in faults)
    assert all(row.tag for row in rows)


def test_a_cell_that_is_nested_without_end_is_a_fault() -> None:
    _, faults = read(Source("t.csv", "tag;index\na;" + "[" * 20_000))
    assert [fault.code for fault in faults] == ["E206"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SETTINGS, min_size=1, max_size=4), st.sampled_from(";,\t"))
def test_every_setting_comes_back_from_a_spreadsheet_as_it_went(
    tags: list[dict[str, object]], delimiter: str
) -> None:
    rows = [Row("d", f"t{n}", one) for n, one in enumerate(tags)]
    text = written(rows, delimiter).removeprefix("\ufeff")
    again, faults = read(Source("t.csv", text), delimiter)
    assert faults == []
    assert [(row.tag, dict(row.settings)) for row in again] == [(row.tag, dict(row.settings)) for row in rows]


PLAIN = st.fixed_dictionaries(
    {"holding": st.integers(0, 9)},
    optional={"type": st.sampled_from(["int16", "float32"]), "scale": st.sampled_from([0.5, 2.0]),
              "unit": st.sampled_from(["KWH", "°C", "m³/h: x", "yes", "#1"]), "index": st.just([1, 2])},
)  # fmt: skip
NAMES = st.sampled_from("abcd")


def laid_out(name: str, settings: dict[str, object], style: int) -> str:
    """A tag in braces, over lines, over lines with notes, or with its braces on lines of their own."""
    if style == 0:
        return f"    {yaml_line(name, settings)}   # {name} is kept\n"
    lines = [f"{key}: {flow(value)}" for key, value in settings.items()]
    if style == 3:
        return f"    {name}: {{\n      " + ",\n      ".join(lines) + f"\n      }}   # {name} is kept\n"
    note = "      # a note\n" if style == 2 else ""
    return f"    {name}:   # {name} is kept\n" + "".join(f"      {line}\n{note}" for line in lines) + "\n"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(NAMES, st.tuples(PLAIN, st.integers(0, 3)), min_size=1),
    st.dictionaries(NAMES, PLAIN, min_size=1),
    st.sampled_from(["", "  # the end\n", "  other: 1\n"]),
)
def test_after_an_import_the_file_means_the_rows_and_what_was_there_before(
    there: dict[str, tuple[dict[str, object], int]], rows: dict[str, dict[str, object]], tail: str
) -> None:
    text = "m:\n  tags:\n" + "".join(laid_out(name, *tag) for name, tag in there.items()) + tail
    source = Source("x.yaml", text)
    tags = parse(source).root.get("m").get("tags")  # type: ignore[union-attr]
    assert isinstance(tags, Map)
    edits, fresh = [], []
    for name, given_settings in rows.items():
        row = Row("m", name, given_settings)
        if name not in tags.items:
            fresh.append(row)
        elif tag_edits.differs(tags.items[name][1], row.settings):
            edits += tag_edits.replaced(*tags.items[name], row, source)
    after = tag_edits.applied(source, [*edits, *tag_edits.added(tags, fresh, source)])
    root = plain(parse(Source("x.yaml", after)).root)["m"]
    assert root["tags"] == {**{name: tag for name, (tag, _) in there.items()}, **rows}
    assert root.get("other") == (1 if "other" in tail else None)
    assert all(f"# {name} is kept" in after for name in there)
    assert after.endswith(tail)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(NAMES, st.tuples(PLAIN, st.integers(0, 4)), min_size=1),
    st.sets(NAMES),
    st.dictionaries(st.sampled_from("xy"), PLAIN),
    st.booleans(),
)
def test_after_a_pruning_import_the_file_means_what_was_not_taken_out_and_what_is_new(
    there: dict[str, tuple[dict[str, object], int]], gone: set[str], new: dict[str, dict[str, object]], braces: bool
) -> None:
    if braces:
        joins = (", ", ",\n      ", ",   # a note\n      ", "\n      , ", " ,")
        inside = "".join(f"{yaml_line(name, tag)}{joins[style]}" for name, (tag, style) in there.items())
        text = f"m:\n  tags: {{{inside.rstrip(' ,') if len(there) % 2 else inside}}}\n  other: 1\n"
    else:
        lines = "".join(laid_out(name, tag, style % 4) for name, (tag, style) in there.items())
        text = f"m:\n  tags:\n{lines}  other: 1\n"
    source = Source("x.yaml", text)
    tags = parse(source).root.get("m").get("tags")  # type: ignore[union-attr]
    assert isinstance(tags, Map)
    rows = [Row("m", name, tag) for name, tag in new.items()]
    edits = [*tag_edits.removed(tags, gone, source), *tag_edits.added(tags, rows, source, gone)]
    after = tag_edits.applied(source, edits)
    root = plain(parse(Source("x.yaml", after)).root)["m"]
    left = {name: tag for name, (tag, _) in there.items() if name not in gone}
    assert (root["tags"] or {}, root["other"]) == ({**left, **new}, 1)
