"""`confirm: mom` within one connection: how far the agent goes ahead of the MOM's mark, and what it does when that
stands still. The broker here confirms everything at once, so the mark alone decides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from buffer.outbox import Kept, Lane, Message
from edge_agent.delivery.publisher import NotConnected, PublishError
from edge_agent.delivery.retained import Retained
from edge_agent.delivery.session import AHEAD, STALLED, Session
from tests.delivery.forwarding import EPOCH, event, outbox_with, set_aside_in
from tests.waiting import until

STREAM = "m1.p"


class Agreeable:
    """A publisher whose broker confirms at once."""

    window = 100

    def __init__(self) -> None:
        self.lost: asyncio.Future[PublishError] = asyncio.get_running_loop().create_future()
        self.sent: list[tuple[int, bool]] = []

    async def connect(self, will: Message, birth: Message) -> None: ...

    def publish(self, message: Message, *, retain: bool = False, replay: bool = False) -> "asyncio.Future[None]":
        self.sent.append((message.seq, replay))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def close(self) -> None: ...


class Connected:
    """What a test turns: `now` is monotonic µs."""

    session: Session

    def __init__(self) -> None:
        self.publisher = Agreeable()
        self.now = 0


@asynccontextmanager
async def connected(count: int) -> AsyncIterator[Connected]:
    """A session with so many events of one stream to send."""
    outbox = await outbox_with([event(Lane.PRODUCTION, seq) for seq in range(1, count + 1)])
    run = Connected()
    run.session = Session(
        outbox,
        run.publisher,
        Retained(),
        on_confirmed=lambda _: None,
        on_rejected=lambda *_: None,
        set_aside=set_aside_in(outbox),
        mom=True,
        now=lambda: run.now,
    )
    task = asyncio.create_task(run.session.run())
    try:
        yield run
        assert (await outbox.depth()).rows == count  # the broker's word lets nothing go
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_no_more_than_the_bound_is_sent_ahead_of_the_mark() -> None:
    async with connected(3 * AHEAD) as run:
        sent = run.publisher.sent
        await until(lambda: len(run.session._queues[0].ahead) >= AHEAD, limit=20)
        before = len(sent)
        assert AHEAD <= before <= AHEAD + run.publisher.window
        run.session.marked(STREAM, EPOCH, 500)
        await until(lambda: len(sent) >= before + 400, limit=20)
        assert [seq for seq, _ in sent] == list(range(1, len(sent) + 1))


async def test_a_mark_that_stands_still_has_everything_sent_again_from_the_oldest() -> None:
    async with connected(300) as run:
        sent = run.publisher.sent
        await until(lambda: len(run.session._queues[0].ahead) == 300, limit=20)
        run.session.marked(STREAM, EPOCH, 120)
        run.now = STALLED
        run.session.check_progress()
        run.now = STALLED + 1
        run.session.check_progress()
        await until(lambda: len(run.session._queues[0].ahead) == 180, limit=20)
        assert sent[300:] == [(seq, True) for seq in range(121, 301)]


async def test_a_mark_of_another_epoch_moves_nothing() -> None:
    async with connected(50) as run:
        ahead = run.session._queues[0].ahead
        await until(lambda: len(ahead) == 50, limit=20)
        run.session.marked(STREAM, "mlu4idc09c7y", 50)
        assert len(ahead) == 50


async def test_what_was_not_sent_yet_is_not_sent_again_before_its_turn() -> None:
    async with connected(3 * AHEAD) as run:
        sent = run.publisher.sent
        await until(lambda: len(run.session._queues[0].ahead) >= AHEAD, limit=20)
        before = len(sent)
        kept = [Kept(seq, event(Lane.PRODUCTION, seq), True) for seq in (5, before, before + 1, 2 * AHEAD)]
        assert run.session.resend(kept) == 2
        assert await run.session.resent()
        assert sent[before:] == [(5, True), (before, True)]


async def test_who_waits_for_what_is_sent_again_is_told_that_the_connection_was_lost() -> None:
    async with connected(10) as run:
        await until(lambda: len(run.publisher.sent) == 10, limit=20)
        run.session.resend([Kept(5, event(Lane.PRODUCTION, 5), False)])
        run.publisher.lost.set_result(NotConnected("gone", code="B606"))
        assert not await run.session.resent()
