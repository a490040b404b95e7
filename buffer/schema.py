"""Opening the database: whose it is, whether it is whole, and whether the numbers in it can be continued.

Four outcomes. Refused (`OutboxError`, the file untouched): locked by another program, newer tables, not an outbox, no
permission. Moved aside: a file that SQLite cannot read or that fails the check goes away under a time stamp together
with its WAL, and a new database begins. New epoch in the same database: another agent id, a small row (meta, stream,
state, the newest message of a stream) that is not as it was written, a database older than what was sent from it, or
one that was disowned; rows still to be sent are sent under their old epoch. Continued: everything else, the ordinary
start.
"""

import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database

from buffer import quarantine, tables
from buffer.mark import Mark
from buffer.outbox import OutboxError
from buffer.record import as_written, fields_crc
from buffer.wal import lost_commits, read_wal

LOCK_WAIT_S = 0.5
CHECK_WHOLE_BELOW = 32 << 20
"""Bytes. A larger file is checked in its small tables only; its messages are checked one by one when read."""
WAL_KEPT = 8 << 20
"""Bytes the WAL file keeps when it is used again from its start."""
CACHE_KIB = 8192
_HIGHEST_POSITION = 1 << 62

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM} | _LOCKED


class Opened(NamedTuple):
    """An open database and what its opening found."""

    db: Database
    epoch: str
    prev_epoch: str | None
    prev_last_seq: Mapping[str, int]
    quarantined: Path | None
    clean_stop: bool
    broken: str | None
    """Why this epoch began though there was one before, for the log."""
    rolled_back: bool
    """It began because the database was older than what was sent from it."""


class _Damage(Exception):
    """The file is not whole."""


def primary(error: sqlite3.Error) -> int:
    """The primary result code of an error, 0 if it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Also a table or column that is not there: every statement is ours, so its description was damaged."""
    return primary(error) in _DAMAGED or str(error).startswith("no such ")


def is_damage_at_opening(error: sqlite3.Error) -> bool:
    """The same; or a statement of ours does not fit the tables, because what describes them has changed."""
    return is_damage(error) or primary(error) == sqlite3.SQLITE_ERROR


def is_passing(error: sqlite3.Error) -> bool:
    """Whether the same transaction can succeed later: no room, an I/O error, a lock."""
    return primary(error) in _NO_ROOM


def lenient(raw: bytes) -> str:
    """Text that may be damaged; what is not UTF-8 then fails its checksum instead of the read."""
    return raw.decode(errors="replace")


