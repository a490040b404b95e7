"""Modbus RTU frames, over a serial port or over TCP: unit, function, data and a checksum, and nothing else.

No transaction id tells a late answer from the answer to the next question; only unit, function and length do. So a
question that was not answered leaves its unit in *doubt*:
- The unit rests until `LONGEST` time-outs after the question. Its neighbours go on at once: an answer carries its
  unit, and a late one of a unit in doubt is known by it and dropped, which also ends the doubt.
- Then the unit is asked for something of another length first (the *canary*): no answer that may still come fits it,
  and if it is not answered in time either, its own late answer fits nothing that is asked next.

Noise is normal on a serial line. An answer is looked for in what has been heard, behind a few stray bytes if need be,
and taken only with unit, function, length and checksum right. One whose checksum alone is wrong is asked for once
more. A line that is never silent is closed.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

from pymodbus.framer import FramerRTU

from drivers.modbus.exchange import EXCEPTION, Answer, Closed, Connection, NoAnswer, Question, Unfit
from drivers.modbus.tcp import dial
from drivers.ticker import pause

LONGEST = 4.0
"""Time-outs after the question until which an answer may still come."""
SETTLE = 0.02
"""Seconds of silence after noise before the next question."""
_MOST_STRAY = 8
"""Bytes before an answer, as a driver makes that is switched on too early."""
_MOST_DOUBTS = 16
"""Lengths of questions without an answer that are remembered for a unit."""
_MOST_HEARD = 512
"""Bytes without an answer in them; the longest frame has 256."""


class Doubts:
    """Of one line, over all its connections: what was asked of a unit without an answer, and until when it rests."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[list[Question], float]] = {}

    def note(self, asked: Question, until: float) -> None:
        known = self.of(asked.unit)
        if all(_shape(each) != _shape(asked) for each in known):
            known = [*known, asked][-_MOST_DOUBTS:]
        self._open[asked.unit] = (known, until)

    def settle(self, unit: int) -> None:
        self._open.pop(unit, None)

    def answered(self, asked: Question) -> None:
        """A late answer has come; without another question in doubt the unit is as good as before."""
        known, until = self._open[asked.unit]
        known = [each for each in known if each is not asked]
        if known:
            self._open[asked.unit] = (known, until)
        else:
            self.settle(asked.unit)

    def of(self, unit: int) -> list[Question]:
        return self._open.get(unit, ([], 0.0))[0]

    def rest(self, unit: int) -> float:
        """Seconds; see `exchange.Medium`."""
        known = self._open.get(unit)
        return 0.0 if known is None else known[1] - asyncio.get_running_loop().time()

    def questions(self) -> list[Question]:
        return [asked for known, _ in self._open.values() for asked in known]


