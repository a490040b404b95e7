"""A time limit for each of many waits in a row, for thousands of tasks that wait once a second.

`asyncio.timeout` sets and drops a timer of the event loop for each wait, which costs 6 µs, a twentieth of a scan.
Here one timer for the row looks now and then whether the wait is still the same one.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

LOOKS: Final = 8
"""Looks in one limit: a wait ends after the limit and at most an eighth of it more."""


class WaitLimit:
    """`async with WaitLimit(seconds) as limit:` around the row, `begin` and `end` around each wait in it. A wait that
    takes too long is cancelled, and the block raises TimeoutError."""

    def __init__(self, seconds: float) -> None:
        self._every = seconds / LOOKS
        self._waits = 0
        self._waiting = False
        self._seen = 0
        self._looks = 0
        self._overdue = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._overdue and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def begin(self) -> None:
        self._waits += 1
        self._waiting = True

    def end(self) -> None:
        self._waiting = False

    def _look(self) -> None:
        if not self._waiting or self._seen != self._waits:
            self._seen, self._looks = self._waits, 0
        else:
            self._looks += 1
        if self._looks >= LOOKS:
            self._overdue = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(self._every, self._look)
