"""`edge-agent reload`: the running agent goes on with the configuration as it is written now."""

from collections.abc import Mapping
from typing import Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File
from edge_agent.cli.ui import Ui

SWITCH_TIME = 120.0
"""Seconds: devices that do not answer are left in order first."""


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent reload", "edge-agent reload line3.yaml -o json"])
    def reload(ui: Ui, file: File = None) -> None:
        """Check the configuration, then switch the running agent to it: only what changed.

        Devices whose block is unchanged keep their connection; the buffer, counters and open downtimes go on. With
        any fault the agent keeps the old configuration; exit code 78.
        """
        from edge_agent.cli.running import client, reached

        agent = client(ui, file, answer_time=SWITCH_TIME)
        told: dict[str, Any] = reached(lambda: agent.ask("reload"))
        if ui.json:
            ui.result(told)
        elif told["ok"]:
            ui.result("\n".join(switched(told)))
        if not told["ok"]:
            message = "" if ui.json else f"the agent keeps the old configuration: {told['error']}"
            raise Stop(ExitCode.BAD_CONFIG, message)


def switched(told: Mapping[str, Any]) -> list[str]:
    """The lines that say what was switched."""
    if not told["changed"]:
        return [f"nothing changed, configuration {told['config_hash']}"]
    lines = [f"the agent runs with configuration {told['config_hash']}"]
    for kind in ("devices", "machines"):
        said = [f"{len(names)} {word}{_some(names)}" for word, names in told[kind].items() if names]
        lines.append(f"  {kind:<9} {', '.join(said) or 'none'}")
    lines.append(f"  broker    {told['broker']}")
    return lines


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
