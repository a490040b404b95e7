"""How appends share transactions."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox
from buffer.thread import DatabaseThread


class Ticks:
    """A clock that is read once in each transaction."""

    def __init__(self) -> None:
        self.read = 1_772_414_047_250_000

    def __call__(self) -> int:
        self.read += 1
        return self.read


def message(epoch: str, seq: int) -> Message:
    return Message("press07.p", epoch, seq, Lane.PRODUCTION, "state.changed", "ea/v1/evt", b"{}")


async def test_many_appends_in_flight_share_transactions_and_one_alone_is_committed_at_once(tmp_path: Path) -> None:
    clock = Ticks()
    outbox = SqliteOutbox(tmp_path / "buffer.db", agent_id="ipc01", now=clock)
    await outbox.open()
    before = clock.read
    await asyncio.gather(*(outbox.append([message(outbox.epoch, seq)], states={}) for seq in range(1, 1201)))
    assert 3 <= clock.read - before <= 30, "groups of at most 500"
    before = clock.read
    await outbox.append([message(outbox.epoch, 1201)], states={})
    assert clock.read - before == 1
    await outbox.close()


async def test_what_is_appended_within_the_interval_goes_together_and_at_its_end(tmp_path: Path) -> None:
    clock = Ticks()
    outbox = SqliteOutbox(tmp_path / "buffer.db", agent_id="ipc01", commit_interval=600_000, now=clock)
    await outbox.open()
    loop = asyncio.get_running_loop()
    await outbox.append([message(outbox.epoch, 1)], states={})
    began, before = loop.time(), clock.read
    waiting = [asyncio.ensure_future(outbox.append([message(outbox.epoch, 2)], states={}))]
    await asyncio.sleep(0.02)  # noqa: TID251 - they come one after the other
    waiting.append(asyncio.ensure_future(outbox.append([message(outbox.epoch, 3)], states={})))
    await asyncio.gather(*waiting)
    assert clock.read - before == 1
    assert loop.time() - began > 0.03
    waiting = [asyncio.ensure_future(outbox.append([message(outbox.epoch, 4)], states={}))]
    await outbox.close()
    await asyncio.gather(*waiting)


async def test_futures_are_done_in_the_order_of_the_appends(tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path / "buffer.db", agent_id="ipc01", now=Ticks())
    await outbox.open()
    done: list[int] = []

    async def one(seq: int) -> None:
        await outbox.append([message(outbox.epoch, seq)], states={})
        done.append(seq)

    async with asyncio.TaskGroup() as tasks:
        for seq in range(1, 301):
            tasks.create_task(one(seq))
    assert done == list(range(1, 301))
    await outbox.close()


async def test_the_loop_is_woken_once_for_many_futures() -> None:
    loop = asyncio.get_running_loop()
    turns: Counter[int] = Counter()
    turn = itertools.count()
    thread: DatabaseThread[asyncio.Future[int]]

    def serve(jobs: Sequence["asyncio.Future[int]"]) -> bool:
        for job in jobs:
            thread.settle(job, 1)
        if len(jobs) > 1:
            thread.end()
        return False

    thread = DatabaseThread("test", serve, lambda jobs, error: None)
    futures = [loop.create_future() for _ in range(50)]
    for future in futures:
        thread.post(future, wake=future is futures[-1])
        future.add_done_callback(lambda _: turns.update([number]))
    number = next(turn)
    thread.start()
    await asyncio.gather(*futures)
    await thread.join()
    assert turns == {0: 50}


async def test_a_fault_of_the_program_in_the_thread_reaches_everyone_who_waits() -> None:
    loop = asyncio.get_running_loop()
    thread: DatabaseThread[asyncio.Future[None]]

    def serve(jobs: Sequence["asyncio.Future[None]"]) -> bool:
        raise ZeroDivisionError

    def failed(jobs: Sequence["asyncio.Future[None]"], error: BaseException) -> None:
        for job in jobs:
            thread.settle(job, error=error)
            told.append(error)
        if len(told) == 2:
            thread.end()

    told: list[BaseException] = []
    thread = DatabaseThread("test", serve, failed)
    thread.start()
    for _ in range(2):
        future = loop.create_future()
        thread.post(future)
        with pytest.raises(ZeroDivisionError):
            await future
    await thread.join()
