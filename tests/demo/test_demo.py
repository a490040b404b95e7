"""The demo as a process: the first end-to-end test. What the events say is held against what the line made."""

import asyncio
import re
import signal
import sys
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest

from tests.schema_check import check_message
from tests.servers_mqtt import Sink

READY_LIMIT = 20


class Demo:
    """A running demo. `lines` is what it has printed."""

    def __init__(self, process, folder):
        self.process = process
        self.folder = folder
        self.lines = []
        self.broker_port = 0

    async def ready(self):
        async with asyncio.timeout(READY_LIMIT):
            while not self.lines or "Ctrl-C ends the demo" not in self.lines[-1]:
                line = await self.process.stdout.readline()
                assert line, "".join(self.lines)
                self.lines.append(line.decode())
        self.broker_port = int(re.search(r"mosquitto_sub -p (\d+)", "".join(self.lines))[1])

    async def end(self, limit=30):
        """The exit code, once everything has been printed."""
        async with asyncio.timeout(limit):
            rest = await self.process.stdout.read()
            self.lines += rest.decode().splitlines(keepends=True)
            return await self.process.wait()

    @property
    def truth(self):
        """(machine, part) → (made, told), as printed at the end."""
        pattern = r"^(\S+) (\w+): the machine made (\d+), the events say (\d+)$"
        found = re.findall(pattern, "".join(self.lines), re.MULTILINE)
        return {(machine, part): (int(made), int(told)) for machine, part, made, told in found}


async def command(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge_agent",
        "demo",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(READY_LIMIT):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@asynccontextmanager
async def running(folder, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge_agent",
        "demo",
        "--data",
        str(folder),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    demo = Demo(process, folder)
    try:
        await demo.ready()
        yield demo
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_every_part_the_line_makes_reaches_the_broker_once_also_across_a_fault_and_a_lost_plc(tmp_path):
    async with running(tmp_path / "demo", "--for", "13s") as demo, Sink(demo.broker_port) as sink:
        for action in (("fault", "press-1", "2s"), ("cut", "plc", "oven-1", "5s")):
            code, said = await command(*action, "--data", demo.folder)
            assert code == 0, said
        assert await demo.end() == 0, "".join(demo.lines)
        messages = list(sink.messages)
        events = sink.events()
        assert sink.disorder() == []

    for message in messages:
        check_message(message.topic, message.payload)
    counted, seen = defaultdict(int), set()
    for event in events:
        machine, kind = event["subject"].rpartition("/")[2], event["type"].removeprefix("dev.edgeagent.")
        seen.add((machine, kind))
        if kind == "production.counted.v1":
            for part, delta in event["data"]["delta"].items():
                counted[machine, part] += delta
    assert {key: made for key, (made, _) in demo.truth.items()} == {key: counted[key] for key in demo.truth}
    assert all(made == told for made, told in demo.truth.values())
    assert demo.truth["press-1", "total"][0] > 10
    assert {
        ("press-1", "state.changed.v1"),
        ("press-1", "downtime.started.v1"),
        ("press-1", "downtime.ended.v1"),
        ("press-1", "measurement.sampled.v1"),
        ("oven-1", "data.gap.v1"),
        ("demo", "connection.changed.v1"),
    } <= seen
    flags = {flag for event in events for flag in event["data"].get("flags", ())}
    assert "rollover" in flags
    stops = [event["data"] for event in events if ".downtime." in event["type"]]
    reasons = {stop["reason"].get("text") for stop in stops if "reason" in stop}
    assert "Hydraulic pressure low" in reasons


async def test_ctrl_c_ends_the_demo_at_once_also_while_the_broker_is_away(tmp_path):
    async with running(tmp_path / "demo", "--save", tmp_path / "mine") as demo:
        assert (await command("cut", "broker", "30s", "--data", demo.folder))[0] == 0
        code, said = await command("--data", demo.folder)
        assert (code, "already runs" in said) == (75, True)
        demo.process.send_signal(signal.SIGINT)
        assert await demo.end(limit=10) == 130
    assert "Traceback" not in "".join(demo.lines)
    assert (tmp_path / "mine" / "edge-agent.yaml").is_file()
    assert (await command("--save", tmp_path / "mine"))[0] == 73


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fault", "press-1"), 69, "no demo runs"),
        (("cut", "plc", "press-1", "soon"), 2, "a duration needs a unit"),
    ],
)
async def test_a_wrong_wish_is_one_clear_sentence(tmp_path, arguments, code, said):
    ended, printed = await command(*arguments, "--data", tmp_path)
    assert ended == code
    assert said in printed