def open_database(
    path: Path,
    *,
    agent_id: str,
    now: Callable[[], int],
    epoch: Callable[[str | None], str],
    mark: Mark | None = None,
) -> Opened:
    """Open or create the database at `path`. `epoch` makes a new epoch that sorts behind the one given; `mark` says
    how far messages of it have been sent.

    Raises `OutboxError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutboxError(f"Cannot create the folder {path.parent}: {error.strerror}.", code="S705") from error
    try:
        quarantined = quarantine.resume(path, now()) if quarantine.is_marked(path) else None
        try:
            opened = _open(path, agent_id, epoch, quarantined, mark)
        except _Damage:
            quarantined = quarantine.begin(path, now())
            opened = _open(path, agent_id, epoch, quarantined, mark)
        quarantine.end(path)
    except OSError as error:
        raise OutboxError(
            f"The buffer {path} is damaged and cannot be moved aside: {error.strerror}.", code="S705"
        ) from error
    except _Damage as error:
        raise OutboxError(f"A new database at {path} cannot be read back: {error}.", code="S705") from error
    return opened


def _open(
    path: Path, agent_id: str, epoch: Callable[[str | None], str], quarantined: Path | None, mark: Mark | None
) -> Opened:
    connection: sqlite3.Connection | None = None
    try:
        wal = read_wal(path.with_name(path.name + "-wal"))
        connection = _connect(path)
        cut = lost_commits(wal, _valid_frames(connection))
        db = Database(connection, execute_plugins=False)
        if _is_new(db, path):
            if cut:
                raise _Damage("the write-ahead log is damaged at its start")
            _create(db)
        else:
            _check(db, path)
        opened = _begin(db, agent_id, epoch, quarantined, cut, mark)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _translate(error, path) from error
        raise
    return opened


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    connection.text_factory = lenient
    try:
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            # Set on a new file only: it writes.
            *(("auto_vacuum = INCREMENTAL",) if _is_empty(path) else ()),
            "journal_mode = WAL",
            "synchronous = FULL",
            f"journal_size_limit = {WAL_KEPT}",
            f"cache_size = -{CACHE_KIB}",
            "temp_store = MEMORY",
            # The thread does it between transactions, so that no append waits for it.
            "wal_autocheckpoint = 0",
        ):
            connection.execute(f"PRAGMA {pragma}")
        # Takes the lock that EXCLUSIVE then keeps.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def _valid_frames(connection: sqlite3.Connection) -> int:
    """How many frames of the WAL SQLite has accepted; on a full disk, where it does not tell, as many as can be."""
    try:
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        if not is_passing(error):
            raise
        return sys.maxsize
    return max(int(frames), 0)


def _is_empty(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _is_new(db: Database, path: Path) -> bool:
    # A start that was cut short may have left the list of migrations alone.
    names = set(db.table_names()) - {tables.migrations.migrations_table}
    if not names:
        return True
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != tables.APPLICATION_ID and not names & tables.NAMES:
        raise OutboxError(
            f"{path} is the database of another program. Give buffer.path a file of its own.", code="S706"
        )
    return False


def _create(db: Database) -> None:
    tables.migrations.apply(db)


def _check(db: Database, path: Path) -> None:
    meta, _ = tables.read_meta(db.conn)
    schema = meta.get("schema", "")
    if schema.isdecimal() and int(schema) > tables.SCHEMA:
        raise OutboxError(
            f"{path} was written by a newer version (tables {schema}, this one knows {tables.SCHEMA}). "
            "Install that version again, or give buffer.path a new file; this one was not changed.",
            code="S704",
        )
    names = ["meta", "stream", "state"]
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    whole = pages * page_size <= CHECK_WHOLE_BELOW
    for pragma in ["PRAGMA quick_check(1)"] if whole else [f"PRAGMA quick_check('{name}')" for name in names]:
        (verdict,) = db.execute(pragma).fetchone()
        if verdict != "ok":
            raise _Damage(verdict)
    if tables.migrations.pending(db):
        tables.migrations.apply(db)


def _begin(
    db: Database,
    agent_id: str,
    epoch: Callable[[str | None], str],
    quarantined: Path | None,
    cut: bool,
    mark: Mark | None,
) -> Opened:
    meta, bad_meta = tables.read_meta(db.conn)
    last_epoch = meta.get("epoch")
    broken = None
    if last_epoch is None:
        if cut:
            raise _Damage("the write-ahead log is damaged near its start")
        if meta.get("agent_id") is not None or bad_meta:
            broken = "the epoch cannot be read"
    elif bad_meta:
        broken = f"meta {', '.join(sorted(bad_meta))} is not as it was written"
    elif meta.get("agent_id") != agent_id:
        broken = f"the agent id was {meta.get('agent_id')!r} and is now {agent_id!r}"
    elif cut:
        broken = "the write-ahead log is damaged: committed messages are gone"
    else:
        broken = _broken_rows(db.conn, last_epoch)
    if broken is None and "disowned" in meta:
        broken, rolled_back = meta["disowned"], True
    else:
        rolled_back = broken is None and quarantined is None and _rolled_back(db.conn, meta, mark)
        if rolled_back:
            broken = "it is older than what was sent from it: was a copy or an image restored?"
    if last_epoch is None or broken is not None:
        epochs = (last_epoch, mark and mark.epoch, meta.get("disowned_for"))
        known = max((each for each in epochs if each is not None), default=None)
        prev = {} if last_epoch is None else last_numbers(db.conn, last_epoch)
        notes = {"broken": broken, "rolled_back": "1" if rolled_back else None, "prev_epoch": known}
        if quarantined is not None:
            notes["quarantined"] = str(quarantined)
        last_epoch = _new_epoch(db.conn, agent_id, epoch(known), notes, prev)
        clean = meta.get("clean_stop", "1") == "1"
        meta, _ = tables.read_meta(db.conn)
    else:
        clean = meta.get("clean_stop") == "1"
    moved = meta.get("quarantined")
    return Opened(
        db=db,
        epoch=last_epoch,
        prev_epoch=meta.get("prev_epoch"),
        prev_last_seq=json.loads(meta.get("prev_last_seq", "{}")),
        quarantined=None if moved is None else Path(moved),
        clean_stop=clean,
        broken=meta.get("broken"),
        rolled_back="rolled_back" in meta,
    )


def _rolled_back(connection: sqlite3.Connection, meta: Mapping[str, str], mark: Mark | None) -> bool:
    """Whether more was sent than the database remembers. One that is gone remembers nothing."""
    if mark is None:
        return False
    epoch = meta.get("epoch", "")
    return mark.epoch > epoch or (mark.epoch == epoch and mark.position > tables.highest_position(connection, meta))


def _new_epoch(
    connection: sqlite3.Connection,
    agent_id: str,
    new: str,
    notes: Mapping[str, str | None],
    prev_last_seq: Mapping[str, int],
) -> str:
    """`notes`: rows of `meta` that hold until the next epoch."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta, _ = tables.read_meta(connection)
        connection.execute("DELETE FROM state")
        connection.execute("DELETE FROM meta")
        _trust_streams(connection)
        tables.put_meta(connection, "schema", str(tables.SCHEMA))
        if "position_floor" in meta:
            tables.put_meta(connection, "position_floor", meta["position_floor"])
        tables.put_meta(connection, "agent_id", agent_id)
        tables.put_meta(connection, "epoch", new)
        tables.put_meta(connection, "prev_last_seq", json.dumps(prev_last_seq))
        for key, value in notes.items():
            if value is not None:
                tables.put_meta(connection, key, value)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return new


