"""A cable that is worse than cut: a relay that swallows, resets in the middle of a packet, or is slow.

Bytes that TCP has accepted are never reordered or altered; what a bad network does beyond that, the kernel hides.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path

LOOPBACK = "127.0.0.1"


class Fault(Enum):
    NONE = "passes"
    BLACK_HOLE = "black hole"
    """Nothing comes through in either direction, nobody is told; connections of that time never recover."""
    HALF_OPEN = "half open"
    """The far end is gone, the near end believes in the connection."""
    DEAF = "answers are lost"
    """What is sent arrives, no answer comes back."""
    RESET = "reset"
    """Every connection is reset after some bytes, wherever that is in a packet."""


class BadCable:
    """From `port` on loopback to `target`, a port there or a UNIX socket. `rate`: bytes per second each way."""

    def __init__(self, target: int | Path, seed: int, rate: int | None = None) -> None:
        self.port = 0
        self.connections = 0
        self._target = target
        self._dice = random.Random(seed)
        self._rate = rate
        self._fault = Fault.NONE
        self._ends: list[asyncio.StreamWriter] = []

    def bring(self, fault: Fault) -> None:
        """From now on; `NONE` heals for connections to come and lets those that were hit stay dead."""
        self._fault = fault
        if fault is Fault.HALF_OPEN:
            for far in self._ends[1::2]:
                far.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if isinstance(self._target, Path):
                far_reader, far = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        self._ends += (writer, far)
        limit = [self._dice.randint(300, 20_000)]
        with suppress(OSError):
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, far, writer, limit, back=False))
                both.create_task(self._copy(far_reader, writer, writer, limit, back=True))

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        near: asyncio.StreamWriter,
        limit: list[int],
        *,
        back: bool,
    ) -> None:
        """Until one end closes; a connection that a fault has hit swallows for the rest of its life."""
        dead = False
        while True:
            data = await reader.read(self._rate // 20 if self._rate else 65_536)
            if self._rate:
                await asyncio.sleep(len(data) / self._rate)  # noqa: TID251 - the line is as slow as that
            fault = self._fault
            dead = dead or fault is Fault.BLACK_HOLE or fault is Fault.HALF_OPEN or (fault is Fault.DEAF and back)
            if not data:
                if not dead:
                    writer.close()
                return
            if fault is Fault.RESET:
                limit[0] -= len(data)
                if limit[0] < 0:
                    with suppress(OSError):
                        writer.write(data[: limit[0]])
                    _reset(near)
                    return
            if not dead:
                with suppress(OSError):
                    writer.write(data)
                    await writer.drain()

    def cut_all(self) -> None:
        for end in self._ends:
            end.transport.abort()


def _reset(near: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    own = near.get_extra_info("socket")
    with suppress(OSError):
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.transport.abort()


@asynccontextmanager
async def bad_cable(target: int | Path, *, seed: int = 1, rate: int | None = None) -> AsyncIterator[BadCable]:
    cable = BadCable(target, seed, rate)
    server = await asyncio.start_server(cable.relay, LOOPBACK, 0)
    cable.port = server.sockets[0].getsockname()[1]
    try:
        yield cable
    finally:
        server.close()
        cable.cut_all()
        await server.wait_closed()
