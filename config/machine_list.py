"""Machines written as the rows of a spreadsheet: `machines_from: {csv: presses.csv, template: press, line: line4}`.

The first row names the columns: `name`, then the template's variables, and if lines differ `line`. Every further row
is one machine of the template; a cell has the type that it would have in YAML (3 is a number, text in double quotes
is text). A row whose name holds a range, `press-[01-05]`, is as many machines; ranges in its other cells,
`10.20.4.[11-15]`, count along. What else stands in the entry is laid over the template for all of them, as in a
machine. The delimiter is the first of ; , and tab in the first row. Faults name the cell's file, line and column.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from config import words, yaml12
from config.cells import Broken, Cell, cells, delimiter_of
from config.errors import ConfigFaults, Problem
from config.include import again, beside
from config.report import Place, Report, at
from config.source import Source, is_secret, read_as
from config.yaml12 import Map, Node, Scalar, Seq

MOST = 1000
"""Machines of one row."""
_RANGE = re.compile(r"\[(\d+)-(\d+)\]")


def listed_machines(root: Map, report: Report, base_dir: Path) -> Map:
    """The tree with a machine for every row, and without `machines_from`."""
    node = root.get("machines_from")
    items = {key: entry for key, entry in root.items.items() if key != "machines_from"}
    if node is None:
        return root
    known = items.get("machines")
    machines = dict(known[1].items) if known and isinstance(known[1], Map) else {}
    for index, entry in enumerate(node.items if isinstance(node, Seq) else [node]):
        path = ("machines_from", index) if isinstance(node, Seq) else ("machines_from",)
        if not isinstance(entry, Map):
            fix = "machines_from: {csv: presses.csv, template: press, line: line4}"
            report.add(at(root, path), Problem("E307", "'machines_from' needs a mapping", fix=fix), path)
            continue
        for name, machine in _machines(entry, path, report, base_dir):
            if name.value in machines:
                again(name.raw, machines[name.value][0], name, report)
            else:
                machines[name.value] = (name, machine)
    if known is None or isinstance(known[1], Map) or (isinstance(known[1], Scalar) and known[1].value is None):
        key = known[0] if known else root.items["machines_from"][0]
        items["machines"] = (key, Map(machines, node.span))
    return Map(items, root.span)


def _machines(
    entry: Map, path: tuple[str | int, ...], report: Report, base_dir: Path
) -> Iterator[tuple[Scalar, Map]]:
    """Name and tree of each machine of one list."""
    sound = True
    for word in ("csv", "template"):
        value = entry.get(word)
        if value is None:
            report.add(Place(entry.span, ""), words.missing(word, ("machines_from",)), (*path, word))
        elif not (isinstance(value, Scalar) and isinstance(value.value, str)):
            report.add(at(entry, (word,)), words.of_type(["text"], (word,), yaml12.plain(value)), (*path, word))
        else:
            continue
        sound = False
    if not sound:
        return
    file = entry.get("csv")
    assert isinstance(file, Scalar)
    main = next(iter(report.sources.values()))
    where = base_dir / str(file.value)
    if not where.is_file():
        why = "files are named from the folder of the configuration"
        report.add(at(entry, ("csv",)), Problem("E106", f"there is no file {file.value}", why=why), (*path, "csv"))
        return
    try:
        source = read_as(beside(main, str(file.value)), where)
    except ConfigFaults as broken:
        report.join(Source(beside(main, str(file.value)), ""), broken.faults)
        return
    source.parsed = True  # what to hide is said by the columns
    report.join(source)
    rows = [row for row in _rows(source, report) if row is not None and any(cell.text for cell in row)]
    if not rows or not (columns := _columns(rows[0], source, report)):
        return
    shared = entry.get("vars")
    given = dict(shared.items) if isinstance(shared, Map) else {}
    rest = {key: value for key, value in entry.items.items() if key not in ("csv", "vars")}
    for row in (one for written in rows[1:] for one in _counted(written, columns, report)):
        if (made := _machine(row, columns, given, rest, report)) is not None:
            yield made


def _machine(
    row: Sequence[Cell],
    columns: Sequence[Scalar],
    given: dict[yaml12.Value, tuple[Scalar, Node]],
    rest: dict[yaml12.Value, tuple[Scalar, Node]],
    report: Report,
) -> tuple[Scalar, Map] | None:
    here = row[0].span
    if len(row) != len(columns):
        what = f"this row has {len(row)} cells, and the first row has {len(columns)}"
        report.add(Place(here, ""), Problem("E206", what, fix="a text with the delimiter in it needs quotes"), ())
        return None
    row_of = {column.value: (column, cell) for column, cell in zip(columns, row, strict=True)}
    name = row_of["name"][1]
    if not name.text:
        report.add(Place(here, ""), Problem("E206", "this machine has no name"), ())
        return None
    values, items = dict(given), dict(rest)
    for key, (column, cell) in row_of.items():
        if key == "name" or not cell.text:
            continue
        if key == "line":
            items["line"] = (column, Scalar(cell.text, cell.text, cell.span))
        else:
            if is_secret(key):
                report.sources[cell.span.file].hide(cell.span)
            values[key] = (column, Scalar(_value(cell, report), cell.text, cell.span, cell.quoted))
    spot = Scalar("vars", "vars", name.span)
    items["vars"] = (spot, Map(values, name.span))
    return Scalar(name.text, name.text, name.span), Map(items, name.span)


def _counted(row: Sequence[Cell], columns: Sequence[Scalar], report: Report) -> Iterator[Sequence[Cell]]:
    """The row, or, if its name holds a range, the row for each number."""
    named = next((cell for column, cell in zip(columns, row, strict=False) if column.value == "name"), None)
    found = None if named is None or named.quoted else _RANGE.search(named.text)
    if found is None:
        yield row
        return
    count = int(found[2]) - int(found[1]) + 1
    for cell in row:
        inside = None if cell.quoted else _RANGE.search(cell.text)
        length = count if inside is None else int(inside[2]) - int(inside[1]) + 1
        if length != count or not 1 <= count <= MOST:
            what = f"'{cell.text}' counts {length}, and the name counts {count}"
            if length == count:
                what = f"'{cell.text}' counts {count}, and a row is 1 to {MOST} machines"
            report.add(Place(cell.span, ""), Problem("E206", what, fix="press-[1-5] is five machines"), ())
            return
    for n in range(count):
        yield [
            cell if cell.quoted else cell._replace(text=_RANGE.sub(_number(n), cell.text, count=1)) for cell in row
        ]


def _number(n: int) -> Callable[[re.Match[str]], str]:
    """The n-th number of a range, as wide as its first was written."""
    return lambda found: f"{int(found[1]) + n:0{len(found[1])}d}"


def _value(cell: Cell, report: Report) -> yaml12.Value:
    if cell.quoted:
        return cell.text
    try:
        return yaml12.core(cell.text)
    except Problem as problem:
        fix = f'write it without the zero, or "{cell.text}" in double quotes for text'
        report.add(Place(cell.span, ""), Problem(problem.code, problem.what, why=problem.why, fix=fix), ())
        return cell.text


def _columns(row: Sequence[Cell], source: Source, report: Report) -> list[Scalar]:
    """The names of the columns; none if machines cannot be made of them."""
    found: dict[str, Cell] = {}
    for cell in row:
        if not cell.text:
            report.add(Place(cell.span, ""), Problem("E206", "a column without a name"), ())
        elif cell.text in found:
            report.add(Place(cell.span, ""), Problem("E206", f"the column '{cell.text}' is there twice"), ())
        found[cell.text] = cell
    if "name" not in found:
        why = f"the first row of {source.file} names the columns: name, then the variables of the template"
        report.add(Place(row[0].span, ""), Problem("E206", "no column is called 'name'", why=why), ())
        return []
    return [Scalar(cell.text, cell.text, cell.span) for cell in row]


def _rows(source: Source, report: Report) -> Iterator[list[Cell] | None]:
    """The cells of each line; None for a line that cannot be read."""
    delimiter = delimiter_of(source)
    for number in range(1, len(source.lines) + 1):
        try:
            yield cells(source, number, delimiter)
        except Broken as broken:
            report.add(Place(broken.span, ""), broken.problem, ())
            yield None
