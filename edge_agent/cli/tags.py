"""`edge-agent tags`: tags to and from a spreadsheet.

An import writes only what differs, into the file where it stands. The file of before is kept beside it, and comes
back by itself if the new one is not sound.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import load, read, report
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from config.errors import Fault
    from config.load import Loaded
    from config.source import Source
    from config.yaml12 import Map
    from edge_agent.tag_edits import Edit
    from edge_agent.tag_table import Row


class Conflict(StrEnum):
    """What is done with a tag that is there with other settings."""

    ABORT = "abort"
    OVERWRITE = "overwrite"
    SKIP = "skip"


Csv = Annotated[Path, typer.Argument(metavar="CSV", help="The spreadsheet, saved as CSV UTF-8.")]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="One device; of rows that name none.")]
Delimiter = Annotated[str, typer.Option("--delimiter", metavar="CHAR", help="Between cells: ; or , or \\t.")]
Found = Annotated[str | None, typer.Option("--delimiter", metavar="CHAR", help="Default: the one of the first line.")]
OnConflict = Annotated[
    Conflict, typer.Option("--on-conflict", help="A tag that is there already with other settings.")
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Take out the tags without a row, of the devices that have rows.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the lines that would change, and write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the spreadsheet if it exists.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(name="tags", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.LOOK.value)

    @group.callback()
    def about() -> None:
        """Tags to and from a spreadsheet."""

    @command(
        group,
        section=Section.LOOK,
        name="export",
        examples=["edge-agent tags export tags.csv", "edge-agent tags export oven.csv --device oven-1 --delimiter ,"],
    )
    def export(ui: Ui, csv: Csv, device: Device = None, delimiter: Delimiter = ";", force: Force = False) -> None:
        """The tags of the configuration as a spreadsheet: a row for each, a column for each setting."""
        from edge_agent.cli.browse import one_character, write_new
        from edge_agent.tag_table import written

        loaded = load(ui, None)
        rows = list(rows_of(loaded, _device(loaded, device) if device is not None else None))
        write_new(csv, written(rows, one_character(delimiter)), force=force)
        if ui.json:
            ui.result({"ok": True, "file": str(csv), "tags": len(rows)})
        else:
            ui.result(f"{counted(len(rows), 'tag')} written to {csv}")
            ui.note(f"   change the rows, then: edge-agent tags import {csv}")

    @command(
        group,
        section=Section.LOOK,
        name="import",
        examples=[
            "edge-agent tags import tags.csv --prune --dry-run",
            "edge-agent tags import oven.csv --device oven-1",
        ],
    )
    def take(
        ui: Ui,
        csv: Csv,
        device: Device = None,
        on_conflict: OnConflict = Conflict.ABORT,
        prune: Prune = False,
        delimiter: Found = None,
        dry_run: DryRun = False,
    ) -> None:
        """The tags of a spreadsheet into the configuration. Only what differs is written; comments stay, and the file
        of before is kept beside it. A tag that has no row stays, unless --prune is given. Exit code 73 if a tag is
        there already with other settings."""
        from config.errors import ConfigFaults
        from config.source import read as read_source
        from edge_agent.cli.browse import one_character
        from edge_agent.tag_table import read as read_table

        loaded = load(ui, None)
        try:
            table = read_source(csv)
            rows, faults = read_table(table, None if delimiter is None else one_character(delimiter))
            if faults:
                raise ConfigFaults(faults)
            only = _device(loaded, device) if device is not None else None
            plan = planned(loaded, rows, table, only, on_conflict, prune=prune)
        except ConfigFaults as broken:
            report(ui, csv, broken.faults)
            raise Stop(ExitCode.BAD_CONFIG) from None
        if plan.conflicts and on_conflict is Conflict.ABORT:
            hints = [f"{csv}:{row.places['tag'].line}: {row.device}/{row.tag}" for row in plan.conflicts[:10]]
            hints.append("--on-conflict overwrite takes those of the spreadsheet, skip leaves them as they are")
            what = f"{counted(len(plan.conflicts), 'tag')} with other settings there already; nothing is written"
            raise Stop(ExitCode.WILL_NOT_OVERWRITE, what, hints=hints)
        kept = {} if dry_run else _write(ui, loaded, plan, table)
        _tell(ui, csv, plan, kept, dry_run=dry_run)

    app.add_typer(group)


def _device(loaded: "Loaded", name: str) -> str:
    if name not in loaded.config.devices:
        from config.errors import did_you_mean

        hint = did_you_mean(name, loaded.config.devices) or f"there is {', '.join(loaded.config.devices) or 'none'}"
        raise Stop(ExitCode.USAGE, f"the configuration has no device {name!r}", hints=[hint])
    return name


def rows_of(loaded: "Loaded", only: str | None) -> "list[Row]":
    """The tags as they are written, templates expanded."""
    from config.yaml12 import Map, plain
    from edge_agent.tag_table import Row

    found = []
    for name in loaded.config.devices if only is None else [only]:
        tags = _tags(loaded, name)
        for key, node in tags or ():
            found.append(Row(name, str(key.value), plain(node) if isinstance(node, Map) else {}))
    return found


def _tags(loaded: "Loaded", device: str) -> "Map | None":
    from config.yaml12 import Map

    node = loaded.parts[("devices", device)]
    tags = node.get("tags") if isinstance(node, Map) else None
    return tags if isinstance(tags, Map) else None


@dataclass
class Plan:
    """What an import does. `texts`: files with their new text, `rows`: what is written, with its device."""

    added: "list[Row]" = field(default_factory=list)
    changed: "list[Row]" = field(default_factory=list)
    conflicts: "list[Row]" = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    texts: "dict[str, tuple[Source, str]]" = field(default_factory=dict)

    @property
    def rows(self) -> "list[Row]":
        return [*self.added, *self.changed]


def planned(
    loaded: "Loaded", rows: "Sequence[Row]", table: "Source", only: str | None, on_conflict: Conflict, *, prune: bool
) -> Plan:
    """Raises ConfigFaults for rows that cannot be imported."""
    from config.errors import ConfigFaults, Problem, did_you_mean
    from config.source import TOP
    from edge_agent import tag_edits
    from edge_agent.tag_table import Row

    plan, faults = Plan(), list["Fault"]()
    named: dict[str, set[str]] = {}
    edits: dict[str, list[Edit]] = {}
    fresh: dict[str, list[Row]] = {}
    devices = loaded.config.devices
    alone = only or (next(iter(devices)) if len(devices) == 1 else "")

    def fault(row: "Row", column: str, what: str, fix: str = "") -> None:
        span = row.places.get(column) or row.places["tag"]
        faults.append(table.fault(span, Problem("E206", what, fix=fix)))

    for read_row in rows:
        row = read_row if read_row.device else read_row._replace(device=alone)
        if only is not None and row.device != only:
            continue
        if row.device not in devices or (tags := _tags(loaded, row.device)) is None:
            what = f"there is no device '{row.device}'" if row.device else "it does not say of which device it is"
            fault(row, "device", what, did_you_mean(row.device, devices) or "name the device in the row, or --device")
            continue
        named.setdefault(row.device, set()).add(row.tag)
        key, there = tags.items.get(row.tag, (None, None))
        if key is None or there is None:
            if tags.template:
                fault(row, "tag", f"the tags of {row.device} stand in template {tags.template}", "add it there")
            fresh.setdefault(row.device, []).append(row)
            plan.added.append(row)
        elif not tag_edits.differs(there, row.settings):
            plan.unchanged += 1
        elif on_conflict is not Conflict.OVERWRITE:
            plan.conflicts.append(row)
        elif there.template:
            where = f"template {there.template}, line {there.span.line}"
            fault(row, "tag", f"{row.device}/{row.tag} stands in {where}", "change it there, for all of its machines")
        else:
            source = _source(loaded, there.span.file)
            edits.setdefault(source.file, []).extend(tag_edits.replaced(key, there, row, source))
            plan.changed.append(row)
    gone = {device: _without_row(loaded, device, known) for device, known in named.items()} if prune else {}
    for device, templates in gone.items():
        sharing = list(_sharing(loaded, device)) if templates else []
        for tag, template in templates.items():
            plan.removed.append(f"{device}/{tag}")
            if template:
                what = f"{device}/{tag} has no row, and stands in template {template}"
                faults.append(table.fault(TOP, Problem("E206", what, fix="take it out there, or give it a row")))
            for other in sharing:
                if tag not in gone.get(other, ()):
                    what = f"{device}/{tag} has no row, and its lines are those of {other}/{tag} too"
                    faults.append(
                        table.fault(TOP, Problem("E206", what, fix="give it a row, or write tags for each"))
                    )
    if faults:
        raise ConfigFaults(faults)
    for device in {**fresh, **gone}:
        tags = _tags(loaded, device)
        assert tags is not None
        source = _source(loaded, tags.span.file)
        some, away = edits.setdefault(source.file, []), gone.get(device, {})
        some.extend(tag_edits.removed(tags, away, source))
        some.extend(tag_edits.added(tags, fresh.get(device, []), source, away))
    for file, found in edits.items():
        if found:
            source = _source(loaded, file)
            once = list(dict.fromkeys(found))  # devices with the same lines as tags have the same edits
            places = [span for span, _ in once if span[:2] != span[2:4]]
            if len(set(places)) < len(places):
                what = "rows of devices that share their tags differ"
                raise ConfigFaults([table.fault(TOP, Problem("E206", what, fix="make them alike"))])
            plan.texts[file] = source, tag_edits.applied(source, once)
    return plan


def _sharing(loaded: "Loaded", device: str) -> Iterator[str]:
    """Other devices whose tags are written once with its own: `tags: *tags`."""
    own = _tags(loaded, device)
    for other in loaded.config.devices:
        tags = _tags(loaded, other)
        if other != device and own is not None and tags is not None and tags.span == own.span:
            yield other


def _without_row(loaded: "Loaded", device: str, named: set[str]) -> dict[str, str]:
    """The device's tags that are not named, and the template that each stands in, if it does."""
    from config.yaml12 import walk

    found = {}
    for key, node in _tags(loaded, device) or ():
        if str(key.value) not in named:
            found[str(key.value)] = key.template or next(
                (part.template for _, part in walk(node) if part.template), ""
            )
    return found


def _source(loaded: "Loaded", file: str) -> "Source":
    return next((one for one in loaded.sources if one.file == file), loaded.sources[0])


def _write(ui: Ui, loaded: "Loaded", plan: Plan, table: "Source") -> dict[str, str]:
    """File → where the one of before is kept. Raises `Stop`, with all as it was, if the new one is not sound."""
    from config.errors import ConfigFaults

    kept: dict[str, str] = {}
    for file, (_, text) in plan.texts.items():
        path = Path(file)
        before = path.read_bytes()
        aside = _free(path)
        aside.write_bytes(before)
        kept[file] = str(aside)
        _replace(path, text.encode("utf-8-sig" if before.startswith(b"\xef\xbb\xbf") else "utf-8"))
    try:
        read(Path(loaded.file))
    except ConfigFaults as broken:
        main = plan.texts.get(loaded.file, (None, loaded.sources[0].text))[1]
        faults = faults_of_rows(main, Path(loaded.file), plan.rows, table) or list(broken.faults)
        for file, aside_name in kept.items():
            Path(aside_name).replace(file)
        report(ui, Path(table.file), faults)
        if faults[0].file != table.file:
            ui.note("   nothing is written; the places are those in the file as it would have been")
        raise Stop(ExitCode.BAD_CONFIG) from None
    return kept


def _free(path: Path) -> Path:
    number = 0
    while (aside := path.with_name(f"{path.name}.bak{number or ''}")).exists():
        number += 1
    return aside


def _replace(path: Path, data: bytes) -> None:
    """At once, or not at all; with the mode that it has."""
    import shutil

    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    shutil.copymode(path, fresh)
    fresh.replace(path)


def _tell(ui: Ui, csv: Path, plan: Plan, kept: Mapping[str, str], *, dry_run: bool) -> None:
    import difflib

    diffs = [
        line
        for file, (source, text) in plan.texts.items()
        for line in difflib.unified_diff(
            source.masked().splitlines(), masked(source, text).splitlines(), file, file, n=1, lineterm=""
        )
    ]
    if ui.json:
        told: dict[str, Any] = {
            "ok": True,
            **{
                word: [f"{row.device}/{row.tag}" for row in some]
                for word, some in (("added", plan.added), ("changed", plan.changed), ("skipped", plan.conflicts))
            },
            "removed": plan.removed,
            "unchanged": plan.unchanged,
            "kept": dict(kept),
            "diff": diffs,
        }
        ui.result(told)
        return
    skipped = f", {len(plan.conflicts)} skipped" if plan.conflicts else ""
    if not plan.texts:
        ui.result(f"{csv} changes nothing: {plan.unchanged} tags are as they are in the configuration{skipped}")
        return
    for line in diffs:
        ui.result(ui.paint(line, {"+": "green", "-": "red"}.get(line[:1], "dim")))
    would = "would be " if dry_run else ""
    added = f"{counted(len(plan.added), 'tag')} {would}added"
    counts = f"{added}, {len(plan.changed)} {would}changed, {plan.unchanged} as they were"
    ui.result(f"{counts}{skipped}")
    if plan.removed:
        ui.result(f"{len(plan.removed)} {would}taken out: {', '.join(plan.removed)}")
    for file, aside in kept.items():
        ui.note(f"   the way back: mv {aside} {file}")
    if not dry_run:
        ui.note("   a running agent takes it over with: edge-agent reload")


def masked(source: "Source", text: str) -> str:
    """A text made of the source's, with the source's secrets masked."""
    from config.source import Source

    return Source(source.file, text).masked()


def faults_of_rows(text: str, target: Path, rows: "Sequence[Row]", table: "Source") -> "list[Fault]":
    """What is wrong with a configuration, as far as it comes from these rows, told where it stands in their table."""
    from config.errors import ConfigFaults, Problem
    from config.load import load_source
    from config.source import TOP, Source
    from drivers.registry import Drivers
    from edge_agent.machine.expressions import names

    try:
        load_source(Source(str(target), text), target.absolute().parent, Drivers().options(), names)
    except ConfigFaults as broken:
        of = {(row.device, row.tag): row for row in rows}
        told = []
        for fault in broken.faults:
            steps = fault.path.split(".")
            at = steps.index("tags") if "tags" in steps else len(steps)
            device = steps[1] if len(steps) > 1 else ""
            row = of.get((device, steps[at + 1] if at + 1 < len(steps) else ""))
            if row is not None and fault.severity == "error":
                key = steps[at + 2] if at + 2 < len(steps) else "tag"
                span = row.places.get(key) or row.places.get("tag") or TOP
                told.append(table.fault(span, Problem(fault.code, fault.what, why=fault.why, fix=fault.fix)))
        return told
    return []
