"""`edge-agent record`: writes what the devices say as a timeline that `replay` and `tests:` read back."""

from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import load, sorted_out
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from config.load import Loaded
    from drivers.base import Batch
    from edge_agent.clock import Instant
    from edge_agent.events.types import Data
    from edge_agent.replay.recording import Recording, Row

PACE = 0.5
"""Seconds between two looks for rows that are old enough to be written."""

Samples = Annotated[
    list[Path],
    typer.Argument(
        metavar="[FILE] SAMPLES",
        help="The configuration, also as -c; the file to write: .csv, .jsonl, or .yaml for lines to paste under "
        "`given:`, - for stdout as CSV.",
    ),
]
Machine = Annotated[
    list[str] | None, typer.Option("--machine", "-m", help="Only what this machine reads; may be given again.")
]
Time = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="How long, e.g. 10min; default: until Ctrl-C.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.CHECK,
        examples=[
            "edge-agent record shift.csv",
            "edge-agent record line3.yaml fault.yaml -m press-1 --for 10min",
        ],
    )
    def record(
        ui: Ui,
        samples: Samples,
        machine: Machine = None,
        time: Time = None,
        force: Force = False,
    ) -> None:
        """Write what the devices say, changes with their quality, as a file for `replay`. Ctrl-C ends it.

        If an agent runs with this configuration its connections are used, otherwise the devices are read directly.
        """
        from config.units import duration
        from edge_agent.cli.run import log_to_stderr, runner

        file, path = sorted_out(samples)
        loaded = load(ui, file)
        devices = _devices(loaded, machine)
        try:
            length = duration(time) / 1e6 if time is not None else None
        except ValueError as error:
            raise Stop(ExitCode.USAGE, f"--for: {error}") from None
        log_to_stderr(ui)
        with _opened(path, force) as out, runner() as loop:
            interrupted = loop.run(_record(ui, loaded, devices, _Writer(out, path.suffix), length))
        if interrupted:
            raise Stop(ExitCode.INTERRUPTED)


def _devices(loaded: "Loaded", machines: list[str] | None) -> Collection[str]:
    """Names of the devices to be recorded."""
    from edge_agent.machine.machine import Machine as Built

    config = loaded.config
    if not machines:
        return list(config.devices)
    for name in machines:
        if name not in config.machines:
            known = ", ".join(config.machines)
            raise Stop(ExitCode.USAGE, f"there is no machine {name!r}", hints=[f"there are {known}"])
    wanted = set().union(*(Built(config, name, epoch="").devices for name in machines))
    return [name for name in config.devices if name in wanted]


def _opened(path: Path, force: bool) -> IO[str]:
    import os
    import sys

    if path == Path("-"):
        return open(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="")
    try:
        return path.open("w" if force else "x", encoding="utf-8", newline="")
    except FileExistsError:
        raise Stop(
            ExitCode.WILL_NOT_OVERWRITE, f"{path} exists", hints=["name another file, or overwrite it with --force"]
        ) from None


class _Writer:
    """Rows to the file; what is complete is flushed at once, so that a kill loses only what waits for order."""

    def __init__(self, out: IO[str], suffix: str) -> None:
        from edge_agent.replay.rows import form_for

        self._out = out
        self._form = form_for(suffix)
        self._out.write(self._form.begin())

    def write(self, rows: "Collection[Row]") -> None:
        if rows:
            self._out.write(self._form.write(rows))
            self._out.flush()


class _Sink:
    """Takes what a collector says into the recording."""

    def __init__(self, recording: "Recording", write: "Callable[[Collection[Row]], None]") -> None:
        from edge_agent.clock import SystemClock

        self._recording = recording
        self._write = write
        self._clock = SystemClock()

    async def feed(self, batch: "Batch") -> None:
        self.take(batch, self._clock.now())

    def unseen(self, device: str) -> int | None:
        return None  # what is recorded is what is seen

    def position(self, device: str) -> str | None:
        return None

    async def record(self, *data: "Data") -> None:
        from edge_agent.events.types import ConnectionChanged

        for said in data:
            if isinstance(said, ConnectionChanged) and said.status == "down":
                self.lost(said.endpoint, self._clock.now())

    def take(self, batch: "Batch", now: "Instant") -> None:
        self._write(list(self._recording.take(batch, now)))

    def lost(self, device: str, now: "Instant") -> None:
        self._write(list(self._recording.lost(device, now)))

    def end(self) -> None:
        self._write(list(self._recording.flush(self._clock.now())))

    async def go_on(self) -> None:
        """Write what is old enough, also when nothing comes."""
        while True:
            await self._clock.sleep(PACE)
            self._write(list(self._recording.tick(self._clock.now())))


