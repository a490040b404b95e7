"""A broker that does exactly what a test tells it to: wrong answers, none, or the line cut at a given message."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from edge_agent.demo import packets
from edge_agent.demo.packets import Connect, Malformed, Publish

CUT = b"cut"
"""Instead of an answer: break the connection."""


def confirm(number: int, message: Publish) -> bytes:
    return packets.puback(5, message.packet_id)


def answer(code: int) -> Callable[[int, Publish], bytes]:
    """PUBACK with this code to everything but the first message, the birth."""
    return lambda number, message: packets.puback(5, message.packet_id, code if number > 1 else 0)


@dataclass
class HostileBroker:
    """`on_publish(number of the message on this connection from 1, message)` gives the bytes to answer with.

    `connack` is sent for a CONNECT; empty for silence.
    """

    port: int = 0
    connack: bytes = packets.connack(5, 0)
    on_publish: Callable[[int, Publish], bytes] = confirm
    answers_pings: bool = True
    connects: list[Connect] = field(default_factory=list)
    received: list[Publish] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def say(self, data: bytes) -> None:
        """Send this on the newest connection."""
        self._writers[-1].write(data)

    def cut(self) -> None:
        self._writers[-1].transport.abort()

    async def got(self, count: int, limit: float = 10) -> list[Publish]:
        async with asyncio.timeout(limit):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number, level = 0, 5
        try:
            while True:
                kind, flags, body = await packets.read_packet(reader, 1 << 24)
                if kind == packets.CONNECT:
                    connect = packets.read_connect(body)
                    level = connect.level
                    self.connects.append(connect)
                    writer.write(self.connack)
                elif kind == packets.PUBLISH:
                    number += 1
                    message = packets.read_publish(level, flags, body)
                    self.received.append(message)
                    self.changed.set()
                    reply = self.on_publish(number, message)
                    if reply == CUT:
                        writer.transport.abort()
                        return
                    writer.write(reply)
                elif kind == packets.PINGREQ and self.answers_pings:
                    writer.write(packets.packet(packets.PINGRESP, 0, b""))
        except (asyncio.IncompleteReadError, ConnectionError, Malformed):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def hostile_broker(**how: object) -> AsyncIterator[HostileBroker]:
    broker = HostileBroker(**how)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await broker.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
