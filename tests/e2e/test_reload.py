"""A running agent is given another configuration, again and again, while both machines make parts."""

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.control.client import ControlClient
from edge_agent.control.place import socket_path
from tests.e2e.plant import Plant, plant

pytestmark = pytest.mark.needs("mosquitto", "node")

RELOADS = int(os.environ.get("EDGE_AGENT_RELOADS", "10"))
SAW = """\
  saw-1:
    line: line1
    device: oven-1
    state: {from: fault, map: {0: fault, 12: running}, debounce: {default: 100ms}}
    downtime: {microstop: 300s}
"""
DRILL = SAW.replace("saw-1", "drill-1")


def reload(p: Plant) -> dict[str, Any]:
    told: dict[str, Any] = ControlClient(socket_path(p.folder / "buffer.db"), answer_time=60).ask("reload")
    return told


def born(p: Plant) -> list[str]:
    """The configurations of the retained births that the MOM has seen."""
    told = [json.loads(one.payload) for one in p.sink.messages if one.topic.endswith("/status")]
    return [one["config_hash"] for one in told if one["online"]]


async def ready(p: Plant, agent: Any) -> None:
    await p.both_run()
    await agent.start()
    await agent.until(
        lambda s: (
            all(device["status"] == "UP" for device in s["devices"].values())
            and s["machines"]["oven-1"].get("state") == s["machines"]["press-1"].get("state") == "running"
            and s["machines"]["saw-1"].get("state") == "fault"
            and s["broker"]["status"] == "UP"
        )
    )


def edits(dice: random.Random) -> dict[str, Callable[[str], str]]:
    """What is changed in the file, and what it is called."""

    def put(old: str, new: str) -> Callable[[str], str]:
        def change(text: str) -> str:
            head, found, tail = text.partition(old)
            assert found
            return f"{head}{old}{new % dice.randint(300, 900)}{tail.partition(',')[1]}{tail.partition(',')[2]}"

        return change

    return {
        "a machine's setting": put("downtime: {microstop: ", "%ds"),
        "a Modbus device": lambda text: text.replace("timeout: 500ms", f"timeout: {dice.randint(400, 600)}ms"),
        "an OPC UA device": lambda text: text.replace("publishing: 100ms", f"publishing: {dice.randint(90, 120)}ms"),
        "a machine more": lambda text: text + DRILL,
        "the broker": lambda text: text.replace(
            'protocol: "5"', f'protocol: "5", keepalive: {dice.randint(10, 90)}s'
        ),
        "nothing": lambda text: text,
        "a fault": lambda text: text.replace("microstop", "microstopp", 1),
        "another agent": lambda text: text.replace("id: e2e", "id: e3e"),
    }


@pytest.mark.torture
async def test_many_reloads_under_load_lose_and_repeat_no_event_and_split_no_downtime(tmp_path: Path) -> None:
    dice = random.Random(6)
    async with plant(tmp_path, more=SAW) as p:
        original = p.config.read_text()
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_count(50)
            names = list(edits(dice))
            for n in range(RELOADS):
                name = names[n % len(names)] if n < len(names) else dice.choice(names)
                p.config.write_text(edits(dice)[name](original))
                told = await asyncio.to_thread(reload, p)
                assert told["ok"] is (name not in ("a fault", "another agent")), (name, told)
                seen = len(p.sink.messages)
                await p.sink.wait_for(seen + (5 if RELOADS > 10 else 1), limit=30)
            p.config.write_text(original)
            assert (await asyncio.to_thread(reload, p))["ok"]
            ledger = await p.settled(agent, await p.counted(), limit=60)
            assert ledger.duplicates == 0
            assert [len(ledger.of(f"downtime.{verb}", "saw-1")) for verb in ("started", "ended")] == [1, 0]
            assert {e["data"]["state"] for e in ledger.of("state.changed", "saw-1")} == {"fault"}
            for machine in ("press-1", "oven-1"):
                assert ledger.of("data.gap", machine) == []
                assert {e["data"]["state"] for e in ledger.of("state.changed", machine)} == {"running"}
            hashes = {e["data"]["config_hash"] for e in ledger.of("agent.heartbeat")}
            assert len(hashes) > 3
            codes = {e["data"]["code"] for e in ledger.of("agent.warning")}
            assert codes - {"clock_skew", "scans_skipped"} == {"reload_refused"}  # a busy computer makes those
        finally:
            await agent.kill()


