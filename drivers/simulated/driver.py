"""The driver of simulated devices: connect, read, close and nothing more."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.units import duration_text, rate_text
from drivers.base import Batch, Micros
from drivers.errors import ConnectionLost
from drivers.looking import Entry, Listing, Looked, NoSuchPath
from drivers.simulated.options import SimulatedDevice, SimulatedTag
from drivers.simulated.signals import reading
from drivers.ticker import Ticker


class SimulatedDriver:
    """One connection. The constructor only stores; see `drivers.base.Driver` for what holds when."""

    def __init__(self, name: str, options: SimulatedDevice) -> None:
        self._name = name
        self._options = options
        self._ticker = Ticker(options.period(tag) for tag in options.tags)
        self._connected_at: Micros | None = None

    async def connect(self) -> None:
        self._connected_at = _now()

    async def read(self) -> Batch:
        if self._connected_at is None:
            raise ConnectionLost(f"{self._name} is not connected", code="C501", reason="session_lost")
        due, missed = await self._ticker.tick()
        elapsed = _now() - self._connected_at
        readings = [
            reading(name, tag, elapsed)
            for name, tag in self._options.tags.items()
            if self._options.period(name) in due
        ]
        return Batch(self._name, readings, missed=missed)

    async def close(self) -> None:
        self._connected_at = None

    async def browse(self, path: str) -> Listing:
        """See `drivers.looking.Looker`: the tags are all there is."""
        if path.strip("/"):
            raise NoSuchPath(
                f"a simulated device has its tags and nothing below them: {', '.join(self._options.tags)}"
            )
        looked = await self.look(list(self._options.tags))
        return Listing(
            tuple(
                Entry(
                    one.reading.tag,
                    one.reading.tag,
                    one.reading.tag,
                    branch=False,
                    reading=one.reading,
                    tag=_written(self._options.tags[one.reading.tag]),
                    note=one.native,
                )
                for one in looked
            )
        )

    async def look(self, tags: Sequence[str], *, wide: bool = False) -> list[Looked]:
        """See `drivers.looking.Looker`."""
        if self._connected_at is None:
            raise ConnectionLost(f"{self._name} is not connected", code="C501", reason="session_lost")
        elapsed = _now() - self._connected_at
        return [
            Looked(reading(name, self._options.tags[name], elapsed), native=self._options.tags[name].kind)
            for name in tags
        ]


def _now() -> Micros:
    return int(asyncio.get_running_loop().time() * 1_000_000)


_UNITS: Mapping[str, Callable[[Any], str]] = {"every": duration_text, "scan": duration_text, "rate": rate_text}


def _written(tag: SimulatedTag) -> dict[str, Any]:
    """The tag as it stands in a configuration."""
    given = tag.model_dump(exclude_unset=True, mode="json")
    return {key: _UNITS[key](value) if key in _UNITS else value for key, value in given.items()}
