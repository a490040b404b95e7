"""The outbox: the contract of the only queue in the process.

Events and the machine state they came from are committed together or not at all. Nothing may be sent that
is not committed. Rows leave only by `ack` (confirmed) or `reject` (to the dead letters). The outbox knows
no event: a message is its numbers, its topic and its bytes.
"""

from collections.abc import Coroutine, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol


class Lane(IntEnum):
    """Loss class of a stream, in the order of sending (event model §1.3)."""

    PRODUCTION = 0
    HEALTH = 1
    MEASUREMENT = 2


class Message(NamedTuple):
    """One event as it goes on the wire. (`stream`, `epoch`, `seq`) is unique; `body` never changes."""

    stream: str
    epoch: str
    seq: int
    lane: Lane
    type: str
    topic: str
    body: bytes


class Stored(NamedTuple):
    """A committed message. `position` grows in the order of the commits."""

    position: int
    message: Message


class Span(NamedTuple):
    """Messages of one stream and epoch whose numbers follow each other, `first` to `last` inclusive."""

    stream: str
    epoch: str
    first: int
    last: int


class Oldest(NamedTuple):
    """Waiting messages that could be given up: their numbers, how many there are of each type, the bytes of their
    bodies, and the bodies of the types that were asked for, oldest first."""

    span: Span
    types: Mapping[str, int]
    size: int
    bodies: Sequence[bytes] = ()


class Room(NamedTuple):
    """How much room is left for new messages."""

    fill: float
    """Share of `limit` in use."""
    limit: int
    """Bytes that the file may grow to now."""
    waiting: int
    """Bytes of the appends that wait for room."""
    kept: bool
    """Confirmed messages are still kept: they go first."""
    disk: bool
    """The disk, not `max_size`, sets the bound."""


class Depth(NamedTuple):
    """How full the outbox is. `rows` and `bytes` count what is not confirmed; times are UTC microseconds."""

    rows: int
    bytes: int
    oldest_at: int | None
    dead: int
    fill: float
    """Share in use, by everything in the file, of what it may grow to now (`max_size` or less), 0 to 1."""
    stored: int = 0
    """Messages stored since the opening."""
    written: int | None = None
    """Bytes sent to the disk since the opening, None where the system does not count them."""


class Kept(NamedTuple):
    """A message that is in the outbox. `waiting`: it is not confirmed."""

    position: int
    message: Message
    waiting: bool


EVICT_ROWS: Final = 2000
"""Messages given up in one transaction, at most."""


class Outbox(Protocol):
    """Store and forward. `append` calls are committed in the order in which they were called; while there is no room,
    those that make it (`evict`) pass those with which they share no stream and no state."""

    async def open(self) -> None:
        """Open or create the database; a damaged one is moved aside (see `quarantined`). Raises `OutboxError`."""

    @property
    def epoch(self) -> str:
        """Epoch of every sequence in this database (event model §1.3)."""

    @property
    def fresh(self) -> bool:
        """True until the first message of this epoch is stored, over restarts too: `agent.started` is due with
        `prev_epoch`, or `data.loss` where that is unknown. The three below are set only while this is true."""

    @property
    def prev_epoch(self) -> str | None:
        """Epoch before this one in the same database, if known."""

    @property
    def prev_last_seq(self) -> Mapping[str, int]:
        """Highest number of each stream in `prev_epoch`."""

    @property
    def quarantined(self) -> Path | None:
        """Where the damaged database was moved to, for which this one was made."""

    @property
    def clean_stop(self) -> bool:
        """Whether the last process closed this database; true for a new one."""

    @property
    def full(self) -> bool:
        """Whether appends are waiting for room, on the disk or in `max_size` (S702)."""

    def append(
        self, messages: Sequence[Message], *, states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> Coroutine[Any, Any, None]:
        """Commit the messages and the states in one transaction; return when they are on the disk.

        What still waits of `evict` (see `oldest`) is given up in the same transaction, before anything is stored,
        so that it makes room for this append and then for those that wait.

        The call takes its place in the queue at once, before the first suspension, so that callers who
        call in order are committed in order. Waits while the disk or the quota is full: that is the back-pressure.
        A caller that is cancelled does not take the append back. Raises `SequenceError` for numbers that do not
        follow, and then nothing of this append is stored; other appends are untouched.
        """

    async def load_state(self, key: str) -> bytes | None: ...

    async def load_states(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Those of them that there are: thousands of machines start with one question, not with one each."""

    async def last_numbers(self) -> Mapping[str, int]:
        """Highest number of each stream of this epoch that is stored or was."""

    async def disown(self, why: str, *, epoch: str) -> None:
        """The numbers of this epoch cannot be continued: the next `open` begins one that sorts behind `epoch` too.
        Durable on return."""

    async def next_batch(self, limit: int, *, lane: Lane, after: int = 0) -> Sequence[Stored]:
        """Committed, unconfirmed messages of a lane with position > `after`, oldest first. Never waits."""

    async def wait(self) -> None:
        """Return when something has been committed since the last call of `wait`."""

    async def ack(self, positions: Sequence[int]) -> None:
        """Confirmed: never sent again by itself. Returns at once; it is committed with the next transaction
        or within a second. A crash before that sends the same bytes again."""

    def reject(self, position: int, reason: str, declared_by: Sequence[Message] = ()) -> Coroutine[Any, Any, None]:
        """Move a message to the dead letters with the reason, and store those that declare it, in one transaction;
        durable on return. Takes its place in the queue as `append` does, and waits and raises like it."""

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
        """What would be given up first to make room: the oldest waiting messages of a lane, up to `size` bytes of
        bodies or `EVICT_ROWS`; only those recorded before the UTC time given, none of the types in `spare`, and if
        `only` names types none of another.
        Nothing is changed. A message that is on the way to the broker may be among them."""

    async def covered(self, span: Span, among: int) -> Sequence[int]:
        """Positions of unconfirmed messages of a span of numbers, looked for among the oldest `among` of a lane."""

    async def find(self, span: Span, limit: int) -> Sequence[Kept]:
        """What is still kept of a span of numbers, waiting or confirmed, in their order, at most `limit`. One that
        is not as it was written is left out."""

    async def room(self) -> Room:
        """Also begins to remove confirmed messages when the room becomes short."""

    async def depth(self) -> Depth: ...

    async def close(self) -> None:
        """Commit what is queued and close. Safe twice."""


class Damaged(NamedTuple):
    """A stored message that could not be read back as it was written. It is in the dead letters and is never
    sent. The numbers are None where they cannot be trusted."""

    position: int
    stream: str | None
    epoch: str | None
    seq: int | None
    reason: str


class SequenceError(Exception):
    """Appended numbers do not follow those stored: a fault of the program, not of the disk."""


class OutboxError(Exception):
    """The outbox cannot be used. Says what to do.

    S701 locked by another program, S702 no room, S704 newer schema, S705 cannot be opened (permission, folder),
    S706 not an outbox, S707 damaged while in use (the next `open` moves it aside), S708 closed, S709 disowned.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
