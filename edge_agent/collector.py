"""The loop around one driver: connect, read, feed, and when the connection is lost, wait and begin again.

Owns what drivers must not: retry, time limits, logging, time stamps. It awaits the commit before it reads again;
that is the back-pressure. A fault of one device, even a bug in its driver, never reaches another one.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from config.model import DeviceOptions
from drivers.base import Batch, Driver, Historian, RingReader
from drivers.errors import ConnectionLost, DriverError
from edge_agent.backoff import Backoff
from edge_agent.clock import Clock
from edge_agent.events.types import ConnectionChanged, Data
from edge_agent.health import DeviceHealth, Link
from edge_agent.pace import CALM
from edge_agent.wait_limit import WaitLimit

log = logging.getLogger(__name__)

SETTLED = 10_000_000
"""A connection that held for so long (µs) starts the back-off anew."""
DWELL = 5_000_000
"""A connected device changes between up and degraded at most this often (µs): a flapping tag is one event."""
PARTING_LIMIT = 1.0
"""Seconds that a device may take to be left."""


class Sink(Protocol):
    """Where batches go: the floor, or a recording."""

    async def feed(self, batch: Batch) -> None:
        """Returns when the next one may be read."""

    def unseen(self, device: str) -> int | None:
        """Since when nothing of the device is known (UTC µs), if its own history of that is wanted."""

    def position(self, device: str) -> str | None:
        """The `Entries.position` that was kept of the device last, empty if there is none; None if none is kept."""

    async def record(self, *data: Data) -> None:
        """What the collector says about its connection."""


class Collector:
    """Collects one device for ever; `run` ends only by cancellation."""

    def __init__(
        self,
        name: str,
        options: DeviceOptions,
        open_driver: Callable[[], Driver],
        sink: Sink,
        health: DeviceHealth,
        clock: Clock,
        backoff: Backoff,
        affected: Callable[[], tuple[str, ...]],
    ) -> None:
        """`affected` gives the subjects of the machines that use the device now."""
        self._name = name
        self._options = options
        self._open_driver = open_driver
        self._sink = sink
        self._health = health
        self._clock = clock
        self._backoff = backoff
        self._affected = affected
        slowest = max((options.period(tag) for tag in options.tags), default=options.scan)
        health.pace.calm = max(CALM, 3 * slowest)
        self._connect_limit = max(10 * options.timeout, 20_000_000) / 1e6
        self._read_limit = max(10 * options.timeout + 3 * slowest, 60_000_000) / 1e6

    async def run(self) -> None:
        while True:
            driver = self._open_driver()
            began = self._clock.now().mono
            try:
                if isinstance(driver, RingReader) and (position := self._sink.position(self._name)) is not None:
                    driver.resume(position)
                async with asyncio.timeout(self._connect_limit):
                    await driver.connect()
                await self._collect(driver)
            except DriverError as error:
                lost = error
            except TimeoutError:
                lost = ConnectionLost(
                    f"{self._name} ({self._options.endpoint}) does not answer", code="C502", reason="timeout"
                )
            except Exception as error:  # a bug in one driver must not stop the others
                log.exception("%s: the driver failed in a way it should not", self._name)
                lost = DriverError(
                    f"{self._name}: the driver failed: {error!r}", code="C599", reason="exception", native=repr(error)
                )
            except asyncio.CancelledError:
                await self._part(driver)
                raise
            await driver.close()
            if self._clock.now().mono - began > SETTLED:
                self._backoff.reset()
            await self._down(lost)
            await self._clock.sleep(self._backoff.next(silent=lost.silent))

    async def _part(self, driver: Driver) -> None:
        """Told to end: a device that hangs keeps neither a stop nor a reload waiting."""
        try:
            async with asyncio.timeout(PARTING_LIMIT):
                await driver.close()
        except TimeoutError:
            log.debug("%s: left without a farewell", self._name)

    async def _collect(self, driver: Driver) -> None:
        self._health.connects += 1
        if isinstance(driver, Historian):
            await self._recall(driver)
        reported: frozenset[str] | None = None
        judged_at = 0
        async with WaitLimit(self._read_limit) as limit:
            while True:
                limit.begin()
                batch = await driver.read()
                limit.end()
                now = self._clock.now()
                self._health.note(batch, now)
                await self._sink.feed(batch)
                if reported is None:
                    news = bool(batch.readings)
                else:
                    news = now.mono - judged_at >= DWELL and reported != self._health.bad.keys()
                if news:
                    reported, judged_at = frozenset(self._health.bad), now.mono
                    await self._connected(now.wall)

    async def _recall(self, driver: Historian) -> None:
        """Feed what the device recorded since it was seen last; each piece is committed before the next is asked
        for, so a piece that was not is asked for again after a restart."""
        since = self._sink.unseen(self._name)
        while since is not None:
            async with asyncio.timeout(self._read_limit):
                batch = await driver.recall(since)
            if batch is None:
                return
            await self._sink.feed(batch)
            before, since = since, self._sink.unseen(self._name)
            if batch.recalled is None or not batch.recalled.more or since is None or since <= before:
                return

    async def _connected(self, wall: int) -> None:
        bad = self._health.bad
        if not bad:
            log.info("%s (%s): up", self._name, self._options.endpoint)
            await self._change(Link.UP, None, None, None, wall)
            return
        names = ", ".join(f"{tag} ({why})" for tag, why in sorted(bad.items())[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        message = f"no good value from {names}{more}"
        log.warning("%s (%s): %s", self._name, self._options.endpoint, message)
        await self._change(Link.DEGRADED, "bad_quality", message, None, wall)

    async def _down(self, error: DriverError) -> None:
        self._health.failures += 1
        if self._health.link is Link.DOWN:
            log.debug("%s: still down: %s %s", self._name, error, error.native)
            self._health.message, self._health.code = str(error), error.code
            return
        log.warning("%s %s", error.code, error)
        if error.native:
            log.debug("%s: %s", self._name, error.native)
        since = self._health.last_good_at or self._clock.now().wall
        await self._change(Link.DOWN, error.reason, str(error), error.code, since)

    async def _change(
        self, link: Link, reason: str | None, message: str | None, code: str | None, since: int
    ) -> None:
        health = self._health
        health.link, health.reason, health.message, health.code, health.since = link, reason, message, code, since
        await self._sink.record(
            ConnectionChanged(
                endpoint=self._name,
                protocol=self._options.protocol,
                status=link.value,
                since=since,
                last_good_at=health.last_good_at,
                reason=reason,
                native=message,
                affected=self._affected(),
            )
        )
