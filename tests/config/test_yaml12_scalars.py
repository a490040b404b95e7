"""What plain scalars mean, and what a file may not hold."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import yaml12
from config.errors import ConfigFaults, Problem
from config.source import LARGEST, decoded, read
from config.yaml12 import Map, core, plain


def parsed(text: str) -> yaml12.Document:
    return yaml12.parse(decoded("test.yaml", text.encode()))


def value(text: str) -> object:
    return plain(parsed(f"key: {text}\n").root)["key"]


@pytest.mark.parametrize(
    "text",
    [
        "14:00",
        "08:00",
        "1:30:00",
        "on",
        "off",
        "yes",
        "no",
        "Y",
        "n",
        "1_000",
        "2026-03-02",
        "0b11",
        "=",
        "1e",
        "+",
        ".",
    ],
)
def test_what_yaml_1_1_turned_into_numbers_and_truth_is_text(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("0", 0), ("-0", 0), ("12", 12), ("+12", 12), ("-7", -7), ("0x1F", 31), ("0o17", 15),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-2.5E-1", -0.25), ("0.1", 0.1), ("0.0", 0.0),
        (".inf", math.inf), ("-.INF", -math.inf),
        ("true", True), ("True", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("'12'", "12"), ('"true"', "true"), ("9" * 60, "9" * 60),
    ],
)  # fmt: skip
def test_a_core_scalar_means(text: str, meaning: object) -> None:
    found = value(text)
    assert found == meaning
    assert type(found) is type(meaning)


def test_nan_is_a_number() -> None:
    assert str(value(".nan")) == "nan"


@pytest.mark.parametrize("text", ["010", "00", "-07", "+01", "007.5", "01e3"])
def test_a_number_with_a_leading_zero_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        core(text)
    assert refused.value.code == "E103"


@given(st.integers() | st.floats(allow_nan=False))
def test_a_number_that_python_writes_is_read_back(number: float) -> None:
    text = repr(number).replace("inf", ".inf")
    if len(text) <= yaml12.LONGEST_NUMBER:
        assert core(text) == number


@given(st.text(max_size=12))
def test_every_text_means_something(text: str) -> None:
    assert code_of(text) in ("", "E103")


def code_of(text: str) -> str:
    try:
        core(text)
    except Problem as problem:
        return problem.code
    return ""


@given(st.text(alphabet="ab: -[]{}#&*!|>'\"%@`\n\t,?0~$é中", max_size=40))
def test_the_tree_is_what_the_stock_loader_sees_with_every_scalar_as_text(text: str) -> None:
    try:
        document = parsed(text)
    except ConfigFaults:
        return
    if not document.faults:
        assert raw(document.root) == yaml.load(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader))


def raw(node: yaml12.Node) -> object:
    if isinstance(node, Map):
        return {key.raw: raw(inner) for key, inner in node}
    return [raw(item) for item in node.items] if isinstance(node, yaml12.Seq) else node.raw


def test_every_value_knows_its_place() -> None:
    root = parsed("site:\n  area: 冲压\nlist: [1, {x: 'y z'}]\n").root
    places = {path: (node.span.line, node.span.column) for path, node in yaml12.walk(root)}
    assert places["site", "area"] == (2, 9)
    assert places["list", 0] == (3, 8)
    assert places["list", 1, "x"] == (3, 15)
    site = root.get("site")
    assert isinstance(site, Map)
    key = site.key("area")
    assert key is not None
    assert key.span[:2] == (2, 3)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_with_every_kind_of_line_end(line_end: str) -> None:
    with pytest.raises(ConfigFaults) as broken:
        parsed(line_end.join(["# comment", "", "a: 1", "b: [", ""]))
    assert broken.value.faults[0].line >= 4
    faults = parsed(line_end.join(["# comment", "", "a: 010", ""])).faults
    assert [(fault.line, fault.column) for fault in faults] == [(3, 4)]


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert plain(yaml12.parse(decoded("x", b"\xef\xbb\xbfversion: 1\n")).root) == {"version": 1}


def test_an_alias_repeats_a_value() -> None:
    assert plain(parsed("a: &x [1, 2]\nb: *x\n").root) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "a: " + "{b: " * 100_000,
        "- " * 100_000,
        "? " * 10_000,
        "a: &a [*a]\n",
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 900)),
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 35)),
        "a: &a 1\nb: [" + "*a, " * 5_000 + "]\n",
    ],
    ids=["lists", "mappings", "dashes", "questions", "itself", "chain", "laughs", "aliases"],
)
def test_a_hostile_file_is_refused_quickly(text: str) -> None:
    with pytest.raises(ConfigFaults):
        parsed(text)


def test_a_file_that_is_too_large_is_refused_without_being_parsed() -> None:
    with pytest.raises(ConfigFaults, match="E107"):
        decoded("x", b"#" * (LARGEST + 1))


def test_a_file_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults, match="E106: there is no such file"):
        read(tmp_path / "missing.yaml")
    with pytest.raises(ConfigFaults, match="E106: this is a folder"):
        read(tmp_path)
