"""`edge-agent version`."""

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.ui import Ui


def register(app: typer.Typer) -> None:
    @command(app, section=Section.KEEP, examples=["edge-agent version", "edge-agent version -o json"])
    def version(ui: Ui) -> None:
        """The version of the agent, of Python and of the system."""
        import platform
        from importlib.metadata import version as installed

        about = {
            "version": installed("edge-agent"),
            "python": platform.python_version(),
            "system": platform.platform(),
        }
        if ui.json:
            ui.result(about)
        else:
            ui.result(f"edge-agent {about['version']} (Python {about['python']}, {about['system']})")
