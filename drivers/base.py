"""What a driver is and what it hands over.

A driver is one connection to one device. It turns the protocol's answers into `Reading`s and nothing
else: no retry, no logging, no clock. One bad tag is a BAD reading and the others go on; only the loss of
the connection is an exception. The collector owns retry, time limits, time stamps and logging.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from config.model import DeviceOptions

Value: TypeAlias = bool | int | float | str
Micros: TypeAlias = int
"""Microseconds: UTC since 1970 for a point in time, a plain span otherwise."""


class Quality(IntEnum):
    """Quality of a reading, ordered from best to worst (OPC UA Part 8, severity bits of the StatusCode)."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class Reading(NamedTuple):
    """One tag as it was read.

    `value` is None exactly when `quality` is BAD: an error never becomes a value.
    `source_time` is the device's own time in UTC microseconds, None where the protocol has none (Modbus).
    `detail` is the symbolic reason of a quality that is not GOOD, e.g. `BadNodeIdUnknown` or
    `illegal data address (exception 2)`; it is empty for GOOD.
    """

    tag: str
    value: Value | None
    quality: Quality = Quality.GOOD
    source_time: Micros | None = None
    detail: str = ""


class Recalled(NamedTuple):
    """The readings of a batch are not news but what the device recorded while nobody looked, oldest first, each with
    its `source_time`. `until`: UTC µs up to which they are complete for `tags`; of the other tags nothing is told.
    `more`: there is more to be asked for from there on."""

    until: Micros
    tags: frozenset[str]
    more: bool = False


class Entries(NamedTuple):
    """The readings of a batch come out of the ring buffer in which the device itself notes what happens, in its
    order and none of them told before. A `source_time` is when it happened, on the device's clock; readings before
    the first that has one are what was so before it.

    `position`: where reading goes on, to be kept in the transaction of what the batch brought and given to
    `RingReader.resume`. `tags`: all that the ring tells of, also those of which there is nothing new. `clock`: the
    device's clock as the ring was read, if it tells; then only distances from it matter. `lost`: entries before these
    were lost, with the cause of `data.gap`; nothing is known of what they said of the tags that do not count.
    `counting`: tags that go up by what the entries say, and so go on over a loss. `notes`: (code, text) of what
    somebody should look at. `more`: entries of before now are still to come."""

    position: str
    tags: frozenset[str]
    clock: Micros | None = None
    lost: str | None = None
    counting: frozenset[str] = frozenset()
    notes: tuple[tuple[str, str], ...] = ()
    more: bool = False


class Batch(NamedTuple):
    """What one `read` brought, oldest first. A tag may occur more than once (queued notifications).

    `overflow` names the tags whose values were lost in the device's queue since the last batch.
    `restarted` is True in the first batch after the driver found out that the PLC itself restarted.
    `missed` counts the ticks skipped since the last batch because reading took longer than the scan.
    An unchanged value may be the very same `Reading` object as in the batch before.
    """

    device: str
    readings: Sequence[Reading]
    overflow: frozenset[str] = frozenset()
    restarted: bool = False
    missed: int = 0
    recalled: Recalled | None = None
    entries: Entries | None = None


class Driver(Protocol):
    """One connection to one device. Calls never overlap. A driver object is used for one connection only."""

    async def connect(self) -> None:
        """Open the connection and set up what reading needs. Raises `DriverError`; bad tags do not raise."""

    async def read(self) -> Batch:
        """Wait for the next batch (tick or notification) and return it. Raises `ConnectionLost`.

        A Modbus-like driver returns one batch per tick with every tag that is due.
        A subscription returns what has been notified; it may return an empty batch as a sign of life.
        Cancelling it ends the pending request; the connection is closed by the collector afterwards.
        """

    async def close(self) -> None:
        """Free the connection. Safe before `connect`, safe twice, never raises, bounded by the time-out."""


@runtime_checkable
class Historian(Protocol):
    """A `Driver` of a device that records its values itself."""

    async def recall(self, since: Micros) -> Batch | None:
        """Between `connect` and the first `read`: what was recorded from `since` (UTC µs) on, or a first piece of
        it, with `Batch.recalled`. None if there is nothing, or the device cannot tell. Raises `ConnectionLost`."""


@runtime_checkable
class RingReader(Protocol):
    """A `Driver` of a device that may have a ring buffer."""

    def resume(self, position: str) -> None:
        """Before `connect`: the `Entries.position` that was kept last, empty if there is none. Without this call
        nothing is kept, so nothing is read from the ring, and what has been read is never confirmed to the device.
        Calling `read` again says that what the last one brought has been kept."""


class DriverSpec(Protocol):
    """What `drivers.<name>` offers: its module-level `SPEC` is the class, called without arguments.

    An agent makes one object of it (see `registry.Drivers`). What the devices of one agent share, e.g. one TCP
    connection for the units behind a gateway, lives in that object and nowhere else: two agents fit in one
    process. Neither importing the package nor making the object nor `options` imports the protocol's library.
    """

    @property
    def options(self) -> type[DeviceOptions]:
        """The pydantic model of a device of this driver."""

    def open(self, name: str, options: DeviceOptions) -> Driver:
        """A new driver for one connection to the device `name`. Only stores; imports the library here."""
