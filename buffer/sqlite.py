"""The durable outbox: SQLite behind one thread. This is the half in the event loop: it queues jobs in the order of
the calls, keeps the timers and gives the answers; what happens in the thread is in `keeper`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from buffer.epoch import new_epoch
from buffer.keeper import Ack, Ask, Due, Job, Keeper, Settings, Write, closed
from buffer.ledger import Refusal, Writing
from buffer.outbox import Damaged, Depth, Kept, Lane, Message, Oldest, Room, Span, Stored
from buffer.schema import Opened
from buffer.thread import DatabaseThread

ACK_S: Final = 0.9
"""A confirmation is committed within a second."""
ACK_ROWS: Final = 500
"""So many confirmations are committed without waiting for the second."""
PURGE_ROWS: Final = 500
"""So many confirmed messages go at once when they are removed by hand: appends come between."""
RETRY_S: Final = 0.5
TIDY_S: Final = 60.0

_T = TypeVar("_T")


class SqliteOutbox:
    """`Outbox` in the file `path`.

    `agent_id`: a change of it begins a new epoch. `max_size`: bytes the file may grow to. `keep_sent`: microseconds.
    `commit_interval`: microseconds; what is appended within so long after an append is committed together, when they
    are over. `now`: UTC microseconds. `epoch`: makes a new epoch of (now, epoch before).
    `on_damaged`: called in the loop for every message that was found damaged.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        agent_id: str,
        max_size: int = 4 << 30,
        keep_sent: int = 72 * 3_600_000_000,
        commit_interval: int = 0,
        now: Callable[[], int],
        epoch: Callable[[int, str | None], str] = lambda now, before: new_epoch(now, after=before),
        on_damaged: Callable[[Damaged], None] | None = None,
    ) -> None:
        self._settings = Settings(
            path=Path(path),
            agent_id=agent_id,
            max_size=max_size,
            keep_sent=keep_sent,
            now=now,
            epoch=epoch,
        )
        self._commit_interval = commit_interval
        self._gathered: int | None = None
        """Writes that wait for the end of the interval; None outside of one."""
        self._on_damaged = on_damaged
        self._thread: DatabaseThread[Job] | None = None
        self._opened: Opened | None = None
        self._fresh = True
        self._full = False
        self._news = asyncio.Event()
        self._unflushed = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def open(self) -> None:
        keeper = Keeper(self._settings, self)
        self._thread = keeper.thread
        self._thread.start()
        try:
            self._opened, self._fresh, waiting = await self._ask(Keeper.open)
        except BaseException:
            await self.close()
            raise
        if waiting:
            self._news.set()
        self._later("tidy", TIDY_S)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._gathered = None
        if thread is not None:
            done = asyncio.get_running_loop().create_future()
            thread.post(Ask(Keeper.close, done))
            await done
            await thread.join()

    @property
    def epoch(self) -> str:
        return self._found.epoch

    @property
    def _found(self) -> Opened:
        if self._opened is None:
            raise closed()
        return self._opened

    @property
    def fresh(self) -> bool:
        return self._fresh

    @property
    def prev_epoch(self) -> str | None:
        return self._found.prev_epoch if self._fresh else None

    @property
    def prev_last_seq(self) -> Mapping[str, int]:
        return self._found.prev_last_seq if self._fresh else {}

    @property
    def quarantined(self) -> Path | None:
        return self._found.quarantined if self._fresh else None

    @property
    def clean_stop(self) -> bool:
        return self._found.clean_stop

    @property
    def broken(self) -> str | None:
        """Why this epoch began though there was one before, for the log; None if it did not."""
        return self._found.broken if self._fresh else None

    @property
    def rolled_back(self) -> bool:
        """The database was found older than what was sent from it: numbers given meanwhile may be anywhere."""
        return self._found.rolled_back if self._fresh else False

    @property
    def full(self) -> bool:
        return self._full

    def append(
        self, messages: Sequence[Message], *, states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> Coroutine[Any, Any, None]:
        return _result(self._write(Writing(tuple(messages), dict(states), tuple(evict))))

    def reject(self, position: int, reason: str, declared_by: Sequence[Message] = ()) -> Coroutine[Any, Any, None]:
        return _result(self._write(Writing(tuple(declared_by), {}, refuse=Refusal(position, reason))))

    def _write(self, work: Writing) -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        if self._thread is None:
            future.set_exception(closed())
        else:
            self._thread.post(Write(work, future), wake=self._gathered is None)
            if self._gathered is not None:
                self._gathered += 1
            elif self._commit_interval:
                self._begin_interval()
        return future

    def _begin_interval(self) -> None:
        self._gathered = 0
        self._later("commit", self._commit_interval / 1e6)

    async def load_state(self, key: str) -> bytes | None:
        return await self._ask(lambda keeper: keeper.ledger.lookup.state(key))

    async def load_states(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await self._ask(lambda keeper: keeper.ledger.lookup.states(keys))

    async def last_numbers(self) -> Mapping[str, int]:
        return await self._ask(lambda keeper: keeper.ledger.last_numbers())

    async def disown(self, why: str, *, epoch: str) -> None:
        await self._ask(lambda keeper: keeper.ledger.disown(why, epoch))

    async def next_batch(self, limit: int, *, lane: Lane, after: int = 0) -> Sequence[Stored]:
        return await self._ask(lambda keeper: keeper.read(lane, after, limit))

    async def wait(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def ack(self, positions: Sequence[int]) -> None:
        if self._thread is None:
            raise closed()
        self._unflushed += len(positions)
        # Without a wake-up: a transaction that comes anyway takes them along.
        self._thread.post(Ack(tuple(positions)), wake=self._full)
        if self._unflushed >= ACK_ROWS:
            self._due("flush")
        elif "flush" not in self._timers:
            self._later("flush", ACK_S)

    async def oldest(
        self,
        lane: Lane,
        size: int,
        *,
        before: int | None = None,
        spare: frozenset[str] = frozenset(),
        only: frozenset[str] = frozenset(),
        with_bodies: frozenset[str] = frozenset(),
    ) -> Sequence[Oldest]:
        return await self._ask(
            lambda keeper: keeper.ledger.lookup.oldest(lane, size, before, spare, only, with_bodies)
        )

    async def covered(self, span: Span, among: int) -> Sequence[int]:
        return await self._ask(lambda keeper: keeper.ledger.lookup.covered(span, among))

    async def find(self, span: Span, limit: int) -> Sequence[Kept]:
        return await self._ask(lambda keeper: keeper.ledger.lookup.find(span, limit))

    async def room(self) -> Room:
        return await self._ask(Keeper.room)

    async def depth(self) -> Depth:
        return await self._ask(Keeper.depth)

    async def look(self, question: "Callable[[sqlite3.Connection], _T]") -> "_T":
        """The answer to a question that only reads, asked between two transactions; keep it short."""
        return await self._ask(lambda keeper: question(keeper.ledger.connection))

    async def purge(self, *, dead: bool) -> int:
        """Remove the dead letters, or else some of the confirmed messages that are kept; how many, 0 when none is
        left."""
        return await self._ask(
            lambda keeper: keeper.ledger.forget_dead() if dead else keeper.ledger.prune(None, PURGE_ROWS)
        )

    async def _ask(self, question: "Callable[[Keeper], _T]") -> "_T":
        if self._thread is None:
            raise closed()
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._thread.post(Ask(question, future))
        return await future

    def _later(self, what: str, seconds: float) -> None:
        old = self._timers.get(what)
        if old is not None:
            old.cancel()
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, self._due, what)

    def _due(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()
        if what == "flush":
            self._unflushed = 0
        if what == "tidy":
            self._later("tidy", TIDY_S)
        if what == "commit":
            gathered, self._gathered = self._gathered, None
            if not gathered:
                return
            self._begin_interval()
        if self._thread is not None:
            self._thread.post(Due(what))

    # Called in the loop by the keeper.

    def committed(self) -> None:
        self._fresh = False
        self._news.set()

    def no_room(self, full: bool) -> None:
        self._full = full
        if full and self._thread is not None:
            self._later("retry", RETRY_S)

    def found_damaged(self, damaged: Sequence[Damaged]) -> None:
        if self._on_damaged is not None:
            for one in damaged:
                self._on_damaged(one)


async def _result(future: "asyncio.Future[None]") -> None:
    await future
