"""One run of the demo in one process: plant, broker and agent, from the first to the last line on the screen.

Order: broker and plant, then the agent; the machines begin to work when the agent has seen both, so that every
part is counted. At the end of a bounded run the machines stop first and the agent gets time to report the rest.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from buffer.outbox import Message
from config.load import Loaded, load
from drivers.registry import Drivers
from edge_agent.cli.tail import event_line
from edge_agent.clock import SystemClock
from edge_agent.control.client import ControlClient, NoAnswer, NotRunning
from edge_agent.control.server import ControlServer
from edge_agent.demo.broker import LoopbackBroker
from edge_agent.demo.cable import LOOPBACK
from edge_agent.demo.place import default_folder, socket_of
from edge_agent.demo.plant import OVEN, OVEN_PORT, PRESS, PRESS_PORT, Plant, held_port, plug
from edge_agent.demo.tally import Tally, parse
from edge_agent.machine.expressions import names
from edge_agent.runtime import Agent

BROKER = "broker"
BROKER_PORT = 1883
PAGE_PORT = 8686
CONFIG_NAME = "edge-agent.yaml"
_START_LIMIT = 20.0
"""Seconds until the agent must have seen both machines."""
_REPORT_LIMIT = 6.0
"""Seconds that the agent has for the rest of the counts: its flush, a publishing interval and the broker."""

Say = Callable[[str], None]


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """`folder` None is a place of the demo's own that is removed at the end; `seconds` None is until Ctrl-C."""

    folder: Path | None = None
    save: Path | None = None
    seconds: float | None = None
    agent_command: str = "edge-agent"


