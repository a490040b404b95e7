"""The buffer as the CLI sees it: the same questions to a running agent, over its socket, or to the file alone."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from buffer import reading
from buffer.outbox import Lane, Outbox, Span
from buffer.sqlite import SqliteOutbox
from edge_agent.administration import gaps
from edge_agent.control.server import Command
from edge_agent.delivery.forwarder import Forwarder

T = TypeVar("T")

REPLAY_AT_ONCE = 500
PURGE_AT_ONCE = 10_000
"""Messages removed for one question."""


class Look(Protocol):
    def __call__(self, question: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]: ...


def answer(connection: sqlite3.Connection, asked: Mapping[str, Any]) -> Any:
    """One question: `what` is `stats`, `page`, `one`, `check` or `whole`. Raises ValueError for another."""
    match asked.get("what"):
        case "stats":
            waiting: dict[Lane, tuple[int, int]] = {}
            for lane in Lane:
                waiting[lane], last = (0, 0), 0
                while (some := reading.count(connection, lane, last)).last is not None:
                    waiting[lane], last = _sum(waiting[lane], some), some.last
            return reading.stats(connection, waiting)._asdict()
        case "page":
            page = reading.page(
                connection,
                state=_word(asked, "state", reading.STATES),
                after=int(asked.get("after", 0)),
                limit=int(asked.get("limit", reading.PAGE)),
                stream=asked.get("stream"),
                kind=asked.get("kind"),
                bodies=bool(asked.get("bodies")),
            )
            return {"rows": [_plain(row) for row in page.rows], "next": page.next}
        case "one":
            return [_plain(row) for row in reading.one(connection, str(asked["epoch"]), int(asked["seq"]))]
        case "check":
            return reading.check(connection, int(asked.get("after", 0)))._asdict()
        case "whole":
            return reading.whole(connection)
        case other:
            raise ValueError(f"there is no question {other!r}")


def _word(asked: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    word = asked.get(key)
    if word not in known:
        raise ValueError(f"{key} is {word!r}, and must be one of {', '.join(known)}")
    return str(word)


def _sum(counted: tuple[int, int], more: reading.Counted) -> tuple[int, int]:
    return counted[0] + more.rows, counted[1] + more.bytes


def _plain(row: reading.Row) -> dict[str, Any]:
    body = None if row.body is None else row.body.decode(errors="replace")
    return {**row._asdict(), "body": body}


class Storekeeping:
    """What the local socket offers of the running agent's buffer."""

    def __init__(self, outbox: Outbox, forwarder: Callable[[], Forwarder]) -> None:
        self._outbox = outbox
        self._forwarder = forwarder

    def commands(self) -> Mapping[str, Command]:
        return {"buffer": self._look, "buffer_replay": self._replay, "buffer_purge": self._purge}

    async def _look(self, asked: Mapping[str, Any]) -> Any:
        if not isinstance(self._outbox, SqliteOutbox):
            raise ValueError("this agent has no buffer on a disk")
        if asked.get("what") == "stats":
            return await self._stats(self._outbox)
        return await self._outbox.look(lambda connection: answer(connection, asked))

    async def _stats(self, outbox: SqliteOutbox) -> dict[str, Any]:
        """Counted some at a time, so that what is to be stored meanwhile does not wait."""
        waiting: dict[Lane, tuple[int, int]] = {}
        for lane in Lane:
            waiting[lane], last = (0, 0), 0
            while (some := await outbox.look(partial(reading.count, lane=lane, after=last))).last is not None:
                waiting[lane], last = _sum(waiting[lane], some), some.last
        return (await outbox.look(lambda connection: reading.stats(connection, waiting)))._asdict()

    def _replay(self, asked: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Send a range of kept messages again, some at a time; who asks hangs up to end it."""
        first, last = int(asked["first"]), int(asked["last"])
        return self._replaying(Span(str(asked["stream"]), str(asked.get("epoch") or self._outbox.epoch), first, last))

    async def _replaying(self, span: Span) -> AsyncIterator[Any]:
        """Up to which number it has come, how many were confirmed again by the broker, how many wait to be sent for
        the first time, and what is not kept; `lost` where the broker is not connected (any more)."""
        first = span.first
        while first <= span.last:
            kept = await self._outbox.find(span._replace(first=first), REPLAY_AT_ONCE)
            last = kept[-1].message.seq if len(kept) == REPLAY_AT_ONCE else span.last
            forwarder = self._forwarder()
            sent = forwarder.resend(kept)
            if sent is None or not await forwarder.resent():
                yield {"lost": True}
                return
            gone = gaps([one.message.seq for one in kept], first, last)
            yield {
                "last": last,
                "sent": sent,
                "waiting": len(kept) - sent,
                "unavailable": [list(one) for one in gone],
            }
            first = last + 1

    async def _purge(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Remove some; `more`: perhaps not all."""
        if not isinstance(self._outbox, SqliteOutbox):
            raise ValueError("this agent has no buffer on a disk")
        dead, removed = _word(asked, "state", ("sent", "dead")) == "dead", 0
        while removed < PURGE_AT_ONCE:
            rows = await self._outbox.purge(dead=dead)
            removed += rows
            if rows == 0:
                return {"removed": removed, "more": False}
        return {"removed": removed, "more": True}
