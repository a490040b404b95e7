"""One agent from its configuration: builds the parts, starts them in order, stops them in order.

Start: outbox, machines (each where the outbox left it), control socket, then collectors, timers, heartbeat and
forwarder side by side. Stop: collectors first, then the last states and `agent.stopped` are committed, then the
forwarder ends and the outbox closes. After the start nothing stops the agent but being told to.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

from buffer.outbox import Message, Outbox, OutboxError
from buffer.sqlite import SqliteOutbox
from config.load import Loaded
from config.secrets import resolve
from drivers.registry import Drivers
from edge_agent.backoff import Backoff
from edge_agent.clock import Clock, SystemClock
from edge_agent.collector import Collector
from edge_agent.control.place import socket_path
from edge_agent.control.server import ControlServer
from edge_agent.delivery import plain
from edge_agent.delivery.forwarder import Forwarder, Presence
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.retained import Retained
from edge_agent.events.topics import agent_place
from edge_agent.events.types import AgentStarted, AgentStopped, Data, DataLoss
from edge_agent.floor import Floor, Observer
from edge_agent.health import Health
from edge_agent.heartbeat import Heartbeat
from edge_agent.inspection import Build, Inspection
from edge_agent.machine.machine import Machine

log = logging.getLogger(__name__)

VERSION = version("edge-agent")
PARTING_LIMIT = 2.0
PARTING_STEP = 0.02
REOPEN_AFTER = 1.0
"""Seconds."""


class Agent:
    """One running agent; `run` it once. `observers` are called with messages once they are committed.

    Relative paths of the configuration start from the folder of its file. `buffer` makes the outbox.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        buffer: type[SqliteOutbox] = SqliteOutbox,
    ) -> None:
        self.config = loaded.config
        self._clock = clock or SystemClock()
        self.health = Health.of(loaded.config.devices, self._clock)
        self._hash = loaded.hash
        self._home = loaded.base_dir
        self._observers = observers
        self._buffer = buffer
        self._random = random.Random()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Collect and forward until `stop` is set. Raises `OutboxError` if the buffer cannot be opened.

        A buffer that is found damaged while in use is moved aside and a new one begun, without an end of the agent.
        """
        while True:
            try:
                await self._live(stop, ready)
                break
            except OutboxError as error:
                if error.code != "S707":
                    raise
                log.error("%s %s", error.code, error)
                await self._clock.sleep(REOPEN_AFTER)
        log.info("agent %s has stopped", self.config.agent.id)

    async def _live(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """From opening the buffer to closing it."""
        config, clock = self.config, self._clock
        began = clock.now()
        buffer = self._home / config.buffer.path
        outbox = self._buffer(
            buffer,
            agent_id=config.agent.id,
            max_size=config.buffer.max_size,
            keep_sent=config.buffer.keep_sent,
            commit_interval=config.buffer.commit_interval,
            now=lambda: clock.now().wall,
            on_damaged=self.health.damaged.append,
        )
        await outbox.open()
        try:
            retained = Retained()
            machines = [Machine(config, name, epoch=outbox.epoch) for name in config.machines]
            floor = Floor(config, machines, outbox, retained, clock)
            floor.observers += self._observers
            await floor.open(*self._first_words(outbox))
            forwarder = Forwarder(
                outbox,
                self._publisher(),
                clock,
                presence=self._presence(outbox, floor, began.wall),
                retained=retained,
                listener=self.health.broker,
                random=self._random,
            )
            build = Build(VERSION, self._hash)
            inspection = Inspection(config, self.health, floor, outbox, clock, build)
            heartbeat = Heartbeat(floor, outbox, self.health, clock, disk=buffer.parent, build=build)
            async with ControlServer(socket_path(buffer), inspection.commands()):
                sending = asyncio.create_task(forwarder.run(), name="forwarder")
                log.info("agent %s %s is running", config.agent.id, VERSION)
                ready()
                try:
                    await self._collect(stop, floor, heartbeat, sending)
                    await self._last_words(floor, outbox, (clock.now().mono - began.mono) / 1e6)
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
        finally:
            await outbox.close()

    async def _last_words(self, floor: Floor, outbox: Outbox, uptime: float) -> None:
        """The last states and `agent.stopped`; a broker that is there gets them, a backlog waits."""
        try:
            async with asyncio.timeout(PARTING_LIMIT):
                await floor.store(AgentStopped(uptime_s=uptime, reason="told to"))
                while self.health.broker.online and (await outbox.depth()).rows:
                    await self._clock.sleep(PARTING_STEP)
        except TimeoutError:
            log.warning("stopped before everything was %s", "stored: no room" if outbox.full else "sent")

    async def _collect(
        self, stop: asyncio.Event, floor: Floor, heartbeat: Heartbeat, sending: "asyncio.Task[None]"
    ) -> None:
        """Everything that makes events, until `stop` is set. Raises `OutboxError` when the buffer ends it."""
        drivers = Drivers()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._collector(name, drivers, floor).run(), name=f"collector: {name}")
                    for name in self.config.devices
                ]
                tasks.append(group.create_task(floor.tick(), name="timers"))
                tasks.append(group.create_task(heartbeat.run(), name="heartbeat"))
                tasks.append(group.create_task(_ended(sending), name="forwarder: watched"))
                await stop.wait()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            buffer = errors.subgroup(OutboxError)
            if buffer is None:
                raise
            raise _leaf(buffer) from errors

    def _collector(self, name: str, drivers: Drivers, floor: Floor) -> Collector:
        options = self.config.devices[name]
        affected = [machine for machine in floor.machines.values() if name in machine.devices]
        return Collector(
            name,
            options,
            partial(drivers.open, name, options),
            floor,
            self.health.devices[name],
            self._clock,
            Backoff(options.backoff.initial, options.backoff.max, self._random),
            tuple(self.config.subject(machine.name) for machine in affected),
        )

    def _first_words(self, outbox: SqliteOutbox) -> list[Data]:
        """`agent.started`; and where a damaged database was moved aside, that nobody knows what it held."""
        fresh = outbox.fresh
        started = AgentStarted(
            version=VERSION,
            config_hash=self._hash,
            clean_stop=outbox.clean_stop,
            prev_epoch=outbox.prev_epoch if fresh else None,
            prev_last_seq=dict(outbox.prev_last_seq) or None if fresh else None,
        )
        if outbox.quarantined is None and (outbox.broken is None or not fresh):
            return [started]
        if outbox.quarantined is None:
            log.warning("the buffer begins a new epoch: %s", outbox.broken)
        else:
            log.warning("the buffer was damaged; it is kept as %s and a new one is begun", outbox.quarantined)
        lost = [
            DataLoss(
                lost_stream=f"{name}.p",
                lost_epoch="unknown",
                extent="unknown",
                cause="db_corrupt",
                policy="drop_oldest",
            )
            for name in self.config.machines
        ]
        return [started, *lost]

    def _publisher(self) -> MqttPublisher:
        mqtt = self.config.mqtt
        password = mqtt.password
        return MqttPublisher(
            mqtt,
            client_id=mqtt.client_id or f"edge-agent-{self.config.agent.id}",
            password=None if password is None else resolve(password, base_dir=self._home),
            clock=self._clock,
            home=self._home,
        )

    def _presence(self, outbox: Outbox, floor: Floor, since: int) -> Presence:
        def status(online: bool) -> Message:
            return plain.status(
                agent_place(self.config),
                online=online,
                agent_id=self.config.agent.id,
                epoch=outbox.epoch,
                last_seq=floor.last_seq,
                version=VERSION,
                config_hash=self._hash,
                since=since,
            )

        return Presence(birth=partial(status, True), will=partial(status, False), farewell=partial(status, False))


async def _ended(task: "asyncio.Task[None]") -> None:
    """Fails as the task fails."""
    await asyncio.wait([task])
    task.result()


def _leaf(group: BaseExceptionGroup[OutboxError]) -> OutboxError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