async def run(options: Options, say: Say) -> bool:
    """The whole demo; True when the events agree with what the machines made. Raises `DemoError`.

    Cancelling it (Ctrl-C) stops everything in order and leaves nothing behind.
    """
    for library in ("asyncua", "pymodbus"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    folder = _prepare(options.folder)
    try:
        return await _Session(options, folder, say).run()
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


class _Session:
    def __init__(self, options: Options, folder: Path, say: Say) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._clock = SystemClock()
        self._plant = Plant(self._clock)
        self._tally = Tally()
        self._news = asyncio.Event()
        self._page = ""

    async def run(self) -> bool:
        async with AsyncExitStack() as stack:
            self._page = f"{LOOPBACK}:{stack.enter_context(held_port(PAGE_PORT))}"
            broker = LoopbackBroker()
            stack.push_async_callback(broker.close)
            stack.push_async_callback(self._plant.close)
            self._plant.cables[BROKER] = await plug(await broker.open(), BROKER_PORT)
            await self._plant.open()
            config = self._write_config()
            commands = {"hello": _hello, "fault": self._fault, "cut": self._cut}
            await stack.enter_async_context(ControlServer(socket_of(self._folder), commands))

            stop = asyncio.Event()
            made = Agent(_read(config), observers=[self._observe], reread=lambda: _read(config))
            agent = asyncio.create_task(made.run(stop), name="agent")
            stack.push_async_callback(_end, agent, stop)
            await self._wait(agent, self._both_seen, _START_LIMIT, "the agent has not seen both machines")
            self._introduce(config)
            work = asyncio.create_task(self._plant.run(), name="plant")
            stack.push_async_callback(_cancel, work)
            await asyncio.wait({agent, work}, timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in (agent, work):
                if task.done():
                    await task
                    raise DemoError(f"the {task.get_name()} has stopped by itself")
            await _cancel(work)
            await self._plant.show()
            agree = await self._reported(agent)
        self._conclude()
        return agree

    def _observe(self, messages: Sequence[Message]) -> None:
        events = parse(messages)
        self._tally.take(events)
        self._news.set()
        for event in events:
            self._say(event_line(event))

    async def _wait(
        self, agent: "asyncio.Task[None]", done: Callable[[], bool], limit: float, otherwise: str
    ) -> None:
        """Wait until `done` after some event. Raises `DemoError` after `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                while not done():
                    self._news.clear()
                    news = asyncio.ensure_future(self._news.wait())
                    await asyncio.wait({news, agent}, return_when=asyncio.FIRST_COMPLETED)
                    news.cancel()
                    if agent.done():
                        await agent
                        raise DemoError("the agent has stopped by itself")
        except TimeoutError:
            raise DemoError(f"{otherwise} after {limit:.0f} s") from None

    def _both_seen(self) -> bool:
        return {PRESS, OVEN} <= self._tally.states.keys()

    async def _reported(self, agent: "asyncio.Task[None]") -> bool:
        """Give the agent time for the rest of the counts."""
        try:
            await self._wait(agent, self._agree, _REPORT_LIMIT, "")
        except DemoError:
            return False
        return True

    def _agree(self) -> bool:
        told = self._tally.counts
        return all(
            told.get(machine, {}).get(part, 0) == count
            for machine, counts in self._plant.truth.items()
            for part, count in counts.items()
        )

    def _write_config(self) -> Path:
        ports = {
            f"{LOOPBACK}:{PAGE_PORT}": self._page,
            f"mqtt://{LOOPBACK}:{BROKER_PORT}": f"mqtt://{LOOPBACK}:{self._plant.cables[BROKER].port}",
            f"opc.tcp://{LOOPBACK}:{PRESS_PORT}": f"opc.tcp://{LOOPBACK}:{self._plant.cables[PRESS].port}",
            f"tcp://{LOOPBACK}:{OVEN_PORT}": f"tcp://{LOOPBACK}:{self._plant.cables[OVEN].port}",
        }
        text = shipped_config()
        for usual, real in ports.items():
            text = text.replace(usual, real)
        path = self._folder / CONFIG_NAME
        path.write_text(text, encoding="utf-8")
        if self._options.save is not None:
            self._options.save.mkdir(parents=True, exist_ok=True)
            with open(self._options.save / CONFIG_NAME, "x", encoding="utf-8") as copy:
                copy.write(text)
        return path

    def _introduce(self, config: Path) -> None:
        command = self._options.agent_command
        place = "" if self._options.folder is None else f" --data {self._options.folder}"
        port = self._plant.cables[BROKER].port
        self._say(
            f"""
A press (OPC UA) and an oven (Modbus) are running, and the agent reads them. Look at
  the events     mosquitto_sub -p {port} -t 'ea/v1/#' -v     (broker mqtt://{LOOPBACK}:{port})
  the page       http://{self._page}/
  the agent      {command} -c {config} status
  its settings   {config}
Try, from another terminal:
  {command} demo fault {PRESS}{place}
  {command} demo cut broker 30s{place}
  {command} demo cut plc {OVEN}{place}
Ctrl-C ends the demo.
"""
        )

    def _conclude(self) -> None:
        self._say("")
        for machine, counts in self._plant.truth.items():
            for part, count in counts.items():
                told = self._tally.counts.get(machine, {}).get(part, 0)
                self._say(f"{machine} {part}: the machine made {count}, the events say {told}")

    def _fault(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        machine, seconds = asked.get("machine"), float(asked.get("seconds", 6.0))
        if machine not in self._plant.stations:
            raise ValueError(f"there is no machine {machine!r} here, only {PRESS} and {OVEN}")
        self._plant.trip(machine, seconds)
        self._say(f"--- {machine} has a fault for {seconds:g} s")
        return {"machine": machine, "seconds": seconds}

    async def _cut(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        what, seconds = asked.get("what"), float(asked.get("seconds", 20.0))
        if what not in self._plant.cables:
            raise ValueError(f"there is no {what!r} here to cut, only {BROKER}, {PRESS} and {OVEN}")
        self._say(f"--- the cable of {what} is cut for {seconds:g} s")
        await self._plant.cut(what, seconds)
        return {"what": what, "seconds": seconds}


def _read(config: Path) -> Loaded:
    return load(config, Drivers().options(), check_expression=names)


def shipped_config() -> str:
    """The demo's configuration, with the usual ports."""
    return resources.files("edge_agent.demo").joinpath("demo.yaml").read_text(encoding="utf-8")


def _prepare(folder: Path | None) -> Path:
    """The folder. The demo's own one is made anew, for this user alone. Raises `DemoError`."""
    place = default_folder() if folder is None else folder
    try:
        ControlClient(socket_of(place)).ask("hello")
    except (NotRunning, NoAnswer, PermissionError):
        pass
    else:
        raise DemoError(f"a demo already runs in {place}; end it with Ctrl-C, or give this one --data FOLDER")
    try:
        if folder is None and place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700, parents=True, exist_ok=folder is not None)
    except OSError as error:
        raise DemoError(
            f"cannot use {place} ({error.strerror}); give the demo a folder with --data FOLDER"
        ) from error
    return place


def _hello(_: Mapping[str, Any]) -> str:
    return "demo"


async def _end(agent: "asyncio.Task[None]", stop: asyncio.Event) -> None:
    """Let the agent stop in its own order; how it ended is looked at elsewhere."""
    stop.set()
    await asyncio.wait({agent})


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
