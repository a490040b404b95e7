"""The buffer through the running agent and, once it has stopped, from its file."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from typer.testing import Result

from edge_agent.cli.exits import ExitCode

Run = Callable[..., Result]


def told(done: Result) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def waiting(edge_agent: Run, file: str) -> int:
    return sum(lane["rows"] for lane in told(edge_agent("buffer", "stats", file, "-o", "json"))["waiting"].values())


def test_the_buffer_of_a_running_agent_and_of_a_stopped_one(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    file = str(configuration)
    stats = told(edge_agent("buffer", "stats", file, "-o", "json"))
    assert (stats["running"], stats["dead"], stats["sent"]) == (True, 0, 0)
    assert "waiting" in edge_agent("buffer", "stats", file).stdout

    listed = edge_agent("buffer", "list", file, "-n", "3", "-o", "json")
    first, *_ = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (first["state"], first["stream"], first["lane"]) == ("waiting", "$agent.h", "health")
    shown = edge_agent("buffer", "show", first["id"], file, "-o", "json")
    assert any(json.loads(line)["event"]["type"].endswith("agent.started.v1") for line in shown.stdout.splitlines())
    assert edge_agent("buffer", "show", "mlu4idc09c7x.999999", file).exit_code == ExitCode.PROBLEM
    assert edge_agent("buffer", "show", "nonsense", file).exit_code == ExitCode.USAGE
    assert edge_agent("buffer", "replay", "$agent.h", "1", "2", file).exit_code == ExitCode.TRY_AGAIN  # no broker
    assert "0 damaged" in edge_agent("buffer", "verify", file).stdout

    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    rows = waiting(edge_agent, file)
    assert told(edge_agent("buffer", "stats", file, "-o", "json"))["running"] is False
    lines, table = tmp_path / "events.jsonl", tmp_path / "events.db"
    for target in (lines, table):
        assert told(edge_agent("buffer", "export", str(target), file, "-o", "json"))["events"] == rows
        assert edge_agent("buffer", "export", str(target), file).exit_code == ExitCode.WILL_NOT_OVERWRITE
    assert {json.loads(line)["specversion"] for line in lines.read_text("utf-8").splitlines()} == {"1.0"}
    with sqlite3.connect(table) as db:
        (count,) = db.execute("SELECT count(*) FROM events WHERE json_valid(data) AND state = 'waiting'").fetchone()
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)  # one file, readable where it lies
    db.close()
    assert count == rows
    opened = Database(table)
    assert opened.table_names() == ["events"]
    assert opened["events"].count == rows
    assert json.loads(next(iter(opened["events"].rows))["data"])
    opened.close()
    assert told(edge_agent("buffer", "verify", file, "-o", "json"))["messages"] == rows
    assert waiting(edge_agent, file) == rows


def test_a_message_that_is_not_as_it_was_written_is_found(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    with sqlite3.connect(configuration.parent / "data/buffer.db") as db:
        (position,) = db.execute("SELECT max(position) FROM message").fetchone()
        db.execute("UPDATE message SET body = replace(body, '1.0', '1.1') WHERE position = ?", (position,))
    db.close()

    done = edge_agent("buffer", "verify", str(configuration), "-o", "json")

    assert done.exit_code == ExitCode.PROBLEM
    assert json.loads(done.stdout)["damaged"] == [position]


def test_dead_letters_go_when_it_is_said_twice(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    file = str(configuration)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    with sqlite3.connect(configuration.parent / "data/buffer.db") as db:
        db.execute("INSERT INTO dead (position, died_at, reason) VALUES (1000000, 0, 'B607 too large')")
    db.close()

    assert "B607 too large" in edge_agent("buffer", "list", file, "--state", "dead").stdout
    assert "1 message would go" in edge_agent("buffer", "purge", file).stdout
    assert told(edge_agent("buffer", "purge", file, "--yes", "-o", "json"))["removed"] == 1
    assert told(edge_agent("buffer", "stats", file, "-o", "json"))["dead"] == 0


def test_a_purge_of_a_damaged_buffer_says_where_it_is_kept(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path
) -> None:
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    buffer = configuration.parent / "data/buffer.db"
    whole = buffer.read_bytes()
    buffer.write_bytes(whole[:4096] + bytes(4096) + whole[8192:])

    done = edge_agent("buffer", "purge", str(configuration), "--yes")

    assert (done.exit_code, "S707" in done.stderr) == (ExitCode.PROBLEM, True)
    (kept,) = buffer.parent.glob("*.damaged")
    assert str(kept) in done.stderr.replace("\n", "")
    assert kept.stat().st_size == len(whole)


def test_an_export_that_cannot_be_written_says_so_and_leaves_nothing(
    running: "subprocess.Popen[str]", edge_agent: Run, configuration: Path, tmp_path: Path
) -> None:
    for target in (tmp_path / "nowhere" / "events.jsonl", tmp_path / "nowhere" / "events.db"):
        done = edge_agent("buffer", "export", str(target), str(configuration))
        assert done.exit_code == ExitCode.TRY_AGAIN
        assert f"cannot write {target}" in done.stderr.replace("\n", "")
    assert not list(tmp_path.glob("**/*.part"))


def test_without_a_buffer_it_is_said(edge_agent: Run, configuration: Path) -> None:
    done = edge_agent("buffer", "stats", str(configuration))

    assert done.exit_code == ExitCode.UNREACHABLE
    assert "S705" in done.stderr
