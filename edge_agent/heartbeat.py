"""What the agent says about itself: every 5 s it stores the machines' last samples, every 30 s it sends a heartbeat.

On the same beat it declares what was destroyed (damaged rows), notices that the wall clock jumped, says
that the broker is gone or back, and warns of devices that have begun to skip scans.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from buffer.outbox import Damaged, Outbox
from edge_agent.clock import SECOND, Clock, Instant
from edge_agent.events.topics import agent_place
from edge_agent.events.types import (
    AgentClockAdjusted,
    AgentHeartbeat,
    AgentWarning,
    ConnectionChanged,
    Data,
    DataLoss,
)
from edge_agent.floor import Floor
from edge_agent.health import Health, Link
from edge_agent.running import Running
from edge_agent.time_server import is_synchronised

log = logging.getLogger(__name__)

STORE_EVERY = 5.0
"""Seconds between stored states: a gap after a kill begins at most so long before it."""
BEATS = 6
"""Stored states per heartbeat: 30 s."""
CLOCK_JUMPED = "S703"
JUMP = 1 * SECOND
"""Wall and monotonic time may part by so much (µs) before it is a jump (event model §3.6)."""

STREAMS: Final = 500
"""Streams that one heartbeat names, or a plant of thousands would need more than 64 KiB; the next one goes on."""
WORST: Final = 100
"""Devices or machines that one heartbeat names for the same trouble."""

_REASONS: Final = {
    "B601": "auth",
    "B602": "auth",
    "B603": "auth",
    "B605": "timeout",
    "B606": "refused",
    "B699": "exception",
}
"""Fault of the broker's connection → reason of `connection.changed`."""


class Heartbeat:
    """`run` it beside the collectors. `disk` is a folder on the buffer's disk."""

    def __init__(
        self,
        floor: Floor,
        outbox: Outbox,
        health: Health,
        clock: Clock,
        *,
        disk: Path,
        running: Running,
        synchronised: Callable[[], bool | None] = is_synchronised,
    ) -> None:
        self._floor = floor
        self._outbox = outbox
        self._health = health
        self._clock = clock
        self._disk = disk
        self._running = running
        self._began = clock.now()
        self._apart = _apart(self._began)
        self._adjusted = 0
        self._named = 0
        self._synchronised = synchronised
        self._behind: frozenset[str] = frozenset()
        self._online: bool | None = None

    async def run(self) -> None:
        while True:
            for _ in range(BEATS):
                await self._clock.sleep(STORE_EVERY)
                await self._floor.store(*self._news())
            await self.beat()

    async def beat(self) -> None:
        """Send a heartbeat now."""
        await self._floor.record(await self._heartbeat())

    def _news(self) -> list[Data]:
        health = self._health
        news: list[Data] = [_damaged(row, self._outbox.epoch) for row in health.damaged]
        health.damaged.clear()
        news += self._skipping()
        news += self._broker()
        apart = _apart(self._clock.now())
        offset = apart - self._apart
        if abs(offset) > JUMP:
            self._apart = apart
            self._adjusted += offset
            log.warning("%s %s", CLOCK_JUMPED, jumped(offset))
            news.append(AgentClockAdjusted(offset_s=offset / SECOND))
        return news

    def _broker(self) -> list[ConnectionChanged]:
        """That the broker is there, or is not, when that is news; what is shorter than a beat is none."""
        broker, mqtt = self._health.broker, self._running.config.mqtt
        if broker.since is None or broker.online is self._online:
            return []
        self._online = broker.online
        return [
            ConnectionChanged(
                endpoint=mqtt.url,
                protocol="mqtt",
                status=(Link.UP if broker.online else Link.DOWN).value,
                since=broker.since,
                last_good_at=None if broker.online else broker.last_confirmed_at,
                reason=None if broker.online else _REASONS.get(broker.code or "", "session_lost"),
                native=broker.message,
                affected=(agent_place(self._running.config).subject,),
            )
        ]

    def _skipping(self) -> list[AgentWarning]:
        """One warning for all devices that have begun to skip scans since the last look."""
        devices = self._health.devices
        behind = frozenset(name for name, device in devices.items() if device.pace.behind)
        new, self._behind = sorted(behind - self._behind), behind
        if not new:
            return []
        names = ", ".join(new[:5]) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
        skipped = sum(devices[name].pace.skipped for name in new)
        text = (
            f"{names}: reading takes longer than the scan, {skipped} scans were skipped. Make 'scan' longer, read "
            "fewer tags, or give the agent's computer less to do."
        )
        log.warning("%s", text)
        subject = agent_place(self._running.config).subject
        return [AgentWarning(code="scans_skipped", text=text, subject=subject, count=skipped)]

    async def _heartbeat(self) -> AgentHeartbeat:
        depth = await self._outbox.depth()
        synced = self._synchronised()
        now = self._clock.now()
        timing = self._floor.timing()
        skews = {device: skew for one in timing.values() for device, skew in one.skews.items()}
        self._health.fills.append((now.mono, depth.fill))
        oldest = 0 if depth.oldest_at is None else max(now.wall - depth.oldest_at, 0)
        return AgentHeartbeat(
            uptime_s=(now.mono - self._began.mono) / SECOND,
            buffer={
                "rows": depth.rows,
                "bytes": depth.bytes,
                "oldest_unsent_s": round(oldest / SECOND, 3),
                "fill": round(depth.fill, 6),
            },
            last_seq=self._numbers(),
            clock={"source": "system"} if synced is None else {"source": "system", "synced": synced},
            disk_free=shutil.disk_usage(self._disk).free,
            config_hash=self._running.config_hash,
            version=self._running.version,
            clock_adjusted_total_s=self._adjusted / SECOND,
            missed_scans=_worst({name: device.missed for name, device in self._health.devices.items()}),
            late_dropped=_worst({name: one.dropped for name, one in timing.items()}),
            skew_ms=_worst({device: round(skew / 1000, 3) for device, skew in skews.items()}),
        )

    def _numbers(self) -> dict[str, int]:
        """The last numbers of the streams, of `STREAMS` after those of the heartbeat before."""
        known = list(self._floor.last_seq.items())
        begin = self._named if self._named < len(known) else 0
        self._named = begin + STREAMS
        return dict(known[begin : self._named])


_N = TypeVar("_N", int, float)


def _worst(found: Mapping[str, _N]) -> Mapping[str, _N] | None:
    """The largest of those that are not 0; None if all are."""
    named = sorted(found, key=lambda name: -abs(found[name]))[:WORST]
    return {name: found[name] for name in named if found[name]} or None


def jumped(offset: int) -> str:
    """What is said when the clock was set; `offset` is µs."""
    way = "ahead" if offset > 0 else "back"
    return (
        f"The clock of this PC was set {way} by {abs(offset) / SECOND:.1f} s. Durations are right all the same; "
        "times of events before and after do not fit together. Is the time server reachable?"
    )


def _apart(now: Instant) -> int:
    return now.wall - now.mono


def _damaged(row: Damaged, epoch: str) -> DataLoss:
    """A stored message is not what was written; it is in the dead letters and will not be sent."""
    return DataLoss(
        lost_stream=row.stream or "unknown",
        lost_epoch=row.epoch or epoch,
        seq_from=row.seq,
        seq_to=row.seq,
        extent="unknown" if row.seq is None else "exact",
        cause="db_corrupt",
        policy="drop_oldest",
    )
