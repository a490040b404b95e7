"""The tasks that a reload ends and begins while the agent runs: a collector for each device, and the sending."""

import asyncio
from collections.abc import Callable, Iterable

from edge_agent.collector import Collector
from edge_agent.delivery.forwarder import Forwarder
from edge_agent.delivery.mqtt import MqttPublisher


class Collectors:
    """The collectors that run, by device, in a task group that ends when one of them fails."""

    def __init__(self, group: asyncio.TaskGroup, make: Callable[[str], Collector]) -> None:
        self._group = group
        self._make = make
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, device: str) -> bool:
        return device in self._tasks

    def begin(self, device: str) -> None:
        self._tasks[device] = self._group.create_task(self._make(device).run(), name=f"collector: {device}")

    async def end(self, devices: Iterable[str]) -> None:
        """Return when they have closed their connections; what they fed is in its place in the outbox."""
        tasks = [self._tasks.pop(device) for device in devices]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()


class Sending:
    """One forwarder at a time. `make` gives it for a publisher."""

    def __init__(self, make: Callable[[MqttPublisher], Forwarder]) -> None:
        self._make = make
        self.forwarder: Forwarder
        self._task: asyncio.Task[None]
        self._replaced = asyncio.Event()

    def begin(self, publisher: MqttPublisher) -> None:
        self.forwarder = self._make(publisher)
        self._task = asyncio.create_task(self.forwarder.run(), name="forwarder")

    async def replace(self, publisher: MqttPublisher) -> None:
        """Another connection to the broker; what is in flight is confirmed first, if it comes soon."""
        await self.end()
        self.begin(publisher)
        self._replaced.set()

    async def watch(self) -> None:
        """Fails as the forwarder fails."""
        while True:
            task = self._task
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
                return
            await self._replaced.wait()
            self._replaced.clear()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
