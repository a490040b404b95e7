"""The tags of one request and what they were last: an answer becomes readings, once per change.

When the bytes of an answer are those of the answer before, the readings are the very same objects. A value that
moved by less than its dead band keeps the reading that was reported last.
"""

import math
from collections.abc import Mapping, MutableMapping
from functools import partial
from itertools import repeat
from typing import Any

from drivers.base import Quality, Reading, Value
from drivers.modbus.encoding import Encoding
from drivers.modbus.exchange import question
from drivers.modbus.plan import Request
from drivers.modbus.registers import Layout

_reading: Any = partial(tuple.__new__, Reading)
"""`Reading` from a tuple of its five fields, without a Python call per reading."""


class Block:
    """One request of a device. `reported` is shared by all blocks of the device: the last reading per tag that has
    a dead band."""

    def __init__(
        self,
        unit: int,
        request: Request,
        encodings: Mapping[str, Encoding],
        deadbands: Mapping[str, float],
        reported: MutableMapping[str, Reading],
    ) -> None:
        self.request = request
        self.question = question(unit, request)
        self.generation = 0
        """The connection that it was last read on."""
        self._layout = Layout(request, encodings)
        self._deadbands = [(at, band) for at, tag in enumerate(self._layout.tags) if (band := deadbands.get(tag))]
        self._reported = reported
        self._data = b""
        self._readings: tuple[Reading, ...] = ()

    def take(self, data: bytes) -> tuple[Reading, ...]:
        """The readings of an answer, in the order of the request's fields."""
        if data == self._data:
            return self._readings
        values, bad = self._layout.values(data)
        made = map(
            _reading, zip(self._layout.tags, values, repeat(Quality.GOOD), repeat(None), repeat(""), strict=False)
        )
        if bad or self._deadbands:
            readings = list(made)
            for at, why in bad.items():
                readings[at] = Reading(self._layout.tags[at], None, Quality.BAD, detail=why)
            for at, band in self._deadbands:
                readings[at] = self._unless_near(readings[at], band)
            self._readings = tuple(readings)
        else:
            self._readings = tuple(made)
        self._data = data
        return self._readings

    def refuse(self, detail: str) -> tuple[Reading, ...]:
        """Every tag BAD; the next answer is decoded again."""
        self._data = b""
        return tuple(Reading(tag, None, Quality.BAD, detail=detail) for tag in self._layout.tags)

    def _unless_near(self, new: Reading, band: float) -> Reading:
        old = self._reported.get(new.tag)
        if old is not None and _distance(new.value, old.value) < band:
            return old
        self._reported[new.tag] = new
        return new


def _distance(new: Value | None, old: Value | None) -> float:
    """Infinite unless both are numbers."""
    if new is None or old is None or isinstance(new, str) or isinstance(old, str):
        return math.inf
    return abs(new - old)
