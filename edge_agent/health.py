"""What is known of the agent's connections right now: counters and last values, lost on restart.

Written by the collectors and the forwarder, read by `status`, `tail --values` and the heartbeat. Status is about
fresh data, not about sockets: a device is UP only while its tags are good.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from buffer.outbox import Damaged, Message
from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SECOND, Clock, Instant
from edge_agent.delivery.publisher import PublishError, Rejected
from edge_agent.pace import Pace

_BAD = Quality.BAD


class Link(StrEnum):
    """Status words of `connection.changed` (event model §2.11)."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(slots=True)
class DeviceHealth:
    """One device. Times are UTC microseconds; `bad` maps a tag to why it is BAD."""

    link: Link | None = None
    since: int | None = None
    last_good_at: int | None = None
    reason: str | None = None
    message: str | None = None
    code: str | None = None
    connects: int = 0
    failures: int = 0
    batches: int = 0
    readings: int = 0
    missed: int = 0
    """Scans skipped because reading took longer than the scan."""
    ring_entries: int = 0
    """What entries of the device's ring said."""
    ring_losses: int = 0
    """How often entries of it were lost."""
    ring_at: int | None = None
    """When one came last."""
    pace: Pace = field(default_factory=Pace)
    bad: dict[str, str] = field(default_factory=dict)
    latest: dict[str, tuple[Reading, int]] = field(default_factory=dict)

    def note(self, batch: Batch, at: Instant) -> None:
        """Take a batch in."""
        now = at.wall
        readings = batch.readings
        self.batches += 1
        self.readings += len(readings)
        self.missed += batch.missed
        self.pace.note(batch.missed, at.mono)
        self.latest.update([(reading[0], (reading, now)) for reading in readings])
        if batch.entries is not None:
            self.ring_losses += batch.entries.lost is not None
            if readings:
                self.ring_entries += len(readings)
                self.ring_at = now
        failed = [reading for reading in readings if reading[2] is _BAD]
        if len(failed) < len(readings):
            self.last_good_at = now
        if failed or self.bad:
            for reading in readings:
                self.bad.pop(reading.tag, None)
            self.bad.update((reading.tag, reading.detail) for reading in failed)


@dataclass(slots=True)
class BrokerHealth:
    """The broker's side; a `delivery.forwarder.Listener`. Times are UTC microseconds."""

    clock: Clock
    online: bool = False
    since: int | None = None
    code: str | None = None
    message: str | None = None
    commands: bool = False
    """Commands of the MOM can come."""
    no_commands: PublishError | None = None
    """Why they cannot."""
    confirmed_messages: int = 0
    refused_messages: int = 0
    last_confirmed_at: int | None = None

    def connected(self) -> None:
        self.online, self.since, self.code, self.message = True, self.clock.now().wall, None, None

    def disconnected(self, error: PublishError, retry_in: float) -> None:
        if self.online or self.since is None:
            self.online, self.since = False, self.clock.now().wall
        self.code, self.message = error.code, str(error)

    def listening(self, now: bool, why: PublishError | None) -> None:
        self.commands, self.no_commands = now, why

    def confirmed(self, count: int) -> None:
        self.confirmed_messages += count
        self.last_confirmed_at = self.clock.now().wall

    def rejected(self, message: Message, error: Rejected) -> None:
        self.refused_messages += 1
        self.code, self.message = error.code, f"{message.type} for {message.topic}: {error}"


@dataclass(slots=True)
class Health:
    """The whole agent."""

    devices: dict[str, DeviceHealth]
    broker: BrokerHealth
    damaged: list[Damaged] = field(default_factory=list)
    """Stored messages found damaged, not declared yet."""
    fills: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=20))
    """How full the buffer was lately: (monotonic µs, share)."""

    def filled_in(self) -> float | None:
        """Seconds until the buffer is full if it goes on as lately; None while it does not fill."""
        if len(self.fills) < 2:
            return None
        (then, before), (now, share) = self.fills[0], self.fills[-1]
        grown = share - before
        return None if grown <= 0 or now <= then else (1 - share) / grown * (now - then) / SECOND

    @classmethod
    def of(cls, devices: Iterable[str], clock: Clock) -> "Health":
        return cls({name: DeviceHealth() for name in devices}, BrokerHealth(clock))
