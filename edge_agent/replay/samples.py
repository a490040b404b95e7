"""Reads a recorded timeline: CSV `at,tag,value[,quality[,source_at]]` or JSON Lines `{at, TAG: VALUE…}`.

Both become the lines that `timeline` reads, with the number of the line in the file. CSV may be separated by
commas or semicolons; rows of one moment that follow each other are read together. In CSV the special keys
`device`, `plc`, `agent` and `clock` may stand where the tag stands, with their word as the value: `lost`, or
`lost oven-1` where there are several devices. Any other special key is a tag of that name there, made a line as
`/history`; entries of a ring are written in JSON Lines only.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.replay.timeline import SPECIAL

_COLUMNS = ("at", "tag", "value", "quality", "source_at")
_EVENTS = frozenset({"device", "plc", "agent", "clock"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

TypeOf = Callable[[str], str]
"""Type word of a tag reference; it decides what a text in CSV means. Raises ValueError for an unknown tag."""


class Sample(NamedTuple):
    """One line of the file as a line of a timeline."""

    number: int
    line: dict[str, Any]


class SampleFault(ValueError):
    """A line of the file that cannot be read; `number` counts from 1."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(what)
        self.number = number


def read_samples(path: Path, type_of: TypeOf) -> list[Sample]:
    """The whole file, or standard input for `-`. JSON Lines when its name says so or its first character is `{`.

    Raises OSError, UnicodeDecodeError, SampleFault.
    """
    text = sys.stdin.read() if path == Path("-") else path.read_text(encoding="utf-8-sig")
    return list(parse(text, type_of, json_lines=path.suffix in (".jsonl", ".ndjson")))


def parse(text: str, type_of: TypeOf, *, json_lines: bool = False) -> Iterator[Sample]:
    """Raises `SampleFault`."""
    if json_lines or text.lstrip().startswith("{"):
        return _json_lines(text)
    return _gathered(_rows(text, type_of))


def _json_lines(text: str) -> Iterator[Sample]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            made = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise SampleFault(f"the line is not JSON: {error}", number) from error
        if not isinstance(made, dict):
            raise SampleFault("the line is not a JSON object", number)
        yield Sample(number, made)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is written twice")
    return made


def _rows(text: str, type_of: TypeOf) -> Iterator[Sample]:
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if header[:3] != list(_COLUMNS[:3]) or any(name not in _COLUMNS for name in header):
            raise SampleFault(f"the first line must be {delimiter.join(_COLUMNS)} (the last two are optional)", 1)
        for row in rows:
            if row:
                yield Sample(rows.line_num, _row(row, header, rows.line_num, type_of, comma=delimiter == ";"))
    except csv.Error as error:
        raise SampleFault(f"the line cannot be read: {error}", rows.line_num) from error


def _row(row: list[str], header: list[str], number: int, type_of: TypeOf, *, comma: bool) -> dict[str, Any]:
    if len(row) > len(header):
        raise SampleFault(f"{len(row)} values, but the first line names {len(header)} columns", number)
    cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
    tag = cells.get("tag", "")
    if not cells.get("at") or not tag:
        raise SampleFault("`at` and `tag` must not be empty", number)
    line: dict[str, Any] = {"at": cells["at"]}
    if tag in _EVENTS:
        word, _, device = cells.get("value", "").partition(" ")
        return {**line, tag: {word: device} if device else word}
    quality = cells.get("quality", "").lower() or "good"
    if quality != "good":
        line |= {"quality": quality, "tags": [tag]}
    if quality != "bad":
        try:
            value = cells.get("value", "")
            line[f"/{tag}" if tag in SPECIAL else tag] = (
                value if (kind := type_of(tag)) in ("string", "conditions") else _value(value, kind, comma=comma)
            )
        except ValueError as error:
            raise SampleFault(str(error), number) from error
    if cells.get("source_at"):
        line["source_at"] = cells["source_at"]
    return line


def _value(text: str, kind: str, *, comma: bool) -> bool | int | float:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if comma:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a value of type {kind}")
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _gathered(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Rows of one moment as one line, unless a tag comes again or a quality or source time is of its own."""
    open_: Sample | None = None
    for sample in samples:
        line = sample.line
        if open_ is not None and _joins(open_.line, line):
            open_.line.update(line)
            continue
        if open_ is not None:
            yield open_
        open_ = sample
    if open_ is not None:
        yield open_


def _joins(before: dict[str, Any], line: dict[str, Any]) -> bool:
    alone = {"quality", "source_at", *_EVENTS}
    return before["at"] == line["at"] and before.keys() & line.keys() == {"at"} and not alone & (before | line).keys()
