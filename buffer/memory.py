"""The outbox without a disk: the same contract for `once` and for fast tests. What it holds ends with it."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from buffer.epoch import new_epoch
from buffer.outbox import EVICT_ROWS, Depth, Kept, Lane, Message, Oldest, OutboxError, Room, Span, Stored
from buffer.sequence import Key, Old, follow, spans


class _Append(NamedTuple):
    messages: tuple[Message, ...]
    states: dict[str, bytes]
    evict: tuple[Span, ...]
    refuse: tuple[int, str] | None
    done: asyncio.Future[None]


class MemoryOutbox:
    """`max_size`: bytes of unconfirmed bodies at which appends begin to wait; None is no bound."""

    def __init__(self, *, now: Callable[[], int], epoch: str | None = None, max_size: int | None = None) -> None:
        self._now = now
        self._epoch = epoch
        self._max_size = max_size
        self._last: dict[Key, int] = {}
        self._states: dict[str, bytes] = {}
        self._rows: dict[int, tuple[Stored, int]] = {}
        self._bytes = 0
        self._position = 0
        self._dead: list[tuple[Message, str]] = []
        self._waiting: list[_Append] = []
        self._news = asyncio.Event()
        self._open = False
        self._next_epoch: str | None = None

    async def open(self) -> None:
        if self._epoch is None:
            self._epoch = new_epoch(self._now())
        if self._next_epoch is not None:
            self._epoch, self._next_epoch = self._next_epoch, None
            self._states.clear()
        if self._rows:
            self._news.set()
        self._open = True

    @property
    def epoch(self) -> str:
        if self._epoch is None:
            raise OutboxError("the outbox is not open", code="S708")
        return self._epoch

    @property
    def fresh(self) -> bool:
        return not any(epoch == self._epoch for _, epoch in self._last)

    @property
    def prev_epoch(self) -> str | None:
        return None

    @property
    def prev_last_seq(self) -> Mapping[str, int]:
        return {}

    @property
    def quarantined(self) -> Path | None:
        return None

    @property
    def clean_stop(self) -> bool:
        return True

    @property
    def full(self) -> bool:
        return bool(self._waiting)

    @property
    def dead(self) -> Sequence[tuple[Message, str]]:
        """The dead letters with their reasons, oldest first."""
        return self._dead

    def append(
        self, messages: Sequence[Message], *, states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> Coroutine[Any, Any, None]:
        return self._add(tuple(messages), dict(states), tuple(evict), None)

    def _add(
        self,
        messages: tuple[Message, ...],
        states: dict[str, bytes],
        evict: tuple[Span, ...],
        refuse: tuple[int, str] | None,
    ) -> Coroutine[Any, Any, None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._open:
            self._waiting.append(_Append(messages, states, evict, refuse, done))
            self._store()
        else:
            done.set_exception(OutboxError("the outbox is closed", code="S708"))
        return _result(done)

    def _store(self) -> None:
        while self._waiting and (not self._is_full() or any(each.evict for each in self._waiting)):
            messages, states, evict, refuse, done = self._waiting.pop(0)
            try:
                size = sum(len(message.body) for message in messages)
                follow(self._last, messages)
            except Exception as error:
                # It goes to the caller of this append; the others are stored.
                _settle(done, error)
                continue
            for span in evict:
                self._evict(span)
            if refuse is not None and (dead := self._remove(refuse[0])) is not None:
                self._dead.append((dead, refuse[1]))
            recorded_at = self._now()
            for message in messages:
                self._position += 1
                self._rows[self._position] = (Stored(self._position, message), recorded_at)
            self._bytes += size
            self._states.update(states)
            if messages:
                self._news.set()
            _settle(done, None)

    def _is_full(self) -> bool:
        return self._max_size is not None and self._bytes >= self._max_size

    async def load_state(self, key: str) -> bytes | None:
        return self._states.get(key)

    async def load_states(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {key: self._states[key] for key in keys if key in self._states}

    async def last_numbers(self) -> Mapping[str, int]:
        return {stream: last for (stream, epoch), last in self._last.items() if epoch == self._epoch}

    async def disown(self, why: str, *, epoch: str) -> None:
        self._next_epoch = new_epoch(self._now(), after=max(epoch, self.epoch))

    async def next_batch(self, limit: int, *, lane: Lane, after: int = 0) -> Sequence[Stored]:
        found: list[Stored] = []
        for position, (stored, _) in self._rows.items():
            if len(found) >= limit:
                break
            if position > after and stored.message.lane == lane:
                found.append(stored)
        return found

    async def wait(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def ack(self, positions: Sequence[int]) -> None:
        for position in positions:
            self._remove(position)
        self._store()

    def _remove(self, position: int) -> Message | None:
        row = self._rows.pop(position, None)
        if row is None:
            return None
        self._bytes -= len(row[0].message.body)
        return row[0].message

    def reject(self, position: int, reason: str, declared_by: Sequence[Message] = ()) -> Coroutine[Any, Any, None]:
        return self._add(tuple(declared_by), {}, (), (position, reason))

    def _evict(self, span: Span) -> None:
        gone = [
            position
            for position, (stored, _) in self._rows.items()
            if stored.message[:2] == span[:2] and span.first <= stored.message.seq <= span.last
        ]
        for position in gone:
            self._remove(position)

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
        found: list[Old] = []
        for (_, message), recorded_at in self._rows.values():
            if message.lane != lane or message.type in spare or (only and message.type not in only):
                continue
            if size <= 0 or len(found) == EVICT_ROWS or (before is not None and recorded_at >= before):
                break
            body = message.body if message.type in with_bodies else None
            found.append(Old(message.stream, message.epoch, message.seq, message.type, len(message.body), body))
            size -= len(message.body)
        return spans(found)

    async def covered(self, span: Span, among: int) -> Sequence[int]:
        return [one.position for one in await self.find(span, among)]

    async def find(self, span: Span, limit: int) -> Sequence[Kept]:
        found = [
            Kept(position, stored.message, True)
            for position, (stored, _) in self._rows.items()
            if stored.message[:2] == span[:2] and span.first <= stored.message.seq <= span.last
        ]
        return sorted(found, key=lambda one: one.message.seq)[:limit]

    async def room(self) -> Room:
        waiting = sum(len(message.body) for each in self._waiting for message in each.messages)
        return Room((await self.depth()).fill, self._max_size or sys.maxsize, waiting, kept=False, disk=False)

    async def depth(self) -> Depth:
        oldest = next((recorded_at for _, recorded_at in self._rows.values()), None)
        fill = self._bytes / self._max_size if self._max_size else 0.0
        return Depth(len(self._rows), self._bytes, oldest, len(self._dead), fill)

    async def close(self) -> None:
        self._open = False
        for each in self._waiting:
            _settle(each.done, OutboxError("closed while waiting for room", code="S702"))
        self._waiting.clear()


async def _result(done: asyncio.Future[None]) -> None:
    await done


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
