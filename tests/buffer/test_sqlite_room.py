"""A full file or a full disk: appends wait, nothing is lost, and they go on when there is room."""

import asyncio
import errno
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buffer.ledger import Ledger
from buffer.outbox import Lane, Message, OutboxError, Span
from buffer.schema import open_database
from buffer.sqlite import SqliteOutbox
from tests.waiting import until

AT = 1_772_414_047_250_000
BODY = b"x" * 5000


@asynccontextmanager
async def opened(
    path: Path, *, max_size: int = 1 << 20, keep_sent: int = 1 << 60, now: Callable[[], int] | None = None
) -> AsyncIterator[SqliteOutbox]:
    ticks = itertools.count(AT)
    outbox = SqliteOutbox(
        path, agent_id="ipc01", max_size=max_size, keep_sent=keep_sent, now=now or (lambda: next(ticks))
    )
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def append(outbox: SqliteOutbox, seq: int) -> "asyncio.Future[None]":
    message = Message("press07.p", outbox.epoch, seq, Lane.PRODUCTION, "state.changed", "ea/v1/evt", BODY)
    return asyncio.ensure_future(outbox.append([message], states={"press07": b"%d" % seq}))


async def fill(outbox: SqliteOutbox) -> tuple[int, "asyncio.Future[None]"]:
    """Append until one waits; its number and the waiting append."""
    for seq in itertools.count(1):
        call = append(outbox, seq)
        await asyncio.wait({call}, timeout=0.05)
        if not call.done():
            await until(lambda call=call: call.done() or outbox.full)
        if not call.done():
            return seq, call
    raise AssertionError


def size_of(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None


async def read(outbox: SqliteOutbox, limit: int = 1000) -> list[int]:
    return [stored.message.seq for stored in await outbox.next_batch(limit, lane=Lane.PRODUCTION)]


async def tidy(outbox: SqliteOutbox) -> None:
    outbox._due("tidy")
    while await outbox._ask(lambda keeper: keeper._pruning):
        pass


async def test_an_append_waits_when_the_file_is_full_and_goes_on_after_confirmations(tmp_path: Path) -> None:
    async with opened(tmp_path / "buffer.db") as outbox:
        seq, call = await fill(outbox)
        after = append(outbox, seq + 1)
        assert 100 < seq < 250
        assert (await outbox.depth()).fill > 0.95
        assert await read(outbox) == list(range(1, seq))
        assert await outbox.load_state("press07") == b"%d" % (seq - 1)
        assert not call.done()
        batch = await outbox.next_batch(20, lane=Lane.PRODUCTION)
        await outbox.ack([stored.position for stored in batch])
        await asyncio.wait_for(asyncio.gather(call, after), 5)
        await until(lambda: not outbox.full)
        assert await read(outbox) == list(range(21, seq + 2))
        assert await outbox.load_state("press07") == b"%d" % (seq + 1)


async def test_what_makes_a_little_room_does_not_wait_behind_what_needs_more(tmp_path: Path) -> None:
    async with opened(tmp_path / "buffer.db") as outbox:

        def said(seq: int, *evict: Span) -> "asyncio.Future[None]":
            message = Message("$agent.h", outbox.epoch, seq, Lane.HEALTH, "data.loss", "ea/v1/evt", b"{}")
            return asyncio.ensure_future(outbox.append([message], states={}, evict=evict))

        await said(1)
        seq, call = await fill(outbox)
        before = said(2)
        async with asyncio.timeout(20):
            await asyncio.gather(before, said(3, Span("$agent.h", outbox.epoch, 1, 1)))
        assert not call.done(), "one small message is not room enough"
        async with asyncio.timeout(20):
            await asyncio.gather(call, said(4, Span("press07.p", outbox.epoch, 1, 9)))
        assert await read(outbox) == list(range(10, seq + 1))
        health = await outbox.next_batch(9, lane=Lane.HEALTH)
        assert [stored.message.seq for stored in health] == [2, 3, 4]


async def test_the_longest_confirmed_messages_make_room_for_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        for seq in range(1, 1001):
            await asyncio.wait_for(append(outbox, seq), 5)
            (stored,) = await outbox.next_batch(10, lane=Lane.PRODUCTION)
            await outbox.ack([stored.position])
        assert not outbox.full
    assert path.stat().st_size <= 1 << 20
    connection = sqlite3.connect(path)
    kept = [seq for (seq,) in connection.execute("SELECT seq FROM message ORDER BY position")]
    connection.close()
    assert kept == list(range(kept[0], 1001))
    assert 1 <= kept[0] < 1000


@pytest.mark.parametrize(("number", "size"), [(errno.EOPNOTSUPP, 1 << 20), (errno.EPERM, None)])
async def test_a_buffer_fills_whether_or_not_the_file_system_gives_a_ballast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, size: int | None
) -> None:
    def cannot(handle: int, offset: int, length: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr("os.posix_fallocate", cannot, raising=False)
    async with opened(tmp_path / "buffer.db", max_size=16 << 20) as outbox:
        for seq in range(1, 21):
            await asyncio.wait_for(append(outbox, seq), 20)
        ballast = tmp_path / "buffer.db.ballast"
        assert size_of(ballast) == size


async def test_a_full_outbox_that_is_closed_tells_those_who_wait(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        seq, call = await fill(outbox)
    with pytest.raises(OutboxError) as error:
        await call
    assert error.value.code == "S702"
    async with opened(path, max_size=2 << 20) as outbox:
        assert await read(outbox) == list(range(1, seq))
        await append(outbox, seq)


async def test_a_full_outbox_can_set_messages_aside(tmp_path: Path) -> None:
    async with opened(tmp_path / "buffer.db") as outbox:
        seq, call = await fill(outbox)
        batch = await outbox.next_batch(5, lane=Lane.PRODUCTION)
        rejecting = [asyncio.ensure_future(outbox.reject(stored.position, "no")) for stored in batch]
        await outbox.ack([stored.position for stored in await outbox.next_batch(20, lane=Lane.PRODUCTION)])
        await asyncio.wait_for(asyncio.gather(call, *rejecting), 5)
        assert (await read(outbox))[-1] == seq


async def test_confirmed_messages_are_removed_when_they_have_been_kept_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    clock = [AT]
    async with opened(path, keep_sent=1000, now=lambda: clock[0]) as outbox:
        for seq in range(1, 11):
            await append(outbox, seq)
        first = await outbox.next_batch(4, lane=Lane.PRODUCTION)
        await outbox.ack([stored.position for stored in first])
        outbox._due("flush")
        await outbox.depth()
        clock[0] += 900
        await outbox.ack([first[-1].position + 1])
        outbox._due("flush")
        await outbox.depth()
        clock[0] += 101
        await tidy(outbox)
    connection = sqlite3.connect(path)
    assert [row[0] for row in connection.execute("SELECT seq FROM message")] == [5, 6, 7, 8, 9, 10]
    assert [row[0] for row in connection.execute("SELECT position FROM sent")] == [5]
    connection.close()


async def test_numbers_go_on_after_the_newest_message_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path, keep_sent=0) as outbox:
        for seq in (1, 2, 3):
            await append(outbox, seq)
        batch = await outbox.next_batch(10, lane=Lane.PRODUCTION)
        await outbox.ack([stored.position for stored in batch[:2]])
        await outbox.reject(batch[2].position, "no")
        outbox._due("flush")
        await tidy(outbox)
    async with opened(path) as outbox:
        assert outbox.broken is None
        await append(outbox, 4)
        (stored,) = await outbox.next_batch(10, lane=Lane.PRODUCTION)
        assert stored.position > batch[2].position


async def test_positions_are_not_used_again_after_everything_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path, keep_sent=0) as outbox:
        await append(outbox, 1)
        (first,) = await outbox.next_batch(10, lane=Lane.PRODUCTION)
        await outbox.ack([first.position])
        outbox._due("flush")
        await tidy(outbox)
    async with opened(path) as outbox:
        await append(outbox, 2)
        (second,) = await outbox.next_batch(10, lane=Lane.PRODUCTION)
        assert second.position > first.position


