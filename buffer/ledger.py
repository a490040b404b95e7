"""What one transaction does to the tables. Plain and synchronous; what may be read from them is in `lookup`.

Invariants, true after every commit: a message row is in exactly one of `pending` and `sent`; a dead letter in
neither; the numbers of a stream are never given twice, since the highest one is `max(floor, newest row)` and a
removal that takes the newest row raises the floor in the same transaction. Every method either commits the whole
of what it was asked or leaves tables and memory as they were and raises what sqlite3 raised.
"""

import itertools
import sqlite3
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from buffer import tables, tally
from buffer.file import DatabaseFile
from buffer.lookup import Lookup
from buffer.outbox import Damaged, Depth, Lane, Message, SequenceError, Span
from buffer.record import fields_crc, message_crc
from buffer.schema import Opened
from buffer.sequence import Key, follow


class Refusal(NamedTuple):
    """A message to be set aside: its position and why."""

    position: int
    reason: str


class Writing(NamedTuple):
    """One append: its messages, its states, what is given up for it, and what is set aside."""

    messages: Sequence[Message]
    states: Mapping[str, bytes]
    evict: Sequence[Span] = ()
    refuse: Refusal | None = None

    @property
    def size(self) -> int:
        """Bytes of its bodies and states."""
        return sum(len(message.body) for message in self.messages) + sum(map(len, self.states.values()))


