"""Finds the configuration and reads it; what is wrong with it is printed here and ends the command with 78."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.errors import Fault
    from config.load import Loaded

PLACES = (Path("edge-agent.yaml"), Path("/etc/edge-agent/edge-agent.yaml"))

File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The configuration; also as -c.")]


def sorted_out(paths: "Sequence[Path]") -> tuple[Path | None, Path]:
    """(the configuration if it is named, the other file) of a command line `[FILE] OTHER`. Raises `Stop`."""
    if len(paths) > 2:
        raise Stop(ExitCode.USAGE, f"{len(paths)} files are too many: the configuration, and the samples")
    return (paths[0] if len(paths) == 2 else None), paths[-1]


def find(ui: Ui, file: Path | None) -> Path:
    """The file named, or the first of the usual places that exists. Raises `Stop`."""
    named = file or ui.config
    if named is not None:
        if named.is_file():
            return named
        what = "is a folder" if named.is_dir() else "does not exist"
        raise Stop(ExitCode.BAD_CONFIG, f"{named} {what}", hints=["name the configuration: edge-agent COMMAND FILE"])
    for place in PLACES:
        if place.is_file():
            return place
    raise Stop(
        ExitCode.BAD_CONFIG,
        f"there is no configuration: neither {PLACES[0]} here nor {PLACES[1]}",
        hints=["write a first one with: edge-agent init", "or name it: edge-agent COMMAND FILE"],
    )


def load(ui: Ui, file: Path | None) -> "Loaded":
    """The configuration, checked as far as it can be without the plant. Raises `Stop` after printing the faults."""
    from config.errors import ConfigFaults

    path = find(ui, file)
    try:
        loaded = read(path)
    except ConfigFaults as broken:
        report(ui, path, broken.faults)
        raise Stop(ExitCode.BAD_CONFIG) from None
    for warning in loaded.warnings:
        ui.note(warning.render())
    return loaded


def read(path: Path) -> "Loaded":
    """Raises `ConfigFaults` and OSError."""
    from config.load import load as load_file
    from drivers.registry import Drivers
    from edge_agent.machine.expressions import names

    return load_file(path, drivers=Drivers().options(), check_expression=names)


def report(ui: Ui, path: Path, faults: "Sequence[Fault]") -> None:
    """Every fault: as text on stderr, with `-o json` as one object on stdout."""
    if ui.json:
        said = [fault.as_json() for fault in faults]
        ui.result({"ok": False, "exit": int(ExitCode.BAD_CONFIG), "file": str(path), "faults": said})
        return
    errors = sum(fault.severity == "error" for fault in faults)
    for fault in faults:
        ui.fault(fault.render())
    ui.note(f"{path}: {errors} {'error' if errors == 1 else 'errors'}")
