"""Drivers for OPC UA that a test opens, and what it reads with them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from drivers.base import Reading
from drivers.opcua import Opcua
from drivers.opcua.options import OpcuaDevice


@asynccontextmanager
async def connections() -> AsyncIterator[Callable[[OpcuaDevice], Awaitable[Any]]]:
    """Opens drivers, all of one agent, and closes them at the end."""
    spec, opened = Opcua(), []

    async def connected(options: OpcuaDevice) -> Any:
        made = spec.open("press-1", options)
        opened.append(made)
        await made.connect()
        return made

    yield connected
    for made in opened:
        await made.close()


async def latest(opened: Any, enough: Callable[[dict[str, Reading]], object]) -> dict[str, Reading]:
    """The last reading of each tag once they are `enough`."""
    found: dict[str, Reading] = {}
    async with asyncio.timeout(20):
        while not enough(found):
            found |= {reading.tag: reading for reading in (await opened.read()).readings}
    return found
