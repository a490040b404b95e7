"""When which machine's timer is due, for thousands of machines whose timers move at every scan.

A timer that moves to a later time costs nothing until the earlier one comes: one entry per machine stands in the
queue, and is put back when its time has come and the timer has moved on. All times are monotonic microseconds.
"""

import asyncio
import heapq


class DueTimes:
    """`earlier` is set when a timer is due before the time that `next` gave last."""

    def __init__(self) -> None:
        self.earlier = asyncio.Event()
        self._due: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        self._queued: dict[str, int] = {}
        self._told: int | None = None

    def set(self, name: str, due: int | None) -> None:
        if due is None:
            self._due.pop(name, None)
            return
        self._due[name] = due
        queued = self._queued.get(name)
        if queued is None or due < queued:
            self._queued[name] = due
            heapq.heappush(self._queue, (due, name))
            if self._told is None or due < self._told:
                self.earlier.set()

    def next(self) -> int | None:
        """The earliest time; None without any."""
        self.earlier.clear()
        while self._queue:
            at, name = self._queue[0]
            due = self._due.get(name)
            if self._queued.get(name) != at or due is None:
                heapq.heappop(self._queue)
                if self._queued.get(name) == at:
                    del self._queued[name]
            elif due > at:
                heapq.heapreplace(self._queue, (due, name))
                self._queued[name] = due
            else:
                self._told = at
                return at
        self._told = None
        return None

    def take(self, now: int) -> list[str]:
        """The machines whose timers are due; they have none until it is set again."""
        due = []
        while (at := self.next()) is not None and at <= now:
            _, name = heapq.heappop(self._queue)
            del self._queued[name], self._due[name]
            due.append(name)
        return due
