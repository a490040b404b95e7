"""The clients of a server of this agent: each has a task of its own, they are bounded in number, none outlives it.

A connection ends with its task, whatever was not read of its answer: what a client leaves unread keeps no file open,
and nothing that a client does or leaves undone holds up the end of the agent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bool], Awaitable[None]]
"""Talks to one client; returns when there is nothing more to say. True: all places were taken when it came. Of its
errors only OSError and TimeoutError are those of the client."""


class Clients:
    """Up to `places` are served and as many again may be told that there is no place; more are hung up on at once.
    `drain` of a writer returns when the client's computer has taken everything."""

    def __init__(self, name: str, places: int, serve: Serve) -> None:
        self._name = name
        self._places = places
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For `asyncio.start_server`."""
        if len(self._tasks) >= 2 * self._places:
            writer.transport.abort()
            return
        writer.transport.set_write_buffer_limits(0)
        busy = len(self._tasks) >= self._places
        task = asyncio.create_task(self._talk(reader, writer, busy), name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, busy: bool) -> None:
        try:
            await self._serve(reader, writer, busy)
        except (OSError, TimeoutError):
            pass  # the client went away, or asked or read nothing: nothing to tell it
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """Hang up on all of them."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
