"""init: a configuration from what a device has, from a list of registers, or from what browse saved."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from config.yaml12 import parse, plain
from edge_agent.cli.exits import ExitCode
from edge_agent.first_config import signals, words
from edge_agent.tag_table import Row
from tests.servers_modbus import HostilePeer
from tests.servers_opcua import asyncua_press, node_opcua, stranger
from tests.waiting import free_port

from .conftest import PROGRAM

Run = Callable[..., Result]
OVEN = """\
tag;reference;type;unit
trays;40201;uint16;
rejected trays;40202;uint16;
"""
GOOD_OVEN = """\
\ufefftag;reference;type;scale;unit
trays;40201;uint16;;
heating;00005;;;
temp;40301;float32;;CEL
pressure;30101;int16;0,1;BAR
state;40310;uint16;;
"""


def written(file: Path) -> dict[str, object]:
    from config.source import Source

    found: dict[str, object] = plain(parse(Source(file.name, file.read_text("utf-8"))).root)
    return found


async def test_an_opc_ua_server_becomes_a_configuration_without_a_node_written_by_hand(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with asyncua_press() as press:
        done = await asyncio.to_thread(
            edge_agent, "init", "--opcua", press.url, "--machine", "press-1", "--running", "Status=2,3", "-o", "json"
        )
        assert done.exit_code == 0, done.stderr
        assert "no connection that protects" in done.stderr
        again = await asyncio.to_thread(edge_agent, "init", "--opcua", press.url, "--running", "Status", "--force")
        assert again.exit_code == ExitCode.USAGE
        assert "Status is no bool: say which value means running, and it is 1 now" in again.stderr
        nowhere = await asyncio.to_thread(edge_agent, "init", "x.yaml", "--opcua", press.url, "--below", "Pres")
        assert nowhere.exit_code == ExitCode.USAGE
        assert "there is Press" in nowhere.stderr
    told = json.loads(done.stdout)
    assert (told["machine"], told["counter"], told["state"], told["tags"]) == ("press-1", "Total", "Status", 4)
    machine = written(tmp_path / "edge-agent.yaml")["machines"]["press-1"]  # type: ignore[index]
    assert machine["state"] == {"from": "Status", "map": {2: "running", 3: "running"}, "default": "stopped"}
    assert machine["device"]["tags"]["Total"] == {"node": "nsu=urn:acme:press;s=Total", "type": "uint16"}
    assert machine["measurements"] == {"process": {"tags": ["Tonnage"], "every": "10s"}}
    assert edge_agent("validate").exit_code == 0


async def test_a_server_that_shows_strangers_nothing_is_asked_by_a_user_over_a_protected_connection(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with node_opcua(tmp_path, anonymous=False, users={"line3": "x"}) as press:
        locked = await asyncio.to_thread(edge_agent, "browse", press.url)
        assert (locked.exit_code, "C513" in locked.stderr) == (ExitCode.UNREACHABLE, True)
        assert f"edge-agent init --opcua {press.url} --user NAME" in locked.stderr
        login = {"OPCUA_PASSWORD": "x"}
        arguments = ["init", "--opcua", press.url, "--user", "line3", "--running", "Status=2"]
        first = await asyncio.to_thread(edge_agent, *arguments, env=login)
        assert (first.exit_code, "C511" in first.stderr) == (ExitCode.UNREACHABLE, True)
        assert "--pki data/pki, then init again" in first.stderr
        (shown,) = await asyncio.to_thread(os.listdir, tmp_path / "data" / "pki" / "rejected")
        trusted = await asyncio.to_thread(
            edge_agent, "cert", "trust", f"data/pki/rejected/{shown}", "--pki", "data/pki"
        )
        assert trusted.exit_code == 0, trusted.stderr
        refused = await asyncio.to_thread(edge_agent, *arguments, env={"OPCUA_PASSWORD": "wrong"})
        assert (refused.exit_code, "C513" in refused.stderr) == (ExitCode.UNREACHABLE, True)
        done = await asyncio.to_thread(edge_agent, *arguments, env=login)
        assert done.exit_code == 0, done.stderr
        checked = await asyncio.to_thread(edge_agent, "check", env=login)
        assert re.search(r"^UP +machine-1 .* 6/6 tags good$", checked.stdout, re.M), checked.stderr
    text = written(tmp_path / "edge-agent.yaml")
    device = text["machines"]["machine-1"]["device"]  # type: ignore[index]
    assert device["identity"] == {"username": "line3", "password": {"env": "OPCUA_PASSWORD"}}
    assert "security" not in device, "the default is signed and encrypted"


async def test_registers_that_hold_something_become_tags(edge_agent: Run, tmp_path: Path) -> None:
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        done = await asyncio.to_thread(
            edge_agent, "init", "--modbus", peer.url, "--below", "holding/7-9", "--counter", "holding_8"
        )
    assert done.exit_code == 0, done.stderr
    machine = written(tmp_path / "edge-agent.yaml")["machines"]["machine-1"]  # type: ignore[index]
    assert machine["device"]["tags"]["holding_8"] == {"holding": 8, "type": "uint16"}
    assert machine["state"] == {"activity": {"counter": "main", "timeout": "60s"}}
    assert edge_agent("validate").exit_code == 0


@pytest.mark.parametrize("form", ["csv", "yaml"])
def test_a_list_of_registers_and_what_browse_printed_become_a_configuration(
    edge_agent: Run, tmp_path: Path, form: str
) -> None:
    tags = tmp_path / f"oven.{form}"
    tags.write_text(
        GOOD_OVEN if form == "csv" else "tags:\n  trays: {holding: 200}\n  heating: {coil: 4}\n"
        "  temp: {holding: 300, type: float32}\n  pressure: {input: 100}\n  state: {holding: 309}\n",
        encoding="utf-8",
    )  # fmt: skip
    arguments = ["--modbus", "10.20.1.31", "--from", str(tags), "--running", "heating"]
    done = edge_agent("init", *arguments, "--broker", "mqtts://mom.acme.example", "--site", "acme/sz1/hall")
    assert done.exit_code == 0, done.stderr
    assert "trays is taken as the counter" in done.stderr
    found = written(tmp_path / "edge-agent.yaml")
    machine = found["machines"]["machine-1"]  # type: ignore[index]
    assert machine["state"] == {"from": "heating", "map": {True: "running", False: "stopped"}}
    assert machine["device"]["url"] == "tcp://10.20.1.31"
    if form == "csv":
        assert machine["device"]["tags"]["pressure"] == {
            "reference": "30101", "type": "int16", "scale": 0.1, "unit": "BAR"
        }  # fmt: skip
    assert found["mqtt"] == {"url": "mqtts://mom.acme.example"}
    assert edge_agent("validate").exit_code == 0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (OVEN, "oven.csv:3:1: error E3"),
        ("tag;holding\ntrays;70000\n", "oven.csv:2:7: error E309"),
        ("tag;holding;typ\ntrays;7;uint16\n", "oven.csv:2:9: error E301"),
        ("name;holding\ntrays;7\n", "oven.csv:1:1: error E206: no column is called 'tag'"),
        ("tag;holding\ntrays;7\n\ntrays;8\n", "oven.csv:4:1: error E102: 'trays' is there twice, first on line 2"),
        ("tag;holding\n;7\n", "this tag has no name"),
        ("tag;holding;tag\ntrays;7;x\n", "the column 'tag' is there twice"),
        ("tag;holding\ntrays;7;8\n", "this row has 3 cells, and the first row has 2"),
        ('tag;holding\n"trays;7\n', "oven.csv:2:1: error E206: this quote is not closed on its line"),
        ("tag;holding\ntrays;007\n", "oven.csv:2:7: error E103"),
    ],
)
def test_a_fault_of_a_list_is_named_by_its_line_and_column(
    edge_agent: Run, tmp_path: Path, table: str, said: str
) -> None:
    (tmp_path / "oven.csv").write_text(table, encoding="utf-8")
    done = edge_agent("init", "--modbus", "10.20.1.31", "--from", "oven.csv", "--counter", "trays")
    assert done.exit_code == ExitCode.BAD_CONFIG, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "edge-agent.yaml").exists()


def test_what_cannot_be_decided_is_asked_for(edge_agent: Run, tmp_path: Path) -> None:
    (tmp_path / "oven.csv").write_text("tag;holding\na;7\nb;8\n", encoding="utf-8")
    for arguments, said in (
        ([], "no tag looks like a counter"),
        (["--counter", "c"], "there is no tag 'c'"),
        (["--counter", "a", "--site", "acme"], "needs three names"),
        (["--running", "b", "--counter", "a"], "say which value means running"),
    ):
        done = edge_agent("init", "--modbus", "10.20.1.31", "--from", "oven.csv", *arguments)
        assert done.exit_code == ExitCode.USAGE, done.stderr
        assert said in done.stderr
    assert edge_agent("init", "--from", "oven.csv").exit_code == ExitCode.USAGE


async def test_a_server_that_is_not_there_is_exit_69_and_nothing_is_written(edge_agent: Run, tmp_path: Path) -> None:
    done = await asyncio.to_thread(edge_agent, "init", "--opcua", f"127.0.0.1:{free_port()}")
    assert (done.exit_code, "C501" in done.stderr) == (ExitCode.UNREACHABLE, True)
    async with stranger(b"HTTP/1.1 400\r\n\r\n") as url:
        done = await asyncio.to_thread(edge_agent, "init", "--opcua", url)
    assert (done.exit_code, "is no OPC UA server" in done.stderr) == (ExitCode.UNREACHABLE, True)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_on_a_terminal_a_person_is_asked(tmp_path: Path) -> None:
    (tmp_path / "oven.csv").write_text("tag;holding\nfree;6\ntrays;7\nstate;8\n", encoding="utf-8")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*PROGRAM, "init", "--modbus", "10.20.1.31", "--from", "oven.csv"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    try:
        os.write(ours, b"oven-1\n\n1\n4\n")
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            seen += part
        assert child.wait(30) == 0, seen
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    machine = written(tmp_path / "edge-agent.yaml")["machines"]["oven-1"]  # type: ignore[index]
    assert machine["counters"]["main"]["total"] == "trays"
    assert machine["state"] == {"from": "state", "map": {4: "running"}, "default": "stopped"}


def test_signals_are_found_by_the_words_of_their_names_and_by_their_types() -> None:
    def row(tag: str, kind: str) -> Row:
        return Row("", tag, {"node": f"nsu=urn:x;s={tag}", "type": kind})

    found = signals(
        [
            row("Temp", "float32"), row("MachineStatus", "int16"), row("good_parts", "uint32"),
            row("Total", "uint16"), row("TotalEnergy", "float32"), row("NOK", "uint16"),
            row("FaultCode", "uint16"), row("bRunning", "bool"),
            row("Stückzähler", "int32"),
        ]
    )  # fmt: skip
    assert found.counters == ("Total", "good_parts")
    assert found.states == ("MachineStatus", "bRunning")
    assert (found.scraps, found.reasons) == (("NOK",), ("FaultCode",))
    assert words("FAULT-Code_17") == ["fault", "code"]
