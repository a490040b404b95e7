"""YAML 1.2 core scalars, and the line and column of every value.

PyYAML resolves scalars by YAML 1.1: `14:00` is 840, `010` is 8, `on` is true. Its parser knows nothing of
that, so the tree is built here from the parser's events, with 1.2 rules. Building from events rather than
from composed nodes is also what makes hostile files harmless: depth, aliases and the size that they expand to
are counted while the tree grows, and nothing here recurses. Merge keys (`<<`) and tags (`!…`) are no part of
the core schema and are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml
from yaml import events

from config import syntax
from config.errors import ConfigFaults, Fault, Problem
from config.source import TOP, Source, Span, is_secret

DEEPEST = 40
"""Levels of nesting."""
MOST_NODES = 1_000_000
"""Values after aliases are expanded."""
MOST_ALIASES = 1_000
LONGEST_NUMBER = 40
"""Characters; more is text."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {word: value for value in (True, False) for word in (f"{value}", f"{value}".lower(), f"{value}".upper())}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"([-+]?)0+([0-9].*)")

Value: TypeAlias = bool | int | float | str | None
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A value without parts. `raw` is its text, `template` the template it was written in."""

    value: Value
    raw: str
    span: Span
    quoted: bool = False
    template: str = ""

    @property
    def size(self) -> int:
        return 1

    @property
    def depth(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Keys are compared as Python does: 1 and true are the same."""

    items: dict[Value, tuple[Scalar, "Node"]]
    span: Span
    template: str = ""
    size: int = 1
    depth: int = 1

    def get(self, key: Value) -> "Node | None":
        """The value of a key, None if it is not there."""
        found = self.items.get(key)
        return None if found is None else found[1]

    def key(self, key: Value) -> Scalar | None:
        """The key as it was written."""
        found = self.items.get(key)
        return None if found is None else found[0]

    def __iter__(self) -> Iterator[tuple[Scalar, "Node"]]:
        return iter(self.items.values())


@dataclass(frozen=True, slots=True, eq=False)
class Seq:
    items: list["Node"]
    span: Span
    template: str = ""
    size: int = 1
    depth: int = 1


Node: TypeAlias = Scalar | Map | Seq


def plain(node: Node) -> Any:
    """The node as dict, list, str, int, float, bool or None."""
    if isinstance(node, Map):
        return {key: plain(value) for key, (_, value) in node.items.items()}
    if isinstance(node, Seq):
        return [plain(item) for item in node.items]
    return node.value


def core(text: str) -> Value:
    """What a plain scalar means in the YAML 1.2 core schema. Raises Problem E103 for a leading zero."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "+-.0123456789" or len(text) > LONGEST_NUMBER:
        return text
    if (zero := _LEADING_ZERO.fullmatch(text)) and _FLOAT.fullmatch(text):
        sign, rest = zero[1], zero[2]
        raise Problem(
            "E103",
            f"a number that starts with zero: {text}",
            why="some programs read it as octal, some as decimal",
            fix=f"write {sign}{rest} for the number, or '{text}' for text",
        )
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


@dataclass(slots=True)
class Document:
    """The tree of a file, and what is wrong with the parts that could be read all the same."""

    source: Source
    root: Map
    faults: list[Fault] = field(default_factory=list)


def parse(source: Source) -> Document:
    """The tree of the file. Raises ConfigFaults if it has none: syntax, limits, not a mapping."""
    builder = _Builder(source)
    try:
        for event in yaml.parse(source.text, _Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise ConfigFaults([*builder.faults, *syntax.faults(error, source)]) from None
    except _Stop:
        raise ConfigFaults(builder.faults) from None
    root, source.parsed = builder.root, True
    if root is None or (isinstance(root, Scalar) and root.value is None):
        problem = Problem("E108", "the file is empty", fix="edge-agent init writes a first one")
    elif not isinstance(root, Map):
        problem = Problem("E108", "the file must be a mapping: version, site, devices, machines, …")
    else:
        return Document(source, root, builder.faults)
    raise ConfigFaults([*builder.faults, source.fault(root.span if root else TOP, problem)])


class _Stop(Exception):
    """The rest of the file makes no sense any more; the fault is noted."""


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet. In a mapping, `key` waits for its value."""

    start: events.CollectionStartEvent
    entries: dict[Value, tuple[Scalar, Node]] | list[Node]
    size: int = 1
    depth: int = 1
    key: Scalar | None = None


