"""Values with units as people write them: durations, sizes, rates. A bare number where a unit is due is an error."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic.fields import FieldInfo

from config.errors import Problem, nearest

_MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_PER = {"/s": 1.0, "/min": 60.0, "/h": 3600.0}
_LARGEST = 1 << 62
"""Microseconds or bytes; a database integer holds twice that."""
_NUMBER = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([^\d\s].*?)?\s*", re.ASCII)
_OTHER_WORDS = {
    "µs": "us", "μs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "m": "min", "mins": "min",
    "minute": "min", "minutes": "min", "hr": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
    "msec": "ms", "k": "KiB", "kb": "KiB", "m_": "MiB", "mb": "MiB", "gb": "GiB", "g": "GiB", "tb": "TiB",
    "/sec": "/s", "ps": "/s", "per second": "/s", "/m": "/min", "per minute": "/min", "/hour": "/h", "per hour": "/h",
}  # fmt: skip


class _Kind(NamedTuple):
    word: str
    factors: Mapping[str, float]
    examples: str
    usual: str
    """The unit that a bare number probably has."""

    @property
    def pattern(self) -> str:
        return r"(\d{1,19})(?:\.(\d{1,9}))?(" + "|".join(self.factors) + ")"

    def parse(self, value: object) -> tuple[int, int, str]:
        """The number as numerator and denominator, and the unit. Raises Problem."""
        found = re.fullmatch(self.pattern, value, re.ASCII) if isinstance(value, str) else None
        if found is None:
            raise self.problem(value)
        digits = found[2] or ""
        return int(found[1] + digits), int(10 ** len(digits)), found[3]

    def amount(self, value: object) -> int:
        """The value in the smallest unit, rounded half up. Raises Problem."""
        number, divisor, unit = self.parse(value)
        result = (2 * number * int(self.factors[unit]) + divisor) // (2 * divisor)
        if result > _LARGEST:
            raise Problem("E308", f"'{value}' is too large for a {self.word}")
        return result

    def guess(self, number: float) -> str:
        """What a bare number probably means: from 1000 on durations are milliseconds, below they may be seconds."""
        if self.usual == "ms" and number < 1000:
            return f"{number:g}s or {number:g}ms"
        return f"{number:g}{self.usual}" if number < 1e6 else f"{number:.0f}{self.usual}"

    def problem(self, value: object) -> Problem:
        what = f"a {self.word} needs a unit: {self.examples}"
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return Problem("E308", what, why=f"{value} is a bare number", fix=f"did you mean {self.guess(value)}?")
        found = _NUMBER.fullmatch(value) if isinstance(value, str) and len(value) <= 60 else None
        if found is None:
            return Problem("E308", what)
        number, unit = found[1], found[2] or ""
        if not unit:
            return Problem("E308", what, fix=f"did you mean {self.guess(float(number))}?")
        known = _OTHER_WORDS.get(unit.lower(), unit)
        if known not in self.factors:
            known = nearest(unit, self.factors) or ""
        return Problem("E308", what, fix=f"did you mean {number}{known}?" if known else "")


_DURATION = _Kind("duration", _MICROS, "250ms, 2s, 5min, 72h or 14d", "ms")
_SIZE = _Kind("size", _BYTES, "64KiB, 500MiB or 4GiB", "MiB")
_RATE = _Kind("rate", _PER, "2/s, 30/min or 900/h", "/s")


def duration(value: object) -> int:
    """`250ms`, `2s`, `5min`, `72h`, `14d` to microseconds. Raises Problem (a ValueError) E308."""
    return _DURATION.amount(value)


def size(value: object) -> int:
    """`64KiB`, `4GiB` to bytes. Raises Problem (a ValueError) E308."""
    return _SIZE.amount(value)


def rate(value: object) -> float:
    """`2/s`, `30/min` to pieces per second. Raises Problem (a ValueError) E308."""
    number, divisor, unit = _RATE.parse(value)
    return number / divisor / _PER[unit]


def duration_text(micros: int) -> str:
    """Microseconds in the largest unit that gives a whole number: `90s`, `2h`; the inverse of `duration`."""
    return _text(micros, _MICROS)


def size_text(size: int) -> str:
    """Bytes in the largest unit that gives a whole number; the inverse of `size`."""
    return _text(size, _BYTES)


def rate_text(per_second: float) -> str:
    """`2/s`."""
    return f"{per_second:g}/s"


_KINDS: Sequence[tuple[_Kind, Callable[[object], Any], Callable[[Any], str]]] = (
    (_DURATION, duration, duration_text),
    (_SIZE, size, size_text),
    (_RATE, rate, rate_text),
)


def like(text: str, value: float) -> str:
    """`value` in the kind of unit that `text` is written in; the bare number if it has none."""
    for kind, _, write in _KINDS:
        if re.fullmatch(kind.pattern, text, re.ASCII):
            return write(value)
    return str(value)


def as_written(field: FieldInfo, value: Any) -> Any:
    """The value of a setting as it would be written: `10s` for a duration of 10,000,000 µs; a value without a unit as
    it is."""
    if isinstance(value, int | float):
        parsers = {getattr(meta, "func", None) for meta in field.metadata}
        return next((write(value) for _, parse, write in _KINDS if parse in parsers), value)
    return value


def between(least: str, most: str) -> AfterValidator:
    """Both ends are allowed. They are durations, sizes or rates, as the value is."""
    kind, parse, write = next(known for known in _KINDS if re.fullmatch(known[0].pattern, least, re.ASCII))
    low, high = parse(least), parse(most)

    def check(value: Any, info: ValidationInfo) -> Any:
        if not low <= value <= high:
            name = f"'{info.field_name}'" if info.field_name else f"this {kind.word}"
            raise Problem("E309", f"{name} must be from {least} to {most}", why=f"it is {write(value)}")
        return value

    return AfterValidator(check)


def _text(amount: int, factors: Mapping[str, int]) -> str:
    if amount == 0:
        return "0s" if factors is _MICROS else "0B"
    unit = max((unit for unit, factor in factors.items() if amount % factor == 0), key=lambda unit: factors[unit])
    return f"{amount // factors[unit]}{unit}"


Duration = Annotated[
    int, BeforeValidator(duration), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
"""Microseconds."""
Size = Annotated[int, BeforeValidator(size), WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"})]
"""Bytes."""
Rate = Annotated[float, BeforeValidator(rate), WithJsonSchema({"type": "string", "pattern": f"^{_RATE.pattern}$"})]
"""Pieces per second."""
