"""What the thread of the outbox does when: commits in groups, deals with a full disk and with damage. The one place
for that; callers only wait.

**Group commit.** An idle thread commits an append at once; what arrives while a commit is running goes together
into the next transaction, at most `GROUP_ROWS` messages. So one append costs one sync, many at the same time share
it, and no append waits for company that may not come. A future is done only after COMMIT with `synchronous=FULL`.
Everything else the thread does (removing old rows, counting, checkpoints) is done in idle time, in slices that
shrink until they take no longer than `SLICE_LIMIT`: so long an append may find the thread busy.

**No room.** On SQLITE_FULL or an I/O error the transaction is rolled back and its appends keep their place. In this
order: the WAL is moved into the database, the limit follows the free space, the longest confirmed messages are
removed, then those just confirmed, then the ballast is given up. If that gives no room the appends wait, `full` is
true, and the transaction is tried again after every confirmation, every `retry` and with every append that gives up
others (`evict`). Reading and confirming go on. Nothing is lost, nothing exits.

**Sending.** Before a message is given out for the first time the mark (see `mark`) is raised past it.

**Damage.** A message that is not as it was written goes to the dead letters and is reported. If the file itself
cannot be used any more every call raises S707 and the next `open` moves it aside.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from buffer import quarantine, wear
from buffer.ledger import Ledger, Writing
from buffer.mark import Mark, MarkFile
from buffer.outbox import Damaged, Depth, Lane, OutboxError, Room, Stored
from buffer.schema import Opened, is_damage, is_damage_at_opening, is_passing, open_database
from buffer.space import Space
from buffer.thread import DatabaseThread

GROUP_ROWS: Final = 500
CHECKPOINT_BYTES: Final = 4 << 20
CHECKPOINT_NOW_BYTES: Final = 16 << 20
"""Written since the last checkpoint: done in the next idle moment, or without waiting for one."""
LOG_LEAST: Final = 64 << 10
SLICE_ROWS: Final = 500
REMOVALS: Final = (SLICE_ROWS, 50, 5)
"""Rows removed at once to make room: a removal goes through the log too, which may be too short for a large one."""
SLICE_LIMIT: Final = 50_000
"""µs."""
BUSY_TURNS: Final = 50
"""Without an idle moment one slice of idle work is done after so many turns."""
SHRINK_ABOVE: Final = 64 << 20
SHRINK_SLICE: Final = 1 << 20
"""Bytes: room for less than so much, or than a quarter of the file, is kept for new messages."""
CROWDED: Final = 0.8
"""From this share of the room on confirmed messages are no longer kept."""


@dataclass(frozen=True, slots=True)
class Write:
    work: Writing
    future: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class Ack:
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Ask:
    question: "Callable[[Keeper], Any]"
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class Due:
    """A timer of the loop: `flush` the confirmations, `retry` what found no room, `tidy` old rows, `commit` what was
    gathered."""

    what: str


Job = Write | Ack | Ask | Due


class Listener(Protocol):
    """What the keeper tells the loop; each is called there."""

    def committed(self) -> None:
        """Messages have been stored."""

    def no_room(self, full: bool) -> None:
        """Appends have begun to wait for room, also again after a `retry` in vain, or have ceased to."""

    def found_damaged(self, damaged: Sequence[Damaged]) -> None:
        """Messages went to the dead letters because they were not as written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    path: Path
    agent_id: str
    max_size: int
    keep_sent: int
    now: Callable[[], int]
    epoch: Callable[[int, str | None], str]


