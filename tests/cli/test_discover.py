"""discover: what answers at an address, asked of servers written by others and of what is no server at all."""

import asyncio
import json
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import serial
from typer.testing import Result

from drivers.modbus.discovery import objects
from edge_agent.cli.discover import numbers
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.progress import line
from tests.agent_process import agent
from tests.cli.test_looking import OVEN
from tests.cli.test_manners import on_a_terminal
from tests.servers_modbus import CLOSE, SILENCE, HostilePeer, Pty, jsmodbus, libmodbus, modbus_serial, pty_pair
from tests.servers_opcua import make_certificate, node_opcua, stranger
from tests.waiting import free_port

Run = Callable[..., Result]


async def told(edge_agent: Run, *arguments: str) -> dict[str, Any]:
    done = await asyncio.to_thread(edge_agent, "discover", *arguments, "-o", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if found["ok"] else ExitCode.UNREACHABLE), done.stderr
    return found


async def test_an_opc_ua_server_is_told_with_its_security_logins_and_certificate(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with node_opcua(tmp_path, announce="plc-1.invalid") as press:
        (one,) = (await told(edge_agent, f"127.0.0.1:{press.port}"))["found"]
        text = (await asyncio.to_thread(edge_agent, "discover", press.url)).stdout
    assert (one["protocol"], one["url"], one["state"]) == ("opcua", press.url, "Running")
    assert {end["url"] for end in one["endpoints"]} == {press.url}, "the address typed, whatever is announced"
    offered = {(end["policy"], end["mode"]) for end in one["endpoints"]}
    assert {("None", "None"), ("Basic256Sha256", "SignAndEncrypt")} <= offered
    assert "anonymous" in one["endpoints"][0]["logins"]
    (certificate,) = one["certificates"]
    assert (certificate["subject"], len(certificate["thumbprint"]), certificate["problem"]) == ("CN=press", 40, "")
    assert "urn:acme:press" in one["namespaces"]
    assert [(found["url"].split(":")[1], found["resolves"]) for found in one["announced"]] == [
        ("//plc-1.invalid", False)
    ]
    assert "plc-1.invalid" in text
    assert "a name this PC cannot resolve; the address you typed works" in text
    assert f"next: edge-agent init --opcua {press.url}" in text


async def test_a_server_that_tells_strangers_nothing_is_still_told(edge_agent: Run, tmp_path: Path) -> None:
    async with node_opcua(tmp_path, anonymous=False, users={"line3": "x"}) as press:
        (one,) = (await told(edge_agent, press.url))["found"]
    assert one["state"] is None
    assert "only over a protected connection, or to a known user" in one["locked"]
    assert len(one["endpoints"]) > 1


async def test_modbus_units_are_told_with_their_tables_and_what_they_call_themselves(
    edge_agent: Run, tmp_path: Path
) -> None:
    async with modbus_serial(tmp_path) as oven:
        await oven.only(1)
        await oven.delay(4, -1)
        await oven.refuse("input", 0, code=2)
        (one,) = (await told(edge_agent, oven.url, "--units", "3-5"))["found"]
        assert await oven.connections() == (1, 0)
    assert [unit["unit"] for unit in one["units"]] == [3, 5]
    refused = "illegal data address (exception 2)"
    tables = {"holding": "answers", "input": refused, "coil": "answers", "discrete": "answers"}
    assert one["units"][0]["tables"] == tables
    assert one["units"][0]["identity"] == {
        "vendor": "Acme", "product": "OV-200", "revision": "V1.4", "model": "Oven 200"
    }  # fmt: skip


async def test_units_that_are_the_same_are_told_once(edge_agent: Run, tmp_path: Path) -> None:
    async with modbus_serial(tmp_path) as oven:
        await oven.delay(7, -1)
        done = await asyncio.to_thread(edge_agent, "discover", oven.url, "--units", "1-40,50", "--timeout", "0.3")
    assert done.stdout.splitlines()[:3] == [
        f"{oven.url}  Modbus  units 1-6, 8-40, 50 answer",
        "  units 1-6, 8-40, 50: the same",
        "    Acme OV-200 V1.4",
    ]


async def test_units_are_found_on_a_serial_line_behind_one_that_is_silent(edge_agent: Run, tmp_path: Path) -> None:
    with pty_pair() as (ours, theirs):
        async with libmodbus(tmp_path, theirs.path):
            line = ours.url(baud=19200, parity="E")
            (one,) = (await told(edge_agent, line, "--units", "2,1", "--timeout", "0.7"))["found"]
            assert (one["url"], [unit["unit"] for unit in one["units"]]) == (line, [1])
            assert set(one["units"][0]["tables"].values()) == {"answers"}


def test_a_serial_port_that_does_not_take_the_settings_says_so(edge_agent: Run) -> None:
    port = Pty()
    try:  # a pseudo-terminal has no parity, and says so when nothing else is new to it
        serial.Serial(port.path, 19200, exclusive=True).close()
        done = edge_agent("discover", port.path, "--units", "1")
    finally:
        port.close()
    assert done.exit_code == ExitCode.UNREACHABLE, done.stderr
    assert f"Cannot open {port.path}: the port does not take 19200 baud, parity E" in done.stdout


def test_a_serial_line_without_an_answer_asks_for_its_settings_and_may_be_named_by_its_file(edge_agent: Run) -> None:
    port = Pty()
    try:
        done = edge_agent("discover", port.path, "--units", "9", "--timeout", "0.1")
    finally:
        port.close()
    assert done.exit_code == ExitCode.UNREACHABLE
    assert done.stdout.startswith(f"serial://{port.path}  no unit answers: are speed and parity those of the line")


def test_a_serial_port_that_is_not_there_is_said_as_it_is(edge_agent: Run) -> None:
    done = edge_agent("discover", "/dev/ttyNONE")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert "there is no such port. Is the adapter plugged in?" in done.stdout


async def test_rtu_over_tcp_is_found_where_it_is_asked_for(edge_agent: Run) -> None:
    async with jsmodbus("rtu") as port:
        (one,) = (await told(edge_agent, f"rtu+tcp://127.0.0.1:{port}", "--units", "1"))["found"]
        assert set(one["units"][0]["tables"].values()) == {"answers"}
        asked_as_tcp = await told(edge_agent, f"tcp://127.0.0.1:{port}", "--units", "1", "--timeout", "0.2")
        assert asked_as_tcp["found"] == []


async def test_modbus_over_tls_is_found_whoever_signed_the_certificate(edge_agent: Run, tmp_path: Path) -> None:
    make_certificate(tmp_path, "oven", "urn:acme:oven")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "oven.pem", tmp_path / "oven.key")
    async with HostilePeer(lambda asked: asked.reply(), tls=context) as peer:
        url = peer.url.replace("tcp:", "tls:")
        (one,) = (await told(edge_agent, url, "--units", "4"))["found"]
        assert (one["url"], one["units"][0]["unit"]) == (url, 4)
    async with HostilePeer(lambda asked: asked.reply()) as plain:
        (one,) = (await told(edge_agent, plain.url.replace("tcp:", "tls:"), "--timeout", "0.3"))["nothing"]
        assert one["code"] in ("C511", "C502")


