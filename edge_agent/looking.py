"""A look at devices for a person: through the connections of the agent that runs, or through one of its own.

The commands `browse` and `look` of the local socket answer in the JSON form made here, and so does `Direct`, so that
whoever asks cannot tell them apart. Nothing is written to a device, and nothing is looked at over a second connection
while an agent holds the first.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from config.model import DeviceOptions
from drivers.base import Driver, Quality, Reading
from drivers.errors import DriverError
from drivers.looking import Entry, Looked, Looker
from edge_agent.clock import SECOND, Clock, rfc3339
from edge_agent.control.client import ControlClient, Refused
from edge_agent.control.server import Command

LOOK_TIME = 60.0
"""Seconds that a running agent has for one look."""


class Failed(Exception):
    """A device cannot be looked at; `code` is the fault's code, `native` the library's words."""

    def __init__(self, message: str, *, code: str, native: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.native = native


class Way(Protocol):
    """How devices are reached. Raises `Failed`, and ValueError for a device, tag or path that is not there."""

    async def browse(self, device: str, path: str) -> dict[str, Any]:
        """`{"entries": […], "note": …}`, see `entry`."""

    async def look(self, device: str, tags: Sequence[str], *, wide: bool) -> list[dict[str, Any]]:
        """One object for each tag, see `looked`."""


class Connections:
    """The drivers that the agent's collectors hold now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drivers: dict[str, tuple[Driver, DeviceOptions]] = {}

    def keep(self, name: str, options: DeviceOptions, driver: Driver) -> Driver:
        """Note the driver of a new connection to the device; it takes the place of the one before."""
        self._drivers[name] = driver, options
        return driver

    def commands(self) -> Mapping[str, Command]:
        return {"browse": self._browse, "look": self._look}

    async def _browse(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        driver, options = self._driver(asked)
        return await _told(browse(driver, options, str(asked.get("path", "")), self._clock))

    async def _look(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        driver, options = self._driver(asked)
        tags = [str(tag) for tag in asked.get("tags", ())]
        return await _told(look(driver, options, tags, self._clock, wide=bool(asked.get("wide"))))

    def _driver(self, asked: Mapping[str, Any]) -> tuple[Driver, DeviceOptions]:
        name = str(asked.get("device"))
        if name not in self._drivers:
            known = ", ".join(self._drivers) or "none"
            raise ValueError(f"the agent that runs has no device {name!r}; it has {known}")
        return self._drivers[name]


async def _told(looking: Any) -> dict[str, Any]:
    """What came of it, or why nothing did, as JSON."""
    try:
        return {"found": await looking}
    except DriverError as error:
        return {"failed": str(error), "code": error.code, "native": error.native}


class ThroughAgent:
    """The way through the agent that runs."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    async def browse(self, device: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("browse", device=device, path=path)
        return found

    async def look(self, device: str, tags: Sequence[str], *, wide: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._ask("look", device=device, tags=list(tags), wide=wide)
        return found

    async def _ask(self, do: str, **parameters: Any) -> Any:
        try:
            answer = await asyncio.to_thread(lambda: self._client.ask(do, **parameters))
        except Refused as error:
            if error.code == "invalid":
                raise ValueError(str(error)) from None
            raise
        if "failed" in answer:
            raise Failed(answer["failed"], code=answer["code"], native=answer["native"])
        return answer["found"]


class Direct:
    """Connections of its own, made when a device is first asked for; use as `async with`."""

    def __init__(
        self, devices: Mapping[str, DeviceOptions], open_driver: Callable[[str, DeviceOptions], Driver], clock: Clock
    ) -> None:
        self._devices = devices
        self._open = open_driver
        self._clock = clock
        self._drivers: dict[str, Driver] = {}

    async def __aenter__(self) -> "Direct":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(driver.close() for driver in self._drivers.values()))

    async def browse(self, device: str, path: str) -> dict[str, Any]:
        with _failing():
            driver = await self._connected(device)
            return await browse(driver, self._devices[device], path, self._clock)

    async def look(self, device: str, tags: Sequence[str], *, wide: bool) -> list[dict[str, Any]]:
        with _failing():
            driver = await self._connected(device)
            return await look(driver, self._devices[device], tags, self._clock, wide=wide)

    async def _connected(self, device: str) -> Driver:
        if device in self._drivers:
            return self._drivers[device]
        if device not in self._devices:
            raise ValueError(f"there is no device {device!r}; there is {', '.join(self._devices) or 'none'}")
        options = self._devices[device]
        driver = self._open(device, options)
        try:
            async with asyncio.timeout(max(10 * options.timeout, 20 * SECOND) / SECOND):
                await driver.connect()
        except TimeoutError:
            await driver.close()
            raise Failed(f"{device} ({options.endpoint}) does not answer", code="C502") from None
        except BaseException:
            await driver.close()
            raise
        self._drivers[device] = driver
        return driver


@contextmanager
def _failing() -> Iterator[None]:
    """A driver's error leaves as `Failed`."""
    try:
        yield
    except DriverError as error:
        raise Failed(str(error), code=error.code, native=error.native) from None


async def browse(driver: Driver, options: DeviceOptions, path: str, clock: Clock) -> dict[str, Any]:
    """One level, as JSON. Raises ValueError and `DriverError`."""
    listing = await _looker(driver, options).browse(path)
    return {"entries": [entry(one, clock.now().wall) for one in listing.entries], "note": listing.note}


async def look(
    driver: Driver, options: DeviceOptions, tags: Sequence[str], clock: Clock, *, wide: bool
) -> list[dict[str, Any]]:
    """Tags, as JSON. Raises ValueError and `DriverError`."""
    for tag in tags:
        if tag not in options.tags:
            raise ValueError(f"there is no tag {tag!r}; there is {', '.join(options.tags) or 'none'}")
    found = await _looker(driver, options).look(tags, wide=wide)
    now = clock.now().wall
    return [{**looked(one, now), "unit": options.tags[one.reading.tag].unit} for one in found]


def _looker(driver: Driver, options: DeviceOptions) -> Looker:
    if not isinstance(driver, Looker):
        raise ValueError(f"the driver {options.driver} cannot be looked through")
    return driver


def entry(one: Entry, now: int) -> dict[str, Any]:
    """An entry with stable keys; `now`: UTC µs. Without a value the keys of `seen` are null."""
    return {
        "name": one.name,
        "path": one.path,
        "key": one.key,
        "branch": one.branch,
        "tag": None if one.tag is None else dict(one.tag),
        "note": one.note,
        **(seen(one.reading, now) if one.reading is not None else dict.fromkeys(_SEEN)),
    }


def looked(one: Looked, now: int) -> dict[str, Any]:
    """A tag with stable keys."""
    return {
        "tag": one.reading.tag,
        **seen(one.reading, now),
        "registers": list(one.registers),
        "native": one.native,
        "code": one.doubt.code,
        "problem": one.doubt.what,
        "fix": one.doubt.fix,
    }


_SEEN = ("value", "quality", "detail", "source_at", "read_at", "age_s")


def seen(reading: Reading, now: int) -> dict[str, Any]:
    """Value, quality and age of what was read just now."""
    source = reading.source_time
    return {
        "value": reading.value,
        "quality": Quality(reading.quality).name,
        "detail": reading.detail,
        "source_at": None if source is None else rfc3339(source),
        "read_at": rfc3339(now),
        "age_s": 0.0 if source is None else max(0, now - source) / SECOND,
    }
