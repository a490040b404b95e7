"""run, status, tail with an agent that runs as a process."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from edge_agent.attention import stamped, troubles
from edge_agent.cli.exits import ExitCode
from edge_agent.cli.status import screen
from edge_agent.cli.ui import Ui

from .conftest import program


def test_status_tail_and_values_of_a_running_agent(
    running: "subprocess.Popen[str]", edge_agent: Callable[..., Result], configuration: Path
) -> None:
    status = edge_agent("status", str(configuration), "-o", "json")
    told = json.loads(status.stdout)
    assert status.exit_code == ExitCode.PROBLEM  # nobody answers at the broker's address
    assert told["agent"]["id"] == "a1"
    assert told["devices"]["press-1"]["status"] == "UP"
    assert told["broker"]["status"] != "UP"
    text = edge_agent("status", str(configuration))
    assert "press-1" in text.stdout
    assert "buffer" in text.stdout

    events = edge_agent("tail", str(configuration), "-n", "2", "-o", "json")
    assert events.exit_code == 0, events.stderr
    assert [json.loads(line)["specversion"] for line in events.stdout.splitlines()] == ["1.0", "1.0"]

    values = edge_agent("tail", str(configuration), "--values", "-n", "3")
    assert values.exit_code == 0, values.stderr
    assert any("press-1/note" in line and "急停" in line and "GOOD" in line for line in values.stdout.splitlines())

    of_one = edge_agent("tail", str(configuration), "-m", "press-1", "-n", "3")
    assert (of_one.exit_code, of_one.stdout.count("  press-1  ")) == (0, 3), of_one.stdout
    assert edge_agent("tail", str(configuration), "--values", "-m", "press-1", "-n", "1").exit_code == 0
    unknown = edge_agent("tail", str(configuration), "-m", "press-9")
    assert unknown.exit_code == ExitCode.USAGE
    assert "there is no machine 'press-9'\n   there is press-1" in unknown.stderr

    second = program("run", str(configuration))
    assert second.returncode == ExitCode.TRY_AGAIN
    assert "S701" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, ExitCode.INTERRUPTED)])
def test_an_agent_that_is_told_to_stop_stops_cleanly(
    running: "subprocess.Popen[str]", number: int, code: int
) -> None:
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert running.returncode == code
    assert "has stopped" in err
    assert "Traceback" not in err
    assert out == ""


def test_without_an_agent_status_and_tail_are_exit_69(edge_agent: Callable[..., Result], configuration: Path) -> None:
    for name in ("status", "tail"):
        done = edge_agent(name, str(configuration))
        assert done.exit_code == ExitCode.UNREACHABLE
        assert "no agent is running with this configuration" in done.stderr
        assert "edge-agent run" in done.stderr


TOLD = {
    "agent": {"id": "a1", "version": "1.0", "uptime_s": 3725, "config_hash": "abc"},
    "devices": {
        "press-1": {
            "status": "UP", "endpoint": "opc.tcp://10.0.0.7:4840", "age_s": 0.4, "reason": None, "code": None,
            "message": None, "tags": 5, "bad": {}, "missed_scans": 4,
            "ring": {"told": 12, "losses": 2, "last_at": None},
        },
        "oven-1": {
            "status": "DOWN", "endpoint": "tcp://10.0.0.8:502", "age_s": 192.0, "reason": "timeout", "code": "C502",
            "message": "no answer in 1 s", "tags": 3, "bad": {}, "missed_scans": 0,
        },
    },
    "machines": {
        "press-1": {
            "state": "fault", "since": 1_772_413_200_000_000,
            "counters": {"main": {"totals": {"total": 7}, "raw": {}}},
            "downtime": {
                "id": "dt-e.1", "since": 1_772_413_200_000_000, "class": "stop", "category": "breakdown",
                "reason": {"code": "12", "text": "Guard open", "source": "plc"},
            },
        },
        "oven-1": {"counters": {}, "gaps": {"oven-1": {"since": 1_772_413_200_000_000, "cause": "comms_loss"}}},
    },
    "broker": {
        "status": "DOWN", "url": "mqtts://mom:8883", "confirmed": 17, "last_confirmed_at": None, "code": "B601",
        "message": "login refused",
    },
    "buffer": {"rows": 12, "bytes": 3500, "oldest_s": 61, "dead": 1, "fill": 0.81, "full": False, "full_in_s": 7200,
               "silent_s": None},
}  # fmt: skip


def test_everything_that_needs_a_person_is_named() -> None:
    assert troubles(TOLD) == [
        "device oven-1 is DOWN",
        "the broker is DOWN; events are kept in the buffer",
        "the buffer is 81% full",
        "the broker refused a message for ever: edge-agent buffer list --state dead",
    ]


def test_times_in_json_are_rfc_3339() -> None:
    machine = stamped(TOLD)["machines"]["press-1"]
    assert machine["since"] == machine["downtime"]["since"] == "2026-03-02T01:00:00.000Z"
    assert machine["counters"]["main"]["totals"] == {"total": 7}


def test_the_status_screen_says_how_fresh_the_data_are() -> None:
    lines = screen(Ui(), TOLD, troubles(TOLD))
    assert lines[0] == "agent    a1, version 1.0, up 1 h 2 min, configuration abc"
    assert lines[2].split()[:2] == ["UP", "press-1"]
    assert "last good value 0.4 s ago" in lines[2]
    assert lines[2].endswith("5/5 tags good, 4 scans skipped, 12 values told by its ring, entries lost 2 times")
    assert "last good value 3 min 12 s ago" in lines[3]
    assert lines[3].endswith("3/3 tags good: C502 no answer in 1 s")
    assert lines[5].split()[:2] == ["press-1", "fault"]
    assert "downtime stop breakdown since" in lines[5]
    assert lines[5].endswith("): Guard open; main total 7")
    assert "no state yet" in lines[6]
    assert lines[6].endswith("), comms_loss")
    buffer = "buffer   12 events waiting, 3.4 KiB, oldest 1 min 1 s, 81% full, full in 2 h if it goes on like this"
    assert buffer in lines
