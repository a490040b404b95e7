"""Tags as rows of a spreadsheet, and as lines of YAML. Pure.

A row has the device, the tag's name and its settings, one column each. Spreadsheets differ in delimiter, byte order
mark and decimal sign by the language of the PC: all of these are read; what is written has a byte order mark, so that
the spreadsheet knows that it is UTF-8. Columns that only inform a person (`value` …) are written and not read.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from config.cells import Broken, Cell, cells, delimiter_of
from config.errors import Fault, Problem
from config.source import TOP, Source, Span
from config.yaml12 import core

FIRST = ("device", "tag")
ORDER = (
    *("node", "coil", "discrete", "holding", "input", "reference", "type", "length", "bit", "mask", "index", "field"),
    *("word_order", "byte_order", "unit", "scale", "offset", "deadband", "target", "lo", "hi"),
    *("scan", "sampling", "queue"),
)
"""Settings in the order of the columns; others follow by name."""
INFORM = {"value": "now", "quality": "quality", "path": "path"}
"""What is told beside a tag → its column. No setting has such a name."""
_TOLD = tuple(INFORM.values())
_DECIMALS = ("scale", "offset", "deadband", "target", "lo", "hi", "low", "high")
TEXTS = ("node", "reference", "field", "unit", "type", "kind")
_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


class Row(NamedTuple):
    """One tag. `places`: where its cells stand, by column."""

    device: str
    tag: str
    settings: Mapping[str, Any]
    places: Mapping[str, Span] = {}


def written(rows: Iterable[Row], delimiter: str, inform: Sequence[Mapping[str, Any]] = ()) -> str:
    """The text of a CSV file. `inform`: for each row, what is beside it for people."""
    rows = list(rows)
    keys = {key for row in rows for key in row.settings}
    columns = [key for key in ORDER if key in keys] + sorted(keys - set(ORDER))
    shown = [key for key in INFORM if any(key in one for one in inform)]
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    table.writerow([*FIRST, *columns, *(INFORM[key] for key in shown)])
    for at, row in enumerate(rows):
        told = inform[at] if inform else {}
        settings = [_cell(key, row.settings.get(key), delimiter) for key in columns]
        table.writerow(
            [row.device, row.tag, *settings, *(_cell(INFORM[key], told.get(key), delimiter) for key in shown)]
        )
    return "\ufeff" + out.getvalue()


def read(source: Source, delimiter: str | None = None) -> tuple[list[Row], list[Fault]]:
    """The tags of a CSV file, and what of it cannot be read. The delimiter is found out if it is not named."""
    by = delimiter or delimiter_of(source)
    faults: list[Fault] = []
    lines = _lines(source, by, faults)
    header = next(lines, [])
    columns = [cell.text for cell in header]
    if "tag" not in columns:
        what = "no column is called 'tag'"
        why = f"the first row of {source.file} names the columns: device, tag, and settings such as node or holding"
        return [], [*faults, source.fault(header[0].span if header else TOP, Problem("E206", what, why=why))]
    for at, cell in enumerate(header):
        if cell.text and cell.text in columns[:at]:
            faults.append(source.fault(cell.span, Problem("E206", f"the column '{cell.text}' is there twice")))
    rows, met = [], dict[tuple[str, str], int]()
    for row in lines:
        named = dict(zip(columns, row, strict=False))
        if any(cell.text for cell in row[len(columns) :]):
            what = f"this row has {len(row)} cells, and the first row has {len(columns)}"
            faults.append(source.fault(row[0].span, Problem("E206", what, fix=_QUOTES)))
        elif "tag" not in named or not named["tag"].text:
            faults.append(source.fault(row[0].span, Problem("E206", "this tag has no name")))
        else:
            found = _row(named, source, by, faults)
            key, line = (found.device, found.tag), found.places["tag"].line
            if key in met:
                what = f"'{found.tag}' is there twice, first on line {met[key]}"
                faults.append(source.fault(found.places["tag"], Problem("E102", what, fix="delete one")))
            met.setdefault(key, line)
            rows.append(found)
    return rows, faults


_QUOTES = "a text with the delimiter in it needs quotes"


def _lines(source: Source, delimiter: str, faults: list[Fault]) -> Iterator[list[Cell]]:
    """The rows that hold anything."""
    for number in range(1, len(source.lines) + 1):
        try:
            row = cells(source, number, delimiter)
        except Broken as broken:
            faults.append(source.fault(broken.span, broken.problem))
            continue
        if any(cell.text for cell in row):
            yield row


def _row(named: Mapping[str, Cell], source: Source, delimiter: str, faults: list[Fault]) -> Row:
    settings: dict[str, Any] = {}
    for key, cell in named.items():
        if not key or key in (*FIRST, *_TOLD) or not cell.text:
            continue
        try:
            settings[key] = _value(key, cell.text)
        except Problem as problem:
            told = Problem(problem.code, problem.what, why=problem.why, fix=problem.fix)
            faults.append(source.fault(cell.span, told))
        except ValueError as error:
            faults.append(source.fault(cell.span, Problem("E206", f"'{key}' cannot be read: {error}")))
    device = named["device"].text if "device" in named else ""
    return Row(device, named["tag"].text, settings, {key: cell.span for key, cell in named.items()})


def _value(key: str, text: str) -> Any:
    if text.startswith(("[", "{", '"')):
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
    if key in TEXTS:
        return text
    if key in _DECIMALS and _COMMA.fullmatch(text):
        text = text.replace(",", ".")
    return core(text)


def _cell(key: str, value: Any, delimiter: str) -> str:
    """As `_value` reads it again."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and delimiter == ";" and key in (*_DECIMALS, *_TOLD):
        return repr(value).replace(".", ",")  # a spreadsheet that has ; between cells has , in numbers
    if isinstance(value, str) and not (key in _TOLD or _stands(key, value)):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _stands(key: str, text: str) -> bool:
    """Whether the text, written plainly, is read as itself."""
    try:
        return text == text.strip() and text != "" and text.isprintable() and _value(key, text) == text
    except ValueError:
        return False


def yaml_line(name: str, settings: Mapping[str, Any]) -> str:
    """`Status: {node: 'nsu=urn:acme:press;s=Status', type: int16}`."""
    inside = ", ".join(f"{key}: {flow(value)}" for key, value in settings.items())
    return f"{flow(name)}: {{{inside}}}"


def flow(value: Any) -> str:
    """A value as it stands within braces."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and _is_text(value)
        return value if plain else "'" + value.replace("'", "''") + "'" if value.isprintable() else json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(part)}' for key, part in value.items())}}}"
    return json.dumps(value)


def _is_text(value: str) -> bool:
    """Whether YAML reads it as text as it stands."""
    try:
        return core(value) == value
    except Problem:
        return False


def names(found: Iterable[str]) -> list[str]:
    """Names that tags may have, one for each that the device uses, no two alike."""
    taken: set[str] = set()
    out = []
    for name in found:
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "tag"
        unique, n = base, 2
        while unique in taken:
            unique, n = f"{base}_{n}", n + 1
        taken.add(unique)
        out.append(unique)
    return out
