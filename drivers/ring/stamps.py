"""The times that PLCs write beside their entries, as microseconds. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from drivers.base import Micros, Value

Form: TypeAlias = Literal["epoch_s", "epoch_ms", "bcd", "datetime", "uptime_ms"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "uptime_ms": 1_000, "datetime": 1}
_LAST = 253_402_300_800_000_000
"""9999-12-31 in µs."""


def micros(form: Form, raw: Value | None, zone: str) -> Micros | None:
    """UTC µs, or µs since boot; None for what is no time. `raw`: a number, for `bcd` the digits of a DATE_AND_TIME
    (YYMMDDhhmmss, three of milliseconds and the weekday), for `datetime` µs since 1970."""
    if raw is None or isinstance(raw, bool):
        return None
    if form == "bcd":
        return _bcd(str(raw), zone)
    if isinstance(raw, str):
        return None
    at = round(raw * _UNIT[form])
    if not 0 <= at < _LAST:
        return None
    if form == "uptime_ms" or zone == "UTC":
        return at
    return _local((_EPOCH + timedelta(microseconds=at)).replace(tzinfo=None), zone)


def _bcd(digits: str, zone: str) -> Micros | None:
    if len(digits) != 16 or not digits.isdecimal():
        return None
    year, month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(0, 12, 2))
    try:
        moment = datetime(
            year + (1900 if year >= 90 else 2000), month, day, hour, minute, second, int(digits[12:15]) * 1000
        )
    except ValueError:
        return None
    return _local(moment, zone)


def _local(moment: datetime, zone: str) -> Micros:
    zoned = moment.replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone))
    return (zoned - _EPOCH) // timedelta(microseconds=1)


def unwrapped(stamp: Micros, clock: Micros, modulo_ms: int) -> Micros:
    """A time since boot beside the clock that was read with it, where the counter of milliseconds rolls over."""
    modulo = modulo_ms * 1000
    age = (clock - stamp) % modulo
    return clock - (age if age < modulo // 2 else age - modulo)
