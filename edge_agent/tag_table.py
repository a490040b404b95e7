"""Tags as rows of a spreadsheet, and as lines of YAML. Pure.

A row has the device, the tag's name and its settings, one column each. Spreadsheets differ in delimiter, byte order
mark and decimal sign by the language of the PC: all of these are read; what is written has a byte order mark, so that
the spreadsheet knows that it is UTF-8. Columns that only inform a person (`value` …) are written and not read.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from config.errors import Problem
from config.yaml12 import core

FIRST = ("device", "tag")
ORDER = (
    *("node", "coil", "discrete", "holding", "input", "reference", "type", "length", "bit", "mask", "index", "field"),
    *("word_order", "byte_order", "unit", "scale", "offset", "deadband", "target", "lo", "hi"),
    *("scan", "sampling", "queue"),
)
"""Settings in the order of the columns; others follow by name."""
INFORM = ("value", "quality", "path")
_DECIMALS = ("scale", "offset", "deadband", "target", "lo", "hi", "low", "high")
_TEXTS = ("node", "reference", "field", "unit", "type", "kind")
_COMMA = re.compile(r"[-+]?\d+,\d+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


class Row(NamedTuple):
    """One tag. `line` is where it stands in the file, from 1."""

    device: str
    tag: str
    settings: Mapping[str, Any]
    line: int = 0


class BadTable(ValueError):
    """The spreadsheet cannot be read; the text says where and why."""


def written(rows: Iterable[Row], delimiter: str, inform: Sequence[Mapping[str, Any]] = ()) -> str:
    """The text of a CSV file. `inform`: for each row, what is beside it for people."""
    rows = list(rows)
    keys = {key for row in rows for key in row.settings}
    columns = [key for key in ORDER if key in keys] + sorted(keys - set(ORDER))
    shown = [key for key in INFORM if any(key in one for one in inform)]
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    table.writerow([*FIRST, *columns, *shown])
    for at, row in enumerate(rows):
        told = inform[at] if inform else {}
        cells = [_cell(row.settings.get(key), delimiter) for key in columns]
        table.writerow([row.device, row.tag, *cells, *(_cell(told.get(key), delimiter) for key in shown)])
    return "\ufeff" + out.getvalue()


def read(text: str, delimiter: str | None) -> list[Row]:
    """The tags of a CSV file; the delimiter is found out if it is not named. Raises `BadTable`."""
    text = text.removeprefix("\ufeff")
    first = text.partition("\n")[0]
    by = delimiter or max((";", "\t", ","), key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=by, strict=True)
    rows: list[Row] = []
    try:
        header = [cell.strip() for cell in next(lines, [])]
        if "tag" not in header:
            raise BadTable(
                f"line 1: the columns need the names device and tag, and those of settings: {first[:80]!r}"
            )
        doubled = {name for name in header if name and header.count(name) > 1}
        if doubled:
            raise BadTable(f"line 1: the column {min(doubled)} is there twice")
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise BadTable(f"line {lines.line_num}: {len(cells)} cells, but {len(header)} columns have names")
            rows.append(_row(dict(zip(header, cells, strict=False)), lines.line_num, by))
    except csv.Error as error:
        raise BadTable(f"line {lines.line_num}: {error}") from None
    return rows


def _row(cells: Mapping[str, str], line: int, delimiter: str) -> Row:
    settings: dict[str, Any] = {}
    for key, cell in cells.items():
        text = cell.strip()
        if not key or key in (*FIRST, *INFORM) or not text:
            continue
        settings[key] = _value(key, text, line, delimiter)
    tag = cells["tag"].strip()
    if not tag:
        raise BadTable(f"line {line}: the tag has no name")
    return Row(cells.get("device", "").strip(), tag, settings, line)


def _value(key: str, text: str, line: int, delimiter: str) -> Any:
    if key in _TEXTS:
        return text
    if key in _DECIMALS and _COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return json.loads(text) if text.startswith(("[", "{")) else core(text)
    except (Problem, ValueError) as error:
        raise BadTable(f"line {line}: {key}: {text!r} cannot be read: {error}") from None


def _cell(value: Any, delimiter: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and delimiter == ";":
        return repr(value).replace(".", ",")  # a spreadsheet that has ; between cells has , in numbers
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def yaml_line(name: str, settings: Mapping[str, Any]) -> str:
    """`Status: {node: 'nsu=urn:acme:press;s=Status', type: int16}`."""
    inside = ", ".join(f"{key}: {flow(value)}" for key, value in settings.items())
    return f"{flow(name)}: {{{inside}}}"


def flow(value: Any) -> str:
    """A value as it stands within braces."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else "'" + value.replace("'", "''") + "'" if value.isprintable() else json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(part)}' for key, part in value.items())}}}"
    return json.dumps(value)


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
