"""A cable that can be cut: a TCP relay between the agent and one of the demo's servers.

While it is cut, connections are broken and new ones refused, as with a machine that is switched off. Its port is kept
from other programs until it is closed, or the agent would find a stranger there.
"""

import asyncio
import socket
from contextlib import suppress

LOOPBACK = "127.0.0.1"


class Cable:
    """Relays from `port` on loopback to the port `target`; `port` 0 takes a free one when it is opened."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        """Accept connections. Raises OSError if the port is taken. Safe twice."""
        self._let_go()
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, LOOPBACK, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break every connection and refuse new ones. Safe before `mend`, safe twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._hold()
        while self._relays:
            for end in self._ends:
                end.transport.abort()
            await asyncio.wait(self._relays, timeout=0.1)
        await server.wait_closed()

    async def close(self) -> None:
        """Cut it for good."""
        await self.cut()
        self._let_go()

    def _hold(self) -> None:
        """A bound socket that does not listen: who connects is refused, and nobody else is given the port. It may be
        bound beside connections that have just ended, but nothing beside it."""
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            self._held.bind((LOOPBACK, self.port))
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        ends = {writer}
        self._ends |= ends
        try:
            far_reader, far = await asyncio.open_connection(LOOPBACK, self._target)
            ends.add(far)
            self._ends |= ends
            await _both_ways(reader, writer, far_reader, far)
        except OSError:
            pass  # the server is gone, and so is this connection
        finally:
            for end in ends:
                end.close()
            for end in ends:
                with suppress(OSError):
                    await end.wait_closed()
            self._ends -= ends
            self._relays.discard(task)


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Copy until one end is closed. What it has sent before still goes out."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, far_writer))
            both.create_task(_copy(far_reader, writer))
    except* OSError:
        pass  # that is the end of a connection


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader's end is closed; raises OSError then too."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError
