"""`edge-agent run`: collect, in the foreground, until told to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, find, load, read
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

OURS = ("edge_agent", "drivers", "buffer", "config")
STOP_LIMIT = 4.5
"""Seconds that a stop may take. What is stored is safe at any moment, so whoever waits for a device, a disk or a name
server that hangs is not waited for."""
BUFFER_EXITS = {"S701": ExitCode.TRY_AGAIN, "S702": ExitCode.TRY_AGAIN, "S705": ExitCode.NO_PERMISSION}
"""Exit code for the reason why the buffer cannot be opened; else the configuration names the wrong file."""


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent run", "edge-agent run line3.yaml -v"])
    def run(ui: Ui, file: File = None) -> None:
        """Collect, store and send, in the foreground. SIGTERM or Ctrl-C ends it cleanly, SIGHUP is `reload`."""
        leave_when_told()
        with started_calmly():
            collect(ui, find(ui, file))


def collect(ui: Ui, path: "Path") -> None:
    """Until told to stop."""
    loaded = load(ui, path).running()
    from edge_agent.runtime import Agent

    log_to_stderr(ui)
    interrupted = False

    async def main() -> None:
        nonlocal interrupted
        import asyncio

        stop = asyncio.Event()
        agent = Agent(loaded, reread=lambda: read(path))
        with Signals(stop, agent.reload_soon, limit=STOP_LIMIT) as signals:
            await agent.run(stop, calm_collector)
        interrupted = signals.interrupted

    with refusals(), runner() as loop:
        loop.run(main())
    if interrupted:
        raise Stop(ExitCode.INTERRUPTED)


@contextmanager
def refusals() -> Iterator[None]:
    """What may keep an agent from starting, as `Stop`."""
    from buffer.outbox import OutboxError
    from config.errors import Problem

    try:
        yield
    except OutboxError as error:
        code = BUFFER_EXITS.get(error.code, ExitCode.BAD_CONFIG)
        raise Stop(code, str(error), fault=error.code) from None
    except Problem as error:
        hints = [error.fix] if error.fix else []
        raise Stop(ExitCode.BAD_CONFIG, error.what, hints=hints, fault=error.code) from None


def leave_when_told() -> None:
    """SIGTERM while the program is still being loaded: there is nothing to stop yet."""
    import signal
    import sys

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


@contextmanager
def started_calmly() -> Iterator[None]:
    """Until `calm_collector` nobody looks for cycles: what is made at the start is made to stay, and to look for
    cycles in it took a quarter of the start of a large plant."""
    import gc

    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calm_collector() -> None:
    """Readings come and go by the thousand and die by reference counting; looking for cycles among them, and among
    all that lives as long as the agent, cost a fifth of the CPU (benchmark b)."""
    import gc

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


class Signals:
    """SIGTERM and Ctrl-C set `stop`, a second one ends the program at once. SIGHUP, where there is one, calls
    `hung_up`. With `limit` the process ends so many seconds after the first one, whatever hangs."""

    def __init__(
        self, stop: "asyncio.Event", hung_up: Callable[[], None] = lambda: None, *, limit: float | None = None
    ) -> None:
        self._stop = stop
        self._hung_up = hung_up
        self._limit = limit
        self._old: dict[int, object] = {}
        self.interrupted = False

    def __enter__(self) -> "Signals":
        import asyncio
        import signal

        from edge_agent.clock import alarm

        loop = asyncio.get_running_loop()

        def told(number: int, _: object) -> None:
            self.interrupted = self.interrupted or number == signal.SIGINT
            loop.call_soon_threadsafe(self._stop.set)
            if self._limit is not None:
                alarm(self._limit, self._leave)
            self._restore()

        def hung_up(number: int, _: object) -> None:
            loop.call_soon_threadsafe(self._hung_up)

        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, told)
        if hasattr(signal, "SIGHUP"):
            self._old[signal.SIGHUP] = signal.signal(signal.SIGHUP, hung_up)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _leave(self) -> None:
        import logging
        import os

        logging.getLogger("edge_agent").warning(
            "stopped without waiting for what hangs (a device, the disk, a name server); what was stored is safe"
        )
        logging.shutdown()
        os._exit(ExitCode.INTERRUPTED if self.interrupted else 0)

    def _restore(self) -> None:
        import signal

        while self._old:
            number, old = self._old.popitem()
            if number == signal.SIGTERM:
                old = signal.SIG_DFL  # a second one ends the program at once, and not as one during the loading
            signal.signal(number, old)  # type: ignore[arg-type]  # what `signal` gave back


def runner() -> "asyncio.Runner":
    """A runner on uvloop where it is installed."""
    import asyncio
    from importlib.util import find_spec

    if find_spec("uvloop") is None:
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def log_to_stderr(ui: Ui) -> None:
    """Our own lines from INFO on (-v: DEBUG, -q: WARNING). What libraries say is raw and shown under -v alone."""
    import logging

    level = logging.DEBUG if ui.verbose else logging.WARNING if ui.quiet else logging.INFO
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S %z")
    handler = logging.StreamHandler()
    handler.setFormatter(form)
    logging.basicConfig(handlers=[handler], level=logging.CRITICAL, force=True)
    if ui.verbose:
        logging.getLogger().setLevel(logging.INFO)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
