"""(s): how long the commands take that people type again and again: `--help`, `validate`, `status` of an agent.

CPU of the process, the best of some runs with bytecode that is cached, as where the agent is installed; and the time
that somebody waits.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Figure
from tests.agent_process import agent

LIMIT = 0.5
"""Seconds that are allowed."""
RUNS = 10
EXAMPLE = Path(__file__).parents[1] / "config/examples/line.yaml"
RUNNING = """\
version: 1
agent: {id: bench}
site: {enterprise: acme, site: bench, area: hall}
mqtt: {url: "mqtt://127.0.0.1:9"}
buffer: {path: buffer.db}
http: false
machines:
  press-1:
    line: line1
    device: {driver: simulated, tags: {status: {kind: constant, value: 2}}}
    state: {from: status, map: {2: running}}
"""


async def commands() -> AsyncIterator[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "edge-agent.yaml").write_text(RUNNING)
        async with agent(folder / "edge-agent.yaml"):
            for arguments in (["--help"], ["validate", str(EXAMPLE)], ["status"]):
                cpu, waited = _best(arguments, folder)
                word = arguments[0]
                yield Figure("s", f"{word}: CPU", cpu, "s", f"at most {LIMIT}; best of {RUNS}")
                yield Figure("s", f"{word}: waited", waited, "s")


def _best(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Least CPU and least time of some runs."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": ""}
    taken: list[tuple[float, float]] = []
    for _ in range(RUNS):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "edge_agent", *arguments], cwd=folder, env=env, capture_output=True)
        waited, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, waited))
    return min(cpu for cpu, _ in taken), min(waited for _, waited in taken)
