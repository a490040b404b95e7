"""Keeps a connection to the broker and a session on it: connects, backs off, reports, says goodbye.

What to do about a failure is in its name: `Silence` tries again within seconds for as long as it takes,
`NotConnected` waits longer each time, `Rejected` sets one message aside and goes on (see `session`), `Forbidden`
stops the sending and tries again slowly; so does a client id in use by two. Collecting and storing go on meanwhile.

It ends by cancellation: nothing new is sent, what is in flight gets a second to be confirmed, and the status
is published as off line.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from buffer.outbox import Kept, Message, Outbox, Span, Stored
from edge_agent.backoff import Backoff
from edge_agent.clock import SECOND, Clock
from edge_agent.delivery.continuity import RolledBack
from edge_agent.delivery.publisher import (
    REFUSED_WAIT,
    SILENT_WAIT,
    Forbidden,
    NotConnected,
    Poisoned,
    Publisher,
    PublishError,
    Rejected,
    Silence,
)
from edge_agent.delivery.retained import Retained
from edge_agent.delivery.session import AHEAD, Session

log = logging.getLogger(__name__)

PARTING_LIMIT = 1.0
"""Seconds that the end of a connection that still works waits for confirmations."""
SNAPSHOTS_EVERY = 1.0
"""Seconds between two rounds of changed snapshots."""
PROGRESS_EVERY = 5.0
"""Seconds between two looks whether the MOM confirms."""
SETTLED = 10 * SECOND
"""A connection that lived so long was a good one: the next wait starts small again."""
UNDISTURBED = 300 * SECOND
"""So long nobody else used our client id, and our login was good: the careful waits start small again."""
SUSPICION_WAIT = 10 * SECOND
"""The longest wait while it may be somebody else, and may be the network."""
AT_LEAST = 0.5
"""Seconds between a failed attempt and the next, however long it took."""
SUSPICIOUS = 3
"""So many connections in a row that the broker took and soon closed: somebody else may have the same client id."""


class Listener(Protocol):
    """Who wants to know: health, `connection.changed`. Called in the event loop; must not raise."""

    def connected(self) -> None: ...

    def disconnected(self, error: PublishError, retry_in: float) -> None:
        """Called for each failed attempt too; `retry_in` is seconds."""

    def confirmed(self, count: int) -> None: ...

    def rejected(self, message: Message, error: Rejected) -> None:
        """The message is in the dead letters now."""


@dataclass(frozen=True, slots=True)
class Presence:
    """How the agent shows on its status topic; each is made when it is needed."""

    birth: Callable[[], Message]
    will: Callable[[], Message]
    farewell: Callable[[], Message]


class Forwarder:
    """One outbox to one publisher. `run` it for as long as the agent runs."""

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        clock: Clock,
        *,
        presence: Presence,
        retained: Retained,
        listener: Listener,
        set_aside: Callable[[Stored, str], Awaitable[None]],
        random: Random,
        mom: bool = False,
    ) -> None:
        """`mom`: an event is done when the MOM has confirmed it, not when the broker has."""
        self._mom = mom
        self._outbox = outbox
        self._publisher = publisher
        self._clock = clock
        self._presence = presence
        self._retained = retained
        self._listener = listener
        self._set_aside = set_aside
        self._backoff = Backoff(1 * SECOND, REFUSED_WAIT, random, silent=SILENT_WAIT)
        self._careful = Backoff(20 * SECOND, REFUSED_WAIT, random)
        self._suspicion = Backoff(4 * SECOND, SUSPICION_WAIT, random)
        self._attempt_took = 0.0
        self._one_by_one = 0
        self._session: Session | None = None
        self._short_lived = 0
        self._reported: str | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_outbox(), name="forwarder: commits")
            group.create_task(self._watch_snapshots(), name="forwarder: snapshots")
            group.create_task(self._watch_progress(), name="forwarder: progress")
            while True:
                error = self._judge(await self._connect_and_send_safely())
                wait = self._wait_after(error)
                self._offline(error, wait)
                await self._clock.sleep(wait)

    async def marked(self, stream: str, epoch: str, seq: int) -> int:
        """The MOM has stored everything of the stream up to this number; how many messages that confirms now."""
        found = await self._outbox.covered(Span(stream, epoch, 0, seq), 2 * AHEAD)
        await self._outbox.ack(found)
        if self._session is not None:
            self._session.marked(stream, epoch, seq)
        return len(found)

    def resend(self, kept: Sequence[Kept]) -> int | None:
        """Send kept messages again, marked as such; how many, without those whose turn has not come, or None while
        there is no connection."""
        return None if self._session is None else self._session.resend(kept)

    @property
    def resending(self) -> int:
        """How many are to be sent again and are not confirmed."""
        return 0 if self._session is None else self._session.resending

    async def resent(self) -> bool:
        """Return when all that was to be sent again is confirmed; False if the connection was lost before."""
        return self._session is not None and await self._session.resent()

    def introduce(self) -> None:
        """Another configuration runs: the status topic says so. A new connection says it by its birth."""
        if self._session is not None:
            self._retained.once(self._presence.birth())

    async def _connect_and_send_safely(self) -> PublishError:
        try:
            return await self._connect_and_send()
        except RolledBack:
            raise
        except Exception as error:  # a fault of ours must not end the sending for good while the buffer fills
            log.exception("sending failed in a way it should not")
            return NotConnected(f"Sending failed: {error!r}.", code="B699", native=repr(error))

    async def _connect_and_send(self) -> PublishError:
        """One connection from birth to end; why it ended."""
        began = self._clock.now().mono
        try:
            await self._publisher.connect(self._presence.will(), self._presence.birth())
        except PublishError as error:
            self._attempt_took = (self._clock.now().mono - began) / SECOND
            return error
        self._attempt_took = 0.0
        began = self._clock.now().mono
        session = Session(
            self._outbox,
            self._publisher,
            self._retained,
            on_confirmed=self._listener.confirmed,
            on_rejected=self._listener.rejected,
            set_aside=self._set_aside,
            mom=self._mom,
            one_by_one=self._one_by_one,
            now=lambda: self._clock.now().mono,
        )
        self._session = session
        self._online()
        try:
            end = await session.run()
            some = self._publisher.window
            self._one_by_one = some if isinstance(end, Poisoned) else min(session.one_by_one, some)
            return end
        finally:
            self._session = None
            self._note_life(self._clock.now().mono - began)
            await self._part(session)

    def _note_life(self, lived: int) -> None:
        if lived > SETTLED:
            self._short_lived = 0
            self._backoff.reset()
            self._suspicion.reset()
        else:
            self._short_lived += 1
        if lived > UNDISTURBED:
            self._careful.reset()

    async def _part(self, session: Session) -> None:
        """A connection that still works is left in order: confirmations first, then the farewell."""
        if not self._publisher.lost.done():
            try:
                async with asyncio.timeout(PARTING_LIMIT):
                    await session.drained()
                    await self._publisher.publish(self._presence.farewell(), retain=True)
            except (TimeoutError, PublishError) as error:
                log.debug("parted from the broker without a farewell: %r", error)
        await self._publisher.close()
        await session.settle()

    def _judge(self, error: PublishError) -> PublishError:
        """Not every broker says that a session was taken over, mosquitto 2.0 does not; two agents that take it in
        turns look like this. So does a bad network, which is why the suspicion alone does not make the waits long."""
        if not isinstance(error, Silence) or self._short_lived < SUSPICIOUS:
            return error
        return Silence(
            f"{error} It took the connection and closed it {self._short_lived} times in a row: does another client "
            "use the same client id? Each agent needs its own agent.id or mqtt.client_id.",
            code="B604",
            native=error.native,
        )

    def _wait_after(self, error: PublishError) -> float:
        """Seconds until the next attempt."""
        if isinstance(error, Poisoned):
            return self._backoff.next(silent=True)
        if isinstance(error, Silence) and error.code == "B604":
            return self._suspicion.next()
        if isinstance(error, Silence):
            return max(self._backoff.next(silent=True) - self._attempt_took, AT_LEAST)
        if isinstance(error, Forbidden) or error.code == "B604":
            return self._careful.next()
        return self._backoff.next()

    def _online(self) -> None:
        log.info("connected to the broker" if self._reported is None else "the broker is back")
        self._reported = None
        self._listener.connected()

    def _offline(self, error: PublishError, wait: float) -> None:
        level = logging.DEBUG if self._reported == error.code else logging.WARNING
        self._reported = error.code
        log.log(level, "%s %s Events are stored; next attempt in %.0f s.", error.code, error, wait)
        if error.native:
            log.debug("%s", error.native)
        self._listener.disconnected(error, wait)

    async def _watch_outbox(self) -> None:
        while True:
            await self._outbox.wait()
            if self._session is not None:
                self._session.committed()

    async def _watch_progress(self) -> None:
        while self._mom:
            await self._clock.sleep(PROGRESS_EVERY)
            if self._session is not None:
                self._session.check_progress()

    async def _watch_snapshots(self) -> None:
        while True:
            await self._retained.changed.wait()
            if self._session is not None:
                self._session.snapshots_due()
            await self._clock.sleep(SNAPSHOTS_EVERY)
