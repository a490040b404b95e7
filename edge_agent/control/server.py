"""The agent's side of the local socket.

Whatever a client sends, or however slowly it reads, the agent goes on: a request is one bounded line with a time
limit, connections are bounded in number, and a stream is pulled by its client and therefore never pushes back.
"""

import asyncio
import hmac
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, TypeAlias

from edge_agent.clients import Clients
from edge_agent.control.feed import Dropped
from edge_agent.control.place import UNIX, listen, remove
from edge_agent.control.protocol import REQUEST_LIMIT, VERSION, decode, encode, other_version

log = logging.getLogger(__name__)

Command: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Takes the parameters of the request. Returns a JSON value, an awaitable of one, or an async iterator of them.
`ValueError` means that the parameters are not right; its text goes to the client."""

CONNECTIONS = 32
REQUEST_TIME = 5.0
"""Seconds that a client has to send its request."""


class ControlServer:
    """Use as `async with`. `path` is that of `place.socket_path`; entering raises OSError."""

    def __init__(self, path: Path, commands: Mapping[str, Command], *, unix: bool = UNIX) -> None:
        self._path = path
        self._commands = commands
        self._unix = unix
        self._token: str | None = None
        self._server: asyncio.Server | None = None
        self._clients = Clients("control client", CONNECTIONS, self._answer)

    async def __aenter__(self) -> "ControlServer":
        sock, self._token = listen(self._path, unix=self._unix)
        start = asyncio.start_unix_server if self._unix else asyncio.start_server
        self._server = await start(self._clients.accept, sock=sock, limit=REQUEST_LIMIT)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        await self._clients.close()
        await self._server.wait_closed()
        self._server = None
        try:
            remove(self._path, unix=self._unix)
        except OSError as error:
            log.warning("cannot remove the local socket: %s", error)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, busy: bool) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIME):
                line = await reader.readline()
            if not line:
                return
            request = decode(line)
        except ValueError as error:  # malformed, or too long
            await _refuse(writer, "invalid", str(error))
            return
        if busy:  # told after the request was read: closing before that would take the answer away from the client
            await _refuse(writer, "busy", f"the agent already talks to {CONNECTIONS} clients")
            return
        if self._token is not None and not _same(request.pop("token", None), self._token):
            await _refuse(writer, "denied", "the token is not that of this agent")
            return
        asking = request.pop("version", None)
        if asking != VERSION:
            await _refuse(writer, "other_version", other_version(VERSION, asking))
            return
        name = request.pop("do", None)
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            await _refuse(writer, "unknown_command", f"the agent knows {', '.join(sorted(self._commands))}")
            return
        try:
            result = command(request)
            if hasattr(result, "__aiter__"):
                await _stream(result, reader, writer)
                return
            if inspect.isawaitable(result):
                result = await result
            answer = encode({"ok": True, "version": VERSION, "result": result})
        except ValueError as error:
            await _refuse(writer, "invalid", str(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # a bug in one command is told to its caller; the agent goes on
            log.exception("the local command %s failed", name)
            await _refuse(writer, "failed", f"the agent could not do this: {error!r}")
        else:
            writer.write(answer)
            await writer.drain()


async def _stream(items: AsyncIterator[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the items until they end or the client hangs up."""
    sender = asyncio.ensure_future(_send_all(items, writer))
    gone = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
    finally:
        for task in (sender, gone):
            task.cancel()
        await asyncio.gather(sender, gone, return_exceptions=True)


async def _send_all(items: AsyncIterator[Any], writer: asyncio.StreamWriter) -> None:
    writer.write(encode({"ok": True, "version": VERSION, "stream": True}))
    async with AsyncExitStack() as stack:
        if isinstance(items, AsyncGenerator):
            await stack.enter_async_context(aclosing(items))
        async for item in items:
            writer.write(encode({"dropped": item.items} if isinstance(item, Dropped) else {"item": item}))
            await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, code: str, error: str) -> None:
    writer.write(encode({"ok": False, "version": VERSION, "code": code, "error": error}))
    await writer.drain()


def _same(shown: object, token: str) -> bool:
    return isinstance(shown, str) and hmac.compare_digest(shown.encode(), token.encode())
