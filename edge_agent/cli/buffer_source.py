"""Where `edge-agent buffer` has its answers from: the agent that runs, or the file of one that does not."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from edge_agent.cli.exits import ExitCode, Stop

if TYPE_CHECKING:
    from buffer.outbox import OutboxError
    from config.load import Loaded

Ask = Callable[..., Any]
"""`ask(what, **parameters)`: a question of `edge_agent.storekeeping.answer`."""

PACE = 1.0
"""Seconds over which the pace of sending is looked at."""
SLOW = 60.0
"""Seconds that a page may take on a busy disk."""


def asking(loaded: "Loaded") -> tuple[Ask, Any]:
    """How to ask the buffer of a configuration, and the running agent if there is one."""
    from edge_agent.cli.running import agent_of, reached
    from edge_agent.control.client import NotRunning
    from edge_agent.gauge import SILENT, SILENT_AFTER, unanswered

    def status() -> dict[str, Any] | None:
        try:
            return dict(agent.ask("status"))
        except NotRunning:
            return None

    agent = agent_of(loaded, answer_time=SLOW)
    told = reached(status)
    if told is not None:
        silent = told["buffer"].get("silent_s")
        if silent is not None and silent >= SILENT_AFTER:
            hint = "edge-agent status answers from memory"
            raise Stop(ExitCode.TRY_AGAIN, unanswered(silent), hints=[hint], fault=SILENT)
        return lambda what, **asked: reached(lambda: agent.ask("buffer", what=what, **asked)), agent
    path = loaded.base_dir / loaded.config.buffer.path

    def alone(what: str, **asked: Any) -> Any:
        from buffer.outbox import OutboxError
        from buffer.reading import looking_into
        from edge_agent.storekeeping import answer

        try:
            with looking_into(path) as connection:
                return answer(connection, {"what": what, **asked})
        except OutboxError as error:
            raise _unusable(error) from None

    return alone, None


def purged(loaded: "Loaded", agent: Any, state: str) -> Iterator[int]:
    """Remove `sent` or `dead` messages, some at a time; how many each time."""
    return _purged_alone(loaded, state) if agent is None else _purged_by(agent, state)


def _purged_by(agent: Any, state: str) -> Iterator[int]:
    from edge_agent.cli.running import reached

    more = True
    while more:
        told = reached(partial(agent.ask, "buffer_purge", state=state))
        more = told["more"]
        yield told["removed"]


def _purged_alone(loaded: "Loaded", state: str) -> Iterator[int]:
    import asyncio
    import time

    from buffer.outbox import OutboxError
    from buffer.sqlite import SqliteOutbox

    config = loaded.config
    outbox = SqliteOutbox(
        loaded.base_dir / config.buffer.path,
        agent_id=config.agent.id,
        max_size=config.buffer.max_size,
        keep_sent=config.buffer.keep_sent,
        commit_interval=config.buffer.commit_interval,
        now=lambda: time.time_ns() // 1000,
    )
    with asyncio.Runner() as runner:
        try:
            runner.run(outbox.open())
            try:
                if outbox.quarantined is not None:
                    text = f"the buffer was damaged; it is kept as {outbox.quarantined}, and a new one is begun"
                    raise Stop(ExitCode.PROBLEM, text, fault="S707")
                while rows := runner.run(outbox.purge(dead=state == "dead")):
                    yield rows
            finally:
                runner.run(outbox.close())
        except OutboxError as error:
            raise _unusable(error) from None


def _unusable(error: "OutboxError") -> Stop:
    """How a command ends that cannot use the file."""
    code = {"S701": ExitCode.TRY_AGAIN, "S707": ExitCode.PROBLEM}.get(error.code, ExitCode.UNREACHABLE)
    return Stop(code, str(error), fault=error.code)


def messages(ask: Ask, count: int | None, **asked: Any) -> Iterator[dict[str, Any]]:
    """Messages page by page."""
    from buffer.reading import PAGE

    after: int | None = 0
    while after is not None and (count is None or count > 0):
        page = ask("page", after=after, limit=PAGE if count is None else min(PAGE, count), **asked)
        yield from page["rows"]
        after = page["next"]
        count = None if count is None else count - len(page["rows"])


def buffer_of(agent: Any) -> Mapping[str, Any]:
    from edge_agent.cli.running import reached

    told: Mapping[str, Any] = reached(lambda: agent.ask("status"))["buffer"]
    return told


def drained_in(agent: Any) -> float | None:
    """Seconds until nothing waits any more at the pace of one second; None if it does not become less."""
    before: int = buffer_of(agent)["rows"]
    if before == 0:
        return 0.0
    Event().wait(PACE)
    after: int = buffer_of(agent)["rows"]
    return after * PACE / (before - after) if after < before else None
