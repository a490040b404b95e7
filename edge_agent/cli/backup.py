"""`edge-agent backup` and `restore`: an agent on another PC, as itself or as a clone that is not its twin."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import load
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from config.load import Loaded

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The backup to write.")]
Backup = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Move = Annotated[
    bool, typer.Option("--move", help="Take the buffer along and retire it here; the agent must not run.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Folder = Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder for the configuration.")]
Clone = Annotated[
    str | None,
    typer.Option("--clone", metavar="ID", help="A further agent of this id: no certificate, no buffer of the first."),
]


def register(app: typer.Typer) -> None:
    @command(
        app, section=Section.KEEP, examples=["edge-agent backup line3.zip", "edge-agent backup line3.zip --move"]
    )
    def backup(ui: Ui, target: Target, move: Move = False, force: Force = False) -> None:
        """Save the configuration and, apart from it, the identity: certificate, key, and with --move the buffer.

        Secrets that are kept in files or credentials are not in it. The backup holds keys: guard it.
        """
        from importlib.metadata import version

        from edge_agent.clock import SystemClock
        from edge_agent.upkeep import archive

        loaded = load(ui, None)
        if move:
            _stopped(loaded)
        found = list(archive.entries(loaded, move=move))
        archive.write(target, loaded, found, version=version("edge-agent"), move=move, force=force)
        retired = archive.retire(loaded, str(SystemClock().now().wall // 1_000_000)) if move else None
        names = [entry.name for entry in found]
        if ui.json:
            moved = None if retired is None else str(retired)
            told = {"agent_id": loaded.config.agent.id, "contents": names, "retired": moved}
            ui.result({"ok": True, "file": str(target), **told})
            return
        ui.result(f"{target} is written; it holds")
        for name in names:
            ui.result(f"  {name}")
        if move and retired is None:
            ui.note("there is no buffer here: the agent has not run with this configuration")
        elif retired is not None:
            ui.note(f"the buffer is retired as {retired.name}: agent {loaded.config.agent.id} lives in {target} now")

    @command(
        app,
        section=Section.KEEP,
        examples=["edge-agent restore line3.zip --to /etc/edge-agent", "edge-agent restore line3.zip --clone line4"],
    )
    def restore(ui: Ui, file: Backup, to: Folder = Path(), clone: Clone = None, force: Force = False) -> None:
        """Bring an agent back from a backup, as itself or, with --clone, as another one like it."""
        from config.kinds import NAME
        from edge_agent.upkeep import archive

        if clone is not None:
            import re

            if not re.fullmatch(NAME, clone):
                raise Stop(ExitCode.USAGE, f"{clone!r} cannot be an agent id", hints=["letters, digits, - and _"])
        if not file.is_file():
            raise Stop(ExitCode.USAGE, f"there is no file {file}", hints=["edge-agent backup writes one"])
        try:
            manifest = archive.read_manifest(file)
            if clone == manifest["agent_id"]:
                hint = "a clone needs an id of its own; without --clone it is the same agent"
                raise Stop(ExitCode.USAGE, f"{clone} is the agent in the backup", hints=[hint])
            written = archive.restore(file, manifest, to, clone=clone, force=force)
        except archive.Unusable as error:
            raise Stop(ExitCode.USAGE, str(error)) from None
        config = to / manifest["config"]
        agent = clone or manifest["agent_id"]
        if ui.json:
            names = [str(path) for path in written]
            ui.result({"ok": True, "agent_id": agent, "config": str(config), "files": names})
            return
        ui.result(f"agent {agent} is restored, {counted(len(written), 'file')}; its configuration is {config}")
        if clone is None and not manifest["move"]:
            ui.note("the same agent may run on one PC only: stop the old one for good before you start this one")
        for outside in manifest["outside"].values():
            if Path(outside) in written:
                ui.note(f"outside {to}: {outside}")
        ui.note(f"   check it:  edge-agent doctor {config}")


def _stopped(loaded: "Loaded") -> None:
    """Raises `Stop` while an agent runs: what it stores after the copy would be lost."""
    from edge_agent.cli.running import agent_of
    from edge_agent.control.client import NotRunning

    try:
        agent_of(loaded).ask("status")
    except NotRunning:
        return
    except Exception as error:  # whatever it is, somebody is there
        raise Stop(ExitCode.TRY_AGAIN, f"the agent runs: {error}") from None
    hints = ["stop it first: edge-agent service stop"]
    raise Stop(ExitCode.TRY_AGAIN, "the agent runs, and its buffer cannot move while it does", hints=hints)
