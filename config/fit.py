"""Does a part of the tree fit its model? Every fault of it at its place, and as much of it as is sound.

A part with faults is pruned until it validates, so that the checks that come later (references, expressions)
still see the rest of it. What a prune may have caused is never reported.
"""

import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from config import words
from config.errors import Problem
from config.report import Path, Place, Report, at
from config.yaml12 import Map, Node, Seq, plain

M = TypeVar("M", bound=BaseModel)
_ROUNDS = 8
"""Each round of pruning lets validators run that faults had kept silent."""


@dataclass(frozen=True)
class Fitted(Generic[M]):
    """`value` is None if nothing could be saved; `node` is what it was made of; `pruned` what was left out."""

    value: M | None
    node: Map
    pruned: tuple[Path, ...]

    def is_whole(self, path: Sequence[Any]) -> bool:
        """False if something at or below the path was left out: it may look wrong because of that."""
        return not any(cut[: len(path)] == tuple(path) for cut in self.pruned)


@dataclass(frozen=True)
class Fitting:
    """Where faults go, and what is said about them. `prefix` is the part's path in the file."""

    report: Report
    prefix: Path
    base_dir: FilePath
    machine: str = ""
    driver: str = ""
    others: Mapping[str, type[BaseModel]] | None = None
    """Models of other drivers, to say whose setting an unknown key is."""
    home: Place | None = None
    """Where the part itself is shown; default: where it begins."""

    def fit(
        self,
        model: type[M],
        node: Map,
        given: Mapping[str, Any] | None = None,
        spare: Mapping[str, Any] | None = None,
    ) -> Fitted[M]:
        """Validate the node. `given` are values that do not come from the file; `spare` stand in for values that
        are missing, after that has been reported, so that the rest is checked."""
        pruned: list[Path] = []
        values = dict(given or {})
        for _ in range(_ROUNDS):
            try:
                value = model.model_validate({**plain(node), **values}, context={"base_dir": self.base_dir})
                return Fitted(value, node, tuple(pruned))
            except ValidationError as error:
                complaints = list(_complaints(error, model, node, self))
            cuts: list[Path] = []
            for complaint in complaints:
                path = complaint.path
                if not complaint.silent and not any(cut[: len(path)] == path for cut in pruned):
                    self._add(node, complaint)
                if complaint.cut == () and path and path[0] in (spare or {}):
                    values[path[0]] = (spare or {})[path[0]]
                    pruned.append(path)
                else:
                    cuts.append(complaint.cut)
            if () in cuts:
                break
            for cut in sorted(set(cuts), key=_last_first, reverse=True):
                node = _without(node, cut)
                pruned.append(cut)
        return Fitted(None, node, (*pruned, ()))

    def _add(self, node: Map, complaint: "_Complaint") -> None:
        path = (*complaint.path, *complaint.problem.at)
        place = at(node, path, key=complaint.on_key, home=self.home)
        self.report.add(place, complaint.problem, (*self.prefix, *path), machine=self.machine)


@dataclass(frozen=True)
class _Complaint:
    problem: Problem
    path: Path
    cut: Path
    """What must go for the rest to be sound."""
    on_key: bool = False
    silent: bool = False
    """Another complaint says it already."""


def _last_first(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (-1, str(step)) for step in path)


def _without(node: Map, path: Path) -> Map:
    """A copy of the tree that lacks the path; the same tree if it is gone already."""
    cut = _cut(node, path)
    return cut if isinstance(cut, Map) else node


def _cut(node: Node, path: Path) -> Node:
    step, rest = path[0], path[1:]
    if isinstance(node, Map) and step in node.items:
        items = dict(node.items)
        key, child = items.pop(step)
        if rest:
            items = {**node.items, step: (key, _cut(child, rest))}
        return Map(items, node.span, node.template)
    if isinstance(node, Seq) and isinstance(step, int) and step < len(node.items):
        middle = [_cut(node.items[step], rest)] if rest else []
        return Seq([*node.items[:step], *middle, *node.items[step + 1 :]], node.span, node.template)
    return node


def _complaints(error: ValidationError, model: type[BaseModel], node: Map, fitting: Fitting) -> Iterator[_Complaint]:
    groups: dict[Path, list[tuple[Path, bool, Any]]] = {}
    for detail in error.errors(include_url=False):
        path, fork, on_key = _follow(node, detail["loc"], detail["type"] in ("missing", "extra_forbidden"))
        groups.setdefault(fork if fork is not None else path, []).append((path, on_key, detail))
    found = [one for fork, members in groups.items() for one in _of_group(fork, members, model, node, fitting)]
    meant = {(one.path[:-1], one.problem.fix) for one in found if one.problem.code == "E301"}
    for one in found:
        misspelt = one.problem.code == "E306" and (one.path[:-1], f"did you mean '{one.path[-1]}'?") in meant
        yield replace(one, silent=misspelt)