class Ledger:
    """Owns the tables of an open database; used by one thread only."""

    def __init__(self, opened: Opened, *, now: Callable[[], int]) -> None:
        self._connection = opened.db.conn
        self.epoch = self._epoch = opened.epoch
        self._now = now
        self._last: dict[Key, int] = {}
        self._streams: dict[Key, int] = {}
        self._acked: dict[int, tuple[int, int]] = {}
        self.lookup = Lookup(self._connection, opened.epoch, self._acked, self._streams)
        self._position = 0
        self._rank = 0
        self._dead = 0
        self._many = self._connection.executemany
        self._stopped_clean = False
        self._stored = 0
        self.file = DatabaseFile(self._connection)
        self.written = 0
        """Bytes of bodies and states written since the last checkpoint."""
        self._load()

    def _load(self) -> None:
        query = """SELECT id, stream, epoch,
            max(floor, coalesce((SELECT max(seq) FROM message WHERE stream_id = stream.id), 0)) FROM stream"""
        for row_id, stream, epoch, last in self._connection.execute(query):
            self._streams[(stream, epoch)] = row_id
            self._last[(stream, epoch)] = last
        meta, _ = tables.read_meta(self._connection)
        self._stopped_clean = "clean_stop" in meta
        self._position = tables.highest_position(self._connection, meta)
        self._tally = tally.Tally(self._connection, self._position)
        self._rank = self._one("SELECT max(rank) FROM sent") or 0
        self._dead = self._one("SELECT count(*) FROM dead") or 0
        while self.count() and self._tally.rows < tally.COUNT_AT_ONCE:
            pass

    def _one(self, query: str, *arguments: int) -> int | None:
        row = self._connection.execute(query, arguments).fetchone()
        value = row[0] if row else None
        return value if isinstance(value, int) else None

    @property
    def fresh(self) -> bool:
        return not any(epoch == self._epoch and last for (_, epoch), last in self._last.items())

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return any(self.lookup.oldest_at(lane) is not None for lane in Lane)

    def last_numbers(self) -> Mapping[str, int]:
        """See `Outbox.last_numbers`."""
        return {stream: last for (stream, epoch), last in self._last.items() if epoch == self._epoch}

    @property
    def position(self) -> int:
        """The highest there is."""
        return self._position

    @property
    def acked(self) -> int:
        """Confirmations that are not yet committed."""
        return len(self._acked)

    def store(self, writings: Sequence[Writing]) -> list[SequenceError | None]:
        """One transaction: the writings and every confirmation so far.

        Returns what the sequence guard says to each writing; those it refuses are left out. Raises what sqlite3
        raises; then nothing has changed.
        """
        last = ChainMap[Key, int]({}, self._last)
        verdicts = [_verdict(last, writing.messages) for writing in writings]
        if all(verdicts) and not self._acked:
            return verdicts
        at = self._now()
        new: dict[Key, int] = {}
        position = self._position
        messages: list[tuple[object, ...]] = []
        pending: list[tuple[int, int, int]] = []
        states: dict[str, bytes] = {}
        size = 0
        with self._transaction():
            evicted = [
                row
                for writing, verdict in zip(writings, verdicts, strict=True)
                if verdict is None
                for span in writing.evict
                for row in self._evict(span)
            ]
            for writing, verdict in zip(writings, verdicts, strict=True):
                if verdict is not None:
                    continue
                for message in writing.messages:
                    stream, epoch, seq, lane, kind, topic, body = message
                    key = (stream, epoch)
                    row = self._streams.get(key) or new.get(key)
                    if row is None:
                        row = new[key] = self._new_stream(key)
                    position += 1
                    crc = message_crc(position, message, at)
                    messages.append((position, row, seq, int(lane), kind, topic, at, crc, body))
                    pending.append((int(lane), position, len(body)))
                    size += len(body)
                states.update(writing.states)
            if messages:
                self._many("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", messages)
                self._many("INSERT INTO pending VALUES (?, ?, ?)", pending)
            self._store_states(states)
            self._store_acked(at)
            refusals = [each.refuse for each, verdict in zip(writings, verdicts, strict=True) if verdict is None]
            buried = [found for one in refusals if one is not None and (found := self._bury(one, at)) is not None]
            if self._stopped_clean:
                self._connection.execute("DELETE FROM meta WHERE key = 'clean_stop'")
        self._streams.update(new)
        self._last.update(last.maps[0])
        self._position = position
        self._tally.add(len(messages), size)
        self._stored += len(messages)
        self._acked_stored()
        for found in evicted:
            self._tally.remove(*found)
        for found in buried:
            self._dead += 1
            self._tally.remove(*found)
        self._stopped_clean = False
        self.written += size + sum(map(len, states.values())) + 64 * (len(messages) + len(buried) + len(evicted))
        return verdicts

    def _new_stream(self, key: Key) -> int:
        row_id = (self._one("SELECT max(id) FROM stream") or 0) + 1
        self._connection.execute(
            "INSERT INTO stream VALUES (?, ?, ?, 0, ?)", (row_id, *key, fields_crc(row_id, *key, 0))
        )
        return row_id

    def _store_states(self, states: Mapping[str, bytes]) -> None:
        epoch = self._epoch
        rows = [(key, epoch, value, fields_crc(key, epoch, value)) for key, value in states.items()]
        if rows:
            self._many(
                """INSERT INTO state VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
                SET epoch = excluded.epoch, value = excluded.value, crc = excluded.crc""",
                rows,
            )

    def _store_acked(self, at: int) -> None:
        if not self._acked:
            return
        keys = [(lane, position) for position, (lane, _) in self._acked.items()]
        self._many("DELETE FROM pending WHERE lane = ? AND position = ?", keys)
        rows = [(self._rank + index, position, at) for index, position in enumerate(self._acked, 1)]
        self._many("INSERT INTO sent VALUES (?, ?, ?)", rows)

    def _acked_stored(self) -> None:
        self._rank += len(self._acked)
        self.written += 32 * len(self._acked)
        self._acked.clear()

    def drop_acked(self, rows: int) -> None:
        """Remove up to so many confirmed messages at once instead of keeping them, which needs no room."""
        some = dict(itertools.islice(self._acked.items(), rows))
        with self._transaction():
            keys = [(lane, position) for position, (lane, _) in some.items()]
            self._many("DELETE FROM pending WHERE lane = ? AND position = ?", keys)
            self._remove(some)
        for position in some:
            del self._acked[position]
        self.written += 64 * len(some)

    def _bury(self, refusal: Refusal, at: int) -> tuple[int, int, int] | None:
        """Move a message to the dead letters; returns (position, lane, bytes), None if it is not waiting."""
        position, reason = refusal
        found = None if position in self._acked else self._find(position)
        if found is None:
            return None
        self._connection.execute(
            """INSERT INTO dead SELECT m.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.body,
            m.recorded_at, ?, ? FROM message m JOIN stream s ON s.id = m.stream_id WHERE m.position = ?""",
            (at, reason, position),
        )
        self._connection.execute("DELETE FROM pending WHERE lane = ? AND position = ?", (found[0], position))
        self._remove([position])
        return position, *found

    def _evict(self, span: Span) -> Sequence[tuple[int, int, int]]:
        """Remove what still waits of a span; (position, lane, bytes) of each."""
        query = """SELECT p.position, p.lane, p.bytes FROM message m
            JOIN pending p ON p.lane = m.lane AND p.position = m.position
            WHERE m.stream_id = ? AND m.seq BETWEEN ? AND ?"""
        row_id = self._streams.get((span.stream, span.epoch))
        found = self._connection.execute(query, (row_id, span.first, span.last)).fetchall()
        gone = [row for row in found if row[0] not in self._acked]
        self._many(
            "DELETE FROM pending WHERE lane = ? AND position = ?", [(lane, position) for position, lane, _ in gone]
        )
        self._remove(position for position, _, _ in gone)
        return gone

    def _remove(self, positions: Iterable[int]) -> None:
        """Delete messages; where the newest of a stream or of all goes, its number is kept."""
        newest = 0
        for position in positions:
            row = self._connection.execute(
                """DELETE FROM message WHERE position = ? RETURNING stream_id, seq,
                (SELECT stream FROM stream WHERE id = stream_id), (SELECT epoch FROM stream WHERE id = stream_id)""",
                (position,),
            ).fetchall()
            newest = max(newest, position)
            for row_id, seq, stream, epoch in row:
                if seq >= self._last.get((stream, epoch), 0):
                    self._connection.execute(
                        "UPDATE stream SET floor = ?, crc = ? WHERE id = ?",
                        (seq, fields_crc(row_id, stream, epoch, seq), row_id),
                    )
        if newest >= self._position:
            tables.put_meta(self._connection, "position_floor", str(newest))

    def acknowledge(self, positions: Sequence[int]) -> None:
        """Note confirmations; they are committed with the next transaction. Unknown and repeated ones are nothing."""
        for position in positions:
            found = None if position in self._acked else self._find(position)
            if found is not None:
                self._acked[position] = found
                self._tally.remove(position, *found)

    def _find(self, position: int) -> tuple[int, int] | None:
        """(lane, bytes) of an unconfirmed message."""
        query = "SELECT lane, bytes FROM pending WHERE lane IN (0, 1, 2) AND position = ?"
        row = self._connection.execute(query, (position,)).fetchone()
        return None if row is None else (row[0], row[1])

    def set_aside(self, damaged: Sequence[Damaged]) -> None:
        """Move unreadable messages to the dead letters, with what is left of them; their rows stay where they are,
        since taking them out would follow pointers that cannot be trusted."""
        at = self._now()
        found = [(one, self._find(one.position)) for one in damaged]
        with self._transaction():
            for one, where in found:
                if where is None:
                    continue
                self._connection.execute(
                    """REPLACE INTO dead (position, stream, epoch, seq, lane, died_at, reason)
                    VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    (one.position, one.stream, one.epoch, one.seq, where[0], at, one.reason),
                )
                self._connection.execute(
                    "DELETE FROM pending WHERE lane = ? AND position = ?", (where[0], one.position)
                )
        for one, where in found:
            if where is not None:
                self._dead += 1
                self._tally.remove(one.position, *where)

    def prune(self, before: int | None, rows: int) -> int:
        """Remove up to `rows` confirmed messages, longest confirmed first: those confirmed before the UTC time
        given, or any. Returns how many."""
        query = "SELECT rank, position, at FROM sent ORDER BY rank LIMIT ?"
        old = []
        for rank, position, at in self._connection.execute(query, (rows,)).fetchall():
            if before is not None and at >= before:
                break
            old.append((rank, position))
        if not old:
            return 0
        with self._transaction():
            self._remove(position for _, position in old)
            self._connection.execute("DELETE FROM sent WHERE rank <= ?", (old[-1][0],))
        self.written += 64 * len(old)
        return len(old)

    def forget_dead(self) -> int:
        """Remove the dead letters; how many they were."""
        with self._transaction():
            removed = self._connection.execute("DELETE FROM dead").rowcount
        self._dead = 0
        return removed

    def disown(self, why: str, epoch: str) -> None:
        """See `Outbox.disown`."""
        with self._transaction():
            tables.put_meta(self._connection, "disowned", why)
            tables.put_meta(self._connection, "disowned_for", epoch)

    @property
    def connection(self) -> sqlite3.Connection:
        """For questions that only read."""
        return self._connection

    def finish(self) -> None:
        """Commit the confirmations and the mark of a clean stop."""
        self.store(())
        with self._transaction():
            tables.put_meta(self._connection, "clean_stop", "1")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors; a second one then fails and changes nothing.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def depth(self, limit: int) -> Depth:
        oldest = [at for lane in Lane if (at := self.lookup.oldest_at(lane)) is not None]
        waiting = self._tally
        fill = self.file.used() / limit
        return Depth(waiting.rows, waiting.bytes, min(oldest, default=None), self._dead, fill, self._stored)

    def count(self) -> bool:
        """Count one slice of what was waiting at the opening; True while more is left."""
        return self._tally.count(self._acked)

    def checkpoint(self) -> None:
        """Move the WAL into the database, so that the WAL is used again from its start."""
        self.file.checkpoint()
        self.written = 0

    def close(self) -> None:
        self._connection.close()


def _verdict(last: ChainMap[Key, int], messages: Sequence[Message]) -> SequenceError | None:
    try:
        follow(last, messages)
    except SequenceError as error:
        return error
    return None
