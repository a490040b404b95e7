"""The CLI's side of the local socket: plain blocking calls, and a stream to be awaited."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_agent.control.place import UNIX, connect
from edge_agent.control.protocol import ANSWER_LIMIT, VERSION, decode, encode, other_version

ANSWER_TIME = 5.0
"""Seconds that the agent has to answer."""


class NotRunning(Exception):
    """Nobody listens on the socket: no agent runs with this buffer."""


class NoAnswer(Exception):
    """An agent is there but does not answer in time, or breaks off."""


class Refused(Exception):
    """The agent answered that it cannot do this; the text says why."""

    def __init__(self, code: str, error: str) -> None:
        super().__init__(error)
        self.code = code


class ControlClient:
    """Talks to the agent whose socket is at `path`. Every call is a connection of its own.

    Raises `NotRunning`, `NoAnswer`, `Refused`, and `PermissionError` when the agent runs as another user.
    """

    def __init__(self, path: Path, *, unix: bool = UNIX, answer_time: float = ANSWER_TIME) -> None:
        self._path = path
        self._unix = unix
        self._answer_time = answer_time

    def ask(self, do: str, **parameters: Any) -> Any:
        """The result of a command."""
        with closing(self._talk(do, parameters)) as lines:
            return next(lines).get("result")

    def stream(self, do: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """`{"item": …}` and `{"dropped": n}` as they come, until the agent stops."""
        with closing(self._talk(do, parameters)) as lines:
            next(lines)
            yield from lines

    async def follow(self, do: str, **parameters: Any) -> AsyncGenerator[dict[str, Any], None]:
        """`stream`, awaited: it can be cancelled at any time."""
        sock, request = await asyncio.to_thread(self._connect, do, parameters)
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock, limit=ANSWER_LIMIT)
        try:
            writer.write(request)
            async with asyncio.timeout(self._answer_time):
                self._first(await reader.readline())
            while line := await reader.readline():
                yield decode(line)
        except TimeoutError as error:
            raise NoAnswer(f"the agent has not answered in {self._answer_time:g} s") from error
        except (ConnectionError, ValueError) as error:
            raise NoAnswer("the agent broke off its answer") from error
        finally:
            writer.close()

    def _connect(self, do: str, parameters: dict[str, Any]) -> tuple[socket.socket, bytes]:
        """A connected socket and the request to send on it."""
        try:
            sock, token = connect(self._path, self._answer_time, unix=self._unix)
        except PermissionError:
            raise
        except TimeoutError as error:
            raise NoAnswer("the agent does not accept connections") from error
        except OSError as error:
            raise NotRunning(str(error)) from error
        request = {**parameters, "do": do, "version": VERSION}
        if token is not None:
            request["token"] = token
        return sock, encode(request)

    def _talk(self, do: str, parameters: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        sock, request = self._connect(do, parameters)
        with sock:
            try:
                sock.sendall(request)
                with sock.makefile("rb") as lines:
                    yield self._first(lines.readline(ANSWER_LIMIT))
                    sock.settimeout(None)
                    while line := lines.readline(ANSWER_LIMIT):
                        yield decode(line)
            except TimeoutError as error:
                raise NoAnswer(f"the agent has not answered in {self._answer_time:g} s") from error
            except (ConnectionError, ValueError) as error:
                raise NoAnswer("the agent broke off its answer") from error

    def _first(self, line: bytes) -> dict[str, Any]:
        answer = decode(line)
        if answer.get("version") != VERSION:
            raise Refused("other_version", other_version(answer.get("version"), VERSION))
        if not answer.get("ok"):
            raise Refused(str(answer.get("code", "failed")), str(answer.get("error", "the agent refused")))
        return answer
