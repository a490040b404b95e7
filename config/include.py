"""A configuration of several files: `include: [templates/press.yaml, line4.yaml]`.

Sections of names (`templates`, `devices`, `machines`) and lists (`tests`, `machines_from`) are joined; every other
section stands in one file alone. Files are named from the folder of the file that includes them, and an included
file includes none itself: what makes up an agent is read at one place. Every value keeps its own file and line.
"""

from collections.abc import Iterator
from pathlib import Path

from config import yaml12
from config.errors import ConfigFaults, Problem
from config.report import Place, Report, at
from config.source import Source, read_as
from config.yaml12 import Map, Node, Scalar, Seq

NAMED = ("templates", "devices", "machines")
LISTS = ("tests", "machines_from")


def included(root: Map, report: Report, base_dir: Path) -> Map:
    """The tree with the sections of the included files, and without `include`."""
    items = {key: entry for key, entry in root.items.items() if key != "include"}
    for word, place in _names(root, report):
        if (part := _file(word, place, report, base_dir)) is not None:
            for key, (name, value) in part.items.items():
                _join(items, key, name, value, report)
    return Map(items, root.span)


def beside(source: Source, name: str) -> str:
    """How a file named in another one is shown: as seen from where the user is."""
    return str(Path(source.file).parent / name)


def again(name: str, first: Scalar, here: Scalar, report: Report) -> None:
    """Something of this name was there already."""
    where = f"on line {first.span.line}"
    if first.span.file != here.span.file:
        where = f"in {first.span.file or next(iter(report.sources))}, line {first.span.line}"
    why = "only one of the two could count"
    problem = Problem("E102", f"'{name}' is written twice, first {where}", why=why, fix="delete or rename one")
    report.add(Place(here.span, ""), problem, ())


def _names(root: Map, report: Report) -> Iterator[tuple[str, Place]]:
    node = root.get("include")
    entries = node.items if isinstance(node, Seq) else [] if node is None else [node]
    for index, entry in enumerate(entries):
        place = at(root, ("include", index) if isinstance(node, Seq) else ("include",))
        if isinstance(entry, Scalar) and isinstance(entry.value, str):
            yield entry.value, place
        else:
            problem = Problem("E307", "'include' needs a list of files", fix="include: [templates.yaml]")
            report.add(place, problem, ("include",))


def _file(word: str, place: Place, report: Report, base_dir: Path) -> Map | None:
    main = next(iter(report.sources.values()))
    shown = beside(main, word)
    if shown in report.sources:
        what = f"{word} is included twice" if shown != main.file else "a file cannot include itself"
        report.add(place, Problem("E102", what, fix="delete one"), ("include",))
        return None
    path = base_dir / word
    if not path.is_file():
        what = f"there is no file {word}"
        why = "files are named from the folder of this one"
        report.add(place, Problem("E106", what, why=why), ("include",))
        return None
    try:
        document = yaml12.parse(read_as(shown, path))
    except ConfigFaults as broken:
        report.join(Source(shown, ""), broken.faults)
        return None
    report.join(document.source, document.faults)
    if (nested := document.root.key("include")) is not None:
        problem = Problem("E303", "an included file includes none itself", fix=f"name all files in {main.file}")
        report.add(Place(nested.span, ""), problem, ("include",))
    return Map({key: entry for key, entry in document.root.items.items() if key != "include"}, document.root.span)


def _join(items: dict[yaml12.Value, tuple[Scalar, Node]], key: yaml12.Value, name: Scalar, value: Node,
          report: Report) -> None:  # fmt: skip
    if key not in items:
        items[key] = (name, value)
        return
    first, there = items[key]
    if key in NAMED and isinstance(there, Map | Scalar) and isinstance(value, Map):
        merged = dict(there.items) if isinstance(there, Map) else {}
        for inner, (inner_name, content) in value.items.items():
            if inner in merged:
                again(inner_name.raw, merged[inner][0], inner_name, report)
            else:
                merged[inner] = (inner_name, content)
        items[key] = (first, Map(merged, there.span))
    elif key in LISTS:
        both = [one.items if isinstance(one, Seq) else [one] for one in (there, value)]
        items[key] = (first, Seq([*both[0], *both[1]], there.span))
    elif key != "version":
        again(name.raw, first, name, report)