def _trust_streams(connection: sqlite3.Connection) -> None:
    """Take the stream rows as they are: they belong to ended epochs now, and every message proves its own."""
    rows = connection.execute("SELECT id, stream, epoch, floor FROM stream").fetchall()
    connection.executemany("UPDATE stream SET crc = ? WHERE id = ?", [(fields_crc(*row), row[0]) for row in rows])


def _broken_rows(connection: sqlite3.Connection, epoch: str) -> str | None:
    """Why the numbers of an epoch cannot be continued, or None: every small row and every newest message counts."""
    for row_id, stream, of, floor, crc in connection.execute("SELECT id, stream, epoch, floor, crc FROM stream"):
        if fields_crc(row_id, stream, of, floor) != crc:
            return f"stream {stream} is not as it was written"
    for key, of, value, crc in connection.execute("SELECT key, epoch, value, crc FROM state"):
        if fields_crc(key, of, value) != crc or of != epoch:
            return f"the state {key} is not as it was written"
    newest = """SELECT m.position, s.stream, s.epoch, m.seq, m.lane, m.type, m.topic, m.recorded_at, m.crc, m.body
        FROM stream s JOIN message m ON m.stream_id = s.id
        AND m.seq = (SELECT max(seq) FROM message WHERE stream_id = s.id) WHERE s.epoch = ?"""
    for row in connection.execute(newest, (epoch,)):
        if as_written(row) is None:
            return f"the newest message of {row[1]} is not as it was written"
    (last,) = connection.execute("SELECT max(position) FROM message").fetchone()
    if last is not None and last >= _HIGHEST_POSITION:
        raise _Damage("a message has an impossible position")
    return None


def last_numbers(connection: sqlite3.Connection, epoch: str) -> dict[str, int]:
    """Highest number of each stream of an epoch, whether its message is still here or not."""
    query = """SELECT stream, max(floor, coalesce((SELECT max(seq) FROM message WHERE stream_id = id), 0))
        FROM stream WHERE epoch = ?"""
    return {str(stream): last for stream, last in connection.execute(query, (epoch,)) if last > 0}


def _translate(error: sqlite3.Error, path: Path) -> Exception:
    if is_damage_at_opening(error):
        return _Damage(str(error))
    code = primary(error)
    if code in _LOCKED:
        return OutboxError(
            f"Cannot open the buffer {path}: another program has it open. Is another edge-agent running? "
            "Stop it, or give this one its own buffer.path.",
            code="S701",
        )
    if code == sqlite3.SQLITE_FULL:
        return OutboxError(f"Cannot open the buffer {path}: the disk is full. Make room on it.", code="S702")
    return OutboxError(
        f"Cannot open the buffer {path}: {error}. Check that the folder and the file may be written.", code="S705"
    )
