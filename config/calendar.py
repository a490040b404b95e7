"""When production is planned: shifts, breaks and planned maintenance, in the site's time zone.

Times of the day are local minutes; what they are in UTC depends on the day and is worked out by
`edge_agent/machine/calendar.py`.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from config.errors import Problem, did_you_mean
from config.kinds import Name, Options

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES: Final = 24 * 60
"""Of one day."""
_WEEK: Final = 7 * MINUTES
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)


def _minutes(value: object) -> object:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Problem("E301", "a time of the day is written like 06:00 or 14:30", why="hours 00 to 24, then minutes")
    return MINUTES if found[1] is None else int(found[1]) * 60 + int(found[2])


TimeOfDay = Annotated[
    int,
    BeforeValidator(_minutes),
    WithJsonSchema({"type": "string", "pattern": r"^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$"}),
]
"""Local minutes since midnight, 0 to 1440; written `06:00`."""


def _days(value: object) -> object:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise Problem("E301", "days are written like mon-fri, sat, or [mon, wed, fri]")
    return tuple(sorted({day for word in words for day in _range(word)}))


def _range(word: object) -> Iterator[int]:
    first, dash, last = word.partition("-") if isinstance(word, str) else (str(word), "", "")
    for name in (first, last) if dash else (first,):
        if name not in DAYS:
            fix = did_you_mean(name[:3].lower(), DAYS)
            raise Problem("E301", f"'{name}' is no day", why=f"known: {', '.join(DAYS)}", fix=fix)
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % 7 if dash else 0
    return ((start + step) % 7 for step in range(count + 1))


_DAY = r"(mon|tue|wed|thu|fri|sat|sun)"
_WORD = {"type": "string", "pattern": f"^{_DAY}(-{_DAY})?$"}
Days = Annotated[
    tuple[int, ...],
    BeforeValidator(_days),
    WithJsonSchema({"anyOf": [_WORD, {"type": "array", "minItems": 1, "items": _WORD}]}),
]
"""Days of the week, 0 is Monday; written `mon-fri`, `sat` or `[mon, wed, fri]`."""


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        fix = "2026-03-14 06:00, or 2026-03-13T22:00:00Z"
        raise Problem("E301", f"'{text}' is no date with a time of the day", fix=fix) from None
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""A date and a time of the day in the site's zone, or with a zone of its own."""


class _Daily(Options):
    days: Days = Field(default=tuple(range(7)), json_schema_extra={"default": "mon-sun"})
    """On which days it begins: mon-fri, sat, or [mon, wed, fri]; default: every day."""
    start: TimeOfDay
    """Local time of the day, e.g. 06:00."""
    end: TimeOfDay
    """Local time of the day; one that is not after `start` is on the next day."""

    @property
    def minutes(self) -> int:
        """How long it is on a day without a change of the clocks."""
        return (self.end - self.start - 1) % MINUTES + 1

    def week(self) -> Iterator[tuple[int, int]]:
        """Start and end in minutes of the week, for each day; the end may lie beyond the week."""
        for day in self.days:
            start = day * MINUTES + self.start
            yield start, start + self.minutes


class Shift(_Daily):
    """Planned operation; `end: 00:00` is midnight, and a night shift ends on the next day."""

    name: Name
    """With the local date of its start it names the shift in events: 2026-03-02/A."""


class Break(_Daily):
    """A pause in which nothing is expected to be made; a stop in it is planned."""

    name: Name
    """What people call it."""


class Maintenance(Options):
    """Planned maintenance: a stop in it is planned."""

    start: Moment
    """Local date and time, e.g. 2026-03-14 06:00; with Z or an offset it is that zone's."""
    end: Moment
    """The same way."""
    machines: tuple[Name, ...] | None = None
    """Which machines stand; default: all."""

    @model_validator(mode="after")
    def _forwards(self) -> "Maintenance":
        start, end = datetime.fromisoformat(self.start), datetime.fromisoformat(self.end)
        if (start.tzinfo is None) == (end.tzinfo is None) and end <= start:
            raise Problem("E309", "'end' must be after 'start'", at=("end",))
        return self


class CalendarOptions(Options):
    """When production is planned. Without shifts it always is."""

    shifts: tuple[Shift, ...] = ()
    """Planned operation; shifts may not overlap."""
    breaks: tuple[Break, ...] = ()
    """Pauses within shifts."""
    maintenance: tuple[Maintenance, ...] = ()
    """Planned maintenance by date."""

    @model_validator(mode="after")
    def _one_shift_at_a_time(self) -> "CalendarOptions":
        begun: set[tuple[str, int]] = set()
        for place, shift in enumerate(self.shifts):
            if twice := begun.intersection((shift.name, day) for day in shift.days):
                what = f"shift '{shift.name}' begins twice on {DAYS[min(twice)[1]]}"
                why = "date and name together are its id"
                raise Problem("E305", what, why=why, fix="give each its own name", at=("shifts", place, "name"))
            begun.update((shift.name, day) for day in shift.days)
        if clash := _clash(self.shifts):
            what = f"shift '{clash[1]}' begins before shift '{clash[0]}' has ended"
            why = f"both are on at {clash[2]}; every moment belongs to one shift"
            raise Problem("E305", what, why=why, at=("shifts", clash[3]))
        return self


def _clash(shifts: Sequence[Shift]) -> tuple[str, str, str, int] | None:
    """Two shifts that overlap: their names, when, and the place of the second."""
    spans = sorted((start, end, place) for place, shift in enumerate(shifts) for start, end in shift.week())
    spans += [(start + _WEEK, end + _WEEK, place) for start, end, place in spans]
    for before, after in itertools.pairwise(spans):
        if after[0] < before[1]:
            day, minute = divmod(after[0] % _WEEK, MINUTES)
            when = f"{DAYS[day]} {minute // 60:02d}:{minute % 60:02d}"
            return shifts[before[2]].name, shifts[after[2]].name, when, after[2]
    return None


class KpiOptions(Options):
    """Which key figures are made (ISO 22400)."""

    windows: tuple[Literal["shift", "hour", "order"], ...] = ("shift",)
    """Spans that figures are made for; none with []."""
    microstop_policy: Literal["availability", "performance"] = "availability"
    """Where micro-stops count as loss; OEE is the same."""
