"""The outbox contract, over every implementation."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message, Oldest, Outbox, OutboxError, SequenceError, Span
from buffer.sqlite import SqliteOutbox

AT = 1_772_414_047_250_000


def message(
    epoch: str, seq: int, stream: str = "press07.p", lane: Lane = Lane.PRODUCTION, body: bytes = b"{}"
) -> Message:
    return Message(stream, epoch, seq, lane, "state.changed", "ea/v1/site/evt/state", body)


class Memory:
    """The same object, closed and opened again: it has nothing else to keep its content in."""

    def __init__(self, _: Path, now: Callable[[], int]) -> None:
        self._outbox = MemoryOutbox(now=now)

    def __call__(self) -> Outbox:
        return self._outbox


class Sqlite:
    """A new object over the same file each time."""

    def __init__(self, folder: Path, now: Callable[[], int]) -> None:
        self._make = lambda: SqliteOutbox(folder / "buffer.db", agent_id="ipc01", now=now)

    def __call__(self) -> Outbox:
        return self._make()


@pytest.fixture(params=[Memory, Sqlite], ids=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Outbox]:
    ticks = itertools.count(AT)
    return request.param(tmp_path, lambda: next(ticks))


@pytest.fixture
async def outbox(make: Callable[[], Outbox]) -> AsyncIterator[Outbox]:
    outbox = make()
    await outbox.open()
    yield outbox
    await outbox.close()


@asynccontextmanager
async def opened(make: Callable[[], Outbox]) -> AsyncIterator[Outbox]:
    outbox = make()
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


async def numbers(outbox: Outbox, lane: Lane = Lane.PRODUCTION, limit: int = 100, after: int = 0) -> list[int]:
    return [stored.message.seq for stored in await outbox.next_batch(limit, lane=lane, after=after)]


async def positions(outbox: Outbox, lane: Lane = Lane.PRODUCTION) -> list[int]:
    return [stored.position for stored in await outbox.next_batch(100, lane=lane)]


async def append(outbox: Outbox, *seqs: int, **kinds: Any) -> None:
    await outbox.append([message(outbox.epoch, seq, **kinds) for seq in seqs], states={})


async def test_what_was_appended_comes_back_as_it_was_and_in_order(outbox: Outbox) -> None:
    sent = [message(outbox.epoch, seq, body=bytes([seq]) * seq * 1000) for seq in range(1, 30)]
    await outbox.append(sent[:10], states={})
    await outbox.append(sent[10:], states={})
    batch = await outbox.next_batch(100, lane=Lane.PRODUCTION)
    assert [stored.message for stored in batch] == sent
    assert [stored.position for stored in batch] == sorted({stored.position for stored in batch})
    assert isinstance(batch[0].message.lane, Lane)


async def test_an_empty_outbox_gives_an_empty_batch_at_once(outbox: Outbox) -> None:
    assert await outbox.next_batch(10, lane=Lane.PRODUCTION) == []
    depth = await outbox.depth()
    assert (depth.rows, depth.bytes, depth.oldest_at, depth.dead) == (0, 0, None, 0)


async def test_each_lane_gives_its_own_messages(outbox: Outbox) -> None:
    await append(outbox, 1, 2)
    await append(outbox, 1, stream="press07.m", lane=Lane.MEASUREMENT)
    await append(outbox, 1, stream="$agent.h", lane=Lane.HEALTH)
    assert await numbers(outbox) == [1, 2]
    assert await numbers(outbox, Lane.MEASUREMENT) == [1]
    assert await numbers(outbox, Lane.HEALTH) == [1]


async def test_a_batch_is_limited_and_goes_on_behind_a_position(outbox: Outbox) -> None:
    await append(outbox, 1, 2, 3, 4, 5)
    first = await outbox.next_batch(2, lane=Lane.PRODUCTION)
    assert [stored.message.seq for stored in first] == [1, 2]
    assert await numbers(outbox, limit=2, after=first[-1].position) == [3, 4]


async def test_reading_removes_nothing(outbox: Outbox) -> None:
    await append(outbox, 1)
    assert await numbers(outbox) == [1]
    assert await numbers(outbox) == [1]


async def test_what_is_confirmed_is_not_given_again_even_before_it_is_committed(outbox: Outbox) -> None:
    await append(outbox, 1, 2, 3)
    first, second, _ = await positions(outbox)
    await outbox.ack([first])
    assert await numbers(outbox) == [2, 3]
    assert await numbers(outbox, limit=1) == [2]
    await outbox.ack([second, first, 999])
    assert await numbers(outbox) == [3]
    assert (await outbox.depth()).rows == 1


async def test_depth_counts_what_is_not_confirmed(outbox: Outbox) -> None:
    await append(outbox, 1, 2, body=b"12345")
    await append(outbox, 1, stream="press07.m", lane=Lane.MEASUREMENT, body=b"123")
    depth = await outbox.depth()
    assert (depth.rows, depth.bytes, depth.dead) == (3, 13, 0)
    assert depth.oldest_at is not None
    assert depth.oldest_at >= AT
    await outbox.ack((await positions(outbox))[:1])
    later = await outbox.depth()
    assert (later.rows, later.bytes) == (2, 8)


async def test_a_rejected_message_is_in_the_dead_letters_and_the_next_goes_on(outbox: Outbox) -> None:
    await append(outbox, 1, 2)
    first, second = await positions(outbox)
    await outbox.reject(first, "payload too large")
    assert await positions(outbox) == [second]
    depth = await outbox.depth()
    assert (depth.rows, depth.dead) == (1, 1)
    await outbox.reject(first, "again")
    await outbox.reject(999, "never was")
    assert (await outbox.depth()).dead == 1


async def test_a_message_is_set_aside_together_with_what_declares_it_or_not_at_all(outbox: Outbox) -> None:
    await append(outbox, 1, 2)
    first, second = await positions(outbox)
    kinds = {"stream": "$agent.h", "lane": Lane.HEALTH}
    with pytest.raises(SequenceError):
        await outbox.reject(first, "no", [message(outbox.epoch, 0, **kinds)])
    assert (await positions(outbox), (await outbox.depth()).dead) == ([first, second], 0)
    await outbox.reject(first, "no", [message(outbox.epoch, 1, **kinds)])
    assert (await positions(outbox), (await outbox.depth()).dead) == ([second], 1)
    assert await numbers(outbox, Lane.HEALTH) == [1]


async def test_states_are_read_back_and_the_last_one_counts(outbox: Outbox) -> None:
    assert await outbox.load_state("press07") is None
    await outbox.append([], states={"press07": b"one", "saw2": b"two"})
    await outbox.append([message(outbox.epoch, 1)], states={"press07": b"three"})
    assert await outbox.load_state("press07") == b"three"
    assert await outbox.load_state("saw2") == b"two"
    assert await outbox.load_states(["saw2", "never", "press07"]) == {"saw2": b"two", "press07": b"three"}


async def test_a_number_that_does_not_follow_is_refused_and_its_states_with_it(outbox: Outbox) -> None:
    await outbox.append([message(outbox.epoch, 1)], states={"press07": b"one"})
    for wrong in (1, 3, 0):
        with pytest.raises(SequenceError, match=r"press07\.p .* where 2 is due"):
            await outbox.append([message(outbox.epoch, wrong)], states={"press07": b"wrong"})
    with pytest.raises(SequenceError):
        await outbox.append([message(outbox.epoch, 2), message(outbox.epoch, 4)], states={})
    with pytest.raises(SequenceError):
        await outbox.append([message(outbox.epoch, 2, stream="new.p")], states={})
    assert await outbox.load_state("press07") == b"one"
    await append(outbox, 2)
    assert await numbers(outbox) == [1, 2]


async def test_a_refused_append_does_not_touch_those_in_flight_with_it(outbox: Outbox) -> None:
    calls = [
        outbox.append([message(outbox.epoch, seq, stream)], states={stream: b"%d" % seq})
        for stream, seq in [("a.p", 1), ("b.p", 7), ("c.p", 1), ("a.p", 2), ("a.p", 2), ("c.p", 2)]
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None), SequenceError, type(None), type(None), SequenceError, type(None)
    ]  # fmt: skip
    batch = await outbox.next_batch(10, lane=Lane.PRODUCTION)
    assert [(s.message.stream, s.message.seq) for s in batch] == [("a.p", 1), ("c.p", 1), ("a.p", 2), ("c.p", 2)]
    assert await outbox.load_state("b.p") is None


async def test_something_that_cannot_be_stored_fails_its_own_append_only(outbox: Outbox) -> None:
    bad: Any = message(outbox.epoch, 1, "bad.p")._replace(body=object())
    results = await asyncio.gather(
        outbox.append([message(outbox.epoch, 1)], states={}),
        outbox.append([bad], states={}),
        outbox.append([message(outbox.epoch, 2)], states={}),
        return_exceptions=True,
    )
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert await numbers(outbox) == [1, 2]


async def test_appends_take_their_place_when_they_are_called_not_when_they_are_awaited(outbox: Outbox) -> None:
    calls = [outbox.append([message(outbox.epoch, seq)], states={"last": b"%d" % seq}) for seq in range(1, 200)]
    await asyncio.gather(*reversed(calls))
    assert await numbers(outbox, limit=1000) == list(range(1, 200))
    assert await outbox.load_state("last") == b"199"


async def test_a_caller_that_is_cancelled_does_not_take_its_append_back(outbox: Outbox) -> None:
    call = asyncio.ensure_future(outbox.append([message(outbox.epoch, 1)], states={}))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await append(outbox, 2)
    assert await numbers(outbox) == [1, 2]


async def test_wait_returns_once_for_what_was_committed_since(outbox: Outbox) -> None:
    waiting = asyncio.ensure_future(outbox.wait())
    await outbox.depth()
    assert not waiting.done()
    await append(outbox, 1)
    await asyncio.wait_for(waiting, 2)
    again = asyncio.ensure_future(outbox.wait())
    await outbox.depth()
    assert not again.done()
    again.cancel()


async def test_an_append_while_nobody_waits_ends_the_next_wait(outbox: Outbox) -> None:
    await append(outbox, 1)
    await asyncio.wait_for(outbox.wait(), 2)


async def test_closing_commits_what_is_queued(make: Callable[[], Outbox]) -> None:
    outbox = make()
    await outbox.open()
    epoch = outbox.epoch
    calls = [outbox.append([message(epoch, seq)], states={"last": b"%d" % seq}) for seq in range(1, 50)]
    await outbox.close()
    await asyncio.gather(*calls)
    async with opened(make) as again:
        assert again.epoch == epoch
        assert await numbers(again) == list(range(1, 50))
        assert await again.load_state("last") == b"49"


async def test_everything_is_there_after_closing_and_opening(make: Callable[[], Outbox]) -> None:
    async with opened(make) as outbox:
        epoch = outbox.epoch
        await outbox.append([message(epoch, seq) for seq in (1, 2, 3)], states={"press07": b"three"})
        first, second, _ = await positions(outbox)
        await outbox.ack([first])
        await outbox.reject(second, "no")
    async with opened(make) as outbox:
        assert outbox.epoch == epoch
        assert await numbers(outbox) == [3]
        assert await outbox.load_state("press07") == b"three"
        depth = await outbox.depth()
        assert (depth.rows, depth.bytes, depth.dead) == (1, 2, 1)
        await asyncio.wait_for(outbox.wait(), 2)
        with pytest.raises(SequenceError):
            await append(outbox, 3)
        await append(outbox, 4)


async def test_an_epoch_is_fresh_until_its_first_message_is_stored(make: Callable[[], Outbox]) -> None:
    async with opened(make) as outbox:
        assert outbox.fresh
        assert (outbox.prev_epoch, outbox.prev_last_seq, outbox.quarantined) == (None, {}, None)
        await outbox.append([], states={"press07": b"zero"})
        assert outbox.fresh
    async with opened(make) as outbox:
        assert outbox.fresh
        await append(outbox, 1, stream="$agent.h", lane=Lane.HEALTH)
        assert not outbox.fresh
    async with opened(make) as outbox:
        assert not outbox.fresh


async def test_a_disowned_epoch_ends_with_the_next_opening(make: Callable[[], Outbox]) -> None:
    outbox = make()
    await outbox.open()
    await outbox.append([message(outbox.epoch, 1), message(outbox.epoch, 2)], states={"press07": b"x"})
    epoch = outbox.epoch
    assert await outbox.last_numbers() == {"press07.p": 2}
    await outbox.disown("the MOM has 9", epoch="yyyyyyyy0000")
    assert outbox.epoch == epoch
    await outbox.close()
    outbox = make()
    await outbox.open()
    try:
        assert outbox.epoch > "yyyyyyyy0000"
        assert outbox.fresh
        assert await outbox.load_state("press07") is None
        assert await outbox.last_numbers() == {}
        assert [stored.message.seq for stored in await outbox.next_batch(9, lane=Lane.PRODUCTION)] == [1, 2]
    finally:
        await outbox.close()


async def test_closing_twice_and_before_opening_is_nothing(make: Callable[[], Outbox]) -> None:
    outbox = make()
    await outbox.close()
    await outbox.open()
    await outbox.close()
    await outbox.close()


async def test_a_closed_outbox_says_so(make: Callable[[], Outbox]) -> None:
    async with opened(make) as outbox:
        epoch = outbox.epoch
    with pytest.raises(OutboxError) as error:
        await outbox.append([message(epoch, 1)], states={})
    assert error.value.code == "S708"


async def test_the_oldest_are_offered_in_runs_without_a_hole_and_nothing_is_changed(outbox: Outbox) -> None:
    await append(outbox, 1, 2, body=b"12345")
    await append(outbox, 1, stream="saw2.p", body=b"12345")
    await append(outbox, 3, 4, 5, body=b"12345")
    epoch = outbox.epoch
    await outbox.ack([(await positions(outbox))[4]])
    offered = await outbox.oldest(Lane.PRODUCTION, 1000)
    assert offered == [
        Oldest(Span("press07.p", epoch, 1, 3), {"state.changed": 3}, 15),
        Oldest(Span("saw2.p", epoch, 1, 1), {"state.changed": 1}, 5),
        Oldest(Span("press07.p", epoch, 5, 5), {"state.changed": 1}, 5),
    ]
    assert await outbox.oldest(Lane.PRODUCTION, 6) == [
        Oldest(Span("press07.p", epoch, 1, 2), {"state.changed": 2}, 10)
    ]
    assert await outbox.oldest(Lane.PRODUCTION, 1000, spare=frozenset({"state.changed"})) == []
    assert len(await outbox.oldest(Lane.PRODUCTION, 1000, only=frozenset({"state.changed"}))) == 3
    assert await outbox.oldest(Lane.PRODUCTION, 1000, only=frozenset({"downtime.began"})) == []
    assert await outbox.oldest(Lane.PRODUCTION, 1000, before=AT) == []
    assert len(await outbox.oldest(Lane.PRODUCTION, 1000, before=AT * 2)) == 3
    assert await outbox.oldest(Lane.MEASUREMENT, 1000) == []
    assert len(await positions(outbox)) == 5


async def test_what_is_given_up_goes_with_the_append_that_says_so(make: Callable[[], Outbox]) -> None:
    async with opened(make) as outbox:
        await append(outbox, 1, 2, 3, 4)
        second = (await positions(outbox))[1]
        await outbox.ack([second])
        epoch = outbox.epoch
        loss = message(epoch, 1, "$agent.h", Lane.HEALTH)
        await outbox.append([loss], states={"a": b"1"}, evict=[Span("press07.p", epoch, 1, 3)])
        assert await numbers(outbox) == [4]
        assert (await outbox.depth()).rows == 2
        await outbox.append([], states={}, evict=[Span("press07.p", epoch, 4, 9), Span("never.p", epoch, 1, 9)])
    async with opened(make) as outbox:
        assert await numbers(outbox) == []
        assert await numbers(outbox, Lane.HEALTH) == [1]
        depth = await outbox.depth()
        assert (depth.rows, depth.bytes) == (1, 2)
        await append(outbox, 5)


async def test_room_says_how_full_it_is(outbox: Outbox) -> None:
    room = await outbox.room()
    assert 0 <= room.fill < 0.8
    assert not room.kept
