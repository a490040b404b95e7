"""One agent from its configuration: builds the parts, starts them in order, stops them in order.

Start: outbox, machines (each where the outbox left it), control socket, then collectors, timers, heartbeat and
forwarder side by side. Stop: collectors first, then the last states and `agent.stopped` are committed, then the
forwarder ends and the outbox closes. After the start nothing stops the agent but being told to.

Reload: the new configuration is read and checked beside the running one; then the collectors of devices that changed
end, the machines that changed go on under it in one commit, and the collectors begin again. What did not change
notices nothing, and whatever is wrong with the new configuration leaves the old one as it is.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from buffer.outbox import Message, Outbox, OutboxError
from buffer.sqlite import SqliteOutbox
from config.errors import ConfigFaults, Problem
from config.load import Loaded
from config.model import Config
from config.secrets import resolve
from drivers.base import Reading
from drivers.registry import Drivers
from edge_agent.administration import Administration
from edge_agent.backoff import Backoff
from edge_agent.clock import Clock, SystemClock
from edge_agent.collector import Collector
from edge_agent.control.place import socket_path
from edge_agent.control.server import ControlServer
from edge_agent.delivery import plain
from edge_agent.delivery.bounds import Bounds
from edge_agent.delivery.forwarder import Forwarder, Presence
from edge_agent.delivery.inbox import Inbox
from edge_agent.delivery.login import Login, login
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.retained import Retained
from edge_agent.downlink import Downlink
from edge_agent.events.topics import agent_place
from edge_agent.events.types import AgentStarted, AgentStopped, AgentWarning, Data, DataLoss
from edge_agent.explanation import Explanation
from edge_agent.floor import Floor, Observer
from edge_agent.health import DeviceHealth, Health, Link
from edge_agent.heartbeat import Heartbeat
from edge_agent.inspection import Inspection
from edge_agent.looking import Connections
from edge_agent.machine.machine import Machine
from edge_agent.reloading import Changes, Refused, changes
from edge_agent.running import Running
from edge_agent.tasks import Collectors, Sending

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
        reread: Callable[[], Loaded] | None = None,
    ) -> None:
        """`reread` reads the configuration again for a reload; it may raise `ConfigFaults` and OSError."""
        self._running = Running(VERSION, loaded)
        self._clock = clock or SystemClock()
        self.health = Health.of(loaded.config.devices, self._clock)
        self._home = loaded.base_dir
        self._observers = observers
        self._buffer = buffer
        self._random = random.Random()
        self._reread = reread
        self._reloading = asyncio.Lock()
        self._asked = asyncio.Event()
        self._life: _Life | None = None
        self._connections = Connections(self._clock)

    @property
    def config(self) -> Config:
        """The configuration of now."""
        return self._running.config

    async def run(self, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Collect and forward until `stop` is set. Raises `OutboxError` if the buffer cannot be opened at the start.

        A buffer that fails later is opened again until it can be, and one that is damaged is moved aside and a new
        one begun, without an end of the agent.
        """
        started = asyncio.Event()

        def is_ready() -> None:
            started.set()
            ready()

        while True:
            try:
                await self._live(stop, is_ready)
                break
            except OutboxError as error:
                if not started.is_set():
                    raise
                log.error("%s %s", error.code, error)
                if stop.is_set():
                    break
                await self._clock.sleep(REOPEN_AFTER)
        log.info("agent %s has stopped", self.config.agent.id)

    def reload_soon(self) -> None:
        """Reload without waiting; what comes of it is logged."""
        self._asked.set()

    async def reload(self) -> Changes:
        """Go on with the configuration as it is written now. Raises `Refused`, and then nothing has changed."""
        async with self._reloading:
            try:
                loaded = await self._read_again()
                done = await self._switch(loaded)
            except Refused as refused:
                log.warning("the new configuration is not taken, the old one goes on: %s", refused)
                if self._life is not None:
                    subject = agent_place(self.config).subject
                    text = f"The new configuration is not taken, the old one goes on: {refused}"
                    await self._life.floor.record(AgentWarning(code="reload_refused", text=text, subject=subject))
                raise
            log.info("configuration %s: %s", loaded.hash, done.told())
            return done

    async def _read_again(self) -> Loaded:
        if self._reread is None:
            raise Refused("this agent was not started from a file")
        try:
            return await asyncio.to_thread(self._reread)
        except ConfigFaults as broken:
            errors = [fault for fault in broken.faults if fault.severity == "error"]
            first = f"{errors[0].file}:{errors[0].line}:{errors[0].column}: {errors[0].code}: {errors[0].what}"
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise Refused(first + more, broken.faults) from None
        except OSError as error:
            raise Refused(f"the configuration cannot be read: {error}") from None

    async def _switch(self, loaded: Loaded) -> Changes:
        """Everything that can be refused comes before anything is switched."""
        life = self._life
        if life is None:
            raise Refused("the agent is starting or stopping: try again")
        old, new = self.config, loaded.config
        fresh = {name: Machine(new, name, epoch=life.epoch) for name in new.machines}
        done = changes(old, new, {name: machine.devices for name, machine in fresh.items()})
        try:
            publisher = self._publisher(new) if done.broker or self._secret(new) != life.secret else None
        except Problem as problem:
            raise Refused(f"{problem.code}: {problem.what}") from None
        done = replace(done, broker=publisher is not None)
        machines = [
            life.floor.machines[name] if name in done.machines.kept else machine for name, machine in fresh.items()
        ]

        def newest() -> dict[str, list[Reading]]:
            kept = {name: self.health.devices[name] for name in done.devices.kept}
            return {
                name: [reading for reading, _ in health.latest.values()]
                for name, health in kept.items()
                if health.link not in (None, Link.DOWN)
            }

        await life.collectors.end((*done.devices.changed, *done.devices.removed))
        try:
            await life.floor.switch(new, machines, newest)
            self._running.loaded = loaded
            for name in (*done.devices.changed, *done.devices.removed):
                del self.health.devices[name]
            self.health.devices |= {name: DeviceHealth() for name in (*done.devices.changed, *done.devices.added)}
            self.health.devices = {name: self.health.devices[name] for name in new.devices}
        finally:  # also the old ones, if no machine could go on
            for name in self.config.devices:
                if name not in life.collectors:
                    life.collectors.begin(name)
        if publisher is not None:
            life.secret = self._secret(new)
            await life.sending.replace(publisher)
        if publisher is not None or done.machines.added or done.machines.removed:
            life.inbox.renew()
        await life.heartbeat.beat()
        return done

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
            presence = self._presence(outbox, floor, began.wall)

            def forwarder(publisher: MqttPublisher) -> Forwarder:
                return Forwarder(
                    outbox,
                    publisher,
                    clock,
                    presence=presence,
                    retained=retained,
                    listener=self.health.broker,
                    random=self._random,
                    mom=self.config.mqtt.confirm == "mom",
                )

            sending = Sending(forwarder)
            inspection = Inspection(self._running, self.health, floor, outbox, clock)
            heartbeat = Heartbeat(floor, outbox, self.health, clock, disk=buffer.parent, running=self._running)
            explanation = Explanation(self._running, self.health, floor, outbox, clock)
            administration = Administration(floor, outbox, retained, clock, lambda: sending.forwarder)
            downlink = Downlink(self._running, floor, administration, clock)
            inbox = Inbox(
                self._inbox_login, downlink.topics, downlink.take, clock, self._random, self.health.broker.listening
            )
            commands = {
                **inspection.commands(),
                **explanation.commands(),
                **self._connections.commands(),
                "reload": self._told_to_reload,
            }
            async with ControlServer(socket_path(buffer), commands):
                sending.begin(self._publisher(config))
                log.info("agent %s %s is running", config.agent.id, VERSION)
                ready()
                try:
                    bounds = Bounds(floor, outbox, clock, config.buffer)
                    await self._collect(stop, floor, heartbeat, bounds, sending, inbox, outbox.epoch)
                    await self._last_words(floor, outbox, (clock.now().mono - began.mono) / 1e6)
                finally:
                    await sending.end()
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
        self,
        stop: asyncio.Event,
        floor: Floor,
        heartbeat: Heartbeat,
        bounds: Bounds,
        sending: Sending,
        inbox: Inbox,
        epoch: str,
    ) -> None:
        """Everything that makes events, until `stop` is set. Raises `OutboxError` when the buffer ends it."""
        drivers = Drivers()
        try:
            async with asyncio.TaskGroup() as group:
                collectors = Collectors(group, lambda name: self._collector(name, drivers, floor))
                for name in self.config.devices:
                    collectors.begin(name)
                tasks = [
                    group.create_task(floor.tick(), name="timers"),
                    group.create_task(heartbeat.run(), name="heartbeat"),
                    group.create_task(bounds.run(), name="bounds"),
                    group.create_task(sending.watch(), name="forwarder: watched"),
                    group.create_task(inbox.run(), name="inbox"),
                    group.create_task(self._reload_when_asked(), name="reload"),
                ]
                self._life = _Life(floor, collectors, sending, inbox, heartbeat, epoch, self._secret(self.config))
                await stop.wait()
                self._life = None
                async with self._reloading:
                    collectors.cancel()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            buffer = errors.subgroup(OutboxError)
            if buffer is None:
                raise
            raise _leaf(buffer) from errors
        finally:
            self._life = None

    async def _reload_when_asked(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            with suppress(Refused):  # it is logged
                await self.reload()

    async def _told_to_reload(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """The command `reload` of the local socket."""
        try:
            done = await self.reload()
        except Refused as refused:
            faults = [fault.as_json() for fault in refused.faults]
            return {"ok": False, "error": str(refused), "faults": faults, "config_hash": self._running.config_hash}
        return {"ok": True, "config_hash": self._running.config_hash, "changed": bool(done), **done.as_json()}

    def _collector(self, name: str, drivers: Drivers, floor: Floor) -> Collector:
        options = self.config.devices[name]

        def affected() -> tuple[str, ...]:
            machines = (machine for machine in floor.machines.values() if name in machine.devices)
            return tuple(self.config.subject(machine.name) for machine in machines)

        return Collector(
            name,
            options,
            lambda: self._connections.keep(name, options, drivers.open(name, options)),
            floor,
            self.health.devices[name],
            self._clock,
            Backoff(options.backoff.initial, options.backoff.max, self._random),
            affected,
        )

    def _first_words(self, outbox: SqliteOutbox) -> list[Data]:
        """`agent.started`; and where a damaged database was moved aside, that nobody knows what it held."""
        fresh = outbox.fresh
        started = AgentStarted(
            version=VERSION,
            config_hash=self._running.config_hash,
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

    def _secret(self, config: Config) -> str | None:
        """The broker's password. Raises Problem E313."""
        password = config.mqtt.password
        return None if password is None else resolve(password, base_dir=self._home)

    def _inbox_login(self) -> Login:
        config = self.config
        return login(
            config.mqtt,
            client_id=f"{config.mqtt.client_id or f'edge-agent-{config.agent.id}'}-cmd",
            password=self._secret(config),
            home=self._home,
        )

    def _publisher(self, config: Config) -> MqttPublisher:
        return MqttPublisher(
            config.mqtt,
            client_id=config.mqtt.client_id or f"edge-agent-{config.agent.id}",
            password=self._secret(config),
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
                config_hash=self._running.config_hash,
                since=since,
            )

        return Presence(birth=partial(status, True), will=partial(status, False), farewell=partial(status, False))


@dataclass(slots=True)
class _Life:
    """What a reload switches. `secret`: the broker's password as it was resolved."""

    floor: Floor
    collectors: Collectors
    sending: Sending
    inbox: Inbox
    heartbeat: Heartbeat
    epoch: str
    secret: str | None


def _leaf(group: BaseExceptionGroup[OutboxError]) -> OutboxError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
