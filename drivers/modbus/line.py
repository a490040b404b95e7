"""One line, shared by the units on it: a connection to one host and port, or a serial port.

Many devices and gateways take a single connection, and a serial line is one by nature, so drivers do not own one:
they ask through their `Line`. Turns are first come, first served; a turn is one `ask`, so a unit with many requests
does not keep the others waiting. When opening fails, everyone who was waiting meanwhile fails with it, rather than
each trying again in turn.

A unit that did not answer is *aside* until it does. It is asked again when its driver tries again (the collector's
back-off), but it may not take the others' time:
- Where answers are told apart (see `mbap`), its question waits for an answer without holding the turn. That a device
  can answer others meanwhile is learned by trying; one that cannot is asked one question at a time for good.
- Elsewhere it holds the turn. It may do so once more; then no unit that is aside may for the next `SPARED` time-outs.
"""

import asyncio
from collections.abc import Sequence

from drivers.modbus.exchange import Answer, Connection, Disturbed, Medium, NoAnswer, Question
from drivers.modbus.faults import NOBODY_THERE
from drivers.ticker import pause

SPARED = 9
"""Silent units together cost the others at most one part in ten of the line's time."""
_MOST_SILENCES = 2
"""Questions in a row without any answer after which the connection is opened anew."""


class _Spared(NoAnswer):
    """It was not asked at all."""


class Line:
    """What `medium` opens; closed when the last of its users has left."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._users: set[object] = set()
        self._failures = 0
        self._failure: Exception = OSError()
        self._silences = 0
        self._aside: set[int] = set()
        self._spared_until = 0.0
        self._probing = False
        """A unit that is aside is asked now."""
        self._beside = False
        """… without holding the turn."""
        self._answers_others: bool | None = None
        """Whether units answer while a silent one is waited for; None until it was tried."""
        self.answered: set[int] = set()
        """Units that have answered on this line since somebody is using it."""
        self.generation = 0
        """Which connection this is, counted from 1: a change means that the device was connected to anew."""

    async def join(self, user: object, limit: float) -> None:
        """Count `user` in and make sure that there is a connection. Raises OSError or TimeoutError."""
        self._users.add(user)
        failures = self._failures
        if self._connection is None or not self._connection.is_open:
            async with self._turn:
                if self._connection is None or not self._connection.is_open:
                    await self._opened(limit, failures)

    def leave(self, user: object) -> None:
        """Count `user` out; the last one closes the connection. Safe twice."""
        self._users.discard(user)
        if not self._users:
            self.answered.clear()
            self._aside.clear()
            self._answers_others = None
            self._close()

    async def ask(self, questions: Sequence[Question], limit: float, pause_after: float = 0.0) -> list[Answer]:
        """Have a turn: see `Connection.ask`; the questions are of one unit. Opens a new connection if the last one
        was given up.

        Raises NoAnswer, Closed, Unfit, or OSError or TimeoutError when no connection can be opened. A unit that is
        aside may hear NoAnswer without having been asked.
        """
        loop = asyncio.get_running_loop()
        unit = questions[0].unit
        if (rest := self._medium.rest(unit)) > 0:
            await pause(rest)
        began = loop.time()
        try:
            if unit in self._aside:
                answers = await self._probe(questions, limit, pause_after)
            else:
                answers = await self._in_turn(questions, limit, pause_after)
        except _Spared:
            raise
        except NoAnswer:
            self._put_aside(unit, limit)
            raise
        if not NOBODY_THERE.isdisjoint(answers):
            self._put_aside(unit, min(limit, loop.time() - began))
        else:
            self.answered.add(unit)
            if unit in self._aside:
                self._aside.remove(unit)
                self._spared_until = 0.0  # what kept this one silent may have kept others
        return answers

    def _put_aside(self, unit: int, cost: float) -> None:
        if unit in self._aside:
            self._spared_until = asyncio.get_running_loop().time() + SPARED * cost
        self._aside.add(unit)

    async def _probe(self, questions: Sequence[Question], limit: float, pause_after: float) -> list[Answer]:
        """Ask a unit that is aside."""
        connection = self._connection
        if len(self._users) == 1 or connection is None:
            return await self._in_turn(questions, limit, pause_after)
        apart = connection.is_open and connection.tells_answers_apart and not pause_after
        spared = asyncio.get_running_loop().time() < self._spared_until and not (apart and self._answers_others)
        if self._probing or spared:
            await pause(limit)
            raise _Spared("not asked now: it was silent, and the others on the line are spared")
        self._probing = True
        try:
            if not apart or self._answers_others is False:
                return await self._in_turn(questions, limit, pause_after)
            self._beside = True
            return await self._answered(connection, questions, limit)
        finally:
            self._probing = self._beside = False

    async def _in_turn(self, questions: Sequence[Question], limit: float, pause_after: float) -> list[Answer]:
        failures = self._failures
        async with self._turn:
            beside = self._beside
            try:
                answers = await self._asked(questions, limit, failures)
            except Disturbed:
                answers = await self._asked(questions, limit, failures)
            except NoAnswer:
                if not beside or self._answers_others:
                    raise
                self._answers_others = False
                answers = await self._asked(questions, limit, failures)
            else:
                if beside and self._beside:
                    self._answers_others = True
            if pause_after:
                await pause(pause_after)
            return answers

    async def _asked(self, questions: Sequence[Question], limit: float, failures: int) -> list[Answer]:
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = await self._opened(limit, failures)
        return await self._answered(connection, questions, limit)

    async def _answered(self, connection: Connection, questions: Sequence[Question], limit: float) -> list[Answer]:
        try:
            answers = await connection.ask(questions, limit)
        except NoAnswer:
            self._silences += 1
            if self._silences >= _MOST_SILENCES or len(self._users) == 1:
                self._close()
            raise
        self._silences = 0
        return answers

    async def _opened(self, limit: float, failures: int) -> Connection:
        """A new connection; `failures` were known when the caller began to wait for its turn."""
        if self._failures != failures:
            raise self._failure.with_traceback(None)
        try:
            async with asyncio.timeout(limit):
                self._connection = await self._medium.open()
        except OSError as error:  # TimeoutError is one
            self._failures += 1
            self._failure = error
            raise
        self._silences = 0
        self.generation += 1
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
