"""What a server itself recorded of the tags while nobody looked (HistoryRead, Part 11), piece by piece.

A piece is complete for its tags up to its end: where one tag has more to give than fits, all are cut at the time it
reaches. The machine says from when on the next piece is wanted, so nothing is remembered here that a killed agent
would lose. Nothing is told of a time in which the server itself did not run the whole time.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Batch, Micros, Reading, Recalled
from drivers.opcua import binary
from drivers.opcua.reads import decoded
from drivers.opcua.session import Session
from drivers.opcua.values import micros
from drivers.opcua.wanted import Wanted

MARGIN = 10_000_000
"""Before the last sign of life by the agent's clock: what was sampled and not delivered then, and a clock that is off
by what is accepted."""
_PIECE = 5000
"""Values that a piece is meant to have at most, over all tags: what is stepped and committed at once."""
_MOST, _LEAST = 2000, 50
"""Values of one tag in a piece."""
_PER_CALL = 100
_CURRENT_TIME, _START_TIME = 2258, 2257
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GOOD_MORE_DATA = 0x00A60000


class History:
    """Reads over one session. `offered` is False once the server said that it has none."""

    def __init__(
        self, name: str, session: Session, wanted: Wanted, *, per_call: int, most: int | None = None
    ) -> None:
        """`most`: values of one tag in a piece, worked out from the number of tags if it is not given."""
        self._name = name
        self._session = session
        self._wanted = wanted
        self._per_call = min(per_call, _PER_CALL)
        self._most = most or max(_LEAST, min(_MOST, _PIECE // max(1, len(wanted.nodes))))
        self._cut: Micros | None = None
        self.offered = True

    async def recall(self, since: Micros) -> Batch | None:
        """The piece that begins at `since` (UTC µs), None if the server has nothing to tell. Raises what asyncua
        raises when the connection is lost."""
        now, started = await self._session.read((_CURRENT_TIME, _START_TIME))
        if not self.offered or not isinstance(now, datetime) or not isinstance(started, datetime):
            return None
        last = _micros(now)
        if not _micros(started) < since < last:
            return None
        found: dict[str, list[binary.Item]] = {}
        end = since
        try:
            for begin in (since - MARGIN, since) if since != self._cut else (since,):
                end = await self._read_all(begin, last, found)
                if end > since:
                    break  # or more values than fit in one piece lie before what is wanted
        except UaStatusCodeError:
            found = {}
        self.offered = bool(found)
        if end <= since:
            return None
        self._cut = end
        more = end < last
        readings = [reading for tag in found for reading in self._readings(tag, found[tag], end)]
        readings.sort(key=_source_time)
        return Batch(self._name, readings, recalled=Recalled(end, frozenset(found), more))

    async def _read_all(self, begin: Micros, end: Micros, found: dict[str, list[binary.Item]]) -> Micros:
        located = self._wanted.locate(self._wanted.nodes)
        found.clear()
        done = 0
        while done < len(located):
            part = located[done : done + self._per_call]
            try:
                end = await self._read(part, begin, end, found)
            except UaStatusCodeError as error:
                if error.code != StatusCodes.BadTooManyOperations or len(part) == 1:
                    raise
                self._per_call = len(part) // 2  # it did not tell its limit
                continue
            done += len(part)
        return end if found else begin

    async def _read(
        self, part: Sequence[tuple[str, ua.NodeId]], begin: Micros, end: Micros, found: dict[str, list[binary.Item]]
    ) -> Micros:
        """Add what the server has of these tags to `found`. Returns up to when all so far are complete."""
        body = await self._session.history([node for _, node in part], _time(begin), _time(end), self._most)
        result, answers = await decoded(binary.history_response, body)
        ua.StatusCode(ua.UInt32(result)).check()
        if len(answers) != len(part):
            raise binary.Malformed(f"{len(answers)} histories for {len(part)} nodes")
        points: list[tuple[ua.NodeId, bytes]] = []
        for (tag, node), (status, point, items) in zip(part, answers, strict=True):
            if point:
                points.append((node, point))
            if status >> 30 > 1:
                continue
            last = micros(items[-1][4]) if items else None
            if point or status & 0xFFFF0000 == _GOOD_MORE_DATA:
                if last is None:
                    continue
                end = min(end, last - 1)  # others may have the very time of the last one
            found[tag] = items
        if points:
            await self._session.release(points)
        return end

    def _readings(self, tag: str, items: Iterable[binary.Item], end: Micros) -> Iterable[Reading]:
        values = self._wanted.values[tag].anew()  # what comes afterwards is news, however near it is
        for item in items:
            at = micros(item[4])
            if at is not None and at <= end:
                reading = values.read(item)
                if reading is not None:
                    yield reading


def _source_time(reading: Reading) -> Micros:
    return reading.source_time or 0


def _micros(moment: datetime) -> Micros:
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _time(at: Micros) -> datetime:
    return _EPOCH + timedelta(microseconds=at)