async def test_what_waits_is_counted_in_slices_while_it_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        for seq in range(1, 21):
            await append(outbox, seq)
    monkeypatch.setattr("buffer.tally.COUNT_ROWS", 3)
    monkeypatch.setattr("buffer.tally.COUNT_AT_ONCE", 3)
    found = open_database(path, agent_id="ipc01", now=lambda: AT, epoch=lambda _: "new")
    ledger = Ledger(found, now=lambda: AT)
    assert ledger.depth(1 << 20).rows == 3
    positions = [stored.position for stored in ledger.lookup.read(Lane.PRODUCTION, 0, 100).rows]
    ledger.acknowledge(positions[1::3])
    ledger.count()
    ledger.store(())
    ledger.count()
    ledger.acknowledge(positions[2::3])
    while ledger.count():
        pass
    depth = ledger.depth(1 << 20)
    ledger.close()
    assert (depth.rows, depth.bytes) == (7, 7 * len(BODY))


async def test_nothing_is_written_when_nothing_happened(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        await append(outbox, 1)
        before = [(tmp_path / name).read_bytes() for name in ("buffer.db", "buffer.db-wal")]
        for what in ("flush", "tidy", "retry", "tidy"):
            outbox._due(what)
            await outbox.depth()
        assert before == [(tmp_path / name).read_bytes() for name in ("buffer.db", "buffer.db-wal")]


async def test_a_confirmation_is_on_the_disk_within_a_second_without_another_append(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        await append(outbox, 1)
        (stored,) = await outbox.next_batch(10, lane=Lane.PRODUCTION)
        wal = tmp_path / "buffer.db-wal"
        before = wal.read_bytes()
        await outbox.ack([stored.position])
        await until(lambda: wal.read_bytes() != before, 2)


async def test_room_that_is_no_longer_needed_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffer.keeper.SHRINK_ABOVE", 100_000)
    monkeypatch.setattr("buffer.keeper.SHRINK_SLICE", 40_960)
    path = tmp_path / "buffer.db"
    async with opened(path, keep_sent=0) as outbox:
        for seq in range(1, 101):
            await append(outbox, seq)
        batch = await outbox.next_batch(100, lane=Lane.PRODUCTION)
        await outbox.ack([stored.position for stored in batch[:90]])
        outbox._due("flush")
        await tidy(outbox)
        outbox._due("tidy")
        while await outbox._ask(lambda keeper: keeper._shrinking):
            pass
        assert await read(outbox) == list(range(91, 101))
    assert path.stat().st_size < 250_000
