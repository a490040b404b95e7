import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.in_process import invoke

PROGRAM = [sys.executable, "-m", "edge_agent"]
ROOT = Path(__file__).resolve().parents[2]

SIMULATED = """\
version: 1
agent: {id: a1}
site: {enterprise: acme, site: sz1, area: stamping}
mqtt: {url: mqtt://127.0.0.1:9}
machines:
  press-1:
    line: line3
    device:
      driver: simulated
      scan: 100ms
      tags:
        status: {kind: cycle, values: [2, 8], every: 400ms}
        total:  {kind: counter, rate: 20/s}
        note:   {kind: constant, value: 急停}
    state:
      from: status
      map: {2: running, 8: fault}
    counters:
      main: {total: total, max_rate: 40/s}
"""


@pytest.fixture
def edge_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EDGE_AGENT_")]:
        monkeypatch.delenv(name)
    return invoke


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "edge-agent.yaml"
    path.write_text(SIMULATED, encoding="utf-8")
    return path


def program(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs the real program. `cwd` and `env` as for subprocess."""
    env = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=60, env=env, **options
    )


@pytest.fixture
def running(configuration: Path) -> Iterator["subprocess.Popen[str]"]:
    """An agent that runs as a process with the configuration; ended by its id."""
    agent = subprocess.Popen(
        [*PROGRAM, "run", str(configuration)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        assert agent.stderr is not None
        said = []
        for line in agent.stderr:
            said.append(line)
            if "press-1 (simulated): up" in line:
                break
        else:
            pytest.fail(f"the agent has ended with {agent.wait()}:\n{''.join(said)}")
        yield agent
    finally:
        agent.kill()
        agent.communicate()
