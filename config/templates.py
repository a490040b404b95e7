"""Templates: a machine written once and used by many.

`${name}` is the only substitution, from the template's `vars`. A text that is nothing but `${name}` takes the
variable's value with its type; inside a longer text the variable stands as it was written. A machine's own
settings are laid over the template's by name, at every depth; a list or a single value replaces, an empty
value (`downtime:`) takes the template's away. Every value keeps the place where it was written.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from config.errors import Problem, did_you_mean, listed, nearest
from config.report import Place, Report, at
from config.yaml12 import Map, Node, Scalar, Seq, walk

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
_OPENING = "${"


class Templates:
    """The templates of one file."""

    def __init__(self, node: Node | None, report: Report) -> None:
        self._report = report
        self._bodies: dict[str, Map] = {}
        self._vars: dict[str, list[str]] = {}
        self._used: set[str] = set()
        self._node = node
        for key, body in _entries(node):
            name = str(key.value)
            if not isinstance(body, Map):
                self._add(key, Problem("E307", f"template '{name}' needs a mapping (name: value)"), name)
                body = Map({}, key.span)
            self._vars[name] = self._declared(name, body)
            items = {step: entry for step, entry in body.items.items() if step != "vars"}
            self._bodies[name] = Map(items, body.span)
            self._check(name)

    def expand(self, name: str, machine: Map) -> Map | None:
        """The machine with its template under it; None, and a fault, if that is not possible."""
        chosen = machine.get("template")
        if chosen is None:
            return machine
        place, path = at(machine, ("template",)), ("machines", name, "template")
        word = chosen.value if isinstance(chosen, Scalar) else None
        if not isinstance(word, str):
            self._report.add(place, Problem("E307", "'template' needs the name of a template"), path)
            return None
        if word not in self._bodies:
            known = f"known: {listed(self._bodies)}" if self._bodies else "there are none in this file"
            problem = Problem("E201", f"no template '{word}'", why=known, fix=did_you_mean(word, self._bodies))
            self._report.add(place, problem, path)
            return None
        self._used.add(word)
        values = self._values(name, word, machine)
        if values is None:
            return None
        own = {step: entry for step, entry in machine.items.items() if step not in ("template", "vars")}
        under = _filled(self._bodies[word], values, word)
        merged = merge(under, Map(own, machine.span))
        return merged if isinstance(merged, Map) else None

    def warn_unused(self) -> None:
        """A template without machines is written and never read."""
        for name in self._bodies.keys() - self._used:
            place = at(self._node, (name,), key=True) if self._node else None
            if place:
                self._report.add(place, Problem("W206", f"no machine uses template '{name}'"), ("templates", name))

    def _add(self, node: Node, problem: Problem, *path: Any) -> None:
        self._report.add(Place(node.span, ""), problem, ("templates", *path))

    def _declared(self, name: str, body: Map) -> list[str]:
        node = body.get("vars")
        if node is None:
            return []
        if not isinstance(node, Seq):
            self._add(
                body.key("vars") or node, Problem("E307", "'vars' needs a list of names", fix="vars: [ip]"), name
            )
            return []
        found: list[str] = []
        for item in node.items:
            word = item.value if isinstance(item, Scalar) else None
            if not isinstance(word, str) or not _VARIABLE.fullmatch(f"${{{word}}}"):
                problem = Problem("E309", "a variable needs a name", why="letters, digits, - and _")
                self._add(item, problem, name, "vars")
            else:
                found.append(word)
        return found

    def _check(self, name: str) -> None:
        """Variables that are used and not declared, or the other way round."""
        declared, used = self._vars[name], set[str | None]()
        for path, node, text in _texts(self._bodies[name]):
            for word in _VARIABLE.findall(text):
                used.add(word)
                if word not in declared:
                    used.add(nearest(word, declared))
                    why = f"its vars are {listed(declared)}" if declared else "it has no vars"
                    fix = did_you_mean(word, declared) or f"add {word} to vars"
                    self._add(node, Problem("E203", f"template '{name}' has no variable '{word}'", why=why, fix=fix),
                              name, *path)  # fmt: skip
            if _OPENING in _VARIABLE.sub("", text):
                problem = Problem("E205", "a '${' without a name and '}'", fix="write ${name}")
                self._add(node, problem, name, *path)
        for key in _keys(self._bodies[name]):
            if _OPENING in key.raw:
                self._add(key, Problem("E205", "a variable cannot be a key", why="only values are filled in"), name)
        whole = at(self._bodies[name], ())
        for word in declared:
            if word not in used:
                place = self._place_of_var(name, word) or whole
                problem = Problem("E204", f"variable '{word}' is never used", fix=f"use ${{{word}}}, or delete it")
                self._report.add(place, problem, ("templates", name, "vars"))

    def _place_of_var(self, name: str, word: str) -> Place | None:
        body = self._node.get(name) if isinstance(self._node, Map) else None
        node = body.get("vars") if isinstance(body, Map) else None
        items = node.items if isinstance(node, Seq) else []
        return next((Place(i.span, "") for i in items if isinstance(i, Scalar) and i.value == word), None)

    def _values(self, machine: str, template: str, node: Map) -> Mapping[str, Scalar] | None:
        """The variables of one machine; None if they are not complete."""
        given, declared, path = node.get("vars"), self._vars[template], ("machines", machine, "vars")
        values: dict[str, Scalar] = {}
        if given is not None and not isinstance(given, Map):
            self._report.add(at(node, ("vars",)), Problem("E307", "'vars' needs a mapping (name: value)"), path)
            return None
        sound = True
        for key, value in given or ():
            word = str(key.value)
            if word not in declared:
                why = f"its vars are {listed(declared)}" if declared else "it has no vars"
                problem = Problem(
                    "E203",
                    f"template '{template}' has no variable '{word}'",
                    why=why,
                    fix=did_you_mean(word, declared),
                )
                self._report.add(Place(key.span, ""), problem, (*path, word))
            elif not isinstance(value, Scalar) or value.value is None:
                problem = Problem("E307", f"variable '{word}' needs a single value")
                self._report.add(Place(key.span, ""), problem, (*path, word))
                sound = False
            else:
                values[word] = value
        for word in declared:
            if word not in values and (not isinstance(given, Map) or word not in given.items):
                sound = False
                line = next(
                    (n.span.line for _, n, text in _texts(self._bodies[template]) if f"${{{word}}}" in text), 0
                )
                where = f", used on line {line}" if line else ""
                what = f"variable '{word}' is not set{where}"
                fix = f"vars: {{{word}: …}}"
                problem = Problem("E202", what, why=f"template '{template}' needs it", fix=fix)
                # at its key: two machines that forget the same variable are two faults
                self._report.add(at(node, ("vars",) if given else ("template",), key=True), problem, (*path, word))
        return values if sound else None


def check_outside(root: Map, report: Report) -> None:
    """`${…}` means nothing outside of templates; most often it was meant as an environment variable."""
    for key, section in root:
        if key.value in ("templates", "tests"):
            continue
        for path, node, text in _texts(section):
            if found := _VARIABLE.search(text):
                problem = Problem(
                    "E205",
                    f"'{found[0]}' means something in a template only",
                    why="there is no other substitution",
                    fix=f"write the value; a secret is {{env: {found[1]}}} or {{credential: NAME}}",
                )
                report.add(Place(node.span, ""), problem, (key.value, *path))


def merge(under: Node, over: Node) -> Node | None:
    """`over` laid on `under` by name; None if `over` is empty, which takes `under` away."""
    if isinstance(over, Scalar) and over.value is None:
        return None
    if not (isinstance(under, Map) and isinstance(over, Map)):
        return over
    items = dict(under.items)
    for name, (key, value) in over.items.items():
        below = items.get(name)
        merged = value if below is None else merge(below[1], value)
        if merged is None:
            del items[name]
        else:
            items[name] = (key, merged)
    return Map(items, over.span, over.template)


def _filled(node: Map, values: Mapping[str, Scalar], template: str) -> Map:
    items: dict[Any, tuple[Scalar, Node]] = {}
    for name, (key, value) in node.items.items():
        marked = Scalar(key.value, key.raw, key.span, key.quoted, template)
        items[name] = (marked, _filled_node(value, values, template))
    return Map(items, node.span, template)


def _filled_node(node: Node, values: Mapping[str, Scalar], template: str) -> Node:
    if isinstance(node, Map):
        return _filled(node, values, template)
    if isinstance(node, Seq):
        return Seq([_filled_node(item, values, template) for item in node.items], node.span, template)
    if not isinstance(node.value, str) or _OPENING not in node.value:
        return Scalar(node.value, node.raw, node.span, node.quoted, template)
    whole = _VARIABLE.fullmatch(node.value)
    if whole and whole[1] in values:
        return values[whole[1]]
    text = _VARIABLE.sub(lambda found: values[found[1]].raw if found[1] in values else found[0], node.value)
    return Scalar(text, text, node.span, node.quoted, template)


def _entries(node: Node | None) -> Iterator[tuple[Scalar, Node]]:
    if isinstance(node, Map):
        yield from node


def _texts(node: Node) -> Iterator[tuple[tuple[Any, ...], Scalar, str]]:
    for path, inner in walk(node):
        if isinstance(inner, Scalar) and isinstance(inner.value, str) and _OPENING in inner.value:
            yield path, inner, inner.value


def _keys(node: Node) -> Iterator[Scalar]:
    for _, inner in walk(node):
        if isinstance(inner, Map):
            yield from (key for key, _ in inner)
