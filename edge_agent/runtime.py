"""One agent from its configuration: builds the parts, starts them in order, stops them in order.

Start: outbox, machines (each where the outbox left it), control socket, then collectors, timers, heartbeat and
forwarder side by side. Stop: collectors first, then the last states and `agent.stopped` are committed, then the
forwarder ends and the outbox closes. After the start nothing stops the agent but being told to.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from buffer.outbox import Message, Outbox, OutboxError
from buffer.sqlite import SqliteOutbox
from config.load import Loaded
from config.model import Config, Http
from config.secrets import resolve
from drivers.registry import Drivers
from edge_agent.administration import Administration
from edge_agent.backoff import Backoff
from edge_agent.clock import EARLIEST, Clock, Steady, SystemClock
from edge_agent.collector import Collector
from edge_agent.control.place import socket_path
from edge_agent.control.protocol import VERSION
from edge_agent.control.server import ControlServer
from edge_agent.delivery import plain
from edge_agent.delivery.bounds import Bounds
from edge_agent.delivery.continuity import Continuity
from edge_agent.delivery.forwarder import Forwarder, Presence
from edge_agent.delivery.inbox import Inbox
from edge_agent.delivery.login import Login, login
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.retained import Retained
from edge_agent.downlink import Downlink
from edge_agent.events.topics import AGENT_STREAM, agent_place
from edge_agent.events.types import AgentStarted, AgentStopped, Data, DataLoss
from edge_agent.explanation import Explanation
from edge_agent.floor import STORED_AT, Floor, Observer
from edge_agent.gauge import Gauge
from edge_agent.health import Health
from edge_agent.heartbeat import CLOCK_JUMPED, Heartbeat
from edge_agent.inspection import Inspection
from edge_agent.looking import Connections
from edge_agent.machine.machine import Machine
from edge_agent.reloading import Changes
from edge_agent.running import Running
from edge_agent.storekeeping import Storekeeping
from edge_agent.switching import Life, Switching
from edge_agent.tasks import Collectors, Sending
from edge_agent.time_server import is_synchronised
from edge_agent.web.site import Site

log = logging.getLogger(__name__)

PARTING_LIMIT = 1.5
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
        synchronised: Callable[[], bool | None] = is_synchronised,
    ) -> None:
        """`reread` reads the configuration again for a reload; it may raise `ConfigFaults` and OSError.
        `synchronised`: whether a time server keeps the clock, None if nobody knows."""
        self._running = Running(VERSION, loaded)
        self._clock = Steady(clock or SystemClock())
        self._synchronised = synchronised
        self.health = Health.of(loaded.config.devices, self._clock)
        self._home = loaded.base_dir
        self._observers = observers
        self._buffer = buffer
        self._random = random.Random()
        self._switching = Switching(self._running, self.health, reread, self._publisher, self._secret)
        self._connections = Connections(self._clock)
        self._on_former: Callable[[bytes], Awaitable[None]] | None = None

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
        self._switching.asked.set()

    async def reload(self) -> Changes:
        """Go on with the configuration as it is written now. Raises `Refused`, and then nothing has changed."""
        return await self._switching.reload()

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
            await self._doubt_clock(outbox)
            self._on_former = Continuity(outbox).check_birth
            retained = Retained()
            machines = [Machine(config, name, epoch=outbox.epoch) for name in config.machines]
            floor = Floor(config, machines, outbox, retained, clock, is_doubtful=lambda: clock.is_behind)
            floor.observers += self._observers
            await floor.open(*self._first_words(outbox, floor.streams()))
            presence = self._presence(outbox, floor, began.wall)

            def forwarder(publisher: MqttPublisher) -> Forwarder:
                return Forwarder(
                    outbox,
                    publisher,
                    clock,
                    presence=presence,
                    retained=retained,
                    listener=self.health.broker,
                    set_aside=floor.set_aside,
                    random=self._random,
                    mom=self.config.mqtt.confirm == "mom",
                )

            sending = Sending(forwarder)
            storekeeping = Storekeeping(outbox, lambda: sending.forwarder)
            gauge = Gauge(outbox, clock)
            inspection = Inspection(self._running, self.health, floor, outbox, gauge, clock)
            heartbeat = Heartbeat(
                floor,
                outbox,
                self.health,
                clock,
                disk=buffer.parent,
                running=self._running,
                synchronised=self._is_kept,
            )
            explanation = Explanation(self._running, self.health, floor, outbox, clock)
            administration = Administration(floor, outbox, retained, clock, lambda: sending.forwarder)
            downlink = Downlink(self._running, floor, administration, clock)
            site = Site(self._running, inspection.status, clock, self._token)
            inbox = Inbox(
                self._inbox_login, downlink.topics, downlink.take, clock, self._random, self.health.broker.listening
            )
            commands = {
                **inspection.commands(),
                **explanation.commands(),
                **storekeeping.commands(),
                **self._connections.commands(),
                "reload": self._switching.told,
            }
            async with ControlServer(socket_path(buffer), commands):
                sending.begin(self._publisher(config))
                log.info("agent %s %s is running", config.agent.id, VERSION)
                ready()
                try:
                    bounds = Bounds(floor, outbox, clock, config.buffer)
                    await self._collect(stop, floor, heartbeat, bounds, gauge, sending, inbox, site, outbox.epoch)
                    await self._last_words(floor, outbox, (clock.now().mono - began.mono) / 1e6)
                finally:
                    await sending.end()
        finally:
            await outbox.close()

    def _is_kept(self) -> bool | None:
        """Whether a time server keeps the clock; one that does is believed whatever was stored, so that a date in the
        future, set once by mistake, does not stay."""
        kept = self._synchronised()
        if kept:
            self._clock.believe()
        return kept

    async def _doubt_clock(self, outbox: Outbox) -> None:
        """A clock that was never set is behind what was stored last."""
        stored = await outbox.load_state(STORED_AT)
        if not self._synchronised():
            self._clock.not_before(max(EARLIEST, 0 if stored is None else int(stored)))
        if self._clock.is_behind:
            log.warning(
                "%s the clock of this PC is behind the last stored time; times go on from that until it is set. "
                "Does it have a time server, and a battery?",
                CLOCK_JUMPED,
            )

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
        gauge: Gauge,
        sending: Sending,
        inbox: Inbox,
        site: Site,
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
                    group.create_task(gauge.run(), name="gauge"),
                    group.create_task(sending.watch(), name="forwarder: watched"),
                    group.create_task(inbox.run(), name="inbox"),
                    group.create_task(site.run(), name="page"),
                    group.create_task(self._switching.run(), name="reload"),
                ]
                secret = self._secret(self.config)
                self._switching.life = Life(floor, collectors, sending, inbox, heartbeat, site, epoch, secret)
                await stop.wait()
                self._switching.life = None
                async with self._switching.busy:
                    collectors.cancel()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            buffer = errors.subgroup(OutboxError)
            if buffer is None:
                raise
            raise _leaf(buffer) from errors
        finally:
            self._switching.life = None

    def _collector(self, name: str, drivers: Drivers, floor: Floor) -> Collector:
        options = self.config.devices[name]

        def affected() -> tuple[str, ...]:
            using = [machine for machine in floor.using(name) if machine in self.config.machines]
            return tuple(self.config.subject(machine) for machine in using)

        return Collector(
            name,
            options,
            lambda: self._connections.keep(name, options, drivers.open(name, options)),
            floor,
            self.health.devices[name],
            self._clock,
            Backoff(options.backoff.initial, options.backoff.max, self._random, silent=options.backoff.silent),
            affected,
        )

    def _first_words(self, outbox: SqliteOutbox, streams: Iterable[str]) -> list[Data]:
        """`agent.started`; and where the numbers of before cannot be continued, that nobody knows what is lost."""
        fresh = outbox.fresh
        started = AgentStarted(
            version=VERSION,
            config_hash=self._running.config_hash,
            clean_stop=outbox.clean_stop,
            prev_epoch=outbox.prev_epoch if fresh else None,
            prev_last_seq=dict(outbox.prev_last_seq) or None if fresh else None,
        )
        if outbox.quarantined is not None:
            log.warning("the buffer was damaged; it is kept as %s and a new one is begun", outbox.quarantined)
        elif outbox.broken is not None:
            log.warning("the buffer begins a new epoch: %s", outbox.broken)
        else:
            return [started]
        lost = [
            DataLoss(
                lost_stream=stream,
                lost_epoch=outbox.prev_epoch or "unknown",
                extent="unknown",
                cause="rollback" if outbox.rolled_back else "db_corrupt",
                policy="drop_oldest",
            )
            for stream in (AGENT_STREAM, *streams)
        ]
        return [started, *lost]

    def _secret(self, config: Config) -> str | None:
        """The broker's password. Raises Problem E313."""
        password = config.mqtt.password
        return None if password is None else resolve(password, base_dir=self._home)

    def _token(self, http: Http) -> str | None:
        """The token of the page. Raises Problem E313."""
        return None if http.token is None else resolve(http.token, base_dir=self._home)

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
            on_former=self._on_former,
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


def _leaf(group: BaseExceptionGroup[OutboxError]) -> OutboxError:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
