"""What a YAML parser's complaint means, in plain words. libyaml and PyYAML's own parser word it differently."""

import re

import yaml

from config.errors import Fault, Problem
from config.source import Source, Span

_TAB = re.compile(r"[ ]*\t")


def faults(error: yaml.MarkedYAMLError, source: Source) -> list[Fault]:
    """The one place where reading stopped, or every tab when a tab was the reason."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if line <= len(source.lines) and _TAB.match(source.lines[line - 1]):
        return [_tab(source, line)]
    place, problem = _meaning(error, source, line, column)
    return [source.fault(place, problem)]


def _tab(source: Source, line: int) -> Fault:
    others = [str(n) for n, text in enumerate(source.lines, 1) if n > line and _TAB.match(text)]
    why = "YAML knows only blanks there" + (f"; the same on line {', '.join(others[:8])}" if others else "")
    problem = Problem("E101", "a tab in the indentation", why=why, fix="use blanks, two for each level")
    return source.fault(_at(line, source.lines[line - 1].index("\t") + 1), problem)


def _meaning(error: yaml.MarkedYAMLError, source: Source, line: int, column: int) -> tuple[Span, Problem]:
    text, context = error.problem or "", error.context or ""
    here = _at(line, column)
    opened = error.context_mark
    start = _at(opened.line + 1, opened.column + 1) if opened else here
    shown = source.lines[line - 1] if line <= len(source.lines) else ""
    char = shown[column - 1 : column]
    if "cannot start any token" in text:
        return here, Problem("E104", f"a value cannot start with '{char}'", fix="put the value in quotes")
    if "mapping values are not allowed" in text:
        if re.search(r":\s", shown[: max(0, column - 1)]):
            return here, Problem("E104", "a second ': ' in one value", fix="put the value in quotes")
        return _at(line, len(shown) - len(shown.lstrip()) + 1), Problem(
            "E104",
            "this line is indented too far, or a ':' is missing above it",
            fix="start it in the same column as its neighbours",
        )
    if "unknown escape" in text:
        return here, Problem(
            "E104", "a '\\' in double quotes starts a special character", fix="use single quotes: 'C:\\data'"
        )
    if "quoted scalar" in context or "quoted scalar" in text:
        return start, Problem("E104", "this quote is not closed", fix="write the same quote at the end of the value")
    if "flow sequence" in context or "flow mapping" in context:
        kind = "[" if "sequence" in context else "{"
        end = "]" if kind == "[" else "}"
        return here, Problem(
            "E104",
            f"a ',' or '{end}' is missing before this place",
            why=f"the '{kind}' in line {start.line}, column {start.column} is still open",
            fix=f"close it with '{end}'; text with , [ ] {{ }} in it needs quotes",
        )
    if "expected ':'" in text:
        return start, Problem(
            "E104", "a key without ':'", fix="write key: value; an entry of a list starts with '- '"
        )
    if "block" in context or "block" in text or "expected key" in text:
        return here, Problem(
            "E104",
            "this line does not fit the lines around it",
            why=f"the block it belongs to began in line {start.line}, column {start.column}",
            fix="start it in the same column as its neighbours; a list has '- ' before every entry",
        )
    raw = ", ".join(part for part in (context, text) if part)
    return here, Problem("E104", "this cannot be read as YAML", why=raw)


def _at(line: int, column: int) -> Span:
    return Span(line, column, line, column + 1)
