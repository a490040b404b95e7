"""What the outbox does with the file it finds: refuse it, move it aside, begin a new epoch in it, or go on."""

import asyncio
import itertools
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buffer import quarantine
from buffer.outbox import Lane, Message, OutboxError
from buffer.record import fields_crc
from buffer.sqlite import SqliteOutbox

AT = 1_772_414_047_250_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def make(path: Path, agent_id: str = "ipc01", now: Callable[[], int] | None = None) -> SqliteOutbox:
    ticks = itertools.count(AT)
    return SqliteOutbox(path, agent_id=agent_id, now=now or (lambda: next(ticks)))


@asynccontextmanager
async def opened(
    path: Path, agent_id: str = "ipc01", now: Callable[[], int] | None = None
) -> AsyncIterator[SqliteOutbox]:
    outbox = make(path, agent_id, now)
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def message(epoch: str, seq: int, stream: str = "press07.p") -> Message:
    return Message(stream, epoch, seq, Lane.PRODUCTION, "state.changed", "ea/v1/evt", b"body of %d" % seq)


async def fill(path: Path, count: int = 3) -> str:
    async with opened(path) as outbox:
        messages = [message(outbox.epoch, seq) for seq in range(1, count + 1)]
        await outbox.append(messages, states={"press07": b"state"})
        return outbox.epoch


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)


