"""A PLC that reboots again and again, comes back with part of its nodes and other namespace indices, and allows two
sessions. The short form reboots it a few times, `make torture` a hundred times.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Batch, Quality
from drivers.opcua import Opcua
from drivers.opcua.options import OpcuaDevice
from edge_agent.backoff import Backoff
from edge_agent.clock import SECOND, SystemClock
from edge_agent.collector import Collector
from edge_agent.events.types import Data
from edge_agent.health import DeviceHealth
from tests.machine.stories import OpcPlc, config, machine
from tests.servers_opcua import NodeOpcua, node_opcua

REBOOTS = int(os.environ.get("EDGE_AGENT_REBOOTS", "1"))
LIVE = 10.0
"""Seconds after which a tag must be live once its node is there."""

pytestmark = [pytest.mark.needs("node"), pytest.mark.torture, pytest.mark.timeout(120 + 20 * REBOOTS)]
TYPES = {"Status": "int16", "FaultCode": "uint16", "Total": "uint16", "Rejects": "uint16", "Tonnage": "float32"}
MACHINE: dict[str, Any] = {
    "state": {"from": "Status", "map": {1: "idle", 2: "running", 8: "fault"}},
    "counters": {"main": {"total": "Total", "scrap": "Rejects", "max_rate": "500/s"}},
    "settle": "100ms",
    "flush": "1s",
}


class Shop:
    """One machine behind the collector."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._machine = machine(config(MACHINE, TYPES, kind=OpcPlc))
        self.state = self._machine.initial(self._clock.now()).state
        self.changed = asyncio.Event()

    async def feed(self, batch: Batch) -> None:
        now = self._clock.now()
        self.state = self._machine.step(self.state, batch._replace(device="press"), now).state
        self.state = self._machine.tick(self.state, now).state
        self.changed.set()

    def unseen(self, device: str) -> int | None:
        return None

    def position(self, device: str) -> str | None:
        return None

    async def record(self, *data: Data) -> None: ...

    @property
    def total(self) -> int:
        counters = self._machine.describe(self.state)["counters"]
        found: int = counters["main"]["totals"].get("total", 0)
        return found


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(shop: Shop, condition: Any, limit: float, what: str) -> None:
    try:
        async with asyncio.timeout(limit):
            while not condition():
                shop.changed.clear()
                await shop.changed.wait()
    except TimeoutError:
        raise AssertionError(what) from None


async def rebooted(press: NodeOpcua, shop: Shop, health: DeviceHealth, chance: random.Random) -> float:
    """One reboot. The seconds until the slowest tag was live, counted from when its node was there."""
    gone = chance.sample(sorted(set(TYPES) - {"Total"}), chance.randint(0, 3))
    loop = asyncio.get_running_loop()
    kept = {name: (await press.tell("get", node=name))["value"] for name in gone}
    before = health.connects
    await press.tell("restart", down=chance.randint(0, 500), others=chance.randint(0, 6), without=gone)
    there = loop.time()
    await press.count("Total", rate=50)

    def live(names: Any) -> bool:
        latest = [health.latest.get(name) for name in names]
        return health.connects > before and all(
            one is not None and one[0].quality is Quality.GOOD and name not in health.bad
            for name, one in zip(names, latest, strict=True)
        )

    present = sorted(set(TYPES) - set(gone))
    await until(shop, lambda: live(present), LIVE, f"not live: {health.bad}, {health.message}")
    slowest = loop.time() - there
    for name in gone:
        assert name in health.bad
    kinds = {"int16": "Int16", "uint16": "UInt16", "float32": "Float"}
    for name, value in kept.items():
        await press.tell("add", node=name, type=kinds[TYPES[name]], value=value)
    there = loop.time()
    await until(shop, lambda: live(list(TYPES)), LIVE, f"not live: {health.bad}, {health.message}")
    sessions = await press.tell("sessions")
    assert (sessions["sessions"], sessions["subscriptions"]) == (1, 1)
    return max(slowest, loop.time() - there)


async def test_every_tag_is_live_soon_after_each_reboot_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    chance = random.Random(6)
    async with node_opcua(tmp_path, maxSessions=2) as press:
        tags = {name: {"node": f"nsu=urn:acme:press;s={name}", "type": kind} for name, kind in TYPES.items()}
        options = OpcuaDevice.model_validate(
            {
                "url": press.url,
                "security": "none",
                "insecure": True,
                "publishing": "100ms",
                "timeout": "1s",
                "backoff": {"initial": "100ms", "max": "1s"},
                "tags": tags,
            }
        )
        shop, health, spec = Shop(), DeviceHealth(), Opcua()
        backoff = Backoff(100_000, SECOND, chance)
        collector = Collector(
            "press", options, lambda: spec.open("press", options), shop, health, SystemClock(), backoff, tuple
        )
        before = asyncio.all_tasks()
        running = asyncio.create_task(collector.run())
        try:
            await until(shop, lambda: len(health.latest) == len(TYPES) and not health.bad, 20, "never live")
            await press.count("Total", rate=50)
            await rebooted(press, shop, health, chance)
            tasks, opened = len(asyncio.all_tasks()), files()
            slowest = 0.0
            for _ in range(REBOOTS):
                slowest = max(slowest, await rebooted(press, shop, health, chance))
            await press.quiet()
            made = sum(line["node"] == "Total" and "total" in line for line in press.truth())
            await until(shop, lambda: shop.total >= made, 20, f"{shop.total} of {made} counted")
            assert shop.total == made
            assert len(asyncio.all_tasks()) <= tasks + 1
            assert files() <= opened + 1
        finally:
            running.cancel()
            await asyncio.wait([running])
        assert (await press.tell("sessions"))["sessions"] == 0
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not {name for name in left if "opcua" in name}
        print(f"{REBOOTS} reboots, slowest tag live after {slowest:.1f} s")  # noqa: T201 - the figure of the long form
