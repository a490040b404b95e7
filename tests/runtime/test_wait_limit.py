"""A limit for each wait of a row; what is done between two waits has none."""

import asyncio
from collections.abc import Awaitable

import pytest

from edge_agent.wait_limit import WaitLimit


async def row(limit: float, *waits: Awaitable[object]) -> None:
    async with WaitLimit(limit) as one:
        for wait in waits:
            one.begin()
            await wait
            one.end()


async def passed(seconds: float) -> None:
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


async def broken() -> None:
    raise BrokenPipeError


async def test_a_wait_that_takes_too_long_is_cancelled():
    never = asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        await row(0.04, passed(0.01), never)

    assert never.cancelled()
    assert asyncio.current_task().cancelling() == 0


async def test_many_short_waits_may_take_longer_than_one():
    await row(0.2, *(passed(0.02) for _ in range(20)))


async def test_what_is_done_between_two_waits_has_no_limit():
    async with WaitLimit(0.02) as limit:
        limit.begin()
        limit.end()
        await passed(0.1)


async def test_a_cancellation_from_outside_stays_one():
    task = asyncio.create_task(row(60, asyncio.get_running_loop().create_future()))
    await passed(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_fault_in_a_wait_is_told_and_no_timer_is_left():
    with pytest.raises(BrokenPipeError):
        await row(0.02, broken())

    await passed(0.1)
