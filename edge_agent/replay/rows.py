"""How the rows of a recording are written: CSV, JSON Lines, or YAML to be pasted under `given:`.

CSV and JSON Lines have RFC 3339 times; YAML has offsets from the first row, whose time stands above as `start`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from drivers.base import Quality
from edge_agent.clock import rfc3339
from edge_agent.replay.recording import Micros, Row

COLUMNS = ("at", "tag", "value", "quality", "source_at")
_QUALITY = {Quality.GOOD: "", Quality.UNCERTAIN: "uncertain", Quality.BAD: "bad"}


class Form(Protocol):
    """Text of the file, piece by piece."""

    def begin(self) -> str: ...

    def write(self, rows: Iterable[Row]) -> str:
        """Rows in order; those of one moment come together."""


class Csv:
    """`at,tag,value,quality,source_at`."""

    def begin(self) -> str:
        return ",".join(COLUMNS) + "\n"

    def write(self, rows: Iterable[Row]) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        for row in rows:
            source = "" if row.source_at is None else rfc3339(row.source_at)
            writer.writerow((rfc3339(row.at), row.tag, _text(row.value), _QUALITY[row.quality], source))
        return out.getvalue()


class Lines:
    """One mapping a line; rows of one moment are one mapping where the language of timelines allows it."""

    def __init__(self, head: Callable[[Micros], str], line: Callable[[Micros, Mapping[str, Any]], str]) -> None:
        self._head = head
        self._line = line
        self._at: Micros | None = None
        self._open: dict[str, Any] = {}
        self._begun = False

    def begin(self) -> str:
        return ""

    def write(self, rows: Iterable[Row]) -> str:
        out = []
        for row in rows:
            said = _said(row)
            ms = row.at // 1000
            if not self._begun:
                self._begun = True
                out.append(self._head(row.at))
            alone = len(said) > 1 or row.special
            if self._open and (alone or ms != self._at or said.keys() & self._open.keys()):
                out.append(self._close())
            self._at = ms
            self._open |= said
            if alone:
                out.append(self._close())
        out.append(self._close())
        return "".join(out)

    def _close(self) -> str:
        if not self._open or self._at is None:
            return ""
        line = self._line(self._at * 1000, self._open)
        self._open = {}
        return line + "\n"


def json_lines() -> Lines:
    return Lines(lambda _: "", lambda at, said: json.dumps({"at": rfc3339(at), **said}, ensure_ascii=False))


def yaml_lines() -> Lines:
    """Lines of `given:`."""
    start = 0

    def head(at: Micros) -> str:
        nonlocal start
        start = at // 1000
        return f"start: '{rfc3339(at)}'\ngiven:\n"

    def line(at: Micros, said: Mapping[str, Any]) -> str:
        offset = f"{(at // 1000 - start) / 1000:.3f}".rstrip("0").rstrip(".")
        members = "".join(f", {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in said.items())
        return f"  - {{at: {offset}s{members}}}"

    return Lines(head, line)


def form_for(suffix: str) -> Form:
    """By the ending of the file's name; CSV for any other."""
    if suffix in (".jsonl", ".ndjson"):
        return json_lines()
    return yaml_lines() if suffix in (".yaml", ".yml") else Csv()


def _said(row: Row) -> dict[str, Any]:
    """The row in the language of timelines, without its time."""
    if row.tag in ("device", "plc"):
        word, _, name = str(row.value).partition(" ")
        return {row.tag: {word: name}}
    if row.special:
        return {row.tag: row.value}
    said: dict[str, Any] = {}
    if row.value is not None:
        said[row.tag] = row.value
    if row.quality is not Quality.GOOD:
        said |= {"quality": _QUALITY[row.quality], "tags": [row.tag]}
    if row.source_at is not None:
        said["source_at"] = rfc3339(row.source_at)
    return said


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