async def test_what_a_running_agent_is_connected_to_is_left_alone(edge_agent: Run, tmp_path: Path) -> None:
    async with modbus_serial(tmp_path) as oven:
        await oven.only(1)
        config = tmp_path / "edge-agent.yaml"
        config.write_text(OVEN.format(url=oven.url), encoding="utf-8")
        async with agent(config) as running:
            await running.until(lambda status: status["devices"]["oven-1"]["readings"] > 0)
            before = await oven.connections()
            found = await told(edge_agent, f"localhost:{oven.port}")
            assert found["held"] == [{"address": f"localhost:{oven.port}", "devices": ["oven-1"]}]
            for arguments in (["browse", f"tcp://localhost:{oven.port}", "--unit", "9"],
                              ["browse", oven.url, "--unit", "9"]):  # fmt: skip
                done = await asyncio.to_thread(edge_agent, *arguments)
                assert done.exit_code == ExitCode.TRY_AGAIN, done.stdout
                assert "the running agent holds the connection" in done.stderr
            done = await asyncio.to_thread(edge_agent, "browse", f"tcp://localhost:{oven.port}", "holding/200-201")
            assert done.exit_code == 0, done.stderr
            assert await oven.connections() == before


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
async def test_something_else_that_listens_is_named_as_that(edge_agent: Run, greeting: bytes | None) -> None:
    async with stranger(greeting) as url:
        found = await told(edge_agent, url.removeprefix("opc.tcp://"), "--timeout", "0.2", "--units", "1")
    (one,) = found["nothing"]
    assert one["error"] == "something listens there, but it does not answer as OPC UA or Modbus"


