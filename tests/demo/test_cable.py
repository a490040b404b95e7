"""The cable between the agent and the demo's servers."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from edge_agent.demo.cable import LOOPBACK, Cable


@asynccontextmanager
async def echoing():
    """A server that sends back what it gets, behind a cable; also what it got by the end of a connection."""
    got = asyncio.get_running_loop().create_future()

    async def echo(reader, writer):
        heard = b""
        while data := await reader.read(1000):
            heard += data
            writer.write(data)
        writer.close()
        if not got.done():
            got.set_result(heard)

    server = await asyncio.start_server(echo, LOOPBACK, 0)
    cable = Cable(server.sockets[0].getsockname()[1])
    await cable.mend()
    try:
        yield cable, got
    finally:
        await cable.close()
        server.close()
        await server.wait_closed()


async def hang_up(writer):
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_what_goes_in_comes_out_also_when_the_sender_closes_at_once():
    async with echoing() as (cable, got), asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        writer.write(b"x" * 200_000)
        assert await reader.readexactly(200_000) == b"x" * 200_000
        writer.write(b"last words")
        await hang_up(writer)
        assert await got == b"x" * 200_000 + b"last words"


async def test_a_cut_cable_breaks_the_connection_and_refuses_new_ones_until_it_is_mended():
    async with echoing() as (cable, _), asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        writer.write(b"hello")
        await reader.readexactly(5)
        await cable.cut()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        await hang_up(writer)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(LOOPBACK, cable.port)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                stranger.bind((LOOPBACK, cable.port))
        await cable.mend()
        reader, writer = await asyncio.open_connection(LOOPBACK, cable.port)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        await hang_up(writer)
