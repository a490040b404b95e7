"""Faults of a configuration: what they are, how they look, and how a validator names one.

A `Fault` has a place in the file; a `Problem` is the same thing before its place is known: validators (also
those of drivers) raise it or plain `ValueError`, the loader finds the line. A text of the form
`CODE: what | why: … | fix: …` in a plain ValueError is read the same way. The codes and their pages are in
`catalogue`.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""
Severity = Literal["error", "warning"]

_MANY = 150
"""Of more words only those that begin alike are compared."""
_WIDEST = 160
"""Longer source lines are cut around the caret."""


class Problem(ValueError):
    """A fault without a place: raised by a validator, or yielded by `DeviceOptions.warnings`.

    `what` is one sentence without a full stop, `why` the reason or what is allowed, `fix` what to write
    instead. `at` is the path from the validated object to the value at fault. Codes starting with `W` are
    warnings; only `DeviceOptions.warnings` may yield them, a raised one is an error all the same. `others` are faults
    of the same object that are told with this one.
    """

    others: "Sequence[Problem]" = ()

    def __init__(self, code: str, what: str, *, why: str = "", fix: str = "", at: Sequence[str | int] = ()) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.why = why
        self.fix = fix
        self.at: Path = tuple(at)

    @classmethod
    def raise_all(cls, found: "Iterable[Problem]") -> None:
        """Raise the faults, if there are any, as one."""
        problems = list(found)
        if problems:
            problems[0].others = problems[1:]
            raise problems[0]

    @classmethod
    def of(cls, error: BaseException, code: str) -> "Problem":
        """The error as a Problem; `code` is used where its text names none."""
        if isinstance(error, Problem):
            return error
        text, *rest = (part.strip() for part in str(error).split(" | "))
        found = re.match(r"([A-Z]\d{3}): ", text)
        words = {"why": "", "fix": ""}
        for part in rest:
            name, _, value = part.partition(":")
            words[name] = value.strip()
        what = text[found.end() :] if found else text
        return cls(found[1] if found else code, what, why=words["why"], fix=words["fix"])


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at its place. Lines and columns count from 1, columns in characters."""

    file: str
    line: int
    column: int
    code: str
    what: str
    why: str = ""
    fix: str = ""
    path: str = ""
    """Dotted path of the value, e.g. `machines.press-1.state.map.8`; empty if it has none."""
    source: str = ""
    """The line as it may be shown: secrets are masked."""
    caret: int = 0
    """Where the caret goes in `source`, counted from 0."""

    @property
    def severity(self) -> Severity:
        return "warning" if self.code.startswith("W") else "error"

    @property
    def message(self) -> str:
        return self.what

    def render(self) -> str:
        """The fault as `validate` prints it, without a final newline."""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.severity} {self.code}: {self.what}"]
        if self.source:
            shown, caret = _window(self.source, self.caret)
            lines.append(f"{self.line:>7} | {shown}".rstrip())
            lines.append(f"{'':7} | {_padding(shown[:caret])}^")
        lines += [f"   {word}: {text}" for word, text in (("why", self.why), ("fix", self.fix)) if text]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Stable keys for `-o json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "severity": self.severity,
            "message": self.what,
            "why": self.why,
            "fix": self.fix,
            "path": self.path,
        }


class ConfigFaults(Exception):
    """The configuration cannot be used: every fault and warning, file by file, sorted by place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = list(faults)
        files = list(dict.fromkeys(fault.file for fault in found))
        self.faults = tuple(
            sorted(found, key=lambda fault: (files.index(fault.file), fault.line, fault.column, fault.code))
        )
        super().__init__(render(self.faults))


def render(faults: Iterable[Fault]) -> str:
    """All faults, one below the other."""
    return "\n".join(fault.render() for fault in faults)


def nearest(word: object, known: Collection[str]) -> str | None:
    """The known word that was probably meant."""
    import difflib  # only needed when something is wrong

    text = str(word)
    lower = {name.lower(): name for name in known}
    if text.lower().replace("-", "_") in lower:
        return lower[text.lower().replace("-", "_")]
    near: Collection[str] = lower
    if len(lower) > _MANY:
        near = [name for name in lower if name[:1] == text[:1].lower() and abs(len(name) - len(text)) < 3][:_MANY]
    found = difflib.get_close_matches(text.lower(), near, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def did_you_mean(word: object, known: Collection[str]) -> str:
    """`did you mean 'x'?`, or nothing."""
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else ""


def listed(words: Iterable[object], most: int = 12) -> str:
    """`a, b, c`, cut after `most`."""
    names = [str(word) for word in words]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _window(line: str, caret: int) -> tuple[str, int]:
    if len(line) <= _WIDEST:
        return line, caret
    start = max(0, min(caret - _WIDEST // 2, len(line) - _WIDEST))
    shown = line[start : start + _WIDEST]
    if start:
        shown = "…" + shown[1:]
    if start + _WIDEST < len(line):
        shown = shown[:-1] + "…"
    return shown, caret - start


def _padding(text: str) -> str:
    """Blanks as wide as the text is on a terminal."""
    wide = {"W": 2, "F": 2}
    return "".join(
        " " * (0 if unicodedata.combining(char) else wide.get(unicodedata.east_asian_width(char), 1)) for char in text
    )
