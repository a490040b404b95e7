"""When the forwarder tries again: soon at a broker that is silent, more and more seldom at one that says no."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import pytest

from buffer.outbox import Message
from edge_agent.clock import SECOND, Instant
from edge_agent.delivery import refusals
from edge_agent.delivery.forwarder import Forwarder, Presence
from edge_agent.delivery.publisher import Forbidden, NotConnected, PublishError, Silence
from edge_agent.delivery.retained import Retained
from tests.delivery.forwarding import Notes, outbox_with, presence, set_aside_in

UNREACHABLE = Silence("Nothing listens.", code="B605")
BUSY = refusals.connack_refused(0x89, broker="b", user=None, client_id="a")
PASSWORD = refusals.connack_refused(0x86, broker="b", user="a", client_id="a")
TAKEN_OVER = refusals.disconnected(0x8E, broker="b", client_id="a")


class Attempt(NamedTuple):
    """What comes of one attempt after `took` seconds; it was a connection if it `lived` for so many."""

    error: PublishError
    took: float = 0.0
    lived: float | None = None


class Script:
    """A publisher and its clock: attempt after attempt goes as written, and no time passes but theirs."""

    window = 100

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._attempts = list(attempts)
        self.over = asyncio.Event()
        self.lost: asyncio.Future[PublishError]
        self._at = 0

    def now(self) -> Instant:
        return Instant(self._at, self._at)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)  # noqa: TID251 - no time passes

    async def connect(self, will: Message, birth: Message) -> None:
        if not self._attempts:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        error, took, lived = self._attempts.pop(0)
        self._at += round(took * SECOND)
        if lived is None:
            raise error
        self.lost = asyncio.get_running_loop().create_future()
        self.lost.add_done_callback(lambda _: self._pass(lived))
        asyncio.get_running_loop().call_soon(self.lost.set_result, error)

    def _pass(self, seconds: float) -> None:
        self._at += round(seconds * SECOND)

    def publish(self, message: Message, *, retain: bool = False, replay: bool = False) -> "asyncio.Future[None]":
        raise NotImplementedError

    async def close(self) -> None: ...


class Waits(Notes):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def disconnected(self, error: PublishError, retry_in: float) -> None:
        super().disconnected(error, retry_in)
        self.waits.append(retry_in)


async def after(*attempts: Attempt) -> Waits:
    script, notes, outbox = Script(attempts), Waits(), await outbox_with()
    forwarder = Forwarder(
        outbox,
        script,
        script,
        presence=Presence(lambda: presence("true"), lambda: presence("false"), lambda: presence("null")),
        retained=Retained(),
        listener=notes,
        set_aside=set_aside_in(outbox),
        random=Random(1),
    )
    running = asyncio.create_task(forwarder.run())
    await asyncio.wait_for(script.over.wait(), 20)
    running.cancel()
    await asyncio.wait([running])
    return notes


async def test_a_broker_that_is_not_there_is_asked_every_few_seconds_for_as_long_as_it_takes() -> None:
    waits = (await after(*[Attempt(UNREACHABLE)] * 50)).waits
    for attempt, wait in enumerate(waits):
        step = min(4.0, 2.0**attempt)
        assert step / 2 <= wait <= step
    assert len({round(wait, 3) for wait in waits[2:]}) > 40, "no jitter"


async def test_a_broker_that_refuses_is_asked_more_and_more_seldom_up_to_a_minute() -> None:
    waits = (await after(*[Attempt(BUSY)] * 12)).waits
    for attempt, wait in enumerate(waits):
        step = min(60.0, 2.0**attempt)
        assert step / 2 <= wait <= step


async def test_a_refused_login_waits_long_from_the_first() -> None:
    assert isinstance(PASSWORD, Forbidden)
    waits = (await after(*[Attempt(PASSWORD)] * 6)).waits
    assert waits[0] >= 10
    assert all(30 <= wait <= 60 for wait in waits[2:])


async def test_the_time_that_an_attempt_in_silence_took_is_part_of_the_wait() -> None:
    waits = (await after(*[Attempt(UNREACHABLE, took=2)] * 5, *[Attempt(UNREACHABLE, took=5)] * 5)).waits
    assert all(wait <= 2 for wait in waits[:5])
    assert waits[5:] == [0.5] * 5


async def test_a_broker_that_was_away_for_long_and_then_refuses_is_asked_again_soon() -> None:
    waits = (await after(*[Attempt(UNREACHABLE)] * 50, Attempt(BUSY))).waits
    assert waits[-1] <= 1


async def test_after_a_good_connection_the_waits_start_small() -> None:
    waits = (await after(*[Attempt(BUSY)] * 9, Attempt(UNREACHABLE, lived=11))).waits
    assert waits[-2] >= 30
    assert waits[-1] <= 1


async def test_a_line_that_breaks_at_once_again_and_again_may_be_a_twin_and_may_be_the_network() -> None:
    """The first must be told and not be fought with, the other must not keep the agent away for long."""
    notes = await after(*[Attempt(UNREACHABLE, lived=1)] * 20)
    assert [error.code for error in notes.errors] == ["B605", "B605", *["B604"] * 18]
    assert "client id" in str(notes.errors[-1])
    assert 5 <= min(notes.waits[5:]) <= max(notes.waits) <= 10


async def test_an_agent_whose_session_was_taken_over_does_not_fight_for_it() -> None:
    """The twin does the same: each has the session for a while, and still the waits grow."""
    assert isinstance(TAKEN_OVER, NotConnected)
    waits = (await after(*[Attempt(TAKEN_OVER, lived=20)] * 6)).waits
    assert waits[0] >= 10
    assert min(waits[2:]) >= 30


@pytest.mark.parametrize("error", [TAKEN_OVER, PASSWORD], ids=["twin", "login"])
async def test_after_minutes_without_a_twin_the_careful_waits_start_small(error: PublishError) -> None:
    waits = (await after(*[Attempt(error, lived=20)] * 6, Attempt(error, lived=301))).waits
    assert waits[-2] >= 30
    assert waits[-1] <= 20
