"""A ring that is read beside something that waits for its own news: a subscription."""

import asyncio
from typing import Protocol

from drivers.base import Batch, Micros, Reading
from drivers.ring import reader as rings
from drivers.ticker import Ticker


class Reader(Protocol):
    """Where batches come from."""

    async def open(self) -> None: ...
    async def read(self) -> Batch: ...
    async def close(self) -> None: ...


class Beside:
    """A `Reader` of both. What the other one brings waits while there are entries; it is not asked for more before
    that was told."""

    def __init__(self, other: Reader, ring: rings.Reader, period: Micros) -> None:
        self._other = other
        self.ring = ring
        self._ticker = Ticker((period,))
        self._news: asyncio.Task[Batch] | None = None
        self._tick: asyncio.Task[object] | None = None
        self._rounds = rings.ROUNDS
        self._told: tuple[Reading, ...] = ()

    async def open(self) -> None:
        """Both are open already."""

    async def entries(self) -> Batch | None:
        """Entries that are there now."""
        if not self._rounds:
            return None
        self._rounds -= 1
        batch = await self.ring.read()
        self._rounds = self._rounds if batch is not None else 0
        return batch

    async def read(self) -> Batch:
        while True:
            if (batch := await self.entries()) is not None:
                return batch
            if self.ring.readings is not self._told:
                self._told = self.ring.readings
                return Batch(self.ring.device, self._told)
            if self._news is None:
                self._news = asyncio.create_task(self._other.read(), name=f"news of {self.ring.device}")
            if self._tick is None:
                self._tick = asyncio.create_task(self._ticker.tick(), name=f"ring of {self.ring.device}")
            await asyncio.wait((self._news, self._tick), return_when=asyncio.FIRST_COMPLETED)
            if self._tick.done():
                self._tick = None
                self._rounds = rings.ROUNDS
            if self._news.done():
                news, self._news = self._news, None
                return news.result()

    async def close(self) -> None:
        tasks = [task for task in (self._news, self._tick) if task is not None]
        self._news = self._tick = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # it is of no interest any more
        await self._other.close()
