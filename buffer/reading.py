"""Looking into an outbox: what it holds, page by page, and whether it is as it was written. Nothing is changed.

All take the connection of the outbox, in its thread while an agent runs, or one of their own while none does. No
cursor stays open between two calls, so the log can be checkpointed meanwhile.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from buffer.outbox import Lane, OutboxError
from buffer.record import as_written
from buffer.tables import read_meta

PAGE: Final = 500
"""Rows at once."""
SCAN: Final = 5_000
"""Rows that are looked at for a page, and COUNTED for a count: some milliseconds, as an agent that runs commits
nothing meanwhile."""
COUNTED: Final = 20_000
WAITING, SENT, DEAD = "waiting", "sent", "dead"
STATES: Final = (WAITING, SENT, DEAD)


class Stats(NamedTuple):
    """Rows and bytes by lane, in the order production, health, measurement; times are UTC µs."""

    epoch: str | None
    waiting: tuple[int, ...]
    waiting_bytes: tuple[int, ...]
    sent: int
    dead: int
    oldest_at: int | None
    pages: int
    page_bytes: int


class Row(NamedTuple):
    """A message as it lies there. `body` is None where it was not asked for or is gone; `reason` of a dead letter."""

    position: int
    stream: str | None
    epoch: str | None
    seq: int | None
    lane: int | None
    type: str | None
    topic: str | None
    recorded_at: int | None
    state: str
    size: int
    reason: str | None
    body: bytes | None


class Page(NamedTuple):
    """`next`: the position behind which to go on, None if there is nothing more."""

    rows: list[Row]
    next: int | None


_LIVE: Final = """SELECT m.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.recorded_at,
    CASE WHEN p.position IS NULL THEN 'sent' ELSE 'waiting' END AS state, length(m.body), NULL, {body}
    FROM message m JOIN stream s ON s.id = m.stream_id
    LEFT JOIN pending p ON p.lane = m.lane AND p.position = m.position
    WHERE m.position > ? {more} ORDER BY m.position LIMIT ?"""
_END: Final = "SELECT max(position) FROM (SELECT position FROM message WHERE position > ? ORDER BY position LIMIT ?)"
_NUMBER: Final = "AND m.stream_id IN (SELECT id FROM stream WHERE epoch = ?) AND m.seq = ?"
_DEAD: Final = """SELECT position, stream, epoch, seq, lane, type, topic, recorded_at, 'dead',
    ifnull(length(body), 0), reason, {body} FROM dead WHERE position > ? {more} ORDER BY position LIMIT ?"""
_WHOLE: Final = """SELECT m.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.recorded_at, m.crc, m.body
    FROM message m LEFT JOIN stream s ON s.id = m.stream_id WHERE m.position > ? ORDER BY m.position LIMIT ?"""


@contextmanager
def looking_into(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the outbox of an agent that does not run. Raises `OutboxError`.

    Read-only, and not with `query_only`: closing would then move the log into the file and remove it, and with it
    what tells the next start that committed messages are gone from it.
    """
    if not path.exists():
        raise OutboxError(f"There is no buffer {path}; an agent makes it when it starts.", code="S705")
    shared = path.with_name(path.name + "-shm")
    was_there = shared.exists()
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.5, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM meta").fetchone()
        yield connection
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutboxError(f"Another program has the buffer {path} open.", code="S701") from error
        rights = "" if os.access(path.parent, os.W_OK) else f" That needs the right to write in {path.parent}."
        raise OutboxError(f"The buffer {path} cannot be read: {error}.{rights}", code="S705") from error
    except sqlite3.DatabaseError as error:
        raise OutboxError(f"The buffer {path} is damaged: {error}.", code="S707") from error
    finally:
        connection.close()
        if not was_there:
            with suppress(OSError):
                shared.unlink()


class Counted(NamedTuple):
    """Waiting messages of a lane, up to the position `last`; None behind the last of all."""

    rows: int
    bytes: int
    last: int | None


