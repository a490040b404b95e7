"""What a driver may offer beside reading: a look at what the device has, and at single tags, now.

`Looker` is optional. Its calls come between `connect` and `close` and may overlap with a pending `read`: they use the
driver's own connection, so that a device that allows only one is never asked for a second. They change nothing on the
device and raise `DriverError`; a single thing that cannot be looked at is a BAD reading.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from drivers.base import Reading


class Entry(NamedTuple):
    """One thing that a device has."""

    name: str
    path: str
    """What `browse` takes to list what is below it."""
    key: str
    """Tells it apart from every other thing of the device; the same each time."""
    branch: bool
    """There may be something below it."""
    reading: Reading | None = None
    """Its live value; None for what has none. `tag` is the name it would have as a tag."""
    tag: Mapping[str, Any] | None = None
    """How it is written as a tag in YAML; None for what cannot be one."""
    note: str = ""
    """What the value is, e.g. `Int16`, or why it cannot be a tag."""


class Listing(NamedTuple):
    """What is below a place, in the device's order. `note` says what was left out and why."""

    entries: tuple[Entry, ...]
    note: str = ""


class Doubt(NamedTuple):
    """What is wrong with a tag, for a person: the fault's code, what it is, and what to write or do instead. A GOOD
    value can be doubtful too. Without a code nothing is."""

    code: str = ""
    what: str = ""
    fix: str = ""


class Looked(NamedTuple):
    """A tag, read now and past every cache."""

    reading: Reading
    registers: tuple[int, ...] = ()
    """16 bits each, as they came (Modbus)."""
    native: str = ""
    """The device's own words for type and state, e.g. `Int16, Good`."""
    doubt: Doubt = Doubt()


@runtime_checkable
class Looker(Protocol):
    """A `Driver` that can be looked through."""

    async def browse(self, path: str) -> Listing:
        """What is directly below the path; the empty path is the top. Raises `NoSuchPath`."""

    async def look(self, tags: Sequence[str], *, wide: bool = False) -> list[Looked]:
        """Tags of the configuration, in the order asked for. `wide` brings the registers behind the value too, as
        many as the widest type takes."""


class NoSuchPath(ValueError):
    """The device has nothing at this path; the text says what it has instead."""


class Answered(NamedTuple):
    """What a stranger at an address turned out to be, as `discover` tells it: plain JSON values by stable keys."""

    protocol: str
    details: Mapping[str, Any]


class Asking(NamedTuple):
    """How a stranger is asked. `limit`: seconds for one answer. `units`: of a line with several devices."""

    limit: float
    units: Sequence[int] = ()
    told: Callable[[str], None] = lambda _: None
    """Takes a word of progress."""


@runtime_checkable
class Discoverer(Protocol):
    """A `DriverSpec` that can find out what answers at an address. It contacts that address and no other one, and
    writes nothing."""

    @property
    def schemes(self) -> Mapping[str, int]:
        """Of its addresses, the plainest first, with the port at which its protocol is usually found; 0 for a line
        without ports."""

    async def discover(self, url: str, asking: Asking) -> Answered | None:
        """None if something else listens there. Raises `DriverError` if nothing does, ValueError for an address
        that is none."""
