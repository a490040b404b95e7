"""What every command has in common: two examples, `-o json` with stable keys, colour only where it is welcome."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from edge_agent.cli.reference import PROGRAM, commands

from .conftest import PROGRAM as PYTHON
from .conftest import SIMULATED

Run = Callable[..., Result]
LEAVES = [
    name.removeprefix(f"{PROGRAM} ")
    for name, found in commands()
    if not hasattr(found, "commands") and not name.startswith(f"{PROGRAM} demo")
]
STOP = {"ok", "exit", "code", "error", "hints"}
"""Of an answer that is no result."""

ANSWERS: dict[str, tuple[list[str], int, set[str]]] = {
    "backup": (["line.zip"], 0, {"ok", "file", "agent_id", "contents", "retired"}),
    "browse": (["press-1"], 0, {"device", "path", "entries"}),
    "buffer export": (["events.jsonl"], 0, {"ok", "file", "events"}),
    "buffer list": (["-n", "1"], 0, {"id", "stream", "type", "state", "size", "recorded_at"}),
    "buffer purge": ([], 0, {"ok", "state", "there", "removed"}),
    "buffer stats": ([], 0, {"running", "epoch", "waiting", "sent", "dead", "bytes", "max_bytes", "fill", "oldest_at",
                             "full_in_s", "drained_in_s"}),
    "buffer verify": ([], 0, {"ok", "messages", "damaged", "file"}),
    "cert create": ([], 0, {"ok", "created", "file", "subject", "thumbprint", "not_before", "not_after",
                            "application_uri"}),
    "cert show": ([], 0, {"ok", "pki", "own", "trusted", "rejected"}),
    "cert trust": (["data/pki/own/cert.der"], 0, {"ok", "file", "subject", "thumbprint", "not_before", "not_after"}),
    "check": ([], 69, {"ok", "through", "devices", "broker", "faults", "certificates"}),
    "completion": (["bash"], 0, {"ok", "shell", "script"}),
    "config diff": ([], 0, {"ok", "running", "file", "differences"}),
    "config migrate": ([], 0, {"ok", "file", "version", "changed"}),
    "config show": ([], 0, {"file", "hash", "config", "origins"}),
    "discover": (["127.0.0.1:1"], 69, {"ok", "found", "held", "nothing"}),
    "doctor": ([], 3, {"ok", "findings"}),
    "explain": (["press-1"], 0, {"kind", "name", "machine", "inputs", "devices", "events", "buffer", "broker", "at",
                                 "why"}),
    "init": (["first.yaml"], 0, {"ok", "file"}),
    "once": ([], 0, {"ok", "readings", "events", "unreachable", "published"}),
    "read": (["press-1/total"], 0, {"ok", "readings"}),
    "reload": ([], 0, {"ok", "config_hash", "changed", "devices", "machines", "broker"}),
    "restore": (["line.zip", "--to", "clone", "--clone", "a2"], 0, {"ok", "agent_id", "config", "files"}),
    "service install": (["--dry-run"], 0, {"ok", "dry_run", "unit", "text", "commands"}),
    "service uninstall": (["--dry-run"], 0, {"ok", "dry_run", "unit", "text", "commands"}),
    "status": ([], 3, {"ok", "agent", "devices", "machines", "broker", "buffer", "file_changed", "needs_a_person"}),
    "support": ([], 0, {"ok", "file", "contents"}),
    "tags export": (["tags.csv"], 0, {"ok", "file", "tags"}),
    "tags import": (["tags.csv"], 0, {"ok", "added", "changed", "skipped", "unchanged", "kept", "diff"}),
    "tail": (["-n", "1"], 0, {"specversion", "id", "type", "source", "data"}),
    "test": ([], 0, {"ok", "passed", "failed", "tests"}),
    "top": (["-n", "1"], 3, {"ok", "agent", "devices", "machines", "broker", "buffer", "needs_a_person"}),
    "validate": ([], 0, {"file", "ok", "faults", "hash", "devices", "machines", "tags", "tests"}),
    "watch": (["press-1/total", "-n", "1"], 0, {"device", "tag", "value", "quality", "age_s"}),
    "version": ([], 0, set()),
}  # fmt: skip
"""Command → arguments, exit code, and keys that its answer must have."""
ELSEWHERE = {
    "buffer replay": "needs a broker; tests/cli/test_buffer.py",
    "buffer show": "needs the id of an event; tests/cli/test_buffer.py",
    "config schema": "is JSON in any case",
    "dict export": "its files are the result; tests/dictionary",
    "record": "its file is the result; test_record.py",
    "replay": "prints JSON Lines in any case; test_check_commands.py",
    "run": "has no result: its log is on stderr",
    "service logs": "needs a journal: json comes from it",
    "service start": "needs root",
    "service stop": "needs root",
}


def test_every_command_is_checked_for_its_json() -> None:
    assert sorted(LEAVES) == sorted([*ANSWERS, *ELSEWHERE]), "say here what -o json of a new command has"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_a_plain_usage_line_and_two_examples(edge_agent: Run, name: str) -> None:
    done = edge_agent(*name.split(), "-h")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    usage, *_, title, one, two = done.stdout.rstrip().splitlines()
    assert not re.search(r"\{|\[\[|\.\.\.", usage), usage
    assert title.strip() == "Examples:"
    for line in (one, two):
        assert f"{PROGRAM} {name.split()[0]}" in line


@pytest.fixture
def plant(running: "subprocess.Popen[str]", tmp_path: Path) -> Path:
    """A folder in which an agent runs."""
    return tmp_path


def test_every_answer_is_one_json_object_with_stable_keys(plant: Path, edge_agent: Run) -> None:
    for name, (arguments, code, keys) in ANSWERS.items():
        done = edge_agent(*name.split(), *arguments, "-o", "json")
        wanted = 3 if name == "top" and done.exit_code == 3 else code
        assert done.exit_code in (wanted, 0) if name == "top" else done.exit_code == code, (name, done.stderr)
        told: Any = json.loads(done.stdout)
        assert isinstance(told, dict), name
        assert keys <= told.keys(), (name, keys - told.keys())
        assert "\x1b" not in done.stdout, name


def test_every_refusal_is_one_json_object_too(edge_agent: Run, tmp_path: Path) -> None:
    for name, (arguments, _, _) in ANSWERS.items():
        if name in ("version", "init", "completion", "discover", "restore", "service uninstall"):
            continue  # nothing about them needs a configuration
        done = edge_agent(*name.split(), *arguments, "-o", "json")
        assert done.exit_code == 78, (name, done.stdout)
        told = json.loads(done.stdout)
        assert told.keys() == STOP, name
        assert told["exit"] == 78


def test_nothing_is_coloured_that_is_no_terminal_or_does_not_want_it(plant: Path) -> None:
    for command, env in (("status", {}), ("validate", {"NO_COLOR": "1"}), ("doctor", {"TERM": "dumb"})):
        done = subprocess.run([*PYTHON, command], cwd=plant, env={**os.environ, **env}, capture_output=True)
        assert b"\x1b" not in done.stdout + done.stderr


def on_a_terminal(arguments: list[str], folder: Path, env: dict[str, str]) -> bytes:
    """What a person would see."""
    ours, theirs = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    try:
        child = subprocess.Popen(
            [*PYTHON, *arguments], cwd=folder, env={**plain, **env}, stdout=theirs, stderr=theirs, stdin=theirs
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                part = b""
            if not part:
                child.wait(30)
                return seen
            seen += part
    finally:
        os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_a_terminal_is_coloured_unless_it_is_asked_not_to(configuration: Path) -> None:
    folder = configuration.parent
    assert b"\x1b[32mOK" in on_a_terminal(["validate"], folder, {"TERM": "xterm"})
    for arguments, env in ((["validate"], {"TERM": "dumb"}), (["validate"], {"TERM": "xterm", "NO_COLOR": "1"}),
                           (["validate", "--no-color"], {"TERM": "xterm"})):  # fmt: skip
        assert b"\x1b" not in on_a_terminal(arguments, folder, env)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_a_terminal_that_knows_ascii_only_is_shown_ascii_only(configuration: Path) -> None:
    configuration.write_text(SIMULATED.replace("kind: cycle", "kind: constant, form: x"), encoding="utf-8")
    env = {"TERM": "xterm", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "C"}
    seen = on_a_terminal(["explain", "E302"], configuration.parent, env)
    assert seen.isascii()
    faults = on_a_terminal(["validate"], configuration.parent, env)
    assert faults.isascii()
    assert b"edge-agent.yaml:" in faults
    configuration.write_text(SIMULATED, encoding="utf-8")
    shown = on_a_terminal(["config", "show"], configuration.parent, env)
    assert shown.isascii()
    assert b"\\u" in shown, "what has no like in ASCII is escaped"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_top_draws_on_a_screen_of_its_own_and_leaves_it(plant: Path) -> None:
    seen = on_a_terminal(["top", "-n", "2", "--every", "0.2"], plant, {"TERM": "xterm"})
    assert seen.startswith(b"\x1b[?1049h")
    assert seen.endswith(b"\x1b[?1049l")
    assert b"agent    a1" in seen
