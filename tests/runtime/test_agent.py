"""The agent in this process: what happens to it as a whole when a part of it fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from buffer.outbox import Message, OutboxError, Span
from buffer.sqlite import SqliteOutbox
from config.load import load
from drivers.registry import Drivers
from edge_agent.clock import SECOND, Instant, SystemClock
from edge_agent.runtime import Agent
from tests.waiting import free_port, until

_CONFIG = """\
version: 1
agent: {{id: whole}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"{mqtt}}}
buffer: {{path: buffer.db}}
machines:
  press-1:
    line: line1
    device:
      driver: simulated
      scan: 20ms
      tags:
        status: {{kind: cycle, values: [2, 8], every: 200ms}}
        total: {{kind: counter, rate: 50/s}}
    state: {{from: status, map: {{2: running, 8: fault}}, debounce: {{default: 0s}}}}
    counters:
      main: {{total: total, max_rate: 500/s}}
"""


class Running:
    def __init__(self, agent: Agent, messages: list[Message]) -> None:
        self.agent = agent
        self.messages = messages
        self.committed: list[int] = []
        """When each was, monotonic µs."""
        self.stop = asyncio.Event()
        self.starts = 0
        self.task: asyncio.Task[None]

    def started(self) -> None:
        self.starts += 1

    def types(self) -> list[str]:
        return [message.type for message in self.messages]


@asynccontextmanager
async def running(
    folder: Path,
    buffer: type[SqliteOutbox] = SqliteOutbox,
    *,
    broker: int | None = None,
    more: str = "",
    mqtt: str = "",
    **agent: Any,
) -> AsyncIterator[Running]:
    """`broker` is its port; `more` are lines of the machine's configuration, `mqtt` is added to that of the
    broker, `agent` goes to the agent."""
    file = folder / "edge-agent.yaml"
    file.write_text(_CONFIG.format(port=broker or free_port(), mqtt=mqtt) + more)
    messages: list[Message] = []

    def observe(new: Sequence[Message]) -> None:
        messages.extend(new)
        run.committed.extend([SystemClock().now().mono] * len(new))

    run = Running(Agent(load(file, Drivers().options()), observers=[observe], buffer=buffer, **agent), messages)
    run.task = asyncio.create_task(run.agent.run(run.stop, run.started))
    try:
        await until(lambda: run.starts == 1 or run.task.done(), what="the agent runs")
        yield run
    finally:
        run.stop.set()
        await asyncio.wait_for(run.task, 10)


class Failing(SqliteOutbox):
    """Its first life ends with the damage that the real one reports when a page is not what was written."""

    lives = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Failing.lives += 1
        self._left = 5 if Failing.lives == 1 else None

    def append(
        self, messages: Sequence[Message], *, states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> Coroutine[Any, Any, None]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise OutboxError("the buffer is damaged", code="S707")
        return super().append(messages, states=states, evict=evict)


async def test_a_buffer_damaged_while_in_use_is_opened_again_and_collecting_goes_on(tmp_path: Path) -> None:
    Failing.lives = 0
    async with running(tmp_path, Failing) as run:
        await until(lambda: run.starts == 2 or run.task.done(), limit=30, what="the agent has begun anew")
        seen = run.types().count("state.changed")
        await until(lambda: run.types().count("state.changed") > seen + 2)
        assert run.types().count("agent.started") == 2


class Reachable(SqliteOutbox):
    """The outbox that the agent opened last."""

    last: "Reachable"

    async def open(self) -> None:
        await super().open()
        Reachable.last = self


def overwrite(file: Path) -> None:
    """Rubbish in the place of every page, as of a disk that fails."""
    file.write_bytes(bytes(range(256)) * (file.stat().st_size // 256))


def moved_aside(folder: Path) -> list[Path]:
    return list(folder.glob("buffer.db.*.damaged"))


async def test_a_buffer_whose_pages_are_rubbish_is_moved_aside_while_the_agent_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, Reachable) as run:
        await until(lambda: run.types().count("state.changed") > 2, limit=30)
        epoch = run.messages[0].epoch
        for name in ("buffer.db", "buffer.db-wal"):
            overwrite(tmp_path / name)
        await Reachable.last.look(lambda connection: connection.execute("PRAGMA shrink_memory").fetchall())
        await until(lambda: run.starts == 2 or run.task.done(), limit=30, what="the agent has begun anew")
        await until(lambda: run.types().count("data.loss") >= 3, limit=30)
        new = [one for one in run.messages if one.epoch != epoch]
        assert new[0].type == "agent.started"
        assert {json.loads(one.body)["data"]["cause"] for one in new if one.type == "data.loss"} == {"db_corrupt"}
        assert moved_aside(tmp_path)
        seen = run.types().count("state.changed")
        await until(lambda: run.types().count("state.changed") > seen + 2, limit=30)


async def test_a_second_agent_on_the_same_buffer_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        second = Agent(load(tmp_path / "edge-agent.yaml", Drivers().options()))
        with pytest.raises(OutboxError) as refused:
            await second.run(asyncio.Event())
        assert refused.value.code == "S701"
        seen = len(run.messages)
        await until(lambda: len(run.messages) > seen + 3)


async def test_a_stopped_agent_says_so_last_and_starts_again_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        await until(lambda: run.types().count("state.changed") > 2)
    assert run.types()[-1] == "agent.stopped"
    epoch = run.messages[-1].epoch
    async with running(tmp_path) as run:
        await until(lambda: "state.changed" in run.types())
        assert run.messages[0].type == "agent.started"
        assert b'"clean_stop":true' in run.messages[0].body
        assert {message.epoch for message in run.messages} == {epoch}
        await until(lambda: "data.gap" in run.types())


class Dead(SystemClock):
    """The clock of a PC whose battery is empty, after an hour: it shows 1970 until it is set. Its beats are short."""

    def __init__(self) -> None:
        self.is_set = False

    def now(self) -> Instant:
        now = super().now()
        return now._replace(wall=now.wall + 3600 * SECOND if self.is_set else now.mono)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


async def test_a_pc_that_boots_in_1970_goes_on_from_the_last_stored_time_until_it_is_set(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as run:
        await until(lambda: run.types().count("state.changed") > 1)
    stored = json.loads(run.messages[-1].body)["recordedtime"]
    clock = Dead()
    async with running(tmp_path, clock=clock, synchronised=lambda: False) as run:
        await until(lambda: "data.gap" in run.types() and run.types().count("state.changed") > 3)
        doubtful = len(run.messages)
        clock.is_set = True
        await until(lambda: "agent.clock_adjusted" in run.types())

    events = [json.loads(message.body) for message in run.messages]
    assert all(event["recordedtime"] >= stored for event in events)
    assert all("clock_unsynced" in event["data"]["quality_detail"] for event in events[:doubtful])
    (adjusted,) = [event for event in events if event["type"] == "dev.edgeagent.agent.clock_adjusted.v1"]
    assert 3590 < adjusted["data"]["offset_s"] < 3610
    assert "clock_unsynced" not in events[-1]["data"].get("quality_detail", ())


async def test_a_clock_that_a_time_server_keeps_is_believed_even_if_it_is_behind(tmp_path: Path) -> None:
    async with running(tmp_path, clock=Dead(), synchronised=lambda: True) as run:
        await until(lambda: "state.changed" in run.types())
    assert run.messages[0].body.count(b'"time":"1970-')


async def test_a_clock_that_a_time_server_sets_back_while_the_agent_runs_is_believed(tmp_path: Path) -> None:
    kept = False
    async with running(tmp_path, clock=Dead(), synchronised=lambda: kept) as run:
        await until(lambda: "state.changed" in run.types())
        assert run.messages[-1].body.count(b'"time":"1970-') == 0
        kept = True
        await until(lambda: run.messages[-1].body.count(b'"recordedtime":"1970-'), limit=20)
        await until(lambda: "agent.clock_adjusted" in run.types(), limit=20)
        assert b"clock_unsynced" not in run.messages[-1].body
