"""`edge-agent completion`: the words of the command line for the shell."""

from enum import StrEnum
from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.ui import Ui


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


Which = Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")]
PROGRAM = "edge-agent"


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.KEEP,
        examples=["edge-agent completion bash > /etc/bash_completion.d/edge-agent",
                  "edge-agent completion powershell >> $PROFILE"],
    )  # fmt: skip
    def completion(ui: Ui, shell: Which) -> None:
        """A script that completes commands and options in this shell; source it, or put it where the shell looks."""
        from typer._completion_shared import get_completion_script

        script = get_completion_script(
            prog_name=PROGRAM, complete_var=f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE", shell=shell.value
        )
        ui.result({"ok": True, "shell": shell.value, "script": script} if ui.json else script)
