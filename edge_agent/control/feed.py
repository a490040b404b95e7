"""One to many, without waiting: what happens in the agent, for everyone who looks on.

`publish` never waits. Each listener has a bounded queue; when it is full the newest item is not kept for that
listener and counted, and the count stands in its stream at the place of what is missing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

LIMIT = 1000


class Dropped(NamedTuple):
    """So many items are missing here because the listener was too slow."""

    items: int


class _Listener:
    def __init__(self, limit: int) -> None:
        self.items: deque[Any] = deque()
        self.limit = limit
        self.dropped = 0
        self.news = asyncio.Event()

    def put(self, item: Any) -> None:
        if len(self.items) >= self.limit:
            self.dropped += 1
            return
        if self.dropped:
            self.items.append(Dropped(self.dropped))
            self.dropped = 0
        self.items.append(item)
        self.news.set()


class Feed:
    """Built once, published to for ever; without listeners publishing costs nothing."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @property
    def wanted(self) -> bool:
        """Somebody listens."""
        return bool(self._listeners)

    def publish(self, item: Any) -> None:
        for listener in self._listeners:
            listener.put(item)

    async def listen(self, limit: int = LIMIT) -> AsyncGenerator[Any, None]:
        """Items from now on, and `Dropped` where some are missing. Ends only by cancellation or `aclose`."""
        listener = _Listener(limit)
        self._listeners.add(listener)
        try:
            while True:
                while listener.items:
                    yield listener.items.popleft()
                if listener.dropped:
                    missing, listener.dropped = listener.dropped, 0
                    yield Dropped(missing)
                    continue
                listener.news.clear()
                await listener.news.wait()
        finally:
            self._listeners.discard(listener)