async def _record(ui: Ui, loaded: "Loaded", devices: Collection[str], writer: _Writer, length: float | None) -> bool:
    """True if it was ended by Ctrl-C."""
    import asyncio

    from edge_agent.cli.run import Signals
    from edge_agent.control.client import ControlClient, NoAnswer, NotRunning, Refused
    from edge_agent.control.place import socket_path
    from edge_agent.replay.recording import Recording

    recording = Recording()
    sink = _Sink(recording, writer.write)
    agent = ControlClient(socket_path(loaded.base_dir / loaded.config.buffer.path))
    stop = asyncio.Event()
    with Signals(stop) as signals:
        try:
            await asyncio.to_thread(agent.ask, "status")
        except NotRunning:
            work = _directly(loaded, devices, sink)
            ui.note(f"recording {', '.join(devices)}")
        except (NoAnswer, Refused) as error:
            raise Stop(ExitCode.TRY_AGAIN, str(error)) from None
        else:
            work = _through(ui, agent, devices, sink)
        pace = asyncio.create_task(sink.go_on(), name="writing")
        task = asyncio.create_task(work, name="recording")
        told = asyncio.create_task(stop.wait(), name="told to stop")
        await asyncio.wait({task, told}, timeout=length, return_when=asyncio.FIRST_COMPLETED)
        ended = task.done()
        for each in (told, pace, task):
            each.cancel()
        await asyncio.wait({told, pace, task})
        sink.end()
        ui.note(counted(recording.rows, "row"))
        if ended:
            try:
                task.result()
            except NotRunning as error:
                raise Stop(ExitCode.TRY_AGAIN, "the agent has just stopped", native=str(error)) from None
            except (NoAnswer, Refused) as error:
                raise Stop(ExitCode.TRY_AGAIN, str(error)) from None
    return signals.interrupted


async def _directly(loaded: "Loaded", devices: Collection[str], sink: _Sink) -> None:
    """The devices themselves, each in its own loop, for ever."""
    import asyncio
    import random
    from functools import partial

    from drivers.registry import Drivers
    from edge_agent.backoff import Backoff
    from edge_agent.clock import SystemClock
    from edge_agent.collector import Collector
    from edge_agent.health import DeviceHealth

    drivers, clock, chance = Drivers(), SystemClock(), random.Random()
    async with asyncio.TaskGroup() as group:
        for name in devices:
            options = loaded.config.devices[name]
            waits = options.backoff
            backoff = Backoff(waits.initial, waits.max, chance, silent=waits.silent)
            collector = Collector(
                name, options, partial(drivers.open, name, options), sink, DeviceHealth(), clock, backoff, tuple
            )
            group.create_task(collector.run(), name=f"collector: {name}")


async def _through(ui: Ui, agent: Any, devices: Collection[str], sink: _Sink) -> None:
    """What the running agent reads, until it stops."""
    from contextlib import aclosing

    from edge_agent.clock import Instant
    from edge_agent.inspection import batch_of

    begun = False
    stream: AsyncIterator[dict[str, Any]]
    async with aclosing(agent.follow("record")) as stream:
        async for message in stream:
            if not begun:
                begun = True
                ui.note(f"recording {', '.join(devices)} through the agent that runs")
            if "dropped" in message:
                ui.warn(f"{message['dropped']} batches are missing: they came faster than they could be written here")
                continue
            item = message["item"]
            if item["device"] not in devices:
                continue
            now = Instant(item["wall"], item["mono"])
            if item.get("lost"):
                sink.lost(item["device"], now)
            else:
                sink.take(batch_of(item), now)
    ui.note("the agent has stopped")
