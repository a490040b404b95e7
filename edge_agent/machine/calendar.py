"""Which shift is on and what is planned, at any instant: the calendar of one machine in the site's time zone.

The calendar tiles the time line into slices between its boundaries: starts and ends of shifts, breaks and planned
maintenance. Everything is UTC; local times are turned into instants day by day, so a night shift may last 7 or 9 h.
A local time that is skipped by daylight saving is the next valid instant, one that occurs twice is the first. Slices
are computed once per UTC day and kept; a calendar never changes.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Final, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from config.calendar import MINUTES, Break, CalendarOptions, Maintenance
from config.calendar import Shift as ShiftOptions
from config.kinds import time_zone
from config.model import Config
from edge_agent.clock import SECOND

DAY: Final = 86_400 * SECOND
HOUR: Final = 3600 * SECOND
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORTNIGHT: Final = 16
"""Days in which every weekly span occurs, even if daylight saving swallows one."""
_FAR: Final = 1 << 62
"""Microseconds: no boundary will ever come."""
BREAK: Final = "break"
MAINTENANCE: Final = "planned_maintenance"


class Shift(NamedTuple):
    """One occurrence. `id` is the local date of its start and its name; UTC microseconds."""

    id: str
    start: int
    end: int


class Slice(NamedTuple):
    """A span without a boundary inside. `planned`: `break`, `planned_maintenance`, or None. `on`: operation is
    planned, breaks included; always so where no shifts are configured. UTC microseconds, half-open."""

    start: int
    end: int
    shift: Shift | None
    planned: str | None
    on: bool


def calendar_of(config: Config, machine: str) -> "Calendar":
    """The machine's calendar; machines for which the same is planned share one."""
    options = config.calendar or CalendarOptions()
    own = tuple(each for each in options.maintenance if each.machines is None or machine in each.machines)
    return _shared(options.shifts, options.breaks, own, config.site.timezone)


class MomCalendar(CalendarOptions):
    """A calendar as the MOM sends it: what `calendar:` can say, the zone it is meant in (default: the site's), and a
    version to tell it from others."""

    zone: Annotated[str, AfterValidator(time_zone)] | None = None
    version: Annotated[str, Field(max_length=200)] | int | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.shifts or self.breaks or self.maintenance)


@functools.lru_cache(maxsize=64)
def calendar_set(text: str, machine: str, zone: str) -> "Calendar":
    """The machine's calendar from JSON of `MomCalendar`; `zone` is the site's."""
    asked = MomCalendar.model_validate_json(text)
    own = tuple(each for each in asked.maintenance if each.machines is None or machine in each.machines)
    return _shared(asked.shifts, asked.breaks, own, asked.zone or zone)


@functools.lru_cache(maxsize=64)
def _shared(
    shifts: tuple[ShiftOptions, ...], breaks: tuple[Break, ...], maintenance: tuple[Maintenance, ...], zone: str
) -> "Calendar":
    return Calendar(shifts, breaks, maintenance, zone)


