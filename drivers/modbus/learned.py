"""What a device refused, remembered for as long as the agent runs: connections come and go, a register that does
not exist stays away."""

from collections.abc import Iterable

from drivers.base import Micros, Quality, Reading
from drivers.modbus.addresses import Table
from drivers.modbus.plan import Cuts, Field

RETRY: Micros = 60_000_000
"""How long a refused tag is left alone before it is asked for again."""
GAPS_FOR: Micros = 3_600_000_000
"""How long a gap is kept out of requests before it is tried to read over it again."""


class Learned:
    """Of one device: tags that it refuses, and gaps between tags that it does not let be read over."""

    def __init__(self, retry: Micros = RETRY, gaps_for: Micros = GAPS_FOR) -> None:
        self._retry = retry
        self._gaps_for = gaps_for
        self._gaps: set[tuple[Table, int]] = set()
        self._gaps_until: Micros | None = None
        self._refused: dict[str, tuple[Field, Reading, Micros]] = {}

    def gap(self, table: Table, start: int, now: Micros) -> None:
        """Tags before `start` and from it on can be read apart but not together."""
        self._gaps.add((table, start))
        self._gaps_until = now + self._gaps_for

    @property
    def has_gaps(self) -> bool:
        return self._gaps_until is not None

    def worth_another_try(self, now: Micros) -> bool:
        """Whether gaps have been kept for long enough; they are forgotten with it."""
        if self._gaps_until is None or now < self._gaps_until:
            return False
        self._gaps.clear()
        self._gaps_until = None
        return True

    def refuse(self, field: Field, detail: str, now: Micros) -> Reading:
        """The tag cannot be read even alone. Returns its reading from now on."""
        reading = Reading(field.tag, None, Quality.BAD, detail=detail)
        self._refused[field.tag] = (field, reading, now + self._retry)
        return reading

    def forget(self) -> None:
        """A refused tag can be read after all: the device has changed, so all of them are worth asking for."""
        self._refused.clear()
        self._gaps.clear()
        self._gaps_until = None

    @property
    def cuts(self) -> Cuts:
        edges = {(field.table, at) for field, _, _ in self._refused.values() for at in (field.start, field.end)}
        return frozenset(self._gaps | edges)

    def split(self, fields: Iterable[Field]) -> tuple[list[Field], list[Field]]:
        """(fields to plan for, refused fields)"""
        good: list[Field] = []
        refused: list[Field] = []
        for field in fields:
            known = self._refused.get(field.tag)
            (refused if known is not None and known[0] == field else good).append(field)
        return good, refused

    def reading(self, tag: str) -> Reading:
        """Of a refused tag."""
        return self._refused[tag][1]

    def to_retry(self, refused: Iterable[Field], now: Micros) -> Field | None:
        """One refused tag that has been left alone for long enough."""
        return next((field for field in refused if self._refused[field.tag][2] <= now), None)
