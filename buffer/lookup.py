"""What may be read from the tables of an open database: what waits, what would go first, what is kept.

A message whose confirmation is not yet committed does not wait any more; a row that is not as it was written is never
given out.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from buffer.outbox import EVICT_ROWS, Damaged, Kept, Lane, Oldest, Span, Stored
from buffer.record import as_written, fields_crc
from buffer.sequence import Key, Old, spans

READ_BYTES = 4 << 20
"""Bodies read at once, however many rows were asked for."""
_READ = """SELECT p.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.recorded_at, m.crc, m.body
    FROM pending p LEFT JOIN message m ON m.position = p.position LEFT JOIN stream s ON s.id = m.stream_id
    WHERE p.lane = ? AND p.position > ? ORDER BY p.position LIMIT ?"""
_FIND = """SELECT m.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.recorded_at, m.crc, m.body,
    p.position FROM message m JOIN stream s ON s.id = m.stream_id
    LEFT JOIN pending p ON p.lane = m.lane AND p.position = m.position
    WHERE m.stream_id = ? AND m.seq BETWEEN ? AND ? ORDER BY m.seq LIMIT ?"""
_READ_ONE = _READ.replace("p.position > ?", "p.position = ?")


class Page(NamedTuple):
    rows: Sequence[Stored]
    damaged: Sequence[Damaged]


class Lookup:
    """Used by the thread that owns the database. `acked` (position → lane, bytes) are the confirmations that are not
    committed, `streams` the rows of the streams: both are the ledger's and move with it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        epoch: str,
        acked: Mapping[int, tuple[int, int]],
        streams: Mapping[Key, int],
    ) -> None:
        self._connection = connection
        self._epoch = epoch
        self._acked = acked
        self._streams = streams

    def read(self, lane: Lane, after: int, limit: int) -> Page:
        """Unconfirmed messages of a lane behind `after`, oldest first, and the damaged ones met on the way."""
        ahead = sum(1 for position, (of, _) in self._acked.items() if of == lane and position > after)
        try:
            return self._page(self._connection.execute(_READ, (int(lane), after, limit + ahead)), limit)
        except sqlite3.Error:
            # Somewhere in the page is a row that cannot be read at all: find it by reading them one by one.
            return self._page(self._one_by_one(lane, after, limit + ahead), limit)

    def _one_by_one(self, lane: Lane, after: int, limit: int) -> Iterator[tuple[object, ...]]:
        query = "SELECT position FROM pending WHERE lane = ? AND position > ? ORDER BY position LIMIT ?"
        for (position,) in self._connection.execute(query, (int(lane), after, limit)).fetchall():
            try:
                yield self._connection.execute(_READ_ONE, (int(lane), position, 1)).fetchone()
            except sqlite3.DatabaseError:
                yield (position, *[None] * 9)

    def _page(self, rows: Iterable[tuple[object, ...]], limit: int) -> Page:
        good: list[Stored] = []
        damaged: list[Damaged] = []
        size = 0
        for row in rows:
            position = row[0]
            assert isinstance(position, int)
            if position in self._acked:
                continue
            if len(good) >= limit or size >= READ_BYTES:
                break
            stored = as_written(row)
            if stored is None:
                damaged.append(_damaged(position, row))
            else:
                good.append(stored)
                size += len(stored.message.body)
        return Page(good, damaged)

    def oldest(
        self,
        lane: Lane,
        size: int,
        before: int | None,
        spare: frozenset[str],
        only: frozenset[str],
        with_bodies: frozenset[str],
    ) -> Sequence[Oldest]:
        """See `Outbox.oldest`."""
        types = f"NOT IN ({_marks(spare)})" + (f" AND m.type IN ({_marks(only)})" if only else "")
        query = f"""SELECT p.position, p.bytes, m.recorded_at, s.stream, s.epoch, m.seq, m.type
            FROM pending p JOIN message m ON m.position = p.position JOIN stream s ON s.id = m.stream_id
            WHERE p.lane = ? AND m.type {types} ORDER BY p.position LIMIT ?"""
        found: list[Old] = []
        rows = self._connection.execute(query, (int(lane), *spare, *only, EVICT_ROWS + len(self._acked))).fetchall()
        for position, length, recorded_at, stream, epoch, seq, kind in rows:
            if size <= 0 or len(found) == EVICT_ROWS or (before is not None and recorded_at >= before):
                break
            if position not in self._acked:
                body = self._body(lane, position) if kind in with_bodies else None
                found.append(Old(stream, epoch, seq, kind, length, body))
                size -= length
        return spans(found)

    def covered(self, span: Span, among: int) -> Sequence[int]:
        """See `Outbox.covered`."""
        query = """SELECT m.position FROM (SELECT position FROM pending WHERE lane = ? ORDER BY position LIMIT ?) p
            JOIN message m ON m.position = p.position WHERE m.stream_id = ? AND m.seq BETWEEN ? AND ?"""
        row_id = self._streams.get((span.stream, span.epoch))
        found = (self._connection.execute(query, (int(lane), among, row_id, span.first, span.last)) for lane in Lane)
        return [position for rows in found for (position,) in rows.fetchall() if position not in self._acked]

    def find(self, span: Span, limit: int) -> Sequence[Kept]:
        """See `Outbox.find`."""
        row_id = self._streams.get((span.stream, span.epoch))
        rows = self._connection.execute(_FIND, (row_id, span.first, span.last, limit)).fetchall()
        found = [(as_written(row[:-1]), row[-1]) for row in rows]
        return [
            Kept(stored.position, stored.message, waiting is not None and stored.position not in self._acked)
            for stored, waiting in found
            if stored is not None
        ]

    def _body(self, lane: Lane, position: int) -> bytes | None:
        """The body of a waiting message if it is as it was written."""
        stored = as_written(self._connection.execute(_READ_ONE, (int(lane), position, 1)).fetchone())
        return None if stored is None else stored.message.body

    @property
    def keeps(self) -> bool:
        """Whether confirmed messages are kept."""
        return self._connection.execute("SELECT rank FROM sent LIMIT 1").fetchone() is not None

    def state(self, key: str) -> bytes | None:
        query = "SELECT value, crc FROM state WHERE key = ? AND epoch = ?"
        row = self._connection.execute(query, (key, self._epoch)).fetchone()
        if row is None or fields_crc(key, self._epoch, row[0]) != row[1]:
            return None
        value: bytes = row[0]
        return value

    def states(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        return {key: value for key in keys if (value := self.state(key)) is not None}

    def oldest_at(self, lane: Lane) -> int | None:
        """When the oldest waiting message of a lane was recorded, UTC µs; None if none waits."""
        query = "SELECT position FROM pending WHERE lane = ? ORDER BY position LIMIT ?"
        for (position,) in self._connection.execute(query, (int(lane), len(self._acked) + 1)).fetchall():
            if position not in self._acked:
                row = self._connection.execute(
                    "SELECT recorded_at FROM message WHERE position = ?", (position,)
                ).fetchone()
                return row[0] if row and isinstance(row[0], int) else None
        return None


def _marks(values: frozenset[str]) -> str:
    return ", ".join("?" * len(values))


def _damaged(position: int, row: tuple[object, ...]) -> Damaged:
    _, stream, epoch, seq, *_ = row
    return Damaged(
        position,
        stream if isinstance(stream, str) else None,
        epoch if isinstance(epoch, str) else None,
        seq if isinstance(seq, int) else None,
        "the row is gone or cannot be read" if seq is None else "the row is not as it was written",
    )
