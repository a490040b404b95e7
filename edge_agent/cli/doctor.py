"""`edge-agent doctor`: is this PC fit for the agent, and does the agent run with the file as it is?"""

from typing import TYPE_CHECKING, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def register(app: typer.Typer) -> None:
    @command(app, section=Section.KEEP, examples=["edge-agent doctor", "edge-agent doctor -o json"])
    def doctor(ui: Ui, file: File = None) -> None:
        """Clock, disk, permissions, secrets, certificates, SQLite, broker, and whether the file is what runs.

        Exit code 3 when there is a problem; warnings alone are exit code 0.
        """
        from edge_agent.cli.words import table

        loaded = load(ui, file)
        findings = examined(loaded)
        bad = [one for one in findings if one.state == "problem"]
        if ui.json:
            ui.result({"ok": not bad, "findings": [one._asdict() for one in findings]})
        else:
            rows = [[one.state.upper(), one.what, one.text] for one in findings]
            for line, one in zip(table(rows, ""), findings, strict=True):
                ui.result(line.replace(one.state.upper(), ui.paint(one.state.upper(), _COLOURS[one.state]), 1))
                if one.fix:
                    ui.result(f"{'':9} fix: {one.fix}")
        if bad:
            raise Stop(ExitCode.PROBLEM)


def status_of(loaded: "Loaded") -> dict[str, Any] | None:
    """The status of the agent that runs, None if none does or it does not answer."""
    from edge_agent.cli.running import agent_of
    from edge_agent.control.client import NoAnswer, NotRunning, Refused

    try:
        told: dict[str, Any] = agent_of(loaded).ask("status")
    except (NotRunning, NoAnswer, Refused, PermissionError):
        return None
    return told


def examined(loaded: "Loaded") -> list[Any]:
    """All findings."""
    from edge_agent.attention import troubles
    from edge_agent.clock import SystemClock
    from edge_agent.upkeep.doctor import examine

    status = status_of(loaded)
    return list(examine(loaded, status, troubles(status) if status else [], SystemClock()))
