"""Values that are read at a fixed rate: for a server without subscriptions, and where it is wished.

Each tag is read every `sampling`; tags of one period share the requests. What is unchanged is the very same `Reading`
as before. Once a second the nodes of the server itself are read with it, which also proves that it is alive.
"""

from collections.abc import Sequence
from contextlib import suppress

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Batch, Reading
from drivers.opcua import binary, near
from drivers.opcua.layouts import Layouts
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.reads import Reads
from drivers.opcua.session import Session, node_id
from drivers.opcua.subscription import RETRY, Watched
from drivers.opcua.values import GONE, status_name
from drivers.opcua.wanted import Wanted
from drivers.ticker import Ticker

_SERVER_PERIOD = 1_000_000


class Polling:
    """Reads over one session; `watch` and `on_watched` as in `Subscription`."""

    def __init__(
        self,
        name: str,
        options: OpcuaDevice,
        session: Session,
        wanted: Wanted,
        *,
        per_call: int,
        watch: Sequence[int],
        on_watched: Watched,
    ) -> None:
        self._name = name
        self._options = options
        self._session = session
        self._wanted = wanted
        self._reads = Reads(session, per_call)
        self._watch = [node_id(number, 0) for number in watch]
        self._on_watched = on_watched
        self._nodes: dict[str, ua.NodeId] = {}
        self._last: dict[str, tuple[binary.Item, Reading]] = {}
        self._ticks = Ticker({_SERVER_PERIOD, *map(options.sampling_of, wanted.nodes)})
        self._since_retry = 0
        self._looked = False

    async def open(self) -> None:
        await self._locate()

    async def close(self) -> None:
        """Nothing is left behind: requests end with the read that made them."""

    async def _locate(self) -> None:
        layouts = Layouts(self._session)
        for tag, node in self._wanted.locate(tag for tag in self._wanted.nodes if tag not in self._nodes):
            if self._options.tags[tag].type == "conditions":
                self._wanted.lose(tag, "BadNotSupported: conditions come by subscription only")
                continue
            self._nodes[tag] = node
            self._wanted.found(tag)
            if self._wanted.values[tag].structured:
                self._wanted.values[tag].layout = await layouts.of_node(node)

    async def read(self) -> Batch:
        """What is due next. Raises what asyncua raises."""
        due, missed = await self._ticks.tick()
        await self._session.upkeep()
        periods = frozenset(due)
        if _SERVER_PERIOD in periods:
            await self._look_at_server()
        tags = [tag for tag in self._nodes if self._options.sampling_of(tag) in periods]
        items = await self._reads.of([self._nodes[tag] for tag in tags])
        readings = [self._reading(tag, item) for tag, item in zip(tags, items, strict=True)]
        bad = [reading for reading in self._wanted.bad_readings() if reading.tag not in self._nodes]
        return Batch(self._name, [*(found for found in readings if found is not None), *bad], missed=missed)

    def _reading(self, tag: str, item: binary.Item) -> Reading | None:
        last = self._last.get(tag)
        if last is not None and last[0][1:] == item[1:]:
            return last[1]
        reading = self._wanted.values[tag].read(item)
        if reading is not None:
            self._last[tag] = item, reading
        elif last is not None:
            return last[1]  # inside the deadband
        if item[3] & 0xFFFF0000 in GONE:
            self._wanted.lose(tag, status_name(item[3]))
        else:
            self._wanted.missing.pop(tag, None)
        return reading

    async def _look_at_server(self) -> None:
        for place, item in enumerate(await self._reads.of(self._watch)):
            self._on_watched(place, item[2])
        self._since_retry += 1
        if self._wanted.missing and self._since_retry >= RETRY:
            self._since_retry = 0
            await self._locate()
            if not self._looked:
                self._looked = True
                with suppress(UaStatusCodeError):
                    await near.look(self._session, self._wanted)
