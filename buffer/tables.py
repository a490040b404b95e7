"""The tables of the outbox and how older databases are brought up to them.

`meta` keeps its shape for ever, so that any version can tell a newer database. A message is written once and
never changed: what is still to be sent stands in `pending`, what was confirmed and when in `sent`. So opening,
sending and confirming never read the rest of the messages, however many there are.
"""

import sqlite3
from collections.abc import Mapping

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from buffer.outbox import Lane
from buffer.record import fields_crc

SCHEMA = 1
"""Version of the tables made here."""
APPLICATION_ID = 0x45414F42
"""`EAOB` in the header of the file."""
NAMES = frozenset({"meta", "stream", "state", "pending", "sent", "dead", "message"})

migrations = Migrations("outbox")


@migrations(name="0001_outbox")
def first(db: Database) -> None:
    """The small tables come first, so that they lie together at the start of the file."""
    for statement in (
        "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
        # floor: highest number of the stream that is no longer in `message`
        """CREATE TABLE stream (id INTEGER PRIMARY KEY, stream TEXT NOT NULL, epoch TEXT NOT NULL,
           floor INTEGER NOT NULL, crc INTEGER NOT NULL, UNIQUE (stream, epoch))""",
        """CREATE TABLE state (key TEXT PRIMARY KEY NOT NULL, epoch TEXT NOT NULL, value BLOB NOT NULL,
           crc INTEGER NOT NULL)""",
        """CREATE TABLE pending (lane INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL,
           PRIMARY KEY (lane, position)) WITHOUT ROWID""",
        # rank: order of confirmation, which is the order of removal; at: UTC microseconds
        """CREATE TABLE sent (rank INTEGER PRIMARY KEY, position INTEGER NOT NULL, at INTEGER NOT NULL)""",
        """CREATE TABLE dead (position INTEGER PRIMARY KEY, stream TEXT, epoch TEXT, seq INTEGER, lane INTEGER,
           type TEXT, topic TEXT, body BLOB, recorded_at INTEGER, died_at INTEGER NOT NULL, reason TEXT NOT NULL)""",
        """CREATE TABLE message (position INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL REFERENCES stream (id),
           seq INTEGER NOT NULL, lane INTEGER NOT NULL, type TEXT NOT NULL, topic TEXT NOT NULL,
           recorded_at INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX message_number ON message (stream_id, seq)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ):
        db.execute(statement)
    put_meta(db.conn, "schema", "1")


def highest_position(connection: sqlite3.Connection, meta: Mapping[str, str]) -> int:
    """The highest position ever given in this database, whether its message is still here or not."""
    queries = ["SELECT max(position) FROM message", "SELECT max(position) FROM dead"]
    queries += [f"SELECT max(position) FROM pending WHERE lane = {lane:d}" for lane in Lane]
    found = [connection.execute(query).fetchone()[0] for query in queries]
    return max([int(meta.get("position_floor", "0")), *(each for each in found if isinstance(each, int))])


def put_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("REPLACE INTO meta VALUES (?, ?, ?)", (key, value, fields_crc(key, value)))


def read_meta(connection: sqlite3.Connection) -> tuple[dict[str, str], list[str]]:
    """The values that are as they were written, and the keys of those that are not."""
    good: dict[str, str] = {}
    bad: list[str] = []
    for key, value, crc in connection.execute("SELECT key, value, crc FROM meta"):
        if fields_crc(key, value) == crc:
            good[key] = value
        else:
            bad.append(str(key))
    return good, bad
