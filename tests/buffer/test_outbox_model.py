"""Any sequence of actions on an outbox gives what a list in memory would give, over closing, killing and starting."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message, Outbox, SequenceError
from buffer.sqlite import SqliteOutbox

T = TypeVar("T")
STREAMS = {
    "press07.p": Lane.PRODUCTION,
    "saw2.p": Lane.PRODUCTION,
    "press07.m": Lane.MEASUREMENT,
    "$agent.h": Lane.HEALTH,
}
streams = st.sampled_from(sorted(STREAMS))
lanes = st.sampled_from(list(Lane))
picks = st.integers(0, 1 << 30)


class Model(RuleBasedStateMachine):
    """`self.rows`: what is not confirmed, in the order of the appends, as (position, message)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        ticks = itertools.count(1_772_414_047_250_000)
        self.now = lambda: next(ticks)
        self.last = dict.fromkeys(STREAMS, 0)
        self.states: dict[str, bytes] = {}
        self.rows: list[tuple[int, Message]] = []
        self.dead = 0
        self.outbox: Outbox = self.make()
        self.run(self.outbox.open())
        self.epoch = self.outbox.epoch

    def make(self) -> Outbox:
        raise NotImplementedError

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(call, 20))

    def teardown(self) -> None:
        self.run(self.outbox.close())
        self.loop.close()

    def message(self, stream: str, seq: int, size: int) -> Message:
        body = (f"{stream} {seq} " * size).encode()
        return Message(stream, self.epoch, seq, STREAMS[stream], "state.changed", "ea/v1/evt", body)

    def note(self, messages: list[Message]) -> None:
        """The positions are the outbox's to choose; that they grow is checked in `agrees`."""
        for message in messages:
            self.last[message.stream] = message.seq
            self.rows.append((0, message))

    async def learn(self) -> None:
        """Ask for everything and compare; the positions are then known."""
        found = []
        for lane in Lane:
            found += await self.outbox.next_batch(10_000, lane=lane)
        found.sort()
        assert [stored.message for stored in found] == [message for _, message in self.rows]
        for stored, (position, _) in zip(found, self.rows, strict=True):
            assert position in (0, stored.position)
        self.rows = [(stored.position, stored.message) for stored in found]
        assert all(a < b for (a, _), (b, _) in itertools.pairwise(self.rows))

    @rule(
        stream=streams, count=st.integers(0, 5), size=st.sampled_from([0, 1, 10, 800]), state=st.binary(max_size=20)
    )
    def append(self, stream: str, count: int, size: int, state: bytes) -> None:
        messages = [self.message(stream, self.last[stream] + 1 + index, size) for index in range(count)]

        async def one() -> None:
            await self.outbox.append(messages, states={stream: state})

        self.run(one())
        self.states[stream] = state
        self.note(messages)

    @rule(
        order=st.lists(streams, min_size=2, max_size=8),
        wrong=st.none() | st.integers(0, 7),
        off=st.sampled_from([0, 2, 5]),
    )
    def append_together(self, order: list[str], wrong: int | None, off: int) -> None:
        """Several in flight at once, one of them perhaps with a number that does not follow."""

        async def together() -> list[BaseException | None]:
            calls = [
                self.outbox.append([message], states={message.stream: b"%d" % message.seq}) for message in messages
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

        last = dict(self.last)
        messages = []
        for index, stream in enumerate(order):
            if index == wrong:
                messages.append(self.message(stream, last[stream] + off, 1))
            else:
                last[stream] += 1
                messages.append(self.message(stream, last[stream], 1))
        good = [message for index, message in enumerate(messages) if index != wrong]
        results = self.run(together())
        assert [isinstance(result, SequenceError) for result in results] == [i == wrong for i in range(len(order))]
        for message in good:
            self.states[message.stream] = b"%d" % message.seq
        self.note(good)

    @rule(lane=lanes, limit=st.integers(1, 7), pick=picks)
    def next_batch(self, lane: Lane, limit: int, pick: int) -> None:
        self.run(self.learn())
        mine = [row for row in self.rows if row[1].lane == lane]
        after = mine[pick % len(mine)][0] if mine and pick % 3 else 0
        due = [row for row in mine if row[0] > after][:limit]
        batch = self.run(self.outbox.next_batch(limit, lane=lane, after=after))
        assert [tuple(stored) for stored in batch] == due

    @rule(chosen=st.lists(picks, min_size=1, max_size=6))
    def ack(self, chosen: list[int]) -> None:
        self.run(self.learn())
        positions = [self.rows[pick % len(self.rows)][0] if self.rows else pick for pick in chosen]
        self.run(self.outbox.ack(positions))
        self.rows = [row for row in self.rows if row[0] not in positions]

    @precondition(lambda self: self.rows)
    @rule(pick=picks)
    def reject(self, pick: int) -> None:
        self.run(self.learn())
        position, _ = self.rows.pop(pick % len(self.rows))

        async def reject() -> None:
            await self.outbox.reject(position, "no")

        self.run(reject())
        self.dead += 1

    @rule(lane=lanes, size=st.integers(1, 3000))
    def give_up(self, lane: Lane, size: int) -> None:
        """What is offered is the oldest; all of it goes with the append that declares it."""
        self.run(self.learn())
        offered = self.run(self.outbox.oldest(lane, size))
        named = [(span.stream, seq) for span, *_ in offered for seq in range(span.first, span.last + 1)]
        mine = [row[1] for row in self.rows if row[1].lane == lane]
        assert sorted(named) == sorted((message.stream, message.seq) for message in mine[: len(named)])
        loss = self.message("$agent.h", self.last["$agent.h"] + 1, 1)

        async def one() -> None:
            await self.outbox.append([loss], states={}, evict=[span for span, *_ in offered])

        self.run(one())
        self.rows = [row for row in self.rows if (row[1].stream, row[1].seq) not in named]
        self.note([loss])

    @rule()
    def close_and_start(self) -> None:
        self.run(self.outbox.close())
        self.outbox = self.make()
        self.run(self.outbox.open())

    @invariant()
    def agrees(self) -> None:
        assert self.outbox.epoch == self.epoch
        assert self.outbox.fresh == (not any(self.last.values()))
        depth = self.run(self.outbox.depth())
        assert depth.rows == len(self.rows)
        assert depth.bytes == sum(len(message.body) for _, message in self.rows)
        assert depth.dead == self.dead
        assert (depth.oldest_at is None) == (not self.rows)

    @rule(stream=streams)
    def load_state(self, stream: str) -> None:
        assert self.run(self.outbox.load_state(stream)) == self.states.get(stream)

    @rule()
    def read_everything(self) -> None:
        self.run(self.learn())


class InMemory(Model):
    def make(self) -> Outbox:
        if not hasattr(self, "outbox"):
            return MemoryOutbox(now=self.now)
        return self.outbox


class InFile(Model):
    """With a kill: the files as they are at this moment are all that is left."""

    def make(self) -> Outbox:
        if not hasattr(self, "home"):
            self.folder = Path(tempfile.mkdtemp(prefix="outbox-model-"))
            self.homes = itertools.count()
            self.home = self.folder / str(next(self.homes))
            self.home.mkdir()
        return SqliteOutbox(self.home / "buffer.db", agent_id="ipc01", keep_sent=0, now=self.now)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)

    def due(self, *what: str) -> None:
        async def tell() -> None:
            for one in what:
                self.outbox._due(one)
            while await self.outbox._ask(lambda keeper: keeper._pruning):
                pass

        assert isinstance(self.outbox, SqliteOutbox)
        self.run(tell())

    @rule()
    def tidy(self) -> None:
        self.due("flush", "tidy")

    @rule()
    def kill(self) -> None:
        self.due("flush")
        old = self.outbox
        home = self.folder / str(next(self.homes))
        shutil.copytree(self.home, home)
        self.home = home
        self.run(old.close())
        self.outbox = self.make()
        self.run(self.outbox.open())
        assert self.outbox.broken is None
        assert self.outbox.quarantined is None


few = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
InMemory.TestCase.settings = few
InFile.TestCase.settings = few
TestAnOutboxInMemory = InMemory.TestCase
TestAnOutboxInAFile = InFile.TestCase
