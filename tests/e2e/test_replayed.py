"""`edge-agent buffer replay`: what was sent goes again as it was, marked, and a MOM drops it by its id."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli.exits import ExitCode
from tests.agent_process import ROOT, AgentProcess, agent
from tests.mom import Mom
from tests.servers_mqtt import Received, Sink, mosquitto

pytestmark = pytest.mark.needs("mosquitto")
LIMIT = 30.0
STREAM = "press-1.m"
_CONFIG = """\
version: 1
agent: {{id: a1}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    measurements: {{torque: {{tags: [torque], every: 20ms}}}}
    device: {{driver: simulated, scan: 20ms, tags: {{torque: {{kind: counter}}}}}}
"""


async def replay(process: AgentProcess, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    command = [sys.executable, "-m", "edge_agent", "buffer", "replay", *words, str(process.config), "-o", "json"]
    done = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(done.communicate(), LIMIT)
    return done.returncode or 0, out.decode(), err.decode()


def numbers(messages: list[Received]) -> list[int]:
    events: list[dict[str, Any]] = [message.json for message in messages]
    return [int(event["sequence"]) for event in events if event["source"].endswith(STREAM)]


async def test_what_is_replayed_comes_marked_and_is_dropped_by_its_id(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        file = tmp_path / "edge-agent.yaml"
        file.write_text(_CONFIG.format(broker=broker.port))
        mom = Mom(broker.port, "a1", "acme/sz1/hall/_agents/a1")
        async with agent(file) as process:
            await process.until(lambda status: status["broker"]["confirmed"] >= 40)
            await sink.wait_for(lambda _: len(sink.on("/evt/")) >= 40, limit=LIMIT)
            code, out, err = await replay(process, STREAM, "3", "12")
            assert (code, json.loads(out)) == (0, {"ok": True, "sent": 10, "waiting": 0, "unavailable": []}), err
            code, out, _ = await replay(process, STREAM, "9", "1000000")
            told = json.loads(out)
            assert (code, told["unavailable"][-1][1]) == (0, 1_000_000)
            code, _, err = await replay(process, "press-9.p", "1", "2")
            assert (code, "nothing is kept of press-9.p" in err) == (ExitCode.PROBLEM, True)
            await sink.wait_for(lambda _: len(again(sink)) >= 10 + told["sent"], limit=LIMIT)
        mom.take(sink.messages)
        assert numbers(again(sink)) == [*range(3, 13), *range(9, 9 + told["sent"])]
        assert told["unavailable"][-1][0] == 9 + told["sent"] + told["waiting"]
        assert {one.user["replay"] for one in again(sink)} == {"true"}
        assert mom.database.duplicates == len(again(sink))
        assert sink.disorder() == []


def again(sink: Sink) -> list[Received]:
    """Events that have come before."""
    seen: set[bytes] = set()
    return [one for one in sink.on("/evt/") if one.payload in seen or seen.add(one.payload)]
