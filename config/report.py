"""Gathers the faults of a file at their places; a fault of a template is told once, with the machines it hits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from config.errors import Fault, Problem, listed
from config.source import Source, Span
from config.yaml12 import Map, Node, Scalar, Seq

Path = tuple[Any, ...]


class Place(NamedTuple):
    """Where something stands, and in which template; the name is empty outside of templates."""

    span: Span
    template: str


def at(root: Node, path: Sequence[Any], *, key: bool = False, home: Place | None = None) -> Place:
    """The place of the value at the path, or of the last part of it that exists.

    A scalar is shown itself; for a mapping, a list or an empty value its key is shown, and with `key` always.
    `home` is shown for the root itself.
    """
    node, name = root, None
    for step in path:
        if isinstance(node, Map) and step in node.items:
            name, node = node.items[step]
        elif isinstance(node, Seq) and isinstance(step, int) and step < len(node.items):
            name, node = None, node.items[step]
        else:
            key = True
            break
    if node is root and home is not None:
        return home
    shown: Node = node
    if name is not None and (key or not isinstance(node, Scalar) or node.raw == ""):
        shown = name
    return Place(shown.span, shown.template)


class Report:
    """The faults of one configuration. `sources` are its files by name, the one that the user named first."""

    def __init__(self, source: Source, faults: Sequence[Fault] = ()) -> None:
        self.sources = {source.file: source}
        self._main = source
        self._faults: list[Fault] = []
        self._settled: set[tuple[str, int, int]] = set()
        self._found: dict[tuple[Span, str, str], tuple[Problem, Path, list[str]]] = {}
        self.join(source, faults)

    def join(self, source: Source, faults: Sequence[Fault] = ()) -> None:
        """One more file, with what reading it found."""
        self.sources.setdefault(source.file, source)
        self._faults += faults
        self._settled |= {(fault.file, fault.line, fault.column) for fault in faults}

    def add(self, place: Place, problem: Problem, path: Sequence[Any], *, machine: str = "") -> None:
        """Note a problem. `machine` is said only where the place is in a template.

        Where reading (E1) or a template (E2) went wrong already, what the value then lacks is no news.
        """
        spot = (place.span.file or self._main.file, place.span.line, place.span.column)
        if problem.code.startswith(("E1", "E2")):
            self._settled.add(spot)
        elif spot in self._settled:
            return
        # a warning about one value is told once, however it is worded
        same = (place.span, problem.code, "" if problem.code.startswith("W") else problem.what)
        _, _, machines = self._found.setdefault(same, (problem, tuple(path), []))
        if place.template and machine and machine not in machines:
            machines.append(machine)

    def slice(self, span: Span) -> str:
        """The text at a place of one line; empty if it has more."""
        return self._source(span).slice(span)

    @property
    def faults(self) -> list[Fault]:
        """All of them, file by file, in the order of each."""
        told = [
            self._source(span).fault(span, _used_by(problem, machines), path)
            for (span, _, _), (problem, path, machines) in self._found.items()
        ]
        files = list(self.sources)
        return sorted(
            [*self._faults, *told], key=lambda fault: (files.index(fault.file), fault.line, fault.column, fault.code)
        )

    @property
    def failed(self) -> bool:
        return any(fault.severity == "error" for fault in self.faults)

    def _source(self, span: Span) -> Source:
        return self.sources.get(span.file, self._main)


def _used_by(problem: Problem, machines: list[str]) -> Problem:
    if not machines:
        return problem
    used = f"(used by machine{'s' if len(machines) > 1 else ''} {listed(machines, 2)})"
    return Problem(problem.code, problem.what, why=f"{problem.why} {used}".strip(), fix=problem.fix)
