"""One agent from its configuration: builds the parts, starts them in order, stops them in order.

Start: outbox, machines (each where the outbox left it), control socket, then collectors, timers, heartbeat and
forwarder side by side. Stop: collectors first, then the last states and `agent.stopped` are committed, then the
forwarder ends and the outbox closes. After the start nothing stops the agent but being told to.
"""

import asyncio
import logging
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

from buffer.outbox import Message, Outbox
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
from edge_agent.events.types import AgentHeartbeat, AgentStarted, AgentStopped, DataLoss
from edge_agent.floor import Floor, Observer
from edge_agent.health import Health
from edge_agent.inspection import Build, Inspection
from edge_agent.machine.machine import Machine

log = logging.getLogger(__name__)

VERSION = version("edge-agent")
STORE_EVERY = 5.0
"""Seconds between stored states: a gap after a kill begins at most so long before it."""
HEARTBEAT_EVERY = 6
"""In stored states: 30 s."""
PARTING_LIMIT = 1.0
PARTING_STEP = 0.02
"""Seconds."""


class Agent:
    """One running agent; `run` it once. `observers` are called with messages once they are committed.

    Relative paths of the configuration start from the folder of its file.
    """

    def __init__(self, loaded: Loaded, *, clock: Clock | None = None, observers: Sequence[Observer] = ()) -> None:
        self.config = loaded.config
        self._clock = clock or SystemClock()
        self.health = Health.of(loaded.config.devices, self._clock)
        self._hash = loaded.hash
        self._home = loaded.base_dir
        self._observers = observers
        self._random = random.Random()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Collect and forward until `stop` is set. Raises `OutboxError` if the buffer cannot be opened."""
        config, clock = self.config, self._clock
        began = clock.now()
        buffer = self._home / config.buffer.path
        outbox = SqliteOutbox(
            buffer,
            agent_id=config.agent.id,
            max_size=config.buffer.max_size,
            keep_sent=config.buffer.keep_sent,
            commit_interval=config.buffer.commit_interval,
            now=lambda: clock.now().wall,
        )
        await outbox.open()
        try:
            retained = Retained()
            machines = [Machine(config, name, epoch=outbox.epoch) for name in config.machines]
            floor = Floor(config, machines, outbox, retained, clock)
            floor.observers += self._observers
            await floor.open(self._started(outbox))
            forwarder = Forwarder(
                outbox,
                self._publisher(),
                clock,
                presence=self._presence(outbox, floor, began.wall),
                retained=retained,
                listener=self.health.broker,
                random=self._random,
            )
            inspection = Inspection(config, self.health, floor, outbox, clock, Build(VERSION, self._hash))
            async with ControlServer(socket_path(buffer), inspection.commands()):
                sending = asyncio.create_task(forwarder.run(), name="forwarder")
                log.info("agent %s %s is running", config.agent.id, VERSION)
                ready()
                await self._collect(stop, floor, outbox)
                uptime = (clock.now().mono - began.mono) / 1e6
                await floor.store(AgentStopped(uptime_s=uptime, reason="told to"))
                await self._last_words(outbox)
                sending.cancel()
                await asyncio.wait([sending])
        finally:
            await outbox.close()
        log.info("agent %s has stopped", config.agent.id)

    async def _last_words(self, outbox: Outbox) -> None:
        """A broker that is there gets what was committed last; a backlog can wait for the next start."""
        waited = 0.0
        while self.health.broker.online and (await outbox.depth()).rows and waited < PARTING_LIMIT:
            await self._clock.sleep(PARTING_STEP)
            waited += PARTING_STEP

    async def _collect(self, stop: asyncio.Event, floor: Floor, outbox: Outbox) -> None:
        """Everything that makes events, until `stop` is set."""
        drivers = Drivers()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._collector(name, drivers, floor).run(), name=f"collector: {name}")
                for name in self.config.devices
            ]
            tasks.append(group.create_task(floor.tick(), name="timers"))
            tasks.append(group.create_task(self._beat(floor, outbox), name="heartbeat"))
            await stop.wait()
            for task in tasks:
                task.cancel()

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

    async def _beat(self, floor: Floor, outbox: Outbox) -> None:
        began = self._clock.now().mono
        while True:
            for _ in range(HEARTBEAT_EVERY):
                await self._clock.sleep(STORE_EVERY)
                await floor.store(*[_poison(message) for message in self.health.broker.take_refused()])
            depth = await outbox.depth()
            now = self._clock.now()
            await floor.record(
                AgentHeartbeat(
                    uptime_s=(now.mono - began) / 1e6,
                    buffer={
                        "rows": depth.rows,
                        "bytes": depth.bytes,
                        "oldest_unsent_s": 0 if depth.oldest_at is None else (now.wall - depth.oldest_at) / 1e6,
                        "fill": depth.fill,
                    },
                    last_seq=dict(floor.last_seq),
                    clock={"source": "system"},
                    disk_free=shutil.disk_usage(self._home).free,
                    config_hash=self._hash,
                    version=VERSION,
                    clock_adjusted_total_s=0,
                )
            )

    def _started(self, outbox: SqliteOutbox) -> AgentStarted:
        fresh = outbox.fresh
        return AgentStarted(
            version=VERSION,
            config_hash=self._hash,
            clean_stop=outbox.clean_stop,
            prev_epoch=outbox.prev_epoch if fresh else None,
            prev_last_seq=dict(outbox.prev_last_seq) or None if fresh else None,
        )

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


def _poison(message: Message) -> DataLoss:
    """The broker will never take this message; it is in the dead letters and its number is missing on the wire."""
    return DataLoss(
        lost_stream=message.stream,
        lost_epoch=message.epoch,
        seq_from=message.seq,
        seq_to=message.seq,
        extent="exact",
        count_by_type={message.type: 1},
        cause="poison_event",
        policy="drop_oldest",
    )