class _Builder:
    """Turns parser events into one tree; a stack instead of recursion."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._documents = 0

    def take(self, event: events.Event) -> None:
        match event:
            case events.ScalarEvent():
                self._tag(event)
                self._node(self._scalar(event), event.anchor)
            case events.CollectionStartEvent():
                self._tag(event)
                if len(self._open) >= DEEPEST:
                    self._stop_at(self._span(event), _too_deep())
                self._open.append(_Open(event, {} if isinstance(event, events.MappingStartEvent) else []))
            case events.CollectionEndEvent():
                done = self._open.pop()
                self._node(_closed(done, self._span(done.start), self._span(event)), done.start.anchor)
            case events.AliasEvent():
                self._alias(event)
            case events.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(event, Problem("E105", "a second document in the file", fix="delete this '---'"))

    def _node(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        top.size += node.size
        top.depth = max(top.depth, node.depth + 1)
        if len(self._open) + node.depth > DEEPEST:
            self._stop_at(node.span, _too_deep())
        if top.size > MOST_NODES:
            self._stop_at(node.span, Problem("E107", f"more than {MOST_NODES} values, aliases (*name) expanded"))
        if isinstance(top.entries, list):
            top.entries.append(node)
        elif top.key is None:
            top.key = self._as_key(node)
        else:
            self._entry(top.entries, top.key, node)
            top.key = None

    def _entry(self, entries: dict[Value, tuple[Scalar, Node]], key: Scalar, node: Node) -> None:
        if is_secret(key.value):
            self._hide(node)
        if key.value == "<<" and not key.quoted:
            problem = Problem(
                "E105", "'<<' is not used here", why="it is not part of YAML 1.2", fix="write a template and use it"
            )
            self.faults.append(self.source.fault(key.span, problem))
        elif (first := entries.get(key.value)) is not None:
            problem = Problem(
                "E102",
                f"'{key.raw}' is written twice, first on line {first[0].span.line}",
                why="only one of the two could count",
                fix="delete one, or give it another name",
            )
            self.faults.append(self.source.fault(key.span, problem))
        else:
            entries[key.value] = (key, node)

    def _hide(self, node: Node) -> None:
        """What is or may be a secret; where one is kept may be seen."""
        if not isinstance(node, Map):
            self.source.hide(node.span)
            return
        for key, value in node:
            if key.value not in ("credential", "file", "env"):
                self.source.hide(key.span)
                self.source.hide(value.span)

    def _as_key(self, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            fix = "put text that starts with { or [ in quotes"
            self._stop_at(node.span, Problem("E105", "a list or a mapping cannot be a key", fix=fix))
        return node

    def _scalar(self, event: events.ScalarEvent) -> Scalar:
        span, text = self._span(event), str(event.value)
        if not event.implicit[0]:
            return Scalar(text, text, span, quoted=True)
        try:
            return Scalar(core(text), text, span)
        except Problem as problem:
            self.faults.append(self.source.fault(span, problem))
            return Scalar(text, text, span)

    def _alias(self, event: events.AliasEvent) -> None:
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            self._stop(event, Problem("E107", f"more than {MOST_ALIASES} aliases (*name)"))
        node = self._anchors.get(str(event.anchor))
        if node is None:
            inside = any(part.start.anchor == event.anchor for part in self._open)
            why = "it would contain itself" if inside else f"there is no &{event.anchor} above it"
            fix = f"put '*{event.anchor}' in quotes if it is text"
            self._stop(event, Problem("E105", f"*{event.anchor} cannot be used here", why=why, fix=fix))
        else:
            self._node(node, None)

    def _tag(self, event: events.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            problem = Problem("E105", f"'{shown}' is not used here", fix="put text that starts with ! in quotes")
            self.faults.append(self.source.fault(self._span(event), problem))

    def _span(self, event: events.Event) -> Span:
        start, end = event.start_mark, event.end_mark
        if start is None or end is None:  # the parsers set both
            return TOP
        return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1, self.source.file)

    def _stop(self, event: events.Event, problem: Problem) -> NoReturn:
        self._stop_at(self._span(event), problem)

    def _stop_at(self, span: Span, problem: Problem) -> NoReturn:
        self.faults.append(self.source.fault(span, problem))
        raise _Stop


def _closed(part: _Open, start: Span, end: Span) -> Node:
    span = Span(start.line, start.column, end.end_line, end.end_column, start.file)
    if isinstance(part.entries, dict):
        return Map(part.entries, span, size=part.size, depth=part.depth)
    return Seq(part.entries, span, size=part.size, depth=part.depth)


def _too_deep() -> Problem:
    return Problem("E107", f"more than {DEEPEST} levels of nesting")


def walk(node: Node, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Node]]:
    """Every node with its path, parents first."""
    yield path, node
    if isinstance(node, Map):
        for key, (_, value) in node.items.items():
            yield from walk(value, (*path, key))
    elif isinstance(node, Seq):
        for index, item in enumerate(node.items):
            yield from walk(item, (*path, index))