async def test_a_peer_that_closes_for_each_question_does_not_end_the_search(edge_agent: Run) -> None:
    async with HostilePeer(lambda asked: CLOSE if asked.unit != 7 else asked.reply()) as peer:
        (one,) = (await told(edge_agent, peer.url, "--units", "5-7"))["found"]
        assert [unit["unit"] for unit in one["units"]] == [7]
    async with HostilePeer(lambda _: SILENCE) as peer:
        assert (await told(edge_agent, peer.url, "--units", "1,2", "--timeout", "0.1"))["found"] == []


def test_nobody_there_is_exit_69_with_the_code_of_each_address(edge_agent: Run) -> None:
    port = free_port()
    done = edge_agent("discover", f"127.0.0.1:{port}", "plc-1.invalid", "--ports", f"{port}")
    assert done.exit_code == ExitCode.UNREACHABLE
    assert done.stdout.splitlines() == [
        f"127.0.0.1:{port}  C501 nothing listens there",
        f"plc-1.invalid:{port}  C503 the name cannot be resolved: write the IP address",
    ]


@pytest.mark.parametrize(
    "arguments",
    [["http://10.0.0.1"], ["10.0.0.1", "--ports", "9-1"], ["10.0.0.1", "--units", "300"], ["10.0.0.0/24"],
     ["tcp://"], ["opc.tcp://"], ["10.0.0.1", "--ports", "1-65535"], ["10.0.0.1:x"], [""]],
)  # fmt: skip
def test_what_is_no_address_is_exit_2(edge_agent: Run, arguments: list[str]) -> None:
    done = edge_agent("discover", *arguments)
    assert done.exit_code == ExitCode.USAGE, (done.stdout, done.stderr)


def test_numbers_are_written_as_lists_and_ranges() -> None:
    assert numbers("1-3,7,2", "--units", 0, 255) == [1, 2, 3, 7]
    with pytest.raises(Stop):
        numbers("1,,2", "--units", 0, 255)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x0e\x01\x01\x00\x00\x01", b"\x0e\x01\x01\x00\x00\x01\x00\x09Acme", b"\x0d\x01\x01\x00\x00\x00"],
)
def test_an_identification_that_is_cut_short_is_none(data: bytes) -> None:
    assert objects(data) is None


def test_an_identification_says_what_is_to_be_asked_next() -> None:
    data = b"\x0e\x01\x81\xff\x02\x02\x00\x04Ac\x07e\x01\x01X"
    assert objects(data) == (0x81, 2, {0: "Ac e", 1: "X"})


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
async def test_long_work_shows_on_a_terminal_how_far_it_is_and_clears_it_away(tmp_path: Path) -> None:
    async with HostilePeer(lambda _: SILENCE) as peer:
        arguments = ["discover", peer.url, "--units", "1-9", "--timeout", "0.3"]
        seen = await asyncio.to_thread(on_a_terminal, arguments, tmp_path, {"TERM": "xterm"})
        plain = await asyncio.to_thread(on_a_terminal, [*arguments, "-q"], tmp_path, {"TERM": "xterm"})
    assert re.search(rb"\r\x1b\[Kasked \d+, [\d.]+/s: 127.0.0.1:\d+ unit \d", seen), seen
    assert seen.rpartition(b"\x1b[K")[2].startswith(b"tcp://127.0.0.1"), "what was drawn is gone"
    assert b"asked" not in plain


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
async def test_a_server_that_does_not_answer_is_waited_for_in_sight(tmp_path: Path) -> None:
    async with stranger(b"") as url:
        tags = "security: none, insecure: true, timeout: 1500ms, tags: {a: {node: i=1, type: bool}}"
        device = f"{{driver: opcua, url: {url}, {tags}}}"
        text = f"version: 1\nsite: {{enterprise: a, site: b, area: c}}\ndevices:\n  press-1: {device}\n"
        (tmp_path / "edge-agent.yaml").write_text(text)
        seen = await asyncio.to_thread(on_a_terminal, ["read", "press-1/a"], tmp_path, {"TERM": "xterm"})
    assert re.search(rb"\r\x1b\[Ktags: waiting for an answer, \d s", seen), seen
    assert b"C502" in seen.rpartition(b"\r\x1b[K")[2], "what was drawn is gone"


def test_progress_says_how_much_is_done_how_fast_and_what_is_left() -> None:
    assert line("tags", 10, 40, 5.0, "press-1", bar=True) == (
        "tags [######------------------] 10 of 40, 2.0/s, 15 s left: press-1"
    )
    assert line("things", 300, 0, 2.0, "", bar=False) == "things 300, 150/s"
    assert line("tags", 0, 40, 3.2, "", bar=True) == "tags: waiting for an answer, 3 s"
