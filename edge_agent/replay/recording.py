"""Turns live batches into a timeline that `replay` and `tests:` read back: only changes, each with its quality.

Times lie on the monotonic line that begins with the wall time of the first batch, so a clock that is set shows as
a `clock` row and never as a row before its predecessor. A value stands at its source time where the device has one
that agrees with our clock, else at the time it was read; rows wait for `WINDOW` so that those of several devices
come out in order. A sample that is older than the newest of its tag keeps its place and says `source_at`.

`device: lost` stands right after the device's last batch, `back` after its first values.
"""

import heapq
from collections.abc import Collection, Iterator
from math import isfinite
from typing import NamedTuple, TypeAlias

from drivers.base import Batch, Quality, Reading, Value
from edge_agent.clock import SECOND, Instant

Micros: TypeAlias = int

WINDOW = 3 * SECOND
"""How long rows wait for older ones, and how old a source time may be to be the place of a value."""
CLOCK_TOLERANCE = SECOND
JUST_AFTER = 1_000


class Row(NamedTuple):
    """One row of the file. `at` and `source_at` are UTC µs on the recording's line.

    `tag` is `device/tag`, or one of `device`, `plc`, `clock` with its word in `value`: `lost oven-1`, `back oven-1`,
    `restarted oven-1`, `+3600s`. `value` is None where the quality is bad.
    """

    at: Micros
    tag: str
    value: Value | None
    quality: Quality = Quality.GOOD
    source_at: Micros | None = None

    @property
    def special(self) -> bool:
        return "/" not in self.tag


class Changes:
    """Of a stream of readings those that say something else than the one before of their tag."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[type, Value | None, Quality]] = {}

    def of(self, device: str, readings: Collection[Reading]) -> list[Reading]:
        news = []
        for reading in readings:
            key = device, reading.tag
            said = (type(reading.value), reading.value, reading.quality)
            if self._last.get(key) != said:
                self._last[key] = said
                news.append(reading)
        return news

    def restart(self) -> None:
        """The next reading of every tag is news."""
        self._last.clear()


class Recording:
    """Takes what happens, gives rows in order.

    Use `take` and `lost` as things come, `tick` now and then, `flush` at the end.
    """

    def __init__(self) -> None:
        self.rows = 0
        """Given so far."""
        self._changes = Changes()
        self._base: Instant | None = None
        self._jumped = 0
        self._waiting: list[tuple[Micros, int, Row]] = []
        self._count = 0
        self._given = 0
        self._newest: dict[tuple[str, str], Micros] = {}
        self._placed: dict[tuple[str, str], Micros] = {}
        self._last_batch: dict[str, Micros] = {}
        self._lost: set[str] = set()
        self._held: dict[str, Row] = {}

    def take(self, batch: Batch, now: Instant) -> Iterator[Row]:
        """A batch that was read at `now`; gives the rows that are old enough."""
        at = self._line(now)
        device = batch.device
        if batch.restarted:
            self._put(Row(at, "plc", f"restarted {device}"))
        anew = batch.restarted or device in self._lost
        for reading in self._changes.of(device, batch.readings):
            self._put(self._row(device, reading, at, anew))
        if device in self._lost and batch.readings:
            self._lost.discard(device)
            self._put(Row(at, "device", f"back {device}"))
        self._last_batch[device] = at
        yield from self._release(at - WINDOW)

    def lost(self, device: str, now: Instant) -> Iterator[Row]:
        """The connection to a device broke; that it is down is said once."""
        at = self._line(now)
        if device not in self._lost:
            self._lost.add(device)
            self._put(
                Row(max(self._last_batch.get(device, at) + JUST_AFTER, self._given), "device", f"lost {device}")
            )
        yield from self._release(at - WINDOW)

    def tick(self, now: Instant) -> Iterator[Row]:
        """Nothing came, time goes on."""
        if self._base is not None:
            yield from self._release(self._line(now) - WINDOW)

    def flush(self, now: Instant) -> Iterator[Row]:
        """The rest. A value that still holds is said again at the end, so that a replay goes on until then."""
        at = self._line(now)
        yield from self._release(at)
        last = max(self._held.values(), key=lambda row: row.at, default=None)
        if last is not None:
            self.rows += 1
            yield last._replace(at=max(at, self._given))

    def _line(self, now: Instant) -> Micros:
        """`now` on the line; a wall clock that jumped becomes a row."""
        if self._base is None:
            self._base = now
            self._given = now.wall
        at = self._base.wall + now.mono - self._base.mono
        jumped = now.wall - at
        if abs(jumped - self._jumped) > CLOCK_TOLERANCE:
            self._put(Row(at, "clock", f"{(jumped - self._jumped) / SECOND:+.3f}s"))
            self._jumped = jumped
        return at

    def _row(self, device: str, reading: Reading, at: Micros, anew: bool) -> Row:
        """The row of a reading of `at`; `anew`: it may not stand before that."""
        key = device, reading.tag
        value, quality, late = reading.value, reading.quality, None
        if value is None or (isinstance(value, float) and not isfinite(value)):
            value, quality = None, Quality.BAD
        if reading.source_time is not None:
            source = reading.source_time - self._jumped
            newest = self._newest.get(key, source)
            if source < newest and value is not None:
                late = source
            elif 0 <= at - source <= WINDOW and not anew:
                at = max(source, self._placed.get(key, 0), self._given)
            self._newest[key] = max(source, newest)
        self._placed[key] = at
        return Row(at, f"{device}/{reading.tag}", value, quality, late)

    def _put(self, row: Row) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (row.at, self._count, row))

    def _release(self, until: Micros) -> Iterator[Row]:
        while self._waiting and self._waiting[0][0] <= until:
            at, _, row = heapq.heappop(self._waiting)
            self._given = max(self._given, at)
            if not row.special and row.source_at is None:
                self._held.pop(row.tag, None)
                if row.quality is Quality.GOOD:
                    self._held[row.tag] = row
            self.rows += 1
            yield row