class Keeper:
    """The half of the outbox that lives in the thread: what to commit when, and what to do if that fails."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self.settings = settings
        self.thread: DatabaseThread[Job] = DatabaseThread("outbox", self.serve, self.fail)
        self._listener = listener
        self._ledger: Ledger | None = None
        self._held: deque[Write] = deque()
        self._alone = 0
        self._full = False
        self._error: OutboxError | None = None
        self._flush = False
        self._pruning = False
        self._shrinking = False
        self._counting = False
        self._crowded = False
        self._slice = SLICE_ROWS
        self._space = Space(settings.path, settings.max_size)
        self._marks = MarkFile(settings.path)
        self._marked = 0
        self._busy_turns = 0
        self._stuck = False
        """The last checkpoint found no room; tried again with the next timer."""

    @property
    def ledger(self) -> Ledger:
        if self._error is not None:
            raise self._error
        if self._ledger is None:
            raise closed()
        return self._ledger

    def open(self) -> tuple[Opened, bool, bool]:
        """The database, whether its epoch holds no message yet, and whether messages wait in it."""
        try:
            opened, ledger = self._opened()
        except sqlite3.DatabaseError as error:
            if not is_damage_at_opening(error):
                raise
            # Found behind the checks of the opening: once more, which moves it aside.
            quarantine.mark(self.settings.path)
            opened, ledger = self._opened()
        except OutboxError as error:
            if error.code != "S702" or not self._space.give_up_ballast():
                raise
            opened, ledger = self._opened()
        self._ledger = ledger
        self._counting = True
        self._space.follow(ledger.file)
        return opened, ledger.fresh, ledger.waiting

    def _opened(self) -> tuple[Opened, Ledger]:
        s = self.settings
        opened = open_database(
            s.path,
            agent_id=s.agent_id,
            now=s.now,
            epoch=lambda before: s.epoch(s.now(), before),
            mark=self._marks.read(),
        )
        try:
            return opened, Ledger(opened, now=s.now)
        except BaseException:
            opened.db.conn.close()
            raise

    def close(self) -> None:
        self.thread.end()
        if self._ledger is None or self._error is not None:
            self._refuse_held(self._error or closed())
            return
        self._write()
        self._refuse_held(OutboxError("The buffer was closed while it waited for room.", code="S702"))
        # Without it the next start knows of no clean stop, and what was confirmed last is sent again.
        self._try(self._ledger.finish)
        self._ledger.close()
        self._marks.close()

    def serve(self, jobs: Sequence[Job]) -> bool:
        """One turn: take the jobs, commit, answer; without jobs do one slice of idle work. True: call again."""
        questions: list[Ask] = []
        retry = not self._full
        for job in jobs:
            if isinstance(job, Write):
                self._held.append(job)
                retry = retry or bool(job.work.evict)
            elif isinstance(job, Ack):
                self._acknowledge(job.positions)
                retry = True
            elif isinstance(job, Ask):
                questions.append(job)
            else:
                self._due(job.what)
                retry = True
        if self._error is not None:
            self._refuse_held(self._error)
        elif self._ledger is not None and retry:
            self._write()
            self._flush_acks()
        for question in questions:
            self._answer(question)
        return self._idle(bool(jobs))

    def _acknowledge(self, positions: Sequence[int]) -> None:
        ledger = self._ledger
        if ledger is not None and self._error is None:
            # What cannot be looked up is sent again.
            self._try(lambda: ledger.acknowledge(positions))

    def _due(self, what: str) -> None:
        self._stuck = False
        if what == "flush":
            self._flush = True
        elif what == "tidy" and self._ledger is not None and self._error is None:
            self._try(self._tidy)

    def _tidy(self) -> None:
        self._pruning = True
        self._space.follow(self.ledger.file)
        self._shrinking = self._is_large()

    def fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """A fault of this program: nobody may wait for ever."""
        for job in jobs:
            if isinstance(job, Write | Ask):
                self.thread.settle(job.future, error=error)
            if isinstance(job, Ask) and job.question is Keeper.close:
                self.thread.end()
        self._refuse_held(error)

    def _refuse_held(self, error: BaseException) -> None:
        while self._held:
            self.thread.settle(self._held.popleft().future, error=error)

    def _answer(self, ask: Ask) -> None:
        try:
            self.thread.settle(ask.future, ask.question(self))
        except sqlite3.Error as error:
            self.thread.settle(ask.future, error=self._unreadable(error))
        except OutboxError as error:
            self.thread.settle(ask.future, error=error)

    def read(self, lane: Lane, after: int, limit: int) -> Sequence[Stored]:
        while True:
            page = self.ledger.lookup.read(lane, after, limit)
            if not page.damaged or not self._set_aside(page.damaged) or page.rows:
                self._raise_mark(page.rows)
                return page.rows

    def _raise_mark(self, rows: Sequence[Stored]) -> None:
        ledger = self.ledger
        if rows and rows[-1].position > self._marked:
            self._marks.raise_to(Mark(ledger.epoch, ledger.position))
            self._marked = ledger.position

    def _set_aside(self, damaged: Sequence[Damaged]) -> bool:
        done = self._try(lambda: self.ledger.set_aside(damaged))
        if done:
            self.thread.call(self._listener.found_damaged, damaged)
        return done

    def room(self) -> Room:
        """The room that is left; where it is short, confirmed messages begin to go."""
        ledger = self.ledger
        self._space.follow(ledger.file)
        fill = self._space.fill(ledger.file)
        self._crowded = fill >= CROWDED and ledger.lookup.keeps
        waiting = sum(write.work.size for write in self._held)
        return Room(fill, self._space.limit, waiting, ledger.lookup.keeps, self._space.by_disk)

    def depth(self) -> Depth:
        return self.ledger.depth(self._space.limit)._replace(written=wear.written())

    # --- committing ---

    def _write(self) -> None:
        while self._held and self._error is None:
            group = self._group()
            if not self._store(group):
                return
        if self._full:
            self._say_full(False)

    def _group(self) -> list[Write]:
        """The oldest appends, up to `GROUP_ROWS` messages; one alone after a group that failed. Without room those
        that make it go first, together."""
        if self._full and not self._alone and (first := self._making_room()):
            return first
        group: list[Write] = []
        rows = 0
        for write in self._held:
            rows += max(len(write.work.messages), 1)
            if group and (self._alone or rows > GROUP_ROWS):
                break
            group.append(write)
        return group

    def _making_room(self) -> list[Write]:
        """The appends that give something up, with those before them that share a stream or a state: moved to the
        front. Behind one that needs more room than they make they would wait for ever."""
        first: list[Write] = []
        others: list[Write] = []
        shared: set[tuple[str, str]] = set()
        for write in reversed(self._held):
            work = write.work
            keys = {(each.stream, each.epoch) for each in work.messages} | {("", key) for key in work.states}
            if work.evict or keys & shared:
                first.append(write)
                shared |= keys
            else:
                others.append(write)
        if first:
            self._held = deque([*reversed(first), *reversed(others)])
        return first[::-1]

    def _store(self, group: list[Write]) -> bool:
        """Commit a group and settle it; False if it must wait."""
        works = [write.work for write in group]
        while True:
            try:
                verdicts = self.ledger.store(works)
                break
            except sqlite3.Error as error:
                if is_damage(error):
                    self._refuse_held(self._broken(error))
                    return False
                if is_passing(error):
                    if self._make_room():
                        continue
                    self._say_full(True)
                    return False
                failure: Exception = error
            except Exception as error:
                # Whatever an append holds that cannot be stored is told to its own caller, below.
                failure = error
            if len(group) > 1:
                self._alone = len(group)
                return True
            self._settle(group, [failure])
            return True
        self._settle(group, verdicts)
        self._flush = False
        stored = any(v is None and work.messages for v, work in zip(verdicts, works, strict=True))
        self.thread.deliver(self._listener.committed if stored else None)
        return True

    def _settle(self, group: list[Write], errors: Sequence[Exception | None]) -> None:
        for write, error in zip(group, errors, strict=True):
            self._held.popleft()
            self.thread.settle(write.future, error=error)
        self._alone = max(self._alone - len(group), 0)

    def _flush_acks(self) -> None:
        if not self._flush or self._held or self._error is not None:
            return
        self._flush = False
        while not self._try(lambda: self.ledger.store(())):
            if self._error is not None or not self._make_room():
                return

    def _try(self, action: Callable[[], object]) -> bool:
        """Do it if the disk lets us; what it would have done is still due otherwise."""
        if self._error is not None:
            return False
        try:
            action()
        except sqlite3.Error as error:
            if is_damage(error):
                self._broken(error)
            elif not is_passing(error):
                raise
            return False
        return True

    def _unreadable(self, error: sqlite3.Error) -> OutboxError:
        if is_damage(error):
            return self._broken(error)
        return OutboxError(f"The buffer {self.settings.path} cannot be read: {error}.", code="S705")

    def _broken(self, error: sqlite3.Error) -> OutboxError:
        if self._error is None:
            path = self.settings.path
            self._error = OutboxError(
                f"The buffer {path} is damaged ({error}). It is moved aside at the next start.", code="S707"
            )
            self._error.__cause__ = error
            quarantine.mark(path)
            if self._ledger is not None:
                self._ledger.close()
        return self._error

    # --- room ---

    def _say_full(self, full: bool) -> None:
        self._full = full
        self.thread.call(self._listener.no_room, full)

    def _make_room(self) -> bool:
        """Whether something was done that may let the transaction through."""
        ledger = self.ledger
        if ledger.written and self._checkpoint():
            return True
        if self._space.follow(ledger.file):
            return True
        if ledger.lookup.keeps and any(self._try(partial(ledger.prune, None, rows)) for rows in REMOVALS):
            return True
        if ledger.acked and any(self._try(partial(ledger.drop_acked, rows)) for rows in REMOVALS):
            return True
        return self._space.give_up_ballast()

    def _checkpoint(self) -> bool:
        """Whether the log could be moved into the file. On a full disk the ballast is for that first of all, and the
        database stops to grow: the log may be long enough to take much more than the file then could."""
        ledger = self.ledger
        done = self._try(ledger.checkpoint)
        if not done and self._error is None:
            self._space.follow(ledger.file)
            done = self._space.give_up_ballast() and self._try(ledger.checkpoint)
        self._stuck = not done
        return done

    # --- idle work ---

    def _idle(self, busy: bool) -> bool:
        """One slice of what is due; whether more is."""
        ledger = self._ledger
        if ledger is None or self._error is not None:
            return False
        self._busy_turns = self._busy_turns + 1 if busy else 0
        busy = busy and self._busy_turns % BUSY_TURNS != 0
        if ledger.written >= self._log_limit(busy) and not self._stuck:
            self._checkpoint()
        elif busy:
            pass
        elif self._counting:
            self._counting = self._try(self._count_slice) and self._counting
        elif self._crowded:
            self._crowded = self._try(self._prune_for_room) and self._crowded
        elif self._pruning:
            self._pruning = self._try(self._prune_slice) and self._pruning
        elif self._shrinking:
            self._shrinking = self._try(lambda: ledger.file.give_back(SHRINK_SLICE)) and self._is_large()
        large = ledger.written >= self._log_limit(busy) and not self._stuck
        more = self._counting or self._crowded or self._pruning or self._shrinking or large
        return more and self._error is None

    def _log_limit(self, busy: bool) -> int:
        most = max(self._space.log_limit, LOG_LEAST)
        return min(CHECKPOINT_NOW_BYTES, most) if busy else min(CHECKPOINT_BYTES, most // 2)

    def _count_slice(self) -> None:
        self._counting = self.ledger.count()

    def _prune_for_room(self) -> None:
        if self.ledger.prune(None, SLICE_ROWS):
            self.room()
        else:
            self._crowded = False

    def _is_large(self) -> bool:
        file = self.ledger.file
        return file.free() > max(file.size() // 4, SHRINK_ABOVE)

    def _prune_slice(self) -> None:
        started = self.settings.now()
        removed = self.ledger.prune(started - self.settings.keep_sent, self._slice)
        self._pruning = removed == self._slice
        too_long = self.settings.now() - started > SLICE_LIMIT
        self._slice = max(self._slice // 2, 1) if too_long else min(self._slice * 2, SLICE_ROWS)


def closed() -> OutboxError:
    return OutboxError("The buffer is closed.", code="S708")
