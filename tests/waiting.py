"""The one place where a test polls: for what happens in another process or thread and cannot be awaited."""

import asyncio
import random
import socket
from collections.abc import Callable


async def until(condition: Callable[[], object], limit: float = 10.0, what: str = "") -> None:
    """Return when the condition is true; fail after `limit` seconds."""
    try:
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.005)  # noqa: TID251 - another process or thread is polled
    except TimeoutError:
        raise AssertionError(f"not within {limit:g} s: {what or condition}") from None


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, below those that the system gives to clients: a server that is
    stopped finds it free again."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
