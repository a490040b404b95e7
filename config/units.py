"""Values with units as people write them: durations, sizes, rates. A bare number where a unit is due is an error."""

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d)")
_MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|min|h)")
_PER = {"s": 1.0, "min": 60.0, "h": 3600.0}


def duration(text: object) -> int:
    """`250ms`, `2s`, `5min`, `72h`, `14d` to microseconds. Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration needs a unit: 250ms, 2s, 5min, 72h or 14d")
    return round(float(match[1]) * _MICROS[match[2]])


def size(text: object) -> int:
    """`64KiB`, `4GiB` to bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a size needs a unit: 64KiB, 500MiB or 4GiB")
    return round(float(match[1]) * _BYTES[match[2]])


def rate(text: object) -> float:
    """`2/s`, `30/min` to pieces per second. Raises ValueError."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a rate needs a unit: 2/s, 30/min or 900/h")
    return float(match[1]) / _PER[match[2]]


Duration = Annotated[
    int, BeforeValidator(duration), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
"""Microseconds."""
Size = Annotated[int, BeforeValidator(size), WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"})]
"""Bytes."""
Rate = Annotated[float, BeforeValidator(rate), WithJsonSchema({"type": "string", "pattern": f"^{_RATE.pattern}$"})]
"""Pieces per second."""
