"""The cells of a spreadsheet saved as CSV, each with its place.

A cell in double quotes may hold the delimiter, and a quote written ""; a cell is one line.
"""

from collections.abc import Iterator
from typing import NamedTuple

from config.errors import Problem
from config.source import Source, Span

DELIMITERS = ";,\t"


class Cell(NamedTuple):
    text: str
    span: Span
    quoted: bool


class Broken(Exception):
    """A line that cannot be read, and where."""

    def __init__(self, span: Span, problem: Problem) -> None:
        super().__init__(problem.what)
        self.span = span
        self.problem = problem


def delimiter_of(source: Source) -> str:
    """The first of ; , and tab in the first line."""
    return next((char for char in source.lines[0] if char in DELIMITERS), ",")


def cells(source: Source, number: int, delimiter: str) -> list[Cell]:
    """Those of a line, counted from 1. Raises `Broken`."""
    return list(_cells(source.lines[number - 1], number, delimiter, source.file))


def _cells(line: str, number: int, delimiter: str, file: str) -> Iterator[Cell]:
    at, end = 0, len(line)
    while True:
        start = at
        while start < end and line[start] == " ":
            start += 1
        quoted = start < end and line[start] == '"'
        if quoted:
            text, at = _quoted(line, start, number, file)
            while at < end and line[at] == " ":
                at += 1
            if at < end and line[at] != delimiter:
                problem = Problem(
                    "E206", "text behind the closing quote", fix='a quote inside of quotes is written ""'
                )
                raise Broken(Span(number, at + 1, number, at + 2, file), problem)
        else:
            at = line.find(delimiter, start)
            at = end if at < 0 else at
            text = line[start:at].rstrip()
        yield Cell(text, Span(number, start + 1, number, max(at, start + 1) + 1, file), quoted)
        if at >= end:
            return
        at += 1


def _quoted(line: str, start: int, number: int, file: str) -> tuple[str, int]:
    """The text from the quote at `start` on, and where it ends."""
    parts, at = [], start + 1
    while True:
        close = line.find('"', at)
        if close < 0:
            problem = Problem("E206", "this quote is not closed on its line", fix="a cell is one line")
            raise Broken(Span(number, start + 1, number, start + 2, file), problem)
        parts.append(line[at:close])
        if line[close + 1 : close + 2] != '"':
            return "".join(parts), close + 1
        parts.append('"')
        at = close + 2
