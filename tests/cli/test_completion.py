"""completion: in the shells themselves, each as it is installed there. PowerShell is asked by its protocol alone.

The short form tries the shells that this machine has; `make torture` wants them all.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.programs import find_program

from .conftest import program

Run = Callable[..., Result]
ALL = ("bash", "fish", "zsh")
SHELLS = ALL if "EDGE_AGENT_TORTURE" in os.environ else [shell for shell in ALL if shutil.which(shell)]
TYPED = {"edge-agent vali": "validate", "edge-agent cert tr": "trust", "edge-agent read --all-d": "--all-decodings"}
SCRIPTS = {
    "bash": """\
. ./edge-agent.bash
function=$(complete -p edge-agent | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
while [ $# -gt 0 ]; do
  COMP_WORDS=($1)
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); $function edge-agent; echo "${COMPREPLY[@]}"; shift 2
done
""",
    "fish": """\
source edge-agent.fish
while set -q argv[1]; complete -C $argv[1]; set argv $argv[3..]; end
""",
    "zsh": """\
zmodload zsh/zpty
while (( $# )); do
  zpty -b inner zsh -f -i
  zpty -w inner 'PROMPT=; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; print REA""DY'
  zpty -r -m inner said '*READY*'
  zpty -w -n inner "$1"$'\\t'
  zpty -r -m inner said "*$2*"
  print -r -- "$said"
  zpty -d inner
  shift 2
done
""",
}
"""Each prints what its shell makes of a line (`$1`) at Tab; zsh on a terminal, until it is what was wanted (`$2`)."""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes_commands_and_options_at_the_first_tab(
    edge_agent: Run, tmp_path: Path, shell: str
) -> None:
    name = "_edge-agent" if shell == "zsh" else f"edge-agent.{shell}"
    (tmp_path / name).write_text(edge_agent("completion", shell).stdout)
    ours = tmp_path / "bin" / "edge-agent"
    ours.parent.mkdir()
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_agent "$@"\n')
    ours.chmod(0o755)
    (tmp_path / "script").write_text(SCRIPTS[shell])
    env = {**os.environ, "PATH": f"{ours.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    pairs = [word for pair in TYPED.items() for word in pair]
    done = subprocess.run(
        [find_program(shell), "script", *pairs], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert all(wanted in done.stdout for wanted in TYPED.values()), (done.stdout, done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_gets_its_completion(edge_agent: Run, shell: str) -> None:
    script = edge_agent("completion", shell)
    assert script.exit_code == 0
    assert "edge-agent" in script.stdout
    assert "_EDGE_AGENT_COMPLETE" in script.stdout


@pytest.mark.parametrize("shell", [shell for shell in (*ALL, "powershell") if shell not in SHELLS])
def test_commands_and_options_are_completed_as_the_script_of_the_shell_asks(tmp_path: Path, shell: str) -> None:
    for typed, index, last, wanted in (
        ("edge-agent val", "1", "val", "validate"),
        ("edge-agent cert tr", "2", "tr", "trust"),
        ("edge-agent read --all", "2", "--all", "--all-decodings"),
    ):
        asked = {
            "_EDGE_AGENT_COMPLETE": f"complete_{shell}", "COMP_WORDS": typed, "COMP_CWORD": index,
            "_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_WORD_TO_COMPLETE": last,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }  # fmt: skip
        assert wanted in program(cwd=tmp_path, env=asked).stdout, (shell, typed)
