"""The text of a configuration file: read with limits, and shown line by line without its secrets."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from config.errors import ConfigFaults, Fault, Problem

LARGEST = 4 << 20
"""Bytes. A configuration of hundreds of machines is a tenth of it."""

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line, as YAML has it."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SECRET_KEY = r"(?:\w+[_-])?(?:pass(?:word|phrase|wd)|secret|token|pwd)"
_SECRET_KEY_ALONE = re.compile(_SECRET_KEY, re.IGNORECASE)
_SECRET_VALUE = re.compile(
    rf"""(\b{_SECRET_KEY}["']?\s*:\s*)(?!\{{\s*(?:credential|file|env)\b)"""
    r"""("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|[{\[].*|[^\s,}][^,}]*)""",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"//[^/@\s:'\"]*:[^/@\s]*@")
_MASK = "***"


class Span(NamedTuple):
    """A place in a file, from its first character to just behind its last; all count from 1. `file` is the name of
    the `Source`; empty for the one that the user named."""

    line: int
    column: int
    end_line: int
    end_column: int
    file: str = ""


TOP = Span(1, 1, 1, 1)


@lru_cache(1024)
def is_secret(key: object) -> bool:
    """Whether the value of a key of this name must never be shown."""
    return isinstance(key, str) and _SECRET_KEY_ALONE.fullmatch(key) is not None


def mask(text: str) -> str:
    """The text without user names and passwords in URLs."""
    return _USER_IN_URL.sub(f"//{_MASK}@", text)


class Source:
    """One file's lines. `file` is its name as the user gave it."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.lines = BREAK.split(text)
        self.parsed = False
        """Once the tree is known it says what to hide; until then anything that looks like a secret is hidden."""
        self._hidden: dict[int, list[tuple[int, int]]] = {}

    def hide(self, span: Span) -> None:
        """Never show what is at this place."""
        for line in range(span.line, span.end_line + 1):
            first = span.column - 1 if line == span.line else 0
            last = span.end_column - 1 if line == span.end_line else len(self._line(line))
            self._hidden.setdefault(line, []).append((first, last))

    def slice(self, span: Span) -> str:
        """The text at a place of one line; empty if it has more."""
        return self._line(span.line)[span.column - 1 : span.end_column - 1] if span.line == span.end_line else ""

    def fault(self, span: Span, problem: Problem, path: Sequence[str | int] = ()) -> Fault:
        """The problem at its place."""
        line, column = max(1, min(span.line, len(self.lines))), max(1, span.column)
        shown, caret = self._shown(line, column - 1)
        return Fault(
            file=self.file,
            line=line,
            column=column,
            code=problem.code,
            what=problem.what,
            why=problem.why,
            fix=problem.fix,
            path=".".join(_steps(path)),
            source=shown,
            caret=caret,
        )

    def masked(self) -> str:
        """The whole text as it may be shown."""
        return "\n".join(self._shown(line, 0)[0] for line in range(1, len(self.lines) + 1))

    def _line(self, line: int) -> str:
        return self.lines[line - 1] if line <= len(self.lines) else ""

    def _shown(self, line: int, caret: int) -> tuple[str, int]:
        """The line with secrets masked and control characters made visible, and where the caret moved to."""
        text = self._line(line)
        cuts = list(self._hidden.get(line, ()))
        if not self.parsed:
            cuts += [match.span(2) for match in _SECRET_VALUE.finditer(text)]
        cuts += [(found.start() + 2, found.end() - 1) for found in _USER_IN_URL.finditer(text)]
        shown, at, moved = "", 0, caret
        for first, last in _disjoint(cuts):
            shown += text[at:first]
            if first <= caret < last:
                moved = len(shown)
            shown += _MASK
            if caret >= last:
                moved = len(shown) + caret - last
            at = last
        shown += text[at:]
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", shown.replace("\t", " ")), moved


def _steps(path: Sequence[str | int]) -> Iterator[str]:
    """The path in words; what stands below a secret may be one that was written in a wrong place."""
    inside = False
    for step in path:
        yield _MASK if inside and step not in ("credential", "file", "env") else str(step)
        inside = inside or is_secret(step)


def _disjoint(cuts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The cuts in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(cut for cut in cuts if cut[0] < cut[1]):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def read(path: str | Path) -> Source:
    """The file's text. Raises ConfigFaults (E106, E107) if it is missing, too large or not plain UTF-8."""
    return read_as(str(path), path)


def read_as(file: str, path: str | Path) -> Source:
    """The same for a file that is shown to the user by another name."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise _refused(
            file, Problem("E106", "there is no such file", fix=f"edge-agent init writes a first {file}")
        ) from None
    except IsADirectoryError:
        raise _refused(file, Problem("E106", "this is a folder, not a file")) from None
    except OSError as error:
        raise _refused(file, Problem("E106", f"the file cannot be read: {error.strerror or error}")) from None
    return decoded(file, data)


def decoded(file: str, data: bytes) -> Source:
    """The same for bytes that are already here."""
    if len(data) > LARGEST:
        raise _refused(file, Problem("E107", f"the file is larger than {LARGEST >> 20} MiB"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(file, data, error.start) from None
    source = Source(file, text)
    if bad := _UNPRINTABLE.search(text):
        problem = Problem(
            "E106", f"a character that no text has: U+{ord(bad[0]):04X}", fix="delete it, or save the file as UTF-8"
        )
        raise ConfigFaults([source.fault(_place(text[: bad.start()]), problem)])
    return source


def _place(before: str) -> Span:
    lines = BREAK.split(before)
    return Span(len(lines), len(lines[-1]) + 1, len(lines), len(lines[-1]) + 2)


def _not_utf8(file: str, data: bytes, position: int) -> ConfigFaults:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problem = Problem("E106", "the file is UTF-16", fix="save it as UTF-8")
        return ConfigFaults([Source(file, "").fault(TOP, problem)])
    problem = Problem(
        "E106",
        f"the file is not UTF-8: byte 0x{data[position]:02x}",
        fix="save it as UTF-8; the editor probably wrote the encoding of its own language",
    )
    source = Source(file, data.decode("utf-8", "replace"))
    return ConfigFaults([source.fault(_place(data[:position].decode("utf-8", "replace")), problem)])


def _refused(file: str, problem: Problem) -> ConfigFaults:
    return ConfigFaults([Source(file, "").fault(TOP, problem)])
