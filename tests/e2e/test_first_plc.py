"""The sessions of docs/first-plc.md, command by command, against servers and a broker of other makers.

The addresses and the thumbprint of the page stand for those of today; what is said is compared as the page has it.
"""

import asyncio
import hashlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.doc_pages import Block, blocks, commands, fits
from tests.servers_modbus import modbus_serial
from tests.servers_mqtt import Sink, mosquitto
from tests.servers_opcua import node_opcua

PAGE = Path(__file__).parents[2] / "docs" / "first-plc.md"
MOST_COMMANDS = 6
THUMBPRINT = "3F9A0B7C5D1E2F304152637485960A1B2C3D4E5F"
LIMIT = 120.0


class Session:
    """Runs the commands of a part of the page in a folder. `today`: text of the page → what it is now."""

    def __init__(self, folder: Path, today: Mapping[str, str]) -> None:
        self._folder = folder
        self._today = today
        self._running: tuple[asyncio.subprocess.Process, list[str], str] | None = None
        self.commands = 0

    async def follow(self, part: list[Block]) -> None:
        """Do what the blocks say, in their order; each as the page says it."""
        for block in part:
            if block.language == "csv":
                await asyncio.to_thread((self._folder / block.word).write_text, block.text, encoding="utf-8")
            elif block.language == "yaml":
                written = await asyncio.to_thread((self._folder / "edge-agent.yaml").read_text, encoding="utf-8")
                assert block.text in self._page(written), f"line {block.line}: {written}"
            for command, expected in commands(block) if block.language == "console" else ():
                self.commands += 1
                if command == "edge-agent run":
                    await self._start(expected, f"line {block.line}")
                    continue
                said = self._page(await self._run(command)).splitlines()
                assert fits(expected, said), f"line {block.line}: {command}\n" + "\n".join(said)

    async def end(self) -> None:
        """Ctrl-C for what still runs, which has said what the page says."""
        if self._running is not None:
            process, expected, where = self._running
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            said = self._page((await asyncio.wait_for(process.stdout.read(), LIMIT)).decode()).splitlines()
            await process.wait()
            assert fits(expected, said), f"{where}: edge-agent run\n" + "\n".join(said)

    async def _start(self, expected: list[str], where: str) -> None:
        self._running = await self._spawn("edge-agent run"), expected, where

    async def _run(self, command: str) -> str:
        while True:
            process = await self._spawn(command)
            said, _ = await asyncio.wait_for(process.communicate(), LIMIT)
            if process.returncode == 69 and "no agent is running" in said.decode():
                continue  # the agent of the first window is still starting
            assert process.returncode == 0, f"{command}\n{said.decode()}"
            return said.decode()

    async def _spawn(self, command: str) -> asyncio.subprocess.Process:
        words = [sys.executable, "-m", "edge_agent", *shlex.split(self._now(command))[1:]]
        return await asyncio.create_subprocess_exec(
            *words,
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "TZ": "UTC"},
        )

    def _now(self, text: str) -> str:
        for page, now in self._today.items():
            text = text.replace(page, now)
        return text

    def _page(self, text: str) -> str:
        for page, now in self._today.items():
            text = text.replace(now, page)
        return text


def part(heading: str) -> list[Block]:
    """The blocks below a heading of the page."""
    text = PAGE.read_text("utf-8")
    begin = text.index(f"## {heading}\n")
    end = text.find("\n## ", begin)
    first, last = text.count("\n", 0, begin), text.count("\n", 0, end)
    return [block for block in blocks(PAGE) if first < block.line <= last]


async def test_six_commands_lead_from_an_opc_ua_server_to_its_events_in_the_broker(tmp_path: Path) -> None:
    async with (
        node_opcua(tmp_path) as press,
        mosquitto(tmp_path) as broker,
        Sink(broker.port, "ea/v1/site1/area1/line1/press-1/evt/#") as sink,
    ):
        await press.set("Status", 2)
        await press.count("Total", rate=4)
        shown = hashlib.sha1(await asyncio.to_thread(press.certificate.read_bytes)).hexdigest().upper()
        session = Session(
            _folder(tmp_path),
            {
                "10.20.1.11:4840": f"127.0.0.1:{press.port}",
                "127.0.0.1:1883": f"127.0.0.1:{broker.port}",
                THUMBPRINT: shown,
                THUMBPRINT[:16]: shown[:16],
                THUMBPRINT[:8]: shown[:8],
            },
        )
        try:
            await session.follow(part("OPC UA"))
            await sink.wait_for(lambda _: _kinds(sink) >= {"state.changed", "production.counted"}, LIMIT)
        finally:
            await session.end()
        assert session.commands <= MOST_COMMANDS
        states = [event["data"] for event in sink.events() if event["type"].endswith("state.changed.v1")]
        assert "running" in [data["state"] for data in states]


async def test_five_commands_lead_from_a_list_of_registers_to_the_events_of_a_device_with_one_connection(
    tmp_path: Path,
) -> None:
    async with (
        modbus_serial(tmp_path) as oven,
        mosquitto(tmp_path) as broker,
        Sink(broker.port, "ea/v1/site1/area1/line1/oven-1/evt/#") as sink,
    ):
        await oven.only(1)
        for unit in (2, 3):
            await oven.delay(unit, -1)
        await oven.set(holding={300: 0x4337, 301: 0}, coil={4: 1}, input={100: 17})
        await oven.count("holding", 200, rate=4)
        session = Session(
            _folder(tmp_path),
            {"10.20.1.31:502": f"127.0.0.1:{oven.port}", "127.0.0.1:1883": f"127.0.0.1:{broker.port}"},
        )
        try:
            await session.follow(part("Modbus"))
            await sink.wait_for(lambda _: _kinds(sink) >= {"state.changed", "production.counted"}, LIMIT)
        finally:
            await session.end()
        assert session.commands < MOST_COMMANDS
        assert (await oven.connections())[1] == 0, "no second connection was ever tried"


def _kinds(sink: Sink) -> set[str]:
    return {re.sub(r"^.*?edgeagent\.|\.v\d+$", "", event["type"]) for event in sink.events()}


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "session"
    folder.mkdir()
    return folder
