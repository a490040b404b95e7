"""A subscription that is pulled.

**Pull.** A publish request is sent when `read` is called and acknowledges what the last `read` brought, which has
been committed by then. So there is no queue on this side and nothing to overflow: what is not read in time waits
in the server's item queues (`OpcuaDevice.queue_of`), and a server that had to drop values says so (the Overflow
bit, `Batch.overflow`). A hole in the numbers of the notifications is asked for again (Republish); what the server
does not have any more counts as an overflow of every tag.

**Wanted and good.** What the server refuses, or later reports as gone, or of which it never sends a first value, is a
BAD reading with the reason and is asked for again every `RETRY` seconds.

**Alive.** The server is asked for a sign of life at least every `SIGN_OF_LIFE` seconds; its revised values are
checked. Without any answer for three of its keep-alive periods and one time-out, counted from the creation on, the
connection is lost, also when the socket looks healthy.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Batch, Reading
from drivers.opcua import binary, conditions, near
from drivers.opcua.failures import Failures
from drivers.opcua.layouts import Layouts
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.reads import decoded
from drivers.opcua.session import Session, node_id
from drivers.opcua.values import GONE, TagValues, overflowed, status_name
from drivers.opcua.wanted import Wanted

RETRY = 5.0
"""Seconds between two attempts to subscribe to what the server refused."""
SIGN_OF_LIFE = 1.0
"""Seconds after which a server without news is asked to say that there is none."""
FIRST_VALUE = 5.0
"""Seconds beside two publishings and samplings in which an item must have sent its first value."""
IDLE = 30_000_000
"""Microseconds after which a server may forget a silent session or subscription."""

_WATCHED = 0x7FFF_FF00
"""Client handles from here on are those of watched nodes of the server itself; tags count from 1."""
_MOST_REPUBLISHED = 100
_MOST_AT_ONCE = binary.MOST_ITEMS // 10
"""Values of one notification; a server that has more sends them in the next."""
_AGAIN = frozenset((StatusCodes.BadTimeout, StatusCodes.BadRequestTimeout))
"""This publish request is over, the subscription is not."""

Watched = Callable[[int, object], None]
"""Called with the place of a watched node and its value."""


class Subscription:
    """One subscription over one session, with an item for each tag and each of the nodes `watch` of namespace 0."""

    def __init__(
        self,
        name: str,
        options: OpcuaDevice,
        session: Session,
        wanted: Wanted,
        failures: Failures,
        *,
        per_call: int,
        watch: Sequence[int],
        on_watched: Watched,
    ) -> None:
        self._name = name
        self._options = options
        self._session = session
        self._wanted = wanted
        self._failures = failures
        self._layouts = Layouts(session)
        self._watch = watch
        self._on_watched = on_watched
        self._per_call = per_call
        self._publish: asyncio.Task[bytes] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._acknowledge: ua.SubscriptionAcknowledgement | None = None
        self._sequence: int | None = None
        self._id = 0
        self._handle = 0
        self._live: dict[int, TagValues] = {}
        """Client handle → tag, of the items the server has."""
        self._items: dict[str, tuple[int, int]] = {}
        """Tag → (client handle, the server's handle)."""
        self._awaited: dict[int, float] = {}
        """Client handle → until when its first value must have come."""
        self._refresh = False
        """All conditions must be asked for."""
        self._stale_after = 0.0
        self._stale_at = 0.0
        self._retry_at = 0.0

    async def open(self) -> None:
        """Raises what asyncua raises."""
        await self._subscribe()
        await self._monitor_server()
        await self._monitor(self._wanted.nodes)
        self._retry_at = self._now() + RETRY

    async def close(self) -> None:
        """End what runs beside; the subscription ends with its session."""
        tasks = [task for task in (self._publish, self._looking) if task is not None]
        self._publish = self._looking = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # it is of no interest any more

    async def _subscribe(self) -> None:
        publishing = self._options.publishing / 1000
        wanted = ua.CreateSubscriptionParameters()
        wanted.RequestedPublishingInterval = publishing
        wanted.RequestedMaxKeepAliveCount, wanted.RequestedLifetimeCount = _counts(publishing)
        wanted.MaxNotificationsPerPublish = _MOST_AT_ONCE
        wanted.PublishingEnabled = True
        granted = await self._session.subscribe(wanted)
        self._id = granted.SubscriptionId
        interval, count = granted.RevisedPublishingInterval, granted.RevisedMaxKeepAliveCount
        keep_alive, lifetime = _counts(interval)
        if count > keep_alive:
            change = ua.ModifySubscriptionParameters()
            change.SubscriptionId = granted.SubscriptionId
            change.RequestedPublishingInterval = interval
            change.RequestedMaxKeepAliveCount, change.RequestedLifetimeCount = keep_alive, lifetime
            changed = await self._session.modify(change)
            interval, count = changed.RevisedPublishingInterval, changed.RevisedMaxKeepAliveCount
        self._stale_after = 3 * max(count, 1) * interval / 1000 + self._options.timeout / 1e6
        self._stale_at = self._now() + self._stale_after

    async def _monitor_server(self) -> None:
        """Items of the server itself; without them the tags are read all the same."""
        await self._create(
            [_item(node_id(number, 0), _WATCHED + place, 1000.0, 1) for place, number in enumerate(self._watch)]
        )

    async def _monitor(self, tags: Iterable[str]) -> None:
        """Ask the server for the tags' items. Sorts into live and missing."""
        located = self._wanted.locate(tags)
        for tag, node in located:
            if self._wanted.values[tag].structured:
                self._wanted.values[tag].layout = await self._layouts.of_node(node)
        asked = []
        for tag, node in located:
            self._handle += 1
            if self._options.tags[tag].type == "conditions":
                asked.append(conditions.item(node, self._handle))
                continue
            sampling = self._options.sampling_of(tag) / 1000
            asked.append(_item(node, self._handle, sampling, self._options.queue_of(tag)))
        results = await self._create(asked)
        now = self._now()
        for (tag, _), request, result in zip(located, asked, results, strict=True):
            if not result.StatusCode.is_good():
                self._wanted.lose(tag, status_name(result.StatusCode.value))
                continue
            handle = int(request.RequestedParameters.ClientHandle)
            self._live[handle] = self._wanted.values[tag]
            self._items[tag] = handle, int(result.MonitoredItemId)
            self._wanted.found(tag)
            if self._options.tags[tag].type == "conditions":
                self._refresh = True
                continue
            sampling = max(float(result.RevisedSamplingInterval), self._options.sampling_of(tag) / 1000) / 1000
            self._awaited[handle] = now + FIRST_VALUE + 2 * (sampling + self._options.publishing / 1e6)

    async def _create(self, asked: Sequence[ua.MonitoredItemCreateRequest]) -> list[ua.MonitoredItemCreateResult]:
        results: list[ua.MonitoredItemCreateResult] = []
        while len(results) < len(asked):
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = self._id
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
            part = parameters.ItemsToCreate = list(asked[len(results) : len(results) + self._per_call])
            try:
                found = await self._session.monitor(parameters)
            except UaStatusCodeError as error:
                if error.code != StatusCodes.BadTooManyOperations or len(part) == 1:
                    raise
                self._per_call = len(part) // 2  # it did not tell its limit
                continue
            if len(found) != len(part):
                raise binary.Malformed(f"{len(found)} results for {len(part)} items")
            results += found
        return results

    async def read(self) -> Batch:
        """The next notification. Raises `ConnectionLost`, and what asyncua raises."""
        if self._publish is None:  # while nothing was asked for, nothing could be answered
            self._stale_at = max(self._stale_at, self._now() + self._stale_after)
        while True:
            if self._refresh:
                self._refresh = False
                await self._session.refresh_conditions(self._id)
            if self._publish is None:
                self._publish = asyncio.create_task(
                    self._session.publish(self._acknowledge), name=f"opcua publish {self._name}"
                )
                self._acknowledge = None
            overdue = min(self._awaited.values(), default=math.inf)
            again = self._retry_at if self._wanted.missing else math.inf
            wait = min(self._stale_at, self._session.renew_at, again, overdue) - self._now()
            if wait > 0:
                await asyncio.wait({self._publish}, timeout=wait)
            if self._publish.done():
                batch = await self._published()
                if batch is not None:
                    return batch
                continue
            await self._session.upkeep()
            if self._now() >= self._stale_at:
                raise self._failures.lost(
                    f"the server has not published for {self._stale_after:.1f} s, although it should say at least "
                    "that nothing changed. Is the PLC in a state in which it serves nobody?",
                    code="C502",
                )
            if overdue <= self._now() or again <= self._now():
                self._give_up_waiting()
                if again <= self._now():
                    await self._retry()
                if self._wanted.missing:
                    return Batch(self._name, self._wanted.bad_readings())

    async def _published(self) -> Batch | None:
        """The answer to the publish request as a batch; None if another one must be sent."""
        assert self._publish is not None
        publish, self._publish = self._publish, None
        try:
            body = publish.result()
        except UaStatusCodeError as error:
            if error.code in _AGAIN:
                return None
            raise
        answer = await decoded(binary.publish_response, body)
        if answer.result >> 30 > 1:
            ua.StatusCode(ua.UInt32(answer.result)).check()
        if answer.ended is not None:
            raise self._failures.lost(f"the server ended the subscription ({status_name(answer.ended)}).")
        self._stale_at = self._now() + self._stale_after
        if answer.subscription != self._id:
            return None
        return await self._batch(answer)

    async def _batch(self, answer: binary.Published) -> Batch:
        missed, complete = await self._fill(answer.sequence)
        if answer.items or answer.events:
            self._sequence = _next(answer.sequence)
            self._acknowledge = ua.SubscriptionAcknowledgement(self._id, answer.sequence)
        else:
            self._sequence = answer.sequence
        overflow = set() if complete else set(self._items)
        readings: list[Reading] = []
        for message in missed:
            self._take(message.items, readings, overflow)
            self._hear(message.events, readings)
        self._take(answer.items, readings, overflow)
        self._hear(answer.events, readings)
        return Batch(self._name, readings, frozenset(overflow))

    async def _fill(self, sequence: int) -> tuple[list[binary.Published], bool]:
        """The notifications between the last one and this one, and whether that is all of them."""
        found: list[binary.Published] = []
        while self._sequence is not None and self._sequence != sequence:
            if len(found) == _MOST_REPUBLISHED or sequence == 0:
                return found, False
            try:
                body = await self._session.republish(self._id, self._sequence)
            except UaStatusCodeError:
                return found, False
            found.append(binary.republish_response(body, self._id))
            self._sequence = _next(self._sequence)
        return found, True

    def _take(self, items: Sequence[binary.Item], readings: list[Reading], overflow: set[str]) -> None:
        live, awaited = self._live, self._awaited
        for item in items:
            values = live.get(item[0])
            if values is None:
                if 0 <= item[0] - _WATCHED < len(self._watch):
                    self._on_watched(item[0] - _WATCHED, item[2])
                continue
            if awaited:
                awaited.pop(item[0], None)
            reading = values.read(item)
            if reading is not None:
                readings.append(reading)
            if status := item[3]:
                if overflowed(status):
                    overflow.add(values.tag)
                if status & 0xFFFF0000 in GONE:
                    self._wanted.missing.setdefault(values.tag, status_name(status))

    def _hear(self, events: Sequence[tuple[int, list[binary.Field]]], readings: list[Reading]) -> None:
        for handle, fields in events:
            values = self._live.get(handle)
            if values is None:
                continue
            self._refresh = self._refresh or conditions.asks_again(fields)
            told = conditions.reading(values.tag, fields, self._wanted.namespaces)
            if told is not None:
                readings.append(told)

    def _give_up_waiting(self) -> None:
        """Items that have never sent a value are missing: made anew they may."""
        now = self._now()
        for handle in [handle for handle, until in self._awaited.items() if until <= now]:
            del self._awaited[handle]
            if handle in self._live:
                self._wanted.lose(self._live[handle].tag, "BadNoData: the server took the item and sends no value")

    async def _retry(self) -> None:
        """Ask again for what is missing; forget items of nodes that went away."""
        missing = self._wanted.missing
        gone = [self._items.pop(tag) for tag in list(missing) if tag in self._items]
        for handle, _ in gone:
            self._live.pop(handle, None)
            self._awaited.pop(handle, None)
        if gone:
            parameters = ua.DeleteMonitoredItemsParameters()
            parameters.SubscriptionId = self._id
            parameters.MonitoredItemIds = [ua.IntegerId(item) for _, item in gone]
            await self._session.unmonitor(parameters)
        await self._monitor(list(missing))
        self._retry_at = self._now() + RETRY
        if missing and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"opcua near names {self._name}")

    async def _look(self) -> None:
        """Once per connection; what goes wrong here is no fault of the connection."""
        with suppress(UaStatusCodeError, OSError, TimeoutError):
            await near.look(self._session, self._wanted)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _next(sequence: int) -> int:
    return sequence % 0xFFFFFFFF + 1


def _counts(publishing: float) -> tuple[int, int]:
    """(keep-alive count, lifetime count) for a publishing interval in ms."""
    interval = max(publishing, 1.0)
    keep_alive = max(1, round(SIGN_OF_LIFE * 1000 / interval))
    return keep_alive, max(3 * keep_alive, math.ceil(IDLE / 1000 / interval))


def _item(node: ua.NodeId, handle: int, sampling: float, queue: int) -> ua.MonitoredItemCreateRequest:
    """`sampling` in ms."""
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor.NodeId = node
    request.ItemToMonitor.AttributeId = AttributeIds.Value
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters.ClientHandle = handle
    request.RequestedParameters.SamplingInterval = sampling
    request.RequestedParameters.QueueSize = queue
    request.RequestedParameters.DiscardOldest = True
    return request
