"""Tags of a spreadsheet into the text of a configuration: what differs is written, everything else stays as it is.

Comments, order and layout of the file are people's work. A tag in braces is written anew in its place; in a tag of
several lines single settings are changed, added and taken out; new tags go below the last one; what is taken out goes
with its lines. Pure.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from config.source import BREAK, Source, Span
from config.yaml12 import Map, Node, Scalar, Seq, plain, walk
from edge_agent.tag_table import TEXTS, Row, flow, yaml_line

NOTE = re.compile(r"(^|\s)#.*")


class Edit(NamedTuple):
    """Text in place of a span; of a span without extent: before it."""

    span: Span
    text: str


def differs(there: Node, settings: Mapping[str, Any]) -> bool:
    """Whether a tag as it is written means something else than a row. A number that is text to a tag, such as a
    reference, may stand in quotes or not."""
    if not isinstance(there, Map):
        return True
    return _meant(plain(there)) != _meant(settings)


def _meant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: str(value) if key in TEXTS else (type(value) is bool, value)
        for key, value in settings.items()
        if value is not None
    }


def replaced(key: Scalar, there: Node, row: Row, source: Source) -> Iterator[Edit]:
    """The edits that make a tag what the row says."""
    if not isinstance(there, Map) or _braced(there, source) or not there.items:
        whole = Span(key.span.line, key.span.column, there.span.end_line, there.span.end_column, there.span.file)
        yield Edit(whole, yaml_line(row.tag, row.settings))
        return
    if any(not isinstance(value, Scalar) and not _braced(value, source) for _, value in there):
        indent = " " * (key.span.column - 1)
        yield Edit(_lines(key.span.line, _last_line(there, key), key.span.file), f"{indent}{yaml_line(*row[1:3])}\n")
        return
    old, new = _meant(plain(there)), _meant(row.settings)
    for name, value in there:
        if name.value not in new:
            yield Edit(_lines(name.span.line, _last_line(value, name), there.span.file), "")
        elif new[str(name.value)] != old.get(str(name.value)):
            empty = isinstance(value, Scalar) and value.raw == "" and not value.quoted
            behind = name.span.end_column + 1  # the colon
            spot = Span(name.span.line, behind, name.span.line, behind, name.span.file) if empty else value.span
            yield Edit(spot, f"{' ' if empty else ''}{flow(row.settings[str(name.value)])}")
    first = next(iter(there))[0]
    added = [setting for setting in row.settings if setting not in there.items and row.settings[setting] is not None]
    yield from _below(there, " " * (first.span.column - 1), [f"{name}: {flow(row.settings[name])}" for name in added])


def removed(tags: Map, gone: Collection[str], source: Source) -> Iterator[Edit]:
    """The edits that take tags out. Notes on lines of their own stay."""
    entries = list(tags)
    file, kept_before = tags.span.file, False
    for at, (key, value) in enumerate(entries):
        if key.value not in gone:
            kept_before = True
            continue
        start, end = key.span, value.span
        if not _braced(tags, source):
            yield Edit(_lines(start.line, _last_line(value, key), file), "")
        elif not kept_before:
            after = entries[at + 1][0].span if at + 1 < len(entries) else tags.span
            last = (after.line, after.column) if after is not tags.span else (after.end_line, after.end_column - 1)
            yield Edit(Span(start.line, start.column, *last, file), "")
        else:
            before = entries[at - 1][1].span
            behind = source.lines[before.end_line - 1][before.end_column - 1 :]
            if before.end_line < start.line and behind.lstrip().startswith(",") and "#" in behind:
                comma = before.end_column + behind.index(",")
                yield Edit(Span(before.end_line, comma, before.end_line, comma + 1, file), "")
                before = Span(start.line, start.column, start.line, start.column, file)
            yield Edit(Span(before.end_line, before.end_column, end.end_line, end.end_column, file), "")


def added(tags: Map, rows: Sequence[Row], source: Source, gone: Collection[str] = ()) -> Iterator[Edit]:
    """The edits that put new tags behind those that are there; `gone` are those that are taken out."""
    if not rows:
        return
    lines = [yaml_line(row.tag, row.settings) for row in rows]
    if _braced(tags, source) or not tags.items:
        end = tags.span
        spot = Span(end.end_line, end.end_column - 1, end.end_line, end.end_column - 1, end.file)
        left = [value for key, value in tags if key.value not in gone]
        open_to_more = not left or "," in _behind(list(tags)[-1][1].span, end, source)
        yield Edit(spot, ("" if open_to_more else ", ") + ", ".join(lines))
        return
    first = next(iter(tags))[0]
    yield from _below(tags, " " * (first.span.column - 1), lines)


def applied(source: Source, edits: Sequence[Edit]) -> str:
    """The text of the file with the edits, which do not overlap."""
    starts = [0, *(found.end() for found in BREAK.finditer(source.text))]
    newline = found[0] if (found := BREAK.search(source.text)) else "\n"
    text = source.text
    if not text.endswith(("\n", "\r")):
        text += newline
        starts.append(len(text))

    def offset(line: int, column: int) -> int:
        return min(starts[min(line, len(starts)) - 1] + column - 1, len(text))

    ordered = sorted(enumerate(edits), key=lambda one: (one[1].span.line, one[1].span.column, one[0]))
    for _, (span, new) in reversed(ordered):
        begin, end = offset(span.line, span.column), offset(span.end_line, span.end_column)
        text = text[:begin] + new.replace("\n", newline) + text[end:]
    return text


def _below(node: Map, indent: str, lines: Sequence[str]) -> Iterator[Edit]:
    """New lines behind the last one of a mapping that is not in braces."""
    if lines:
        name, value = list(node)[-1]
        after = _last_line(value, name) + 1
        yield Edit(Span(after, 1, after, 1, node.span.file), "".join(f"{indent}{line}\n" for line in lines))


def _behind(last: Span, whole: Span, source: Source) -> str:
    """What stands between the last part of a whole in braces and its closing brace, but for notes."""
    lines = list(source.lines[last.end_line - 1 : whole.end_line])
    lines[-1] = lines[-1][: whole.end_column - 2]
    lines[0] = lines[0][last.end_column - 1 :]
    return "".join(NOTE.sub("", line) for line in lines)


def _lines(first: int, last: int, file: str) -> Span:
    return Span(first, 1, last + 1, 1, file)


def _last_line(value: Node, name: Scalar) -> int:
    """Where a value ends; the parser ends what is not in braces at the next thing, behind comments."""
    ends = [part.span.end_line for _, part in walk(value) if isinstance(part, Scalar) or not part.items]
    same = isinstance(value, Map | Seq) and value.span.line == name.span.line
    return max([name.span.line, *ends, *([value.span.end_line] if same else [])])


def _braced(node: Map | Seq, source: Source) -> bool:
    line = source.lines[node.span.line - 1]
    return line[node.span.column - 1 : node.span.column] in ("{", "[")
