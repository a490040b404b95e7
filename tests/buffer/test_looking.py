"""A look at the buffer of an agent that does not run changes nothing: what its next start must find out stays."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from buffer import reading
from buffer.outbox import Lane, Message, OutboxError
from buffer.reading import looking_into
from buffer.sqlite import SqliteOutbox


def outbox_at(path: Path) -> SqliteOutbox:
    return SqliteOutbox(path, agent_id="ipc01", now=lambda: 1_772_414_047_250_000)


async def killed(folder: Path, count: int) -> Path:
    """The buffer of an agent that was killed with so many messages in its log."""
    living, left = folder / "living", folder / "left"
    living.mkdir()
    outbox = outbox_at(living / "buffer.db")
    await outbox.open()
    for seq in range(1, count + 1):
        message = Message("press07.p", outbox.epoch, seq, Lane.PRODUCTION, "state.changed", "t", b"x" * 500)
        await outbox.append([message], states={})
    shutil.copytree(living, left)
    await outbox.close()
    return left / "buffer.db"


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


async def test_what_a_killed_agent_left_is_read_with_its_log_and_stays_as_it_is(tmp_path: Path) -> None:
    path = await killed(tmp_path, 5)
    before = files(path)
    assert "buffer.db-wal" in before
    with looking_into(path) as connection:
        assert reading.count(connection, Lane.PRODUCTION, 0).rows == 5
    assert files(path) == before


async def test_a_damaged_log_is_still_found_out_by_the_start_behind_a_look(tmp_path: Path) -> None:
    path = await killed(tmp_path, 30)
    log = path.with_name("buffer.db-wal")
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    with looking_into(path) as connection:
        assert 0 < reading.count(connection, Lane.PRODUCTION, 0).rows < 30
    outbox = outbox_at(path)
    await outbox.open()
    assert outbox.broken is not None
    assert "log is damaged" in outbox.broken
    await outbox.close()


async def test_a_buffer_in_use_is_not_looked_into(tmp_path: Path) -> None:
    outbox = outbox_at(tmp_path / "buffer.db")
    await outbox.open()
    with pytest.raises(OutboxError, match="Another program has") as failed, looking_into(tmp_path / "buffer.db"):
        pass
    assert failed.value.code == "S701"
    await outbox.close()


@pytest.mark.parametrize("may_write", [True, False])
async def test_a_folder_in_which_one_may_not_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_write: bool
) -> None:
    path = await killed(tmp_path, 1)
    path.with_name("buffer.db-wal").unlink()
    path.with_name("buffer.db-wal").mkdir()  # SQLite fails as where it may make no file there
    monkeypatch.setattr(os, "access", lambda *_: may_write)
    with pytest.raises(OutboxError, match="cannot be read: unable to open") as failed, looking_into(path):
        pass
    assert ("the right to write in" in str(failed.value)) is not may_write


async def test_nothing_can_be_written_where_it_is_looked(tmp_path: Path) -> None:
    path = await killed(tmp_path, 1)
    with looking_into(path) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM message")


async def test_what_is_looked_for_is_found_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SCAN", 4)
    path = await killed(tmp_path, 30)
    with looking_into(path) as connection:
        for kind, limit, found in (("state", 500, 30), ("state.changed", 3, 30), ("downtime", 500, 0)):
            seqs: list[int | None] = []
            after: int | None = 0
            pages = 0
            while after is not None:
                page = reading.page(connection, state="waiting", after=after, limit=limit, kind=kind)
                assert len(page.rows) <= 4
                seqs += [row.seq for row in page.rows]
                after, pages = page.next, pages + 1
            assert (seqs, pages > 7) == (list(range(1, found + 1)), True)
        (row,) = connection.execute("SELECT epoch FROM stream").fetchall()
        assert [one.seq for one in reading.one(connection, row[0], 17)] == [17]
