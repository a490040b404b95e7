"""A database that is older than what was sent from it is found out, and its numbers are not given again."""

import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from buffer.mark import Mark, MarkFile
from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox

ticks = itertools.count(1_772_414_047_250_000, 1000)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = SqliteOutbox(path, agent_id="ipc01", now=lambda: next(ticks))
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


async def store(outbox: SqliteOutbox, *seqs: int) -> None:
    messages = [Message("press07.p", outbox.epoch, seq, Lane.PRODUCTION, "state.changed", "t", b"{}") for seq in seqs]
    await outbox.append(messages, states={"press07": b"%d" % seqs[-1]})


async def send(outbox: SqliteOutbox) -> list[int]:
    return [stored.message.seq for stored in await outbox.next_batch(100, lane=Lane.PRODUCTION)]


async def copy_after(path: Path, count: int) -> tuple[str, Path]:
    """A database with so many messages and its copy; the epoch."""
    async with opened(path) as outbox:
        await store(outbox, *range(1, count + 1))
        await send(outbox)
        epoch = outbox.epoch
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    return epoch, copy


async def test_a_restored_copy_begins_a_new_epoch_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    epoch, copy = await copy_after(path, 3)
    async with opened(path) as outbox:
        await store(outbox, 4)
        assert await send(outbox) == [1, 2, 3, 4]
    shutil.copy(copy, path)
    for _ in range(2):  # told until the first message of the new epoch is stored
        async with opened(path) as outbox:
            assert outbox.rolled_back
            assert outbox.broken is not None
            assert (outbox.prev_epoch, outbox.prev_last_seq) == (epoch, {"press07.p": 3})
            assert outbox.epoch > epoch
            assert await outbox.load_state("press07") is None
            assert await send(outbox) == [1, 2, 3]
    async with opened(path) as outbox:
        await store(outbox, 1)
        assert not outbox.rolled_back
        assert await send(outbox) == [1, 2, 3, 1]
        newer = outbox.epoch
    async with opened(path) as outbox:
        assert (outbox.epoch, outbox.rolled_back, outbox.broken) == (newer, False, None)


async def test_a_copy_of_an_older_epoch_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    _, copy = await copy_after(path, 3)
    outbox = SqliteOutbox(path, agent_id="ipc02", now=lambda: next(ticks))
    await outbox.open()
    await store(outbox, 1)
    await send(outbox)
    await outbox.close()
    shutil.copy(copy, path)
    async with opened(path) as again:
        assert again.rolled_back
        assert again.epoch > outbox.epoch


async def test_a_database_that_is_gone_is_told_and_sorts_behind_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    epoch, _ = await copy_after(path, 3)
    path.unlink()
    outbox = SqliteOutbox(path, agent_id="ipc01", now=lambda: 0)
    await outbox.open()
    assert outbox.rolled_back
    assert (outbox.prev_epoch, outbox.prev_last_seq) == (epoch, {})
    assert outbox.epoch > epoch
    await outbox.close()


async def test_what_was_never_given_out_may_be_forgotten(tmp_path: Path) -> None:
    """A restored copy from which nothing newer was sent goes on: no consumer knows other numbers."""
    path = tmp_path / "buffer.db"
    epoch, copy = await copy_after(path, 3)
    async with opened(path) as outbox:
        await store(outbox, 4)
    shutil.copy(copy, path)
    async with opened(path) as outbox:
        assert outbox.epoch == epoch
        await store(outbox, 4)


async def test_the_mark_is_on_the_disk_before_a_message_is_given_out(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    async with opened(path) as outbox:
        for seq in (1, 2, 3):
            await store(outbox, seq)
            (*_, last) = await outbox.next_batch(100, lane=Lane.PRODUCTION)
            mark = MarkFile(path).read()
            assert mark is not None
            assert mark.epoch == outbox.epoch
            assert mark.position >= last.position


def test_a_mark_that_was_cut_short_leaves_the_one_before(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path / "buffer.db")
    for position in (10, 20, 30):
        marks.raise_to(Mark("e", position))
    marks.close()
    file = tmp_path / "buffer.db.mark"
    raw = file.read_bytes()
    found = []
    for slot in (0, 512):
        file.write_bytes(raw[: slot + 20] + b"\xff" + raw[slot + 21 :])
        found.append(MarkFile(tmp_path / "buffer.db").read())
    assert sorted(mark.position for mark in found if mark is not None) == [20, 30]


@pytest.mark.parametrize("raw", [b"", b"rubbish", bytes(1024), b"\xff" * 2000])
async def test_a_mark_that_cannot_be_read_proves_nothing(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "buffer.db"
    epoch, _ = await copy_after(path, 3)
    (tmp_path / "buffer.db.mark").write_bytes(raw)
    async with opened(path) as outbox:
        assert (outbox.epoch, outbox.broken) == (epoch, None)
        await store(outbox, 4)
        assert await send(outbox) == [1, 2, 3, 4]