class RtuTcpMedium:
    """RTU over TCP: what a plain converter makes of a serial line."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._doubts = Doubts()

    async def open(self) -> Connection:
        return await dial(lambda: RtuConnection(self._doubts), self._host, self._port)

    def rest(self, unit: int) -> float:
        return self._doubts.rest(unit)


class RtuConnection(asyncio.Protocol):
    """See `exchange.Connection`. `character` is how long one takes on the line, in seconds; 0 where it is not known.
    A question comes after 3.5 of them, or 1.75 ms, of silence, and its time limit is for the answer to begin."""

    def __init__(self, doubts: Doubts, character: float = 0.0) -> None:
        self._doubts = doubts
        self._character = character
        self._gap = max(3.5 * character, 0.00175) if character else 0.0
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._heard = bytearray()
        self._heard_at = 0.0
        self._asked: Question | None = None
        self._done: asyncio.Future[Answer] | None = None

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def tells_answers_apart(self) -> bool:
        return False

    def close(self) -> None:
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, questions: Sequence[Question], limit: float) -> list[Answer]:
        answers = []
        for asked in questions:
            doubtful = self._doubts.of(asked.unit)
            if doubtful:
                await self._ask(_canary(asked, doubtful), limit)
                self._doubts.settle(asked.unit)
            answers.append(await self._ask(asked, limit))
        return answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Closed(str(exc or "")))

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._heard += data
        while self._heard and self._take():
            pass
        if len(self._heard) > _MOST_HEARD:
            self._fail(Unfit("the line is never silent; is a wire of it loose?"))

    async def _ask(self, asked: Question, limit: float) -> Answer:
        """One answer, after a second question if the first answer was damaged."""
        try:
            return await self._once(asked, limit)
        except _Damaged:
            try:
                return await self._once(asked, limit)
            except _Damaged:
                raise Unfit("its checksum is wrong, twice in a row") from None

    async def _once(self, asked: Question, limit: float) -> Answer:
        loop = asyncio.get_running_loop()
        await self._silence(limit)
        if not self._open or self._transport is None:
            raise Closed
        self._asked, self._done = asked, loop.create_future()
        message = bytes([asked.unit]) + asked.pdu
        asked_at = loop.time()
        limit += (len(message) + 2 + asked.size + 5) * self._character
        self._transport.write(message + _checksum(message))
        answered = damaged = False
        try:
            async with asyncio.timeout(limit):
                answer = await self._done
            answered = True
            return answer
        except TimeoutError:
            if not self._heard:
                raise NoAnswer from None
            damaged = _size(self._heard, 0, asked) == len(self._heard)
            raise _Damaged if damaged else Unfit(_misfit(self._heard, asked)) from None
        finally:
            self._asked = self._done = None
            if not answered and not damaged:
                self._doubts.note(asked, asked_at + LONGEST * limit)

    async def _silence(self, limit: float) -> None:
        """Wait until nothing has been heard for a while; drop what was."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + limit
        gap = max(self._gap, SETTLE) if self._heard else self._gap
        while (wait := self._heard_at + gap - loop.time()) > 0:
            if loop.time() > latest:
                self._fail(Closed())
                raise Unfit("the line is never silent; is a wire of it loose?")
            await pause(wait)
        self._heard.clear()

    def _take(self) -> bool:
        """Find an answer in what was heard and use it up; False if there is none, or not all of it yet."""
        wanted = self._doubts.questions()
        if self._asked is not None:
            wanted.insert(0, self._asked)
        for start in range(min(len(self._heard), _MOST_STRAY + 1)):
            for asked in wanted:
                size = _size(self._heard, start, asked)
                frame = bytes(self._heard[start : start + size])
                if size and len(frame) == size and frame[-2:] == _checksum(frame[:-2]):
                    del self._heard[: start + size]
                    self._use(asked, _answer(frame, asked))
                    return True
        return False

    def _use(self, asked: Question, answer: Answer) -> None:
        if asked is not self._asked:
            self._doubts.answered(asked)
        elif self._done is not None and not self._done.done():
            self._done.set_result(answer)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class _Damaged(Exception):
    """The answer came in its full length, and its checksum is wrong."""


def _checksum(message: bytes) -> bytes:
    return FramerRTU.compute_CRC(message).to_bytes(2, "big")


def _size(heard: bytearray, start: int, asked: Question) -> int:
    """Bytes that the answer to the question has if it begins at `start`; 0 if it does not begin there."""
    head = heard[start : start + 3]
    if len(head) < 3 or head[0] != asked.unit:
        return 0
    if head[1] == asked.pdu[0] | EXCEPTION:
        return 5
    if asked.echo:
        return len(asked.echo) + 3 if heard[start + 1 : start + 1 + len(asked.echo)] == asked.echo else 0
    return asked.size + 5 if head[1] == asked.pdu[0] and head[2] == asked.size else 0


def _answer(frame: bytes, asked: Question) -> Answer:
    if frame[1] & EXCEPTION:
        return frame[2]
    return b"" if asked.echo else frame[3:-2]


def _misfit(heard: bytearray, asked: Question) -> str:
    """In what the bytes heard are not the answer."""
    if heard[0] != asked.unit:
        return f"it comes from unit {heard[0]}, or is noise"
    if len(heard) > 1 and heard[1] & ~EXCEPTION != asked.pdu[0]:
        return f"it answers function {heard[1]} instead of {asked.pdu[0]}"
    if len(heard) > 2 and heard[1] == asked.pdu[0] and heard[2] != asked.size:
        return f"it has {heard[2]} bytes of data instead of {asked.size}"
    return "it is incomplete or damaged"


def _shape(asked: Question) -> tuple[int, int]:
    """What an answer is known by, beside its unit."""
    return asked.pdu[0], asked.size


def _canary(asked: Question, doubtful: Sequence[Question]) -> Question:
    """A question to the same unit whose answer can be mistaken neither for that to `asked` nor for one that may still
    come: it has another length."""
    function, start, count = asked.pdu[0], asked.pdu[1:3], int.from_bytes(asked.pdu[3:5], "big")
    if asked.echo:
        function, count = 3, 1  # what writes is never asked in another form
    bits = function in (1, 2)
    step, most = (8, 2000) if bits else (1, 125)
    taken = {asked.size, *(each.size for each in doubtful)}
    for away in range(1, most):
        for other in (count - away * step, count + away * step):
            size = (other + 7) // 8 if bits else other * 2
            if 1 <= other <= most and size not in taken:
                return Question(asked.unit, bytes([function]) + start + other.to_bytes(2, "big"), size)
    raise AssertionError("there are more lengths than doubts")