def edit(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def bodies(outbox: SqliteOutbox) -> list[bytes]:
    return [stored.message.body for stored in await outbox.next_batch(100, lane=Lane.PRODUCTION)]


async def refused(path: Path) -> OutboxError:
    outbox = make(path)
    with pytest.raises(OutboxError) as caught:
        await asyncio.wait_for(outbox.open(), 5)
    await outbox.close()
    return caught.value


async def test_a_new_outbox_makes_its_folder_and_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "data" / "deep" / "buffer.db"
    async with opened(path) as outbox:
        assert outbox._thread is not None

        def pragmas(keeper: object) -> dict[str, object]:
            run = keeper.ledger._connection.execute  # type: ignore[attr-defined]
            names = (
                "locking_mode",
                "journal_mode",
                "synchronous",
                "auto_vacuum",
                "trusted_schema",
                "cell_size_check",
            )
            return {name: run(f"PRAGMA {name}").fetchone()[0] for name in names}

        assert await outbox._ask(pragmas) == {
            "locking_mode": "exclusive",
            "journal_mode": "wal",
            "synchronous": 2,
            "auto_vacuum": 2,
            "trusted_schema": 0,
            "cell_size_check": 1,
        }


async def test_the_epoch_is_the_time_in_base_36_and_four_random_digits(path: Path) -> None:
    async with opened(path) as outbox:
        assert len(outbox.epoch) == 12
        assert int(outbox.epoch[:8], 36) == AT // 1000


async def test_a_buffer_that_another_process_has_open_is_refused_within_a_second(path: Path) -> None:
    program = f"""
import asyncio, sys
from buffer.sqlite import SqliteOutbox
async def main():
    outbox = SqliteOutbox({str(path)!r}, agent_id="ipc01", now=lambda: {AT})
    await outbox.open()
    print("open", flush=True)
    sys.stdin.read()
    await outbox.close()
asyncio.run(main())
"""
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert await asyncio.wait_for(other.stdout.readline(), 20) == b"open\n"
    loop = asyncio.get_running_loop()
    started = loop.time()
    error = await refused(path)
    assert error.code == "S701"
    assert "another program has it open" in str(error)
    assert loop.time() - started < 1.5
    other.stdin.close()
    assert await asyncio.wait_for(other.wait(), 20) == 0
    async with opened(path) as outbox:
        assert outbox.quarantined is None


async def test_a_buffer_that_is_open_in_this_process_is_refused(path: Path) -> None:
    async with opened(path) as outbox:
        assert (await refused(path)).code == "S701"
        await outbox.append([message(outbox.epoch, 1)], states={})


async def test_the_tables_of_a_newer_version_are_refused_and_not_touched(path: Path) -> None:
    await fill(path)
    edit(path, f"REPLACE INTO meta VALUES ('schema', '99', {fields_crc('schema', '99')})")
    before = read(path)
    error = await refused(path)
    assert error.code == "S704"
    assert "newer version" in str(error)
    assert read(path) == before
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.ballast"]


async def test_the_database_of_another_program_is_refused_and_not_touched(path: Path) -> None:
    edit(path, "CREATE TABLE invoices (id INTEGER PRIMARY KEY)", "INSERT INTO invoices VALUES (1)")
    error = await refused(path)
    assert error.code == "S706"
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT * FROM invoices").fetchall() == [(1,)]
    connection.close()


async def test_a_folder_that_cannot_be_made_or_a_file_that_cannot_be_opened_says_what_to_check(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    assert (await refused(tmp_path / "file" / "buffer.db")).code == "S705"
    (tmp_path / "folder").mkdir()
    error = await refused(tmp_path / "folder")
    assert error.code == "S705"
    assert "may be written" in str(error)


@pytest.mark.parametrize(
    "harm",
    [
        lambda raw: b"not a database, but long enough to be read as one" * 100,
        lambda raw: raw[:100] + bytes(4000) + raw[4100:],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:4096],
        lambda raw: raw.replace(b"crc", b"crk"),
        lambda raw: raw.replace(b"TABLE meta", b"TABLE mete").replace(b"metameta", b"metemete"),
    ],
    ids=["foreign bytes", "first page wiped", "cut in half", "first page alone", "a column", "a table"],
)
async def test_a_file_that_cannot_be_read_is_moved_aside_and_a_new_epoch_begins(
    path: Path, harm: Callable[[bytes], bytes]
) -> None:
    epoch = await fill(path, 400)
    harmed = harm(read(path))
    write(path, harmed)
    async with opened(path, now=lambda: AT + 5_000_000) as outbox:
        assert outbox.quarantined is not None
        assert outbox.quarantined.read_bytes() == harmed
        assert "20260302T0114" in outbox.quarantined.name
        assert outbox.epoch > epoch
        assert outbox.fresh
        assert (outbox.prev_epoch, outbox.prev_last_seq) == (None, {})
        assert await outbox.load_state("press07") is None
        await outbox.append([message(outbox.epoch, 1)], states={})


async def test_database_and_wal_are_moved_aside_together(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append([message(outbox.epoch, 1)], states={})
    home = path.parent / "copy"
    home.mkdir()
    for file in path.parent.glob("buffer.db*"):
        shutil.copy(file, home)
    await outbox.close()
    wal = (home / "buffer.db-wal").read_bytes()
    quarantine.mark(home / "buffer.db")
    async with opened(home / "buffer.db") as outbox:
        aside = outbox.quarantined
        assert aside is not None
        assert aside.with_name(aside.name + "-wal").read_bytes() == wal
        assert not quarantine.is_marked(home / "buffer.db")
        assert await bodies(outbox) == []
    edit(aside)
    connection = sqlite3.connect(aside)
    assert connection.execute("SELECT body FROM message").fetchall() == [(b"body of 1",)]
    connection.close()


async def test_a_quarantine_is_told_until_the_first_message_of_the_new_epoch_is_stored(path: Path) -> None:
    write(path, b"rubbish" * 1000)
    async with opened(path) as outbox:
        aside = outbox.quarantined
        assert aside is not None
    async with opened(path) as outbox:
        assert outbox.quarantined == aside
        await outbox.append([message(outbox.epoch, 1)], states={})
        assert outbox.quarantined is None
    async with opened(path) as outbox:
        assert outbox.quarantined is None


async def test_another_agent_id_begins_a_new_epoch_and_what_waits_is_still_sent(path: Path) -> None:
    epoch = await fill(path)
    async with opened(path, "ipc02") as outbox:
        assert outbox.epoch > epoch
        assert outbox.fresh
        assert (outbox.prev_epoch, outbox.prev_last_seq) == (epoch, {"press07.p": 3})
        assert await outbox.load_state("press07") is None
        assert await bodies(outbox) == [b"body of 1", b"body of 2", b"body of 3"]
        await outbox.append([message(outbox.epoch, 1)], states={})
        assert (outbox.prev_epoch, outbox.prev_last_seq) == (None, {})
        assert len(await bodies(outbox)) == 4


async def test_a_new_epoch_sorts_behind_the_old_one_when_the_clock_went_back(path: Path) -> None:
    epoch = await fill(path)
    async with opened(path, "ipc02", now=lambda: 0) as outbox:
        assert outbox.epoch > epoch


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE state SET value = X'00'",
        "UPDATE stream SET floor = 7",
        "UPDATE stream SET stream = 'press08.p'",
        "UPDATE message SET seq = 9 WHERE seq = 3",
        "UPDATE message SET body = X'00' WHERE seq = 3",
        "UPDATE meta SET value = 'zzzzzzzzzzzz' WHERE key = 'epoch'",
        "UPDATE meta SET value = 'other' WHERE key = 'agent_id'",
        "DELETE FROM meta",
    ],
)
async def test_a_small_row_that_was_changed_begins_a_new_epoch_once(path: Path, harm: str) -> None:
    epoch = await fill(path)
    edit(path, harm)
    async with opened(path, now=lambda: AT + 5_000_000) as outbox:
        second = outbox.epoch
        assert second > epoch
        assert outbox.fresh
        assert outbox.quarantined is None
        assert await outbox.load_state("press07") is None
        assert set(await bodies(outbox)) <= {b"body of 1", b"body of 2", b"body of 3"}
        await outbox.append([message(second, 1)], states={"press07": b"new"})
    async with opened(path) as outbox:
        assert outbox.epoch == second
        assert outbox.broken is None
        assert await outbox.load_state("press07") == b"new"


