"""What reading a ring needs of a protocol."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from drivers.base import Micros, Value


class Unreadable(Exception):
    """The device answers and does not give what was asked for. Says why; nothing is known of the ring."""


class Header(NamedTuple):
    """`overflow`: a flag or a count of what the PLC had no room for. `clock`: that of the PLC, as its entries are
    timed. None for what is not configured, `clock` also for what is no time."""

    head: int
    tail: int | None = None
    overflow: int | None = None
    clock: Micros | None = None


class Slot(NamedTuple):
    """`digest`: of all that is read of it. `code`: 0 for an empty one. A field without a value is None. `sequence`:
    the PLC's own number of the entry, None where that is not configured."""

    digest: str
    code: int
    stamp: Micros | None = None
    fields: Mapping[str, Value | None] = {}
    sequence: int | None = None


class Access(Protocol):
    """Calls do not overlap. Each raises `Unreadable`, or what the driver raises when the connection is lost."""

    async def header(self) -> Header:
        """The indices as they are now."""

    async def slots(self, first: int, count: int) -> Sequence[Slot]:
        """`count` slots from slot `first` on, which counts from 0 here; the first one follows the last."""

    async def move_tail(self, index: int) -> str:
        """Write the tail and read it back. Empty, or why it is not what was written."""
