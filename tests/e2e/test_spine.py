"""From the PLC to the MOM, with real parts on both ends and the agent as a real process."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.e2e.plant import FAILED, FAULT, RUNNING, STATUS, Plant, plant

pytestmark = pytest.mark.needs("mosquitto", "node")


async def ready(plant: Plant, agent) -> None:
    """The agent runs, has seen both machines idle at 0, and its broker is there."""
    await agent.start()
    await agent.until(
        lambda status: (
            all(device["status"] == "UP" for device in status["devices"].values())
            and all(machine.get("state") == "idle" for machine in status["machines"].values())
            and status["broker"]["status"] == "UP"
        )
    )


async def runs(agent) -> None:
    await agent.until(lambda status: all(m.get("state") == "running" for m in status["machines"].values()))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_states_downtimes_and_parts_of_both_machines_reach_the_broker(tmp_path: Path, protocol: str) -> None:
    async with plant(tmp_path, protocol=protocol) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_run()
            await runs(agent)
            await p.both_count(40)
            await agent.until(lambda s: s["machines"]["oven-1"]["counters"]["main"]["totals"].get("total", 0) > 40)
            await p.oven.set(holding={STATUS: FAILED, FAULT: 12})
            await agent.until(lambda s: s["machines"]["oven-1"]["state"] == "fault")
            await p.oven.set(holding={STATUS: RUNNING, FAULT: 0})
            await runs(agent)
            made = await p.counted()
            ledger = await p.settled(agent, made)
            ended = [e["data"] for e in ledger.of("downtime.ended", "oven-1")]
            assert ended[-1]["reason"]["code"] == "12"
            assert ended[-1]["reason"]["text"] == "Guard open"
            assert ended[-1]["category"] == "operator"
            assert ended[-1]["class"] == "microstop"
            assert [e["data"]["state"] for e in ledger.of("state.changed", "oven-1")][-3:] == [
                "running",
                "fault",
                "running",
            ]
            assert {m.json["data"]["state"] for m in p.sink.on("/press-1/cur/state")} >= {"running"}
            assert ledger.duplicates == 0
            assert await agent.terminate() == 0
            assert ledger.of("agent.started")
            await p.sink.wait_for(lambda _: any(e["type"].endswith("agent.stopped.v1") for e in p.ledger().events))
            status = [m.json for m in p.sink.on("/_agents/e2e/status")]
            assert status[-1]["online"] is False
        finally:
            await agent.kill()


async def test_a_broker_that_was_away_receives_everything_in_order(tmp_path: Path) -> None:
    async with plant(tmp_path) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_run()
            await p.both_count(50)
            await runs(agent)
            for stop in (p.broker.stop, p.broker.kill):
                agent.pause()  # what a broker has confirmed and not passed on dies with it: let it pass all on
                await asyncio.sleep(0.5)  # noqa: TID251 - the broker tells nobody that it is idle
                await stop()
                agent.resume()
                before = await agent.until(lambda s: s["broker"]["status"] == "DOWN")
                rows = before["buffer"]["rows"]
                await agent.until(lambda s, rows=rows: s["buffer"]["rows"] > rows + 3)
                agent.pause()  # a message that comes before the sink has subscribed again would be nobody's
                await p.broker.start()
                await p.sink.subscribed()
                agent.resume()
                await agent.until(lambda s: s["broker"]["status"] == "UP", limit=30)
            await p.settled(agent, await p.counted())
        finally:
            await agent.kill()


async def test_an_agent_killed_at_random_loses_and_repeats_no_part(tmp_path: Path) -> None:
    dice = random.Random(4711)
    async with plant(tmp_path) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_run()
            await p.both_count(50)
            for _ in range(6):
                more = len(p.sink.messages) + dice.randint(1, 25)
                await p.sink.wait_for(more, limit=30)
                await agent.kill()
                agent = p.agent()
                await agent.start(ready=False)
            ledger = await p.settled(agent, await p.counted())
            assert 2 <= len(ledger.of("agent.started")) <= 7  # a kill can come before the first commit
            assert all(not e["data"]["clean_stop"] for e in ledger.of("agent.started")[1:])
            gaps = {e["data"]["cause"] for e in ledger.of("data.gap")}
            assert "agent_down" in gaps
        finally:
            await agent.kill()


@pytest.mark.needs("strace")
async def test_an_agent_killed_at_every_nth_write_loses_and_repeats_no_part(tmp_path: Path) -> None:
    """The kernel kills the agent inside its n-th write or sync; the long form goes through many more n."""
    async with plant(tmp_path) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_run()
            await p.both_count(50)
            for n in (1, 2, 3, 5, 9, 17, 33, 90):
                await agent.kill()
                inject = f"inject=pwrite64,fdatasync:signal=KILL:when={n}"
                agent = p.agent("strace", "-f", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync",
                                "-e", inject)  # fmt: skip
                await agent.start(ready=False)
                await agent.wait(limit=40)
            agent = p.agent()
            await agent.start()
            await p.settled(agent, await p.counted())
        finally:
            await agent.kill()


async def test_machines_that_stop_and_start_are_a_gap_and_no_phantom_count(tmp_path: Path) -> None:
    async with plant(tmp_path) as p:
        agent = p.agent()
        try:
            await ready(p, agent)
            await p.both_run()
            await p.both_count(50)
            await runs(agent)
            made = await p.counted()
            await p.settled(agent, made)
            await p.oven.stop()
            await p.press.stop()
            down = await agent.until(
                lambda s: all(m.get("state") == "unknown" for m in s["machines"].values()), limit=30
            )
            assert {device["status"] for device in down["devices"].values()} == {"DOWN"}
            assert all(device["message"] for device in down["devices"].values())
            await p.press.start()
            await p.oven.start()
            await p.both_run()
            await agent.until(lambda s: all(d["status"] == "UP" for d in s["devices"].values()), limit=30)
            await runs(agent)
            await p.both_count(50)
            ledger = await p.settled(agent, await p.counted())
            for name in ("press-1", "oven-1"):
                states = [(e["data"]["state"], e["data"]["trigger"]) for e in ledger.of("state.changed", name)]
                assert ("unknown", "comms") in states, states
                assert states[-1][0] == "running"
                assert ledger.of("data.gap", name)
            changes = [(e["data"]["endpoint"], e["data"]["status"]) for e in ledger.of("connection.changed")]
            assert ("oven-1", "down") in changes
            assert changes[-1][1] == "up"
        finally:
            await agent.kill()
