"""Times, ages and sizes as people read them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def span(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 10 s`, `5 h 2 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for unit, size in _UNITS:
        if whole >= size:
            first, rest = divmod(whole, size)
            smaller = {"d": ("h", 3_600), "h": ("min", 60), "min": ("s", 1)}[unit]
            second = rest // smaller[1]
            return f"{first} {unit}" + (f" {second} {smaller[0]}" if second else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    return f"{span(seconds)} ago"


def local(time: str | int) -> str:
    """An RFC 3339 time or UTC µs in local time with its offset: `2026-03-02 09:14:07 +08:00`."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else _EPOCH + timedelta(microseconds=time)
    moment = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S} {_offset(moment)}"


def since(time: int) -> str:
    """A beginning (UTC µs) in local time, with its age: `since 2026-03-02 09:14:07 +08:00 (3 min 10 s)`."""
    from edge_agent.clock import SECOND, SystemClock

    return f"since {local(time)} ({span((SystemClock().now().wall - time) / SECOND)})"


def pairs(values: Mapping[str, Any]) -> str:
    """Counts by name: `total 29, scrap 3`."""
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none yet"


def clock(text: str) -> str:
    """An RFC 3339 time as local time of day with milliseconds and offset: `09:14:07.250 +08:00`."""
    moment = datetime.fromisoformat(text).astimezone()
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} {_offset(moment)}"


def counted(count: int, thing: str) -> str:
    """`1 event`, `2 events`, `1 machine`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def size(count: float) -> str:
    """`512 B`, `3.4 KiB`, `4.0 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def table(rows: list[list[str]], indent: str = "  ") -> list[str]:
    """Columns as wide as they must be; the last one is free."""
    if not rows:
        return []
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    return [
        (indent + "  ".join([*(f"{cell:<{widths[n]}}" for n, cell in enumerate(row[:-1])), row[-1]])).rstrip()
        for row in rows
    ]


def _offset(moment: datetime) -> str:
    minutes = (moment.utcoffset() or timedelta()) // timedelta(minutes=1)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
