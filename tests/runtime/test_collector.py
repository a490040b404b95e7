"""The loop around one driver, with a driver that reads what the test says."""

import asyncio
import random
from collections import deque
from collections.abc import Iterable

from drivers.base import Batch, Reading
from drivers.simulated.options import SimulatedDevice
from edge_agent.backoff import Backoff
from edge_agent.clock import SECOND, Instant
from edge_agent.collector import Collector
from edge_agent.events.types import AgentWarning, Data
from edge_agent.health import DeviceHealth

OPTIONS = SimulatedDevice.model_validate({"scan": "1s", "tags": {"good": {"kind": "constant", "value": 5}}})


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 0

    def now(self) -> Instant:
        return Instant(self.at, self.at)

    async def sleep(self, seconds: float) -> None:
        await asyncio.get_running_loop().create_future()


class Scans:
    """A driver whose batches come at these seconds, each after so many skipped scans."""

    def __init__(self, clock: Hand, scans: Iterable[tuple[float, int]]) -> None:
        self._clock = clock
        self._scans = deque(scans)
        self.read_all = asyncio.Event()

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def read(self) -> Batch:
        if not self._scans:
            self.read_all.set()
            await asyncio.get_running_loop().create_future()
        at, missed = self._scans.popleft()
        self._clock.at = int(at * SECOND)
        return Batch("press-1", [Reading("good", 5)], missed=missed)


class Told:
    """A sink that keeps what the collector says."""

    def __init__(self) -> None:
        self.data: list[Data] = []

    async def feed(self, batch: Batch) -> None: ...

    def unseen(self, device: str) -> int | None: ...

    async def record(self, *data: Data) -> None:
        self.data += data

    def warnings(self) -> list[AgentWarning]:
        return [each for each in self.data if isinstance(each, AgentWarning)]


async def collected(scans: Iterable[tuple[float, int]]) -> tuple[list[AgentWarning], DeviceHealth]:
    clock, told, health = Hand(), Told(), DeviceHealth()
    driver = Scans(clock, scans)
    backoff = Backoff(SECOND, SECOND, random.Random(1))
    collector = Collector("press-1", OPTIONS, lambda: driver, told, health, clock, backoff, tuple, "acme/_agents/a1")
    running = asyncio.create_task(collector.run())
    await asyncio.wait_for(driver.read_all.wait(), 20)
    running.cancel()
    await asyncio.wait([running])
    return told.warnings(), health


async def test_scans_that_are_skipped_again_and_again_are_one_warning():
    warnings, health = await collected([(0, 0), (2, 1), (4, 1), (7, 2), (60, 1), (100, 0)])
    assert [(warning.code, warning.count, warning.subject) for warning in warnings] == [
        ("scans_skipped", 2, "acme/_agents/a1")
    ]
    assert "press-1" in warnings[0].text
    assert health.missed == 5


async def test_a_later_spell_is_another_warning():
    warnings, health = await collected([(2, 1), (4, 1), (80, 0), (200, 3), (201, 1)])
    assert [warning.count for warning in warnings] == [2, 4]
    assert health.missed == 6


async def test_scans_skipped_once_in_a_while_are_counted_and_no_warning():
    warnings, health = await collected([(2, 1), (100, 1), (200, 5)])
    assert warnings == []
    assert health.missed == 7
