"""What is sent within one connection: snapshots first, then every lane from its oldest unconfirmed message.

Lanes go in the order production, health, measurement; within a lane messages leave in the order of their
commits, so the order within a stream holds. At most a window is unconfirmed. A session ends with the first
failure that is not about one message alone; what it did not get confirmed, the next one sends again.

With `confirm: mom` a message that the broker has stays in the outbox until the MOM's mark covers it, and at most
`AHEAD` of a lane are sent beyond the mark. If it stands still for too long they are sent again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from buffer.outbox import Kept, Lane, Message, Outbox, Stored
from edge_agent.clock import SECOND
from edge_agent.delivery.publisher import NotConnected, Poisoned, Publisher, PublishError, Rejected
from edge_agent.delivery.retained import Retained

log = logging.getLogger(__name__)

PAGE = 500
"""Rows fetched at once."""
AHEAD = 1000
"""Messages of a lane that the broker has and the MOM has not confirmed, at most."""
EVENTS_A_SNAPSHOT = 3
"""While events wait, a changed snapshot is sent after so many of them."""
STALLED = 30 * SECOND
"""The MOM has not confirmed anything for so long although there is something: send it again."""


@dataclass(slots=True)
class _Queue:
    """What of one lane was fetched. `fetched` is the last position; `dry` until something is committed; `late`
    until it was dry once: what was waiting when the connection was made. `ahead`: what the broker has and the MOM
    has not confirmed, by position."""

    lane: Lane
    page: deque[Stored] = field(default_factory=deque)
    fetched: int = 0
    dry: bool = False
    late: bool = True
    ahead: dict[int, Message] = field(default_factory=dict)


class Session:
    """Sends over a publisher that is connected."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        retained: Retained,
        *,
        on_confirmed: Callable[[int], None],
        on_rejected: Callable[[Message, Rejected], None],
        set_aside: Callable[[Stored, str], Awaitable[None]],
        mom: bool = False,
        one_by_one: int = 0,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        """`mom`: the broker's word does not count. `one_by_one`: so many messages, behind the first snapshots, are
        sent one at a time, since the broker ended the last connection over one of them. `now` is monotonic µs."""
        self._one_by_one = one_by_one
        self._mom = mom
        self._now = now
        self._moved = now()
        self._again: deque[Message] = deque()
        self._resending = 0
        """Of those that are sent again: not yet confirmed."""
        self._resent = asyncio.Event()
        self._over = False
        self._outbox = outbox
        self._publisher = publisher
        self._retained = retained
        self._on_confirmed = on_confirmed
        self._on_rejected = on_rejected
        self._set_aside = set_aside
        self._queues = [_Queue(lane) for lane in Lane]
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._confirmed: list[Stored] = []
        self._rejected: list[tuple[Stored, Rejected]] = []
        self._failure: PublishError | None = None
        self._snapshots_due = False
        self._first_snapshots = 0
        self._events_since = 0

    async def run(self) -> PublishError:
        """Send until something ends it, and return what."""
        try:
            return await self._run()
        finally:
            self._over = True
            self._resent.set()

    async def _run(self) -> PublishError:
        lost = self._publisher.lost
        lost.add_done_callback(lambda _: self._wake.set())
        self._first_snapshots = self._retained.all_changed()
        if self._one_by_one:
            self._one_by_one += self._first_snapshots
        self._snapshots_due = True
        while True:
            self._wake.clear()
            await self.settle()
            if self._failure is not None:
                return self._failure
            if lost.done():
                return lost.result()
            self._send_snapshots()
            await self._fill_window()
            await self._wake.wait()

    @property
    def one_by_one(self) -> int:
        """So many messages are still to be sent one at a time."""
        return self._one_by_one

    @property
    def _window(self) -> int:
        return 1 if self._one_by_one else self._publisher.window

    def committed(self) -> None:
        """There may be something new in the outbox."""
        for queue in self._queues:
            queue.dry = False
        self._wake.set()

    def snapshots_due(self) -> None:
        self._snapshots_due = True
        self._wake.set()

    def marked(self, stream: str, epoch: str, seq: int) -> None:
        """The MOM has stored everything of the stream up to this number."""
        self._moved = self._now()
        for queue in self._queues:
            covered = [
                position
                for position, message in queue.ahead.items()
                if message.stream == stream and message.epoch == epoch and message.seq <= seq
            ]
            for position in covered:
                del queue.ahead[position]
        self._wake.set()

    def resend(self, kept: Iterable[Kept]) -> int:
        """Send again, behind everything else, what was sent before; how many that are. The others of them wait, and
        come by themselves when it is their turn, or the first copy of one would come before its predecessors."""
        messages = [one.message for one in kept if not one.waiting or self._was_sent(one)]
        self._again.extend(messages)
        self._resending += len(messages)
        self._wake.set()
        return len(messages)

    def _was_sent(self, one: Kept) -> bool:
        queue = self._queues[one.message.lane]
        return one.position < queue.page[0].position if queue.page else one.position <= queue.fetched

    @property
    def resending(self) -> int:
        """How many are to be sent again and are not confirmed."""
        return self._resending

    async def resent(self) -> bool:
        """Return when all that was to be sent again is confirmed; False if the session has ended before."""
        while self._resending and not self._over:
            self._resent.clear()
            await self._resent.wait()
        return not self._resending

    def check_progress(self) -> None:
        """Send again what the MOM should have confirmed by now."""
        if not any(queue.ahead for queue in self._queues):
            self._moved = self._now()
        elif self._now() - self._moved > STALLED:
            self._moved = self._now()
            for queue in self._queues:
                if queue.ahead:
                    log.warning("the MOM has confirmed nothing for %d s; sending again", STALLED // SECOND)
                    queue.fetched = min(queue.ahead) - 1
                    queue.page.clear()
                    queue.ahead.clear()
                    queue.dry, queue.late = False, True
            self._wake.set()

    async def drained(self) -> None:
        """Return when nothing is in flight any more; nothing new is sent meanwhile if `run` has ended."""
        while self._in_flight:
            self._wake.clear()
            await self._wake.wait()

    async def settle(self) -> None:
        """Book what the broker has said."""
        if self._confirmed:
            confirmed, self._confirmed = self._confirmed, []
            if self._mom:
                for position, message in confirmed:
                    self._queues[message.lane].ahead[position] = message
            else:
                await self._outbox.ack([stored.position for stored in confirmed])
            self._on_confirmed(len(confirmed))
        while self._rejected:
            stored, error = self._rejected.pop(0)
            message = stored.message
            log.warning("%s %s #%d is set aside: %s", error.code, message.stream, message.seq, error)
            await self._set_aside(stored, f"{error.code} {error}")
            self._on_rejected(message, error)

    async def _fill_window(self) -> None:
        publisher = self._publisher
        while self._in_flight < self._window and self._failure is None and not publisher.lost.done():
            queue = await self._next_queue()
            if queue is None:
                self._send_again()
                return
            for _ in range(min(self._window - self._in_flight, len(queue.page))):
                stored = queue.page.popleft()
                self._events_since = min(self._events_since + 1, publisher.window)
                confirmation = publisher.publish(stored.message, replay=queue.late)
                self._in_flight += 1
                confirmation.add_done_callback(partial(self._done, stored))

    async def _next_queue(self) -> _Queue | None:
        """The first lane that has rows, in the order of sending."""
        for queue in self._queues:
            if len(queue.ahead) >= AHEAD:
                continue
            if not queue.page and not queue.dry:
                queue.dry = True  # a commit while the rows are fetched takes it back
                rows = await self._outbox.next_batch(PAGE, lane=queue.lane, after=queue.fetched)
                if rows:  # an outbox may return fewer than it has: only none at all is the end
                    queue.dry = False
                    queue.page.extend(rows)
                    queue.fetched = rows[-1].position
                else:
                    queue.late = False
            if queue.page:
                return queue
        return None

    def _send_again(self) -> None:
        while self._again and self._in_flight < self._window:
            message = self._again.popleft()
            confirmation = self._publisher.publish(message, replay=True)
            self._in_flight += 1
            confirmation.add_done_callback(partial(self._again_done, message))

    def _again_done(self, message: Message, confirmation: "asyncio.Future[None]") -> None:
        if isinstance(confirmation.exception(), Rejected | None):
            self._resending -= 1
        self._resent.set()
        self._snapshot_done(message, confirmation)

    def _send_snapshots(self) -> None:
        """Those of the beginning go before everything else; later ones leave events the larger share of the line, or
        many machines whose totals change all the time would keep them from being sent at all."""
        while self._snapshots_due and self._in_flight < self._window:
            if self._first_snapshots > 0:
                self._first_snapshots -= 1
            elif any(queue.page or not queue.dry for queue in self._queues):
                if self._events_since < EVENTS_A_SNAPSHOT:
                    return
                self._events_since -= EVENTS_A_SNAPSHOT
            snapshot = self._retained.take()
            if snapshot is None:
                self._snapshots_due = False
                return
            confirmation = self._publisher.publish(snapshot, retain=True)
            self._in_flight += 1
            confirmation.add_done_callback(partial(self._snapshot_done, snapshot))

    def _done(self, stored: Stored, confirmation: "asyncio.Future[None]") -> None:
        error = confirmation.exception()
        if error is None:
            self._confirmed.append(stored)
        elif isinstance(error, Rejected):
            self._rejected.append((stored, error))
        else:
            if self._is_poison(error):
                self._rejected.append((stored, Rejected(str(error), code="B607", native=str(error))))
            self._fail(error)
        self._landed(error)

    def _snapshot_done(self, snapshot: Message, confirmation: "asyncio.Future[None]") -> None:
        error = confirmation.exception()
        if isinstance(error, Rejected):
            log.warning("%s %s is not taken by the broker: %s", error.code, snapshot.topic, error)
        elif error is not None:
            if self._is_poison(error):
                log.warning("B607 %s is not taken by the broker: %s", snapshot.topic, error)
                self._retained.forget(snapshot)
            self._fail(error)
        self._landed(error)

    def _is_poison(self, error: BaseException) -> bool:
        """It was the only one on its way when the broker ended the connection over a message."""
        return isinstance(error, Poisoned) and self._failure is None and self._in_flight == 1

    def _landed(self, error: BaseException | None) -> None:
        if self._one_by_one and (error is None or isinstance(error, Rejected)):
            self._one_by_one -= 1
        self._in_flight -= 1
        self._wake.set()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            if not isinstance(error, PublishError):
                error = NotConnected(f"The publisher failed: {error!r}.", code="B606", native=repr(error))
            self._failure = error