class Calendar:
    """Built once per machine; all questions are in UTC microseconds."""

    def __init__(
        self, shifts: Sequence[ShiftOptions], breaks: Sequence[Break], maintenance: Sequence[Maintenance], zone: str
    ) -> None:
        self.zone: tzinfo = ZoneInfo(zone) if zone != "UTC" else UTC
        self.tz = zone
        self.has_shifts = bool(shifts)
        self._shifts = shifts
        self._breaks = breaks
        self._maintenance = tuple(
            (_moment(each.start, self.zone), _moment(each.end, self.zone)) for each in maintenance
        )
        self._day = functools.lru_cache(maxsize=64)(self._slices_of)

    def at(self, wall: int) -> Slice:
        """The slice that holds the instant."""
        slices, starts = self._day(wall // DAY)
        return slices[bisect_right(starts, wall) - 1]

    def shift(self, wall: int) -> Shift | None:
        return self.at(wall).shift

    def next(self, wall: int) -> int | None:
        """The next boundary after the instant; None if there will never be one."""
        end = self.at(wall).end
        return None if end >= _FAR else end

    def slices(self, start: int, end: int) -> Iterator[Slice]:
        """What the calendar says of `[start, end)`, cut to it, in order."""
        while start < end:
            found = self.at(start)
            stop = min(found.end, end)
            yield found._replace(start=start, end=stop)
            start = stop

    def hour(self, wall: int) -> tuple[int, int]:
        """The hour of the local clock that holds the instant."""
        local = (_EPOCH + timedelta(microseconds=wall)).astimezone(self.zone)
        standard = (local.utcoffset() or timedelta()) - (local.dst() or timedelta())
        start = wall - (wall + standard // timedelta(microseconds=1)) % HOUR
        return start, start + HOUR

    def local(self, wall: int) -> datetime:
        return (_EPOCH + timedelta(microseconds=wall)).astimezone(self.zone)

    def _slices_of(self, day: int) -> tuple[tuple[Slice, ...], tuple[int, ...]]:
        """The slices that touch a UTC day, the first and the last as long as they are, and their starts."""
        slices: list[Slice] = []
        at = day * DAY
        while at < (day + 1) * DAY:
            found = self._slice(at)
            slices.append(found)
            at = found.end
        return tuple(slices), tuple(each.start for each in slices)

    def _slice(self, wall: int) -> Slice:
        before, after = -_FAR, _FAR
        for reach in (1, _FORTNIGHT):
            shifts, planned = self._around(wall, reach)
            points = [point for span in (*shifts, *planned) for point in (span[1], span[2])]
            before = max((point for point in points if point <= wall), default=-_FAR)
            after = min((point for point in points if point > wall), default=_FAR)
            if wall - before <= DAY and after - wall <= DAY:
                break
        shift = next((each for each in shifts if each.start <= wall < each.end), None)
        words = {word for word, start, end in planned if start <= wall < end}
        what = MAINTENANCE if MAINTENANCE in words else BREAK if words else None
        return Slice(before, after, shift, what, shift is not None or not self.has_shifts)

    def _around(self, wall: int, reach: int) -> tuple[list[Shift], list[tuple[str, int, int]]]:
        """Shifts and planned spans that begin within so many days of the instant, or are on then."""
        today = self.local(wall).toordinal()
        shifts: list[Shift] = []
        planned = [(MAINTENANCE, start, end) for start, end in self._maintenance if start < end]
        for ordinal in range(today - reach - 1, today + reach + 1):
            day = date.fromordinal(ordinal)
            for each in self._shifts:
                if day.weekday() in each.days:
                    start, end = self._span(ordinal, each.start, each.minutes)
                    if start < end:
                        shifts.append(Shift(f"{day.isoformat()}/{each.name}", start, end))
            for pause in self._breaks:
                if day.weekday() in pause.days:
                    start, end = self._span(ordinal, pause.start, pause.minutes)
                    if start < end:
                        planned.append((BREAK, start, end))
        return shifts, planned

    def _span(self, ordinal: int, start: int, minutes: int) -> tuple[int, int]:
        return self._instant(ordinal, start), self._instant(ordinal, start + minutes)

    def _instant(self, ordinal: int, minutes: int) -> int:
        days, minute = divmod(minutes, MINUTES)
        naive = datetime.fromordinal(ordinal + days) + timedelta(minutes=minute)
        return instant(naive, self.zone)


def instant(naive: datetime, zone: tzinfo) -> int:
    """A local time as UTC microseconds: the first of two, the next valid one instead of none."""
    first = _micros(naive.replace(tzinfo=zone, fold=0))
    if (_EPOCH + timedelta(microseconds=first)).astimezone(zone).replace(tzinfo=None) == naive:
        return first
    early, late = _micros(naive.replace(tzinfo=zone, fold=1)), first
    before = _offset(early - 1, zone)
    while late - early > 1:
        middle = (early + late) // 2
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _offset(wall: int, zone: tzinfo) -> timedelta | None:
    return (_EPOCH + timedelta(microseconds=wall)).astimezone(zone).utcoffset()


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(text: str, zone: tzinfo) -> int:
    moment = datetime.fromisoformat(text)
    return instant(moment, zone) if moment.tzinfo is None else _micros(moment)