def _follow(node: Node, loc: Sequence[int | str], ends_in_key: bool) -> tuple[Path, Path | None, bool]:
    """(path in the tree, path of the first union on the way or None, whether the key itself is meant)."""
    path: list[Any] = []
    fork: Path | None = None
    for index, step in enumerate(loc):
        if step == "[key]":
            return tuple(path), tuple(path), True
        inner = _step(node, step)
        if inner is not None:
            name, node = inner
            path.append(name)
        elif ends_in_key and index == len(loc) - 1:
            path.append(step)
        elif fork is None:
            fork = tuple(path)
    return tuple(path), fork, False


def _step(node: Node, step: int | str) -> tuple[Any, Node] | None:
    if isinstance(node, Map):
        if step in node.items:
            return step, node.items[step][1]
        for key, (written, child) in node.items.items():
            if step in (str(key), written.raw):
                return key, child
    if isinstance(node, Seq) and isinstance(step, int) and step < len(node.items):
        return step, node.items[step]
    return None


def _of_group(
    fork: Path, members: list[tuple[Path, bool, Any]], model: type[BaseModel], node: Map, fitting: Fitting
) -> Iterator[_Complaint]:
    """One complaint for each fault; of a union's branches the one that was meant."""
    if len(members) > 1 and all(on_key for _, on_key, _ in members):
        yield _Complaint(words.of_type(["text or a whole number as a key"], fork, fork[-1]), fork, fork, True)
        return
    here = [detail for path, on_key, detail in members if path == fork and not on_key]
    if len(here) == len(members) and len(here) > 1:
        yield _Complaint(_of_union(here, fork), fork, fork)
        return
    deeper = [member for member in members if member[0] != fork or member[1]]
    for path, on_key, detail in deeper or members:
        complaint = _of_one(path, on_key, detail, model, node, fitting)
        yield complaint
        yield from (replace(complaint, problem=other) for other in complaint.problem.others)


def _of_union(details: Sequence[Any], path: Path) -> Problem:
    """One problem for a value that fits no branch of a union."""
    value = details[0]["input"]
    problems = [_meaning(detail, path) for detail in details]
    literals = [
        problem for detail, problem in zip(details, problems, strict=True) if detail["type"] == "literal_error"
    ]
    types = [kind for detail in details if (kind := words.needed(detail["type"])) is not None]
    others = [
        problem
        for detail, problem in zip(details, problems, strict=True)
        if detail["type"] != "literal_error" and words.needed(detail["type"]) is None
    ]
    if len(types) == len(details):
        return words.of_type(types, path, value)
    allowed = [word for detail in details if detail["type"] == "literal_error" for word in _literals(detail)]
    if others:
        also = f"the word {' or '.join(allowed)} is allowed too" if literals else ""
        first = others[0]
        return Problem(first.code, first.what, why="; ".join(filter(None, (first.why, also))), fix=first.fix)
    if types and not isinstance(value, str):
        return words.of_type([*types, *allowed], path, value)
    return words.not_allowed([*allowed, *types], path, value)


def _literals(detail: Any) -> list[str]:
    return words.allowed_words(str(detail.get("ctx", {}).get("expected", "")))


def _meaning(detail: Any, path: Path) -> Problem:
    return words.meaning(detail["type"], detail["msg"], detail.get("ctx", {}), path, detail["input"])


def _of_one(path: Path, on_key: bool, detail: Any, model: type[BaseModel], node: Map, fitting: Fitting) -> _Complaint:
    if path and detail["type"] == "missing":
        return _Complaint(words.missing(path[-1], (*fitting.prefix, *path[:-1])), path, path[:-1])
    if path and detail["type"] in ("extra_forbidden", "invalid_key"):
        owners = [
            name
            for name, other in (fitting.others or {}).items()
            if name != fitting.driver and path[-1] in fields(other, path[:-1])
        ]
        problem = words.unknown(
            path, fields(model, path[:-1]), driver=fitting.driver, owners=owners if len(owners) < 3 else ()
        )
        return _Complaint(problem, path, path, on_key=True)
    problem = _meaning(detail, (*fitting.prefix, *path))
    return _Complaint(problem, path, path, on_key)


def fields(model: type[BaseModel], path: Sequence[Any]) -> Collection[str]:
    """Names of the settings that are known at a path below the model."""
    found: list[Any] = [model]
    for step in path:
        found = [inner for annotation in found for inner in _inside(annotation, step)]
    names: dict[str, None] = {}
    for annotation in found:
        for part in _parts(annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names.update((field.alias or name, None) for name, field in part.model_fields.items())
    return list(names)


def _inside(annotation: Any, step: Any) -> Iterator[Any]:
    for part in _parts(annotation):
        origin = get_origin(part)
        if isinstance(part, type) and origin is None and issubclass(part, BaseModel):
            for name, field in part.model_fields.items():
                if step == (field.alias or name):
                    yield field.annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            yield get_args(part)[1]
        elif isinstance(origin, type) and issubclass(origin, Sequence):
            yield get_args(part)[0]


def _parts(annotation: Any) -> Iterator[Any]:
    """The branches of a union, without Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation
