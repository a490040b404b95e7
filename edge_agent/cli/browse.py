"""`edge-agent browse`: what a device has, with live values, as a tree, as YAML, or as a spreadsheet."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from edge_agent.cli.progress import Progress
    from edge_agent.looking import Way
    from edge_agent.tag_table import Row

MOST = 5000
"""Things of one walk."""

Device = Annotated[
    str, typer.Argument(metavar="DEVICE", help="A device of the configuration, or its address: opc.tcp://HOST:4840")
]
Place = Annotated[str, typer.Argument(metavar="[PATH]", help="Where to begin: Press/Axes, a node id, holding/0-99.")]
Depth = Annotated[int, typer.Option("--depth", min=1, max=20, help="Levels below PATH.")]
Filter = Annotated[str, typer.Option("--filter", "-f", metavar="TEXT", help="Only what has the text in its path.")]
AsYaml = Annotated[bool, typer.Option("--yaml", help="As `tags:` for the configuration.")]
Save = Annotated[Path | None, typer.Option("--save", metavar="CSV", help="Write the tags into a spreadsheet.")]
Delimiter = Annotated[str, typer.Option("--delimiter", metavar="CHAR", help="Of the spreadsheet.")]
Unit = Annotated[int | None, typer.Option("--unit", min=0, max=255, help="Modbus unit, where DEVICE is an address.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the spreadsheet if it exists.")]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.LOOK,
        examples=["edge-agent browse press-1 Press --depth 2", "edge-agent browse oven-1 holding/0-99 --yaml"],
    )
    def browse(
        ui: Ui,
        device: Device,
        path: Place = "",
        depth: Depth = 3,
        only: Filter = "",
        yaml: AsYaml = False,
        save: Save = None,
        delimiter: Delimiter = ";",
        unit: Unit = None,
        force: Force = False,
    ) -> None:
        """What a device has, with live values. Reads only; goes through the agent if one runs."""
        from edge_agent.cli.reach import look, target, way

        aim = target(ui, device, unit=unit)

        async def run() -> "tuple[list[dict[str, Any]], list[str]]":
            async with way(aim.devices, aim.loaded) as through:
                return await walk(ui, through, aim.device, path, depth)

        try:
            found, notes = look(ui, run)
        except Stop as stop:
            if aim.loaded is None and stop.fault in ("C512", "C513"):
                hint = (
                    f"by its address a server is asked without security: edge-agent init --opcua {device} --user NAME"
                )
                stop.hints = (*stop.hints, hint)
            raise
        shown = [entry for entry in found if not only or only.casefold() in entry["path"].casefold()]
        for note in notes:
            ui.note(note)
        tags = rows(aim.device if "://" not in aim.device else "", shown)
        if save is not None:
            _save(ui, save, delimiter, tags, shown, force=force)
        elif ui.json:
            ui.result({"device": aim.device, "path": path, "entries": shown, "notes": notes})
        elif yaml:
            _yaml(ui, tags)
        else:
            ui.result("\n".join(tree(ui, shown)) or "nothing found")


async def walk(ui: Ui, through: "Way", device: str, path: str, depth: int) -> tuple[list[dict[str, Any]], list[str]]:
    """(what there is, each with its `level` from 0, in the order of a tree; notes about what was left out)"""
    from edge_agent.cli.progress import Progress

    with Progress(ui, "things seen") as progress:
        return await _walk(progress, through, device, path, depth)


async def _walk(
    progress: "Progress", through: "Way", device: str, path: str, depth: int
) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    met: set[str] = set()
    waiting: list[Iterator[dict[str, Any]]] = []

    async def open_level(below: str) -> None:
        listing = await through.browse(device, below)
        if listing["note"] and listing["note"] not in notes:
            notes.append(listing["note"])
        waiting.append(iter(listing["entries"]))

    await open_level(path)
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        if entry["key"] in met:
            continue
        met.add(entry["key"])
        found.append({**entry, "level": len(waiting) - 1})
        if len(found) >= MOST:
            notes.append(f"the first {MOST} things are shown: name a PATH, or a smaller --depth")
            break
        progress.step(str(entry["path"]))
        if entry["branch"] and len(waiting) < depth:
            try:
                await open_level(entry["path"])
            except ValueError as error:
                notes.append(f"{entry['path']}: {error}")
    return found, notes


def rows(device: str, found: list[dict[str, Any]]) -> "list[Row]":
    """What can be a tag, as tags with names of their own."""
    from edge_agent.tag_table import Row, names

    able = [entry for entry in found if entry["tag"] is not None]
    called = names(_name(entry) for entry in able)
    return [Row(device, name, entry["tag"]) for name, entry in zip(called, able, strict=True)]


def _name(entry: Mapping[str, Any]) -> str:
    name = str(entry["name"])
    return str(entry["path"]).replace("/", "_") if name.isdigit() else name


_LONGEST = 32
"""Characters of a value, as many as a date and time has; what is longer juts out."""


def tree(ui: Ui, found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines: name, value, quality, what it is. A `/` is behind what has no value and may have something below it."""
    from edge_agent.cli.tail import quality_text, value_text
    from edge_agent.cli.words import ago

    wide = max((2 * entry["level"] + len(entry["name"]) + 1 for entry in found), default=0)
    long = max((len(value_text(entry)) for entry in found if entry["quality"] is not None), default=0)
    long = min(max(long, 8), _LONGEST)
    for entry in found:
        name = "  " * entry["level"] + entry["name"] + ("/" if entry["branch"] and entry["quality"] is None else "")
        if entry["quality"] is None:
            yield f"{name:<{wide}}  {entry['note']}".rstrip()
            continue
        age = ago(entry["age_s"]) if entry["source_at"] else ""
        quality = quality_text(entry)
        line = f"{name:<{wide}}  {value_text(entry):<{long}}  {quality:<9}  {entry['note']:<8}  {age}".rstrip()
        colour = {"GOOD": "green", "UNCERTAIN": "yellow"}.get(entry["quality"], "red")
        yield line.replace(f" {quality}", f" {ui.paint(quality, colour)}", 1)


def _yaml(ui: Ui, tags: "list[Row]") -> None:
    from edge_agent.tag_table import yaml_line

    if not tags:
        raise Stop(ExitCode.PROBLEM, "nothing here can be a tag", hints=["look deeper with --depth, or elsewhere"])
    ui.result("tags:\n" + "\n".join(f"  {yaml_line(row.tag, row.settings)}" for row in tags))


def _save(ui: Ui, file: Path, delimiter: str, tags: "list[Row]", found: list[dict[str, Any]], *, force: bool) -> None:
    from edge_agent.tag_table import written

    able = [entry for entry in found if entry["tag"] is not None]
    text = written(tags, one_character(delimiter), able)
    write_new(file, text, force=force)
    if ui.json:
        ui.result({"ok": True, "file": str(file), "tags": len(tags)})
    else:
        ui.result(f"{counted(len(tags), 'tag')} written to {file}")
        ui.note(f"   keep the rows you want, then: edge-agent tags import {file}")


def one_character(delimiter: str) -> str:
    delimiter = delimiter.replace("\\t", "\t")
    if len(delimiter) != 1:
        raise Stop(ExitCode.USAGE, "a delimiter is one character", hints=["e.g. --delimiter ';'"])
    return delimiter


def write_new(file: Path, text: str, *, force: bool) -> None:
    """Raises `Stop` if the file is there and may not be replaced."""
    try:
        with file.open("w" if force else "x", encoding="utf-8", newline="") as out:
            out.write(text)
    except FileExistsError:
        raise Stop(
            ExitCode.WILL_NOT_OVERWRITE, f"{file} exists already", hints=["another name, or --force"]
        ) from None
