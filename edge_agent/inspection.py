"""What the CLI may ask a running agent over the local socket: `status`, `tail`, `values`, `record`.

Answers are plain JSON with stable keys; times are RFC 3339, those of machines UTC microseconds, ages seconds.
Status is about fresh data: a device that
is connected but whose tags are old is STALE.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from buffer.outbox import Message, Outbox
from config.model import DeviceOptions
from drivers.base import Batch, Quality, Reading
from edge_agent.clock import Clock, Instant, rfc3339
from edge_agent.control.feed import Dropped, Feed
from edge_agent.control.server import Command
from edge_agent.floor import Floor
from edge_agent.gauge import Gauge
from edge_agent.health import BrokerHealth, DeviceHealth, Health, Link
from edge_agent.replay.recording import Changes
from edge_agent.running import Running

RECORD_LIMIT = 10_000
"""Batches that wait for a slow listener of `record`."""
STALE_AFTER = 3
"""In expected periods of a device's slowest tag."""


class _Lost(NamedTuple):
    device: str
    now: Instant


class Inspection:
    """Reads health, machines and outbox; changes nothing."""

    def __init__(
        self,
        running: Running,
        health: Health,
        floor: Floor,
        outbox: Outbox,
        gauge: Gauge,
        clock: Clock,
    ) -> None:
        self._running = running
        self._health = health
        self._floor = floor
        self._outbox = outbox
        self._gauge = gauge
        self._clock = clock
        self._began = clock.now()
        self._events = Feed()
        self._batches = Feed()
        floor.observers.append(self._publish)
        floor.watchers.append(self._watch)

    def commands(self) -> Mapping[str, Command]:
        return {"status": self.status, "tail": self._tail, "values": self._values, "record": self._record}

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Agent, devices, machines and broker as they are now; the buffer as it was when its disk answered last."""
        depth, silent = await self._gauge.read()
        now = self._clock.now()
        return {
            "agent": {
                "id": self._running.config.agent.id,
                "version": self._running.version,
                "file": self._running.loaded.file,
                "pid": os.getpid(),
                "config_hash": self._running.config_hash,
                "epoch": self._outbox.epoch,
                "started_at": rfc3339(self._began.wall),
                "uptime_s": (now.mono - self._began.mono) / 1e6,
            },
            "devices": {
                name: device_status(options, self._health.devices[name], now.wall)
                for name, options in self._running.config.devices.items()
            },
            "machines": self._floor.describe(),
            "broker": {"url": self._running.config.mqtt.url, **broker_status(self._health.broker)},
            "buffer": {
                "rows": depth.rows,
                "bytes": depth.bytes,
                "oldest_s": None if depth.oldest_at is None else max(now.wall - depth.oldest_at, 0) / 1e6,
                "dead": depth.dead,
                "fill": depth.fill,
                "full_in_s": self._health.filled_in(),
                "full": self._outbox.full,
                "stored": depth.stored,
                "written_bytes": depth.written,
                "silent_s": silent,
            },
        }

    async def _tail(self, _: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Events as they are committed, in their CloudEvents form."""
        async for message in self._events.listen():
            yield message if isinstance(message, Dropped) else json.loads(message.body)

    async def _values(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The newest reading of every tag."""
        now = self._clock.now().wall
        return [
            {
                "device": device,
                "tag": tag,
                "value": reading.value,
                "quality": reading.quality.name,
                "detail": reading.detail,
                "read_at": rfc3339(at),
                "source_at": None if reading.source_time is None else rfc3339(reading.source_time),
                "age_s": (now - at) / 1e6,
            }
            for device, health in self._health.devices.items()
            for tag, (reading, at) in health.latest.items()
        ]

    async def _record(self, _: Mapping[str, Any]) -> AsyncIterator[Any]:
        """What is read, as it is read: first the newest reading of every tag, then batches with what changed, and
        connections that broke. Where the listener was too slow everything is said once more."""
        changes = Changes()
        for batch, now in self._newest():
            yield batch_item(batch, changes.of(batch.device, batch.readings), now)
        async for item in self._batches.listen(RECORD_LIMIT):
            if isinstance(item, Dropped):
                changes.restart()
                yield item
                for batch, now in self._newest():
                    yield batch_item(batch, changes.of(batch.device, batch.readings), now)
            elif isinstance(item, _Lost):
                yield {"device": item.device, "wall": item.now.wall, "mono": item.now.mono, "lost": True}
            else:
                batch, now = item
                yield batch_item(batch, changes.of(batch.device, batch.readings), now)

    def _newest(self) -> Iterator[tuple[Batch, Instant]]:
        now = self._clock.now()
        for device, health in self._health.devices.items():
            if health.link is not Link.DOWN and health.latest:
                yield Batch(device, [reading for reading, _ in health.latest.values()]), now

    def _watch(self, batch: Batch, now: Instant) -> None:
        if self._batches.wanted:
            self._batches.publish((batch, now))

    def _publish(self, messages: Sequence[Message]) -> None:
        if self._events.wanted:
            for message in messages:
                self._events.publish(message)
        if self._batches.wanted:
            for message in messages:
                if message.type == "connection.changed" and (lost := _lost(message)) is not None:
                    self._batches.publish(_Lost(lost, self._clock.now()))


def batch_item(batch: Batch, readings: Sequence[Reading], now: Instant) -> dict[str, Any]:
    """A batch on the local socket, with these of its readings."""
    return {
        "device": batch.device,
        "wall": now.wall,
        "mono": now.mono,
        "restarted": batch.restarted,
        "readings": [[*reading[:2], int(reading.quality), *reading[3:]] for reading in readings],
    }


def batch_of(item: Mapping[str, Any]) -> Batch:
    """The batch of an item of `record`."""
    readings = [
        Reading(tag, value, Quality(quality), source, detail)
        for tag, value, quality, source, detail in item["readings"]
    ]
    return Batch(item["device"], readings, restarted=item["restarted"])


def _lost(message: Message) -> str | None:
    """The device of a `connection.changed` that says down."""
    data = json.loads(message.body)["data"]
    return str(data["endpoint"]) if data["status"] == Link.DOWN.value else None


def device_status(options: DeviceOptions, health: DeviceHealth, now: int) -> dict[str, Any]:
    slowest = max((options.period(tag) for tag in options.tags), default=options.scan)
    age = None if health.last_good_at is None else now - health.last_good_at
    if health.link is None:
        word = "CONNECTING"
    elif health.link is not Link.DOWN and age is not None and age > STALE_AFTER * slowest + options.timeout:
        word = "STALE"
    else:
        word = health.link.name
    return {
        "driver": options.driver,
        "endpoint": options.endpoint,
        "status": word,
        "since": None if health.since is None else rfc3339(health.since),
        "age_s": None if age is None else age / 1e6,
        "reason": health.reason,
        "code": health.code,
        "message": health.message,
        "tags": len(options.tags),
        "bad": dict(health.bad),
        "connects": health.connects,
        "failures": health.failures,
        "batches": health.batches,
        "readings": health.readings,
        "missed_scans": health.missed,
        "ring": None
        if getattr(options, "ring", None) is None
        else {
            "told": health.ring_entries,
            "losses": health.ring_losses,
            "last_at": None if health.ring_at is None else rfc3339(health.ring_at),
        },
    }


def broker_status(health: BrokerHealth) -> dict[str, Any]:
    return {
        "commands": health.commands,
        "no_commands": None
        if health.no_commands is None
        else {"code": health.no_commands.code, "message": str(health.no_commands)},
        "status": "UP" if health.online else "DOWN" if health.since is not None else "CONNECTING",
        "since": None if health.since is None else rfc3339(health.since),
        "code": health.code,
        "message": health.message,
        "confirmed": health.confirmed_messages,
        "rejected": health.refused_messages,
        "last_confirmed_at": None if health.last_confirmed_at is None else rfc3339(health.last_confirmed_at),
    }