def count(connection: sqlite3.Connection, lane: Lane, after: int) -> Counted:
    """Some of those that wait behind a position."""
    found = connection.execute(
        """SELECT count(*), coalesce(sum(bytes), 0), max(position) FROM
        (SELECT position, bytes FROM pending WHERE lane = ? AND position > ? ORDER BY position LIMIT ?)""",
        (int(lane), after, COUNTED),
    ).fetchone()
    return Counted(*found)


def stats(connection: sqlite3.Connection, waiting: Mapping[Lane, tuple[int, int]]) -> Stats:
    """`waiting`: rows and bytes of each lane, see `count`."""
    oldest = connection.execute(
        """SELECT min(m.recorded_at) FROM (SELECT min(position) AS position FROM pending GROUP BY lane) p
        JOIN message m ON m.position = p.position"""
    ).fetchone()[0]
    return Stats(
        read_meta(connection)[0].get("epoch"),
        tuple(waiting[lane][0] for lane in Lane),
        tuple(waiting[lane][1] for lane in Lane),
        connection.execute("SELECT count(*) FROM sent").fetchone()[0],
        connection.execute("SELECT count(*) FROM dead").fetchone()[0],
        oldest,
        connection.execute("PRAGMA page_count").fetchone()[0],
        connection.execute("PRAGMA page_size").fetchone()[0],
    )


def page(
    connection: sqlite3.Connection,
    *,
    state: str,
    after: int = 0,
    limit: int = PAGE,
    stream: str | None = None,
    kind: str | None = None,
    bodies: bool = False,
) -> Page:
    """Some messages in one state with a position behind `after`, in the order in which they were stored; `kind`:
    their type, or the family of it."""
    limit = min(limit, PAGE)
    dead = state == DEAD
    more, values = [], list[str | int]()
    end: int | None = None
    if not dead:
        (end,) = connection.execute(_END, (after, SCAN)).fetchone()
        more.append("AND m.position <= ?")
        values.append(after if end is None else end)
        more.append("AND p.position IS " + ("NULL" if state == SENT else "NOT NULL"))
    if stream is not None:
        more.append("AND stream = ?")
        values.append(stream)
    if kind is not None:
        more.append("AND (type = ? OR type LIKE ? || '.%')")
        values += [kind, kind]
    query = (_DEAD if dead else _LIVE).format(
        body=("body" if dead else "m.body") if bodies else "NULL", more=" ".join(more)
    )
    rows = [Row(*row) for row in connection.execute(query, (after, *values, limit)).fetchall()]
    return Page(rows, rows[-1].position if len(rows) == limit else end)


def one(connection: sqlite3.Connection, epoch: str, seq: int) -> list[Row]:
    """The messages with an event's id, one for each stream that has it."""
    found = []
    for query in (_LIVE, _DEAD):
        asked = query.format(
            body="m.body" if query is _LIVE else "body",
            more=_NUMBER if query is _LIVE else "AND epoch = ? AND seq = ?",
        ).replace("m.position > ?", "+m.position > ?")
        found += [Row(*row) for row in connection.execute(asked, (0, epoch, seq, PAGE)).fetchall()]
    return found


class Checked(NamedTuple):
    """`rows` looked at, up to `position`; `bad`: positions of those that are not as they were written."""

    rows: int
    position: int
    bad: tuple[int, ...]


def check(connection: sqlite3.Connection, after: int, limit: int = PAGE) -> Checked:
    """Hold a page of messages against their checksums; no rows when all have been looked at."""
    rows = connection.execute(_WHOLE, (after, min(limit, PAGE))).fetchall()
    bad = tuple(row[0] for row in rows if as_written(row) is None)
    return Checked(len(rows), rows[-1][0] if rows else after, bad)


def whole(connection: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong with the file, empty if nothing."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)").fetchall()]
    return [] if found == ["ok"] else found
