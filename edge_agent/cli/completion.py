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
_AUTOLOADED = (
    "compdef _edge_agent_completion edge-agent",
    """\
if [[ $funcstack[1] == _edge-agent ]]; then
  _edge_agent_completion "$@"
else
  compdef _edge_agent_completion edge-agent
fi""",
)
"""A file `_edge-agent` in a folder of zsh's `fpath` is read at the first Tab, and has to answer that one as well."""


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.KEEP,
        examples=["edge-agent completion bash > /etc/bash_completion.d/edge-agent",
                  "edge-agent completion zsh > /usr/local/share/zsh/site-functions/_edge-agent"],
    )  # fmt: skip
    def completion(ui: Ui, shell: Which) -> None:
        """A script that completes commands and options in this shell; source it, or put it where the shell looks.

        fish looks in ~/.config/fish/completions/edge-agent.fish; for PowerShell append it to $PROFILE.
        """
        from typer._completion_shared import get_completion_script

        script = get_completion_script(
            prog_name=PROGRAM, complete_var=f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE", shell=shell.value
        )
        if shell is Shell.ZSH:
            script = script.replace(*_AUTOLOADED)
        ui.result({"ok": True, "shell": shell.value, "script": script} if ui.json else script)