async def test_a_stop_is_clean_only_if_the_outbox_was_closed(path: Path) -> None:
    async with opened(path) as outbox:
        assert outbox.clean_stop
    async with opened(path) as outbox:
        assert outbox.clean_stop
        await outbox.append([message(outbox.epoch, 1)], states={})
        killed = path.parent / "killed"
        killed.mkdir()
        for file in path.parent.glob("buffer.db*"):
            shutil.copy(file, killed)
    async with opened(path) as outbox:
        assert outbox.clean_stop
    async with opened(killed / "buffer.db") as outbox:
        assert not outbox.clean_stop
        assert await bodies(outbox) == [b"body of 1"]


async def test_opening_a_large_buffer_does_not_read_the_messages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of an old body is wiped: the start does not see it, reading does."""
    monkeypatch.setattr("buffer.schema.CHECK_WHOLE_BELOW", 1 << 20)
    async with opened(path) as outbox:
        for seq in range(1, 101):
            await outbox.append([message(outbox.epoch, seq)._replace(body=b"<%06d>" % seq * 5000)], states={})
    raw = bytearray(read(path))
    assert len(raw) > 1 << 20
    page = raw.index(b"<%06d>" % 50 * 400) // 4096
    raw[page * 4096 + 100 : (page + 1) * 4096] = bytes(3996)
    write(path, bytes(raw))
    async with opened(path) as outbox:
        assert outbox.quarantined is None
        seqs: list[int] = []
        while batch := await outbox.next_batch(500, lane=Lane.PRODUCTION, after=seqs[-1] if seqs else 0):
            seqs += [stored.message.seq for stored in batch]
        assert seqs == [seq for seq in range(1, 101) if seq != 50]
        assert (await outbox.depth()).dead == 1
