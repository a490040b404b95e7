"""One TCP connection per host and port, shared by the units behind it.

Many devices and gateways take a single connection, so drivers do not own one: they ask through the `Line` of their
host and port. Turns are first come, first served; a turn is one `ask`, so a unit with many requests does not keep
the others waiting. A connection in doubt is closed (see `mbap`), and the next turn, of whichever unit, opens a new
one at once: a silent unit costs its neighbours the wait for its time-out and nothing else. When opening fails,
everyone who was waiting meanwhile fails with it, rather than each trying again in turn.
"""

import asyncio
import socket
from collections.abc import Sequence

from drivers.modbus.mbap import Answer, MbapConnection, Question
from drivers.ticker import pause


class Line:
    """The connection to one host and port; closed when the last of its users has left."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._turn = asyncio.Lock()
        self._connection: MbapConnection | None = None
        self._users: set[object] = set()
        self._failures = 0
        self._failure: Exception = OSError()
        self.answered: set[int] = set()
        """Units that have answered on this line since somebody is using it."""
        self.generation = 0
        """Which connection this is, counted from 1: a change means that the device was connected to anew."""

    async def join(self, user: object, limit: float) -> None:
        """Count `user` in and make sure that there is a connection. Raises OSError or TimeoutError."""
        self._users.add(user)
        failures = self._failures
        async with self._turn:
            await self._connected(limit, failures)

    def leave(self, user: object) -> None:
        """Count `user` out; the last one closes the connection. Safe twice."""
        self._users.discard(user)
        if not self._users:
            self.answered.clear()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def ask(self, questions: Sequence[Question], limit: float, pause_after: float = 0.0) -> list[Answer]:
        """Have a turn: see `MbapConnection.ask`. Opens a new connection if the last one was given up.

        Raises NoAnswer, Closed, Unfit, or OSError or TimeoutError when no connection can be opened.
        """
        failures = self._failures
        async with self._turn:
            connection = await self._connected(limit, failures)
            answers = await connection.ask(questions, limit)
            self.answered.update(question.unit for question in questions)
            if pause_after:
                await pause(pause_after)
            return answers

    async def _connected(self, limit: float, failures: int) -> MbapConnection:
        """The open connection; `failures` were known when the caller began to wait for its turn."""
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._failures != failures:
            raise self._failure.with_traceback(None)
        try:
            async with asyncio.timeout(limit):
                self._connection = await _open(self._host, self._port)
        except OSError as error:  # TimeoutError is one
            self._failures += 1
            self._failure = error
            raise
        self.generation += 1
        return self._connection


async def _open(host: str, port: int) -> MbapConnection:
    """Connect to the first address of the host that accepts. Raises what the last one raised."""
    loop = asyncio.get_running_loop()
    refused: OSError = OSError(f"{host} has no address")
    for family, _, _, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            _, connection = await loop.create_connection(MbapConnection, str(address[0]), port, family=family)
        except OSError as error:
            refused = error
        else:
            return connection
    raise refused


class Lines:
    """The lines of one agent, by host and port."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], Line] = {}

    def line(self, host: str, port: int) -> Line:
        return self._lines.setdefault((host, port), Line(host, port))
