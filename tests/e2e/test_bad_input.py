"""Wrong files, wrong PLCs, wrong brokers: each is one clear message with a mend, and nothing else stops."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.agent_process import ROOT, AgentProcess
from tests.e2e.plant import plant
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import free_port

CASES = Path(__file__).parent.parent / "config" / "cases"
BROKEN = sorted(path.parent for path in CASES.glob("*/expected.txt") if ": error " in path.read_text())[::3][:20]


_MORE = """\
  ghost-1:
    template: kind
    device:
      driver: modbus
      url: tcp://127.0.0.1:{nobody}
      timeout: 300ms
      backoff: {{initial: 100ms, max: 500ms}}
      tags: {{status: {{holding: 0, type: uint16}}, fault: {{holding: 1, type: uint16}},
              total: {{holding: 10, type: uint16}}}}
  press-2:
    template: kind
    device:
      driver: opcua
      url: opc.tcp://127.0.0.1:{nobody}
      security: none
      insecure: true
      backoff: {{initial: 100ms, max: 500ms}}
      tags: {{status: {{node: 'nsu=urn:acme:press;s=Status', type: int16}}, fault: {{node: 'i=1', type: uint16}},
              total: {{node: 'i=2', type: uint16}}}}
"""


@pytest.mark.needs("mosquitto", "node")
async def test_one_bad_device_or_tag_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    async with plant(tmp_path, more=_MORE.format(nobody=free_port())) as p:
        text = p.config.read_text()
        text = text.replace("s=FaultCode'", "s=FaultKode'", 1)
        p.config.write_text(text)
        await p.oven.refuse("holding", 1, 1, code=2)
        agent = p.agent()
        try:
            await agent.start()
            await agent.until(lambda s: all(s["machines"][m].get("state") == "idle" for m in ("press-1", "oven-1")))
            await p.both_run()
            await p.both_count(50)
            status = await agent.until(
                lambda s: (
                    s["devices"]["press-1"]["status"] == s["devices"]["oven-1"]["status"] == "DEGRADED"
                    and s["devices"]["ghost-1"]["status"] == s["devices"]["press-2"]["status"] == "DOWN"
                    and s["machines"]["oven-1"].get("state") == s["machines"]["press-1"].get("state") == "running"
                )
            )
            devices = status["devices"]
            assert devices["press-1"]["bad"].keys() == {"fault"}
            assert "BadNodeIdUnknown" in devices["press-1"]["bad"]["fault"]
            assert devices["oven-1"]["bad"].keys() == {"fault"}
            assert "exception 2" in devices["oven-1"]["bad"]["fault"]
            for name in ("ghost-1", "press-2"):
                assert devices[name]["code"] == "C501"
                assert name in devices[name]["message"]
                assert devices[name]["message"].count("?") >= 1, "it says what to look at"
            log = agent.log.read_text()
            assert log.count("C501 ghost-1") + log.count("C501 press-2") <= 2 + log.count("DEBUG"), "said once"
            assert "Traceback" not in log
            await agent.until(lambda s: s["machines"]["oven-1"]["counters"]["main"]["totals"].get("total", 0) > 50)
            await p.settled(agent, await p.counted())
        finally:
            await agent.kill()


@pytest.mark.needs("mosquitto")
async def test_a_broker_that_refuses_the_login_keeps_everything_until_it_does_not(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, users={"line1": "right", "sink": "s"}) as broker:
        config = tmp_path / "edge-agent.yaml"
        config.write_text(_SIMULATED.format(url=broker.url, password="wrong"))
        agent = AgentProcess(config)
        try:
            await agent.start()
            status = await agent.until(lambda s: s["broker"]["status"] == "DOWN" and s["buffer"]["rows"] > 5)
            assert status["broker"]["code"] == "B601"
            assert "line1" in status["broker"]["message"]
            assert await agent.terminate() == 0
            config.write_text(_SIMULATED.format(url=broker.url, password="right"))
            async with Sink(broker.port, username="sink", password="s") as sink:
                await agent.start()
                await agent.until(lambda s: s["broker"]["status"] == "UP" and s["buffer"]["rows"] == 0)
                await sink.wait_for(lambda _: len(sink.events()) > 5)
                assert sink.holes() == []
                assert sink.disorder() == []
            assert "right" not in agent.log.read_text()
        finally:
            await agent.kill()


async def test_twenty_broken_configurations_are_refused_with_their_place(tmp_path: Path) -> None:
    assert len(BROKEN) == 20

    async def run(case: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge_agent", "run", "-o", "json", "-c", str(case / "bad.yaml"),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 78, (case.name, err.decode())
        assert b"Traceback" not in err, case.name
        faults = json.loads(out)["faults"]
        assert faults, case.name
        for fault in faults:
            assert fault["line"] >= 1, case.name
            assert fault["column"] >= 1, case.name
            assert fault["code"], case.name
            assert fault["message"], case.name

    for at in range(0, len(BROKEN), 2):
        await asyncio.gather(*map(run, BROKEN[at : at + 2]))


_SIMULATED = """\
version: 1
agent: {{id: refused}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "{url}", username: line1, password: {password}}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    device:
      driver: simulated
      scan: 100ms
      tags:
        status: {{kind: cycle, values: [2, 8], every: 500ms}}
    state: {{from: status, map: {{2: running, 8: fault}}, debounce: {{default: 0s}}}}
"""
