"""Two hundred broken configurations, as they come from a slip of the hand: every one is exit 78 with file, line and
column, none with a traceback, each within a second of CPU."""

import json
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from config import yaml12
from config.source import Source

from .conftest import program

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("config/examples/*.yaml"))
COUNT = 200
PLACE = re.compile(r"^\S+\.yaml:\d+:\d+: error E\d{3}: .+", re.M)


def slips(dice: random.Random) -> Iterator[str]:
    """Texts that may be broken: a character lost, doubled or exchanged, a key or value misspelt, a line moved, lost
    or indented, a bracket left open."""
    while True:
        text = dice.choice(EXAMPLES).read_text("utf-8")
        lines = text.splitlines(keepends=True)
        nodes = [node for _, node in yaml12.walk(yaml12.parse(Source("", text)).root)]
        keys = [key for node in nodes if isinstance(node, yaml12.Map) for key, _ in node]
        values = [node for node in nodes if isinstance(node, yaml12.Scalar) and node.raw]
        slip = dice.choice(("key", "key", "value", "value", "character", "line", "indent", "bracket", "twice"))
        spot = dice.choice(keys if slip in ("key", "twice") else values).span
        at = spot.line - 1
        line, first, last = lines[at], spot.column - 1, spot.end_column - 1
        word = line[first:last]
        middle = dice.randrange(max(1, len(word)))
        if slip in ("key", "value"):
            new = dice.choice(
                (word[:middle] + word[middle + 1 :], word[:middle] + "x" + word[middle:], word.upper(), "")
            )
            lines[at] = line[:first] + new + line[last:]
        elif slip == "character":
            lines[at] = line[:first] + dice.choice("[]{}'\"&*!%@`:,#\t") + line[first:]
        elif slip == "line":
            other = dice.randrange(len(lines))
            lines[at], lines[other] = lines[other], line
        elif slip == "indent":
            lines[at] = dice.choice(("\t", " ", "   ")) + line
        elif slip == "bracket":
            lines[at] = re.sub(r"[\]}'\"]", "", line, count=1)
        else:
            lines.insert(at, line)
        changed = "".join(lines)
        if changed != text:
            yield changed


def test_two_hundred_slips_of_the_hand_are_told_with_their_place(
    edge_agent: Callable[..., Result], tmp_path: Path
) -> None:
    file, broken, slowest = tmp_path / "line.yaml", 0, 0.0
    for text in slips(random.Random(2026)):
        file.write_text(text, encoding="utf-8")
        began = time.process_time()
        done = edge_agent("validate", "line.yaml", "-o", "json")
        slowest = max(slowest, time.process_time() - began)
        assert done.exit_code in (0, 78), f"{done.exception!r}\n{text}"
        told = json.loads(done.stdout)
        assert "Traceback" not in done.stdout + done.stderr
        if done.exit_code == 0:
            continue  # a slip that says something else, and nothing wrong
        errors = [fault for fault in told["faults"] if fault["severity"] == "error"]
        assert errors, text
        for fault in errors:
            assert fault["file"] == "line.yaml"
            assert 1 <= fault["line"] <= text.count("\n") + 2
            assert fault["column"] >= 1
            assert re.fullmatch(r"E\d{3}", fault["code"])
            assert fault["message"]
        broken += 1
        if broken == COUNT:
            break
    assert slowest <= 1.0, f"{slowest:.2f} s of CPU for one file"


def test_a_slip_is_told_by_the_program_as_it_is_installed(tmp_path: Path) -> None:
    found = 0
    for text in slips(random.Random(78)):
        (tmp_path / "line.yaml").write_text(text, encoding="utf-8")
        done = program("validate", "line.yaml", cwd=tmp_path)
        assert done.returncode in (0, 78)
        assert "Traceback" not in done.stderr
        if done.returncode == 78:
            assert PLACE.search(done.stderr), done.stderr
            assert done.stdout == ""
            found += 1
        if found == 3:
            return


@pytest.mark.parametrize(
    ("arguments", "times"), [(["--help"], 1.5), (["validate", "line.yaml"], 3.5), (["status", "line.yaml"], 3.5)]
)
def test_an_answer_costs_little_more_than_what_its_libraries_cost(
    tmp_path: Path, arguments: list[str], times: float
) -> None:
    """CPU, beside that of loading the libraries which every command line program of this kind has: about 0.15 s on a
    small PC, so half a second. The cheapest of some runs of each: other work on the same cores makes both dearer."""
    (tmp_path / "line.yaml").write_text((ROOT / "config/examples/line.yaml").read_text("utf-8"), encoding="utf-8")
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": ""}
    libraries = [sys.executable, "-c", "import asyncio, pydantic, typer, yaml"]
    answer: list[float] = []
    loading: list[float] = []
    while len(answer) < 8 and min(answer[1:], default=1) > times * min(loading[1:], default=0):
        loading.append(cpu_of(lambda: subprocess.run(libraries, env=env, check=True, timeout=60)))
        answer.append(cpu_of(lambda: program(*arguments, cwd=tmp_path, env=env)))
    assert min(answer[1:]) <= times * min(loading[1:]), (answer, loading)


def cpu_of(run: Callable[[], object]) -> float:
    """Seconds that the processes it starts take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
