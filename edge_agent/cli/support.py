"""`edge-agent support`: one file for whoever helps, without secrets."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.loading import File, find, read
from edge_agent.cli.ui import Ui

Target = Annotated[Path, typer.Option("--to", metavar="ZIP", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
LOG_LINES = 2000


def register(app: typer.Typer) -> None:
    @command(app, section=Section.KEEP, examples=["edge-agent support", "edge-agent support --to line3.zip"])
    def support(
        ui: Ui, file: File = None, target: Target = Path("edge-agent-support.zip"), force: Force = False
    ) -> None:
        """Pack what is needed to help: versions, configuration, status, log; no secrets. Says what is in it.

        Also for a configuration that is broken: then its faults are in it.
        """
        from config.errors import ConfigFaults
        from edge_agent.upkeep import support as bundle
        from edge_agent.upkeep.hidden import Hidden

        entries = {"versions.json": bundle.as_text(bundle.versions())}
        path = find(ui, file)
        loaded = None
        try:
            loaded = read(path)
        except ConfigFaults as broken:
            entries["faults.txt"] = str(broken) + "\n"
            entries[f"config/{path.name}"] = _raw(path)
        if loaded is not None:
            from edge_agent.attention import stamped
            from edge_agent.cli.config import shown
            from edge_agent.cli.doctor import examined, status_of

            for source in loaded.sources:
                entries[f"config/{Path(source.file).name}"] = source.masked()
            entries["config-show.txt"] = "\n".join(shown(loaded, list(loaded.parts))) + "\n"
            entries["doctor.json"] = bundle.as_text([one._asdict() for one in examined(loaded)])
            entries["status.json"] = bundle.as_text(stamped(status_of(loaded)))
            entries["files.txt"] = bundle.listing(Path(loaded.config.buffer.path).parent)
        entries["log.txt"] = _log()
        names = bundle.write(target, entries, Hidden(loaded), force=force)
        if ui.json:
            ui.result({"ok": True, "file": str(target), "contents": names})
            return
        ui.result(f"{target} is written; it holds")
        for name in names:
            ui.result(f"  {name}")
        ui.note("look through it before you send it")


def _raw(path: Path) -> str:
    """A file that cannot be parsed: what looks like a secret is hidden."""
    from config.errors import ConfigFaults
    from config.source import read as read_source

    try:
        return read_source(path).masked()
    except ConfigFaults as broken:
        return str(broken)


def _log() -> str:
    """The last lines of the service's log; empty where there is no journal."""
    import shutil
    import subprocess

    from edge_agent.upkeep.systemd import NAME

    if shutil.which("journalctl") is None:
        return ""
    asked = ["journalctl", "--unit", NAME, "--lines", str(LOG_LINES), "--no-pager", "--quiet"]
    done = subprocess.run(asked, capture_output=True, text=True, errors="replace", timeout=30)
    return done.stdout
