"""`edge-agent service`: the agent as a service of systemd, started with the PC and again after a failure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, find, load
from edge_agent.cli.ui import Ui

Root = Annotated[
    Path, typer.Option("--root", metavar="DIR", help="Write below this folder and start nothing, as for an image.")
]
User = Annotated[str, typer.Option("--user", metavar="NAME", help="The user that the agent runs as.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Lines = Annotated[int, typer.Option("-n", min=1, metavar="N", help="So many of the newest lines.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")]
HERE = Path("/")


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="service", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.RUN.value
    )

    @group.callback()
    def about() -> None:
        """The agent as a service: started with the PC, and again after a failure."""

    @command(
        group,
        section=Section.RUN,
        examples=["edge-agent service install", "edge-agent service install line3.yaml --user edge --dry-run"],
    )
    def install(ui: Ui, file: File = None, user: User = "root", root: Root = HERE, dry_run: Dry = False) -> None:
        """Write the unit for this configuration and enable it; edge-agent service start starts it."""
        from edge_agent.upkeep import systemd

        path = find(ui, file)
        loaded = load(ui, path)
        text = systemd.unit(path.absolute(), loaded, user)
        target = root / systemd.UNIT
        if dry_run:
            _plan(ui, target, text, systemd.after_install() if root == HERE else ())
            return
        _needs_systemd(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        _call(systemd.after_install() if root == HERE else ())
        names = systemd.credentials(loaded)
        if ui.json:
            ui.result({"ok": True, "unit": str(target), "enabled": root == HERE, "credentials": names})
            return
        ui.result(f"{target} is written{' and enabled' if root == HERE else ''}")
        for name in names:
            ui.note(f"put the secret into {systemd.CREDENTIALS}/{name}, mode 0600")

    @command(
        group,
        section=Section.RUN,
        examples=["edge-agent service uninstall", "edge-agent service uninstall --dry-run"],
    )
    def uninstall(ui: Ui, root: Root = HERE, dry_run: Dry = False) -> None:
        """Stop the service and take its unit away; configuration and buffer stay."""
        from edge_agent.upkeep import systemd

        target = root / systemd.UNIT
        before = (("systemctl", "disable", "--now", systemd.NAME),) if root == HERE else ()
        after = systemd.after_uninstall() if root == HERE else ()
        if dry_run:
            _plan(ui, target, None, (*before, *after))
            return
        if not target.exists():
            raise Stop(ExitCode.PROBLEM, f"there is no {target}", hints=["edge-agent service install writes it"])
        _needs_systemd(root)
        _call(before)
        target.unlink()
        _call(after)
        ui.result({"ok": True, "unit": str(target)} if ui.json else f"{target} is taken away")

    for verb, words in (("start", "Start the service."), ("stop", "Stop the service; it ends cleanly.")):
        _add(group, verb, words)

    @command(group, section=Section.RUN, examples=["edge-agent service logs", "edge-agent service logs -n 200 -f"])
    def logs(ui: Ui, lines: Lines = 100, follow: Follow = False) -> None:
        """The log of the service, newest last; with -o json one object for each line."""
        from edge_agent.upkeep import systemd

        _needs_systemd(HERE)
        form = ["--output", "json"] if ui.json else []
        going_on = ["--follow"] if follow else ["--no-pager"]
        _call([["journalctl", "--unit", systemd.NAME, "--lines", str(lines), *form, *going_on]])

    app.add_typer(group)


def _add(group: typer.Typer, verb: str, words: str) -> None:
    def act(ui: Ui) -> None:
        from edge_agent.upkeep import systemd

        _needs_systemd(HERE)
        _call([["systemctl", verb, systemd.NAME]])
        if ui.json:
            ui.result({"ok": True, "done": verb})
        else:
            ui.note(f"{verb} is done; edge-agent status")

    act.__doc__, act.__name__ = words, verb
    example = f"edge-agent service {verb}"
    command(group, section=Section.RUN, examples=[example, f"{example} -o json"])(act)


def _plan(ui: Ui, target: Path, text: str | None, commands: Sequence[Sequence[str]]) -> None:
    said = [" ".join(words) for words in commands]
    if ui.json:
        ui.result({"ok": True, "dry_run": True, "unit": str(target), "text": text, "commands": said})
        return
    ui.result(f"# {target}" if text is not None else f"# {target} would be taken away")
    if text is not None:
        ui.result(text.rstrip("\n"))
    for words in said:
        ui.result(f"# then: {words}")


def _needs_systemd(root: Path) -> None:
    """Raises `Stop` where there is no systemd to talk to."""
    import shutil
    import sys

    booted = sys.platform.startswith("linux") and Path("/run/systemd/system").is_dir()
    if root == HERE and (not booted or shutil.which("systemctl") is None):
        hints = ["let the service manager of this system start: edge-agent run --config FILE", "it stops by SIGTERM"]
        raise Stop(ExitCode.UNREACHABLE, "this system has no systemd", hints=hints)


def _call(commands: Sequence[Sequence[str]]) -> None:
    """Run them in turn. Raises `Stop` when one fails."""
    import subprocess

    for words in commands:
        done = subprocess.run(words)
        if done.returncode:
            hints = ["are you root?"] if words[0] == "systemctl" else []
            raise Stop(ExitCode.NO_PERMISSION, f"{' '.join(words)} failed ({done.returncode})", hints=hints)