async def test_what_is_unchanged_says_nothing_and_what_is_taken_out_says_so(tmp_path: Path) -> None:
    async with plant(tmp_path, more=SAW) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_count(20)
            before, made_by = await agent.status(), ("press-1", "oven-1")
            p.config.write_text(p.config.read_text().replace("timeout: 500ms", "timeout: 600ms"))
            told = await asyncio.to_thread(reload, p)
            assert told["devices"] == {"kept": ["press-1"], "changed": ["oven-1"], "added": [], "removed": []}
            assert told["machines"]["kept"] == ["press-1"]
            assert told["machines"]["changed"] == ["oven-1", "saw-1"]
            assert told["broker"] == "kept"
            after = await agent.until(lambda s: s["devices"]["oven-1"]["status"] == "UP")
            assert after["agent"]["config_hash"] == told["config_hash"] != before["agent"]["config_hash"]
            await p.sink.wait_for(lambda _: born(p)[-1] == told["config_hash"], 30)
            assert len(born(p)) == 2, "the birth is told anew on the same connection"
            assert after["devices"]["press-1"]["connects"] == before["devices"]["press-1"]["connects"]
            assert after["machines"]["saw-1"]["downtime"]["id"] == before["machines"]["saw-1"]["downtime"]["id"]
            for machine in ("press-1", "oven-1", "saw-1"):
                assert after["machines"][machine]["since"] == before["machines"][machine]["since"]
            await agent.until(
                lambda s: all(s["machines"][m]["counters"]["main"]["totals"].get("total", 0) > 20 for m in made_by)
            )
            ledger = await p.settled(agent, await p.counted())
            assert ledger.of("data.gap") == []
            assert len([e for e in ledger.of("connection.changed") if e["data"]["endpoint"] == "press-1"]) == 1

            whole = p.config.read_text()
            p.config.write_text(whole.replace(SAW, ""))
            assert (await asyncio.to_thread(reload, p))["machines"]["removed"] == ["saw-1"]
            gone = await agent.status()
            assert "saw-1" not in gone["machines"]
            p.config.write_text(whole)
            os.kill(agent.pid, signal.SIGHUP)
            await agent.until(lambda s: s["machines"].get("saw-1", {}).get("state") == "fault")
            await p.sink.wait_for(
                lambda _: [e["data"]["state"] for e in p.ledger().of("state.changed", "saw-1")][-1:] == ["fault"], 30
            )
            states = [(e["data"]["state"], e["data"]["trigger"]) for e in p.ledger().of("state.changed", "saw-1")]
            assert states[1] == ("unknown", "config")
            ids = {e["data"]["downtime_id"] for e in p.ledger().of("downtime.started", "saw-1")}
            assert len(ids) == 1, "the same downtime goes on when it is put back"
        finally:
            await agent.kill()


async def test_a_tag_that_means_something_else_is_a_gap_and_a_new_baseline(tmp_path: Path) -> None:
    async with plant(tmp_path, more=SAW) as p:
        agent = p.agent()
        try:
            await p.oven.set(holding={20: 30_000})
            await ready(p, agent)
            await p.both_count(20)
            await agent.until(lambda s: s["machines"]["oven-1"]["counters"]["main"]["totals"].get("total", 0) > 20)
            made = (await p.counted())["oven-1"]
            await agent.until(lambda s: s["machines"]["oven-1"]["counters"]["main"]["totals"].get("total", 0) == made)
            p.config.write_text(p.config.read_text().replace("{holding: 10,", "{holding: 20,"))
            assert (await asyncio.to_thread(reload, p))["ok"]
            await p.sink.wait_for(lambda _: bool(p.ledger().of("data.gap", "oven-1")), 30)
            (gap,) = p.ledger().of("data.gap", "oven-1")
            assert gap["data"]["cause"] == "config_change"
            await p.oven.set(holding={20: 30_007})
            await agent.until(lambda s: s["machines"]["oven-1"]["counters"]["main"]["totals"]["total"] == made + 7)
        finally:
            await agent.kill()
