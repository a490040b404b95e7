"""One OPC UA connection: a subscription that is pulled.

**Pull.** A publish request is sent when `read` is called and acknowledges what the last `read` brought, which has
been committed by then. So there is no queue on this side and nothing to overflow: what is not read in time waits
in the server's item queues (`OpcuaDevice.queue_of`), and a server that had to drop values says so (the Overflow
bit, `Batch.overflow`). A hole in the numbers of the notifications counts as an overflow of every tag.

**Wanted and good.** Every tag is wanted for ever. What the server refuses, or later reports as gone, is a BAD
reading with the server's reason and is asked for again every `RETRY` seconds; the others go on.

**Alive.** The server is asked for a sign of life at least every `SIGN_OF_LIFE` seconds; its revised values are
checked. Without any answer for three of its keep-alive periods and one time-out, counted from the creation on, the
connection is lost, also when the socket looks healthy.

**Where.** Namespace URIs become indices at every connect. The list of namespaces is watched: when it changes
(a program was downloaded), the connection is given up and made anew.
"""

import asyncio
import math
from collections.abc import Iterable, MutableMapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from config.errors import Problem
from config.secrets import resolve
from drivers.base import Batch, Quality, Reading
from drivers.errors import ConnectionLost
from drivers.opcua import binary, security
from drivers.opcua.failures import Failures
from drivers.opcua.options import Identity, NodeAddress, OpcuaDevice, Security, parse_node
from drivers.opcua.session import POLICIES, Session, node_id
from drivers.opcua.values import GONE, TagValues, overflowed, status_name

RETRY = 5.0
"""Seconds between two attempts to subscribe to what the server refused."""
SIGN_OF_LIFE = 1.0
"""Seconds after which a server without news is asked to say that there is none."""
IDLE = 30_000_000
"""Microseconds after which a server may forget a silent session or subscription."""

_NAMESPACES = 0
"""Client handle of the watched list of namespaces; tags count from 1."""
_NAMESPACE_ARRAY, _START_TIME, _ITEMS_PER_CALL = 2255, 2257, 11714
_MOST_PER_CALL = 1000
_AGAIN = frozenset((StatusCodes.BadTimeout, StatusCodes.BadRequestTimeout))
"""This publish request is over, the subscription is not."""


class OpcuaDriver:
    """See `drivers.base.Driver`. `starts` outlives the connection: StartTime of each device's server."""

    def __init__(
        self, name: str, options: OpcuaDevice, *, starts: MutableMapping[str, datetime] | None = None
    ) -> None:
        self._name = name
        self._options = options
        self._starts: MutableMapping[str, datetime] = {} if starts is None else starts
        user = None if options.identity is None else options.identity.username
        self._failures = Failures(name, options.endpoint, options.timeout, user)
        self._nodes = {tag: parse_node(tag_options.node) for tag, tag_options in options.tags.items()}
        self._values = {tag: TagValues(tag, tag_options) for tag, tag_options in options.tags.items()}
        self._session: Session | None = None
        self._publish: asyncio.Task[bytes] | None = None
        self._first: Batch | None = None
        self._acknowledge: ua.SubscriptionAcknowledgement | None = None
        self._sequence: int | None = None
        self._subscription = 0
        self._namespaces: list[str] = []
        self._per_call = _MOST_PER_CALL
        self._handle = _NAMESPACES
        self._live: dict[int, TagValues] = {}
        """Client handle → tag, of the items the server has."""
        self._items: dict[str, tuple[int, int]] = {}
        """Tag → (client handle, the server's handle)."""
        self._missing: dict[str, str] = {}
        """Tag → why the server does not have it."""
        self._seen = self._moved = False
        self._stale_after = 0.0
        self._stale_at = 0.0
        self._retry_at = 0.0
        self._renew_at = 0.0

    async def connect(self) -> None:
        with self._failures.translated():
            session = self._session = self._new_session()
            if isinstance(self._options.security, Security):
                await self._protect(session, self._options.security)
            await session.open()
            self._renew_at = self._now() + session.renew_after
            restarted = await self._look_around(session)
            await self._subscribe(session)
            await self._monitor(session, self._nodes)
            self._retry_at = self._now() + RETRY
            self._first = Batch(self._name, self._bad_readings(), restarted=restarted)

    async def read(self) -> Batch:
        if self._session is None:
            raise self._failures.lost("it is not connected.")
        if self._first is not None:
            batch, self._first = self._first, None
            return batch
        with self._failures.translated(ConnectionLost):
            return await self._next(self._session)

    async def close(self) -> None:
        publish, self._publish = self._publish, None
        session, self._session = self._session, None
        if publish is not None:
            publish.cancel()
            await asyncio.wait({publish})
            if not publish.cancelled():
                publish.exception()  # it is of no interest any more
        if session is not None:
            await session.close()

    # connecting

    def _new_session(self) -> Session:
        options = self._options
        idle = max(IDLE, 4 * options.publishing)
        session = Session(options.address, self._name, options.timeout, idle)
        if options.identity is not None:
            session.identify(options.identity.username, self._password(options.identity))
        return session

    def _password(self, identity: Identity) -> str | None:
        try:
            return None if identity.password is None else resolve(identity.password, base_dir=Path())
        except Problem as problem:
            raise self._failures.refused("C513", f"{problem.what}.") from None

    async def _protect(self, session: Session, wanted: Security) -> None:
        """Find the endpoint, judge its certificate, and prepare the session for it."""
        pki = Path(wanted.pki)
        own = await asyncio.to_thread(security.own, pki)
        self._failures.certificate = str(own.file)
        policy = POLICIES[wanted.policy]
        mode = ua.MessageSecurityMode[wanted.mode]
        discovery = Session(self._options.address, self._name, self._options.timeout, IDLE)
        try:
            offered = await discovery.endpoints()
        finally:
            await discovery.close()
        found = [end for end in offered if end.SecurityPolicyUri == policy.URI and end.SecurityMode == mode]
        server = security.certificate_of(found[0].ServerCertificate) if found else None
        if server is None:
            names = sorted(
                {f"{end.SecurityPolicyUri.rpartition('#')[2]}/{end.SecurityMode.name.strip('_')}" for end in offered}
            )
            raise self._failures.refused(
                "C512",
                f"the server does not offer {wanted.policy}/{wanted.mode}; it offers "
                f"{', '.join(names) or 'nothing'}. Enable it in the server, or choose another policy in 'security'.",
            )
        trust = Path(wanted.trust) if wanted.trust else pki / "trusted"
        try:
            await asyncio.to_thread(
                security.check_server,
                server,
                urlsplit(self._options.address).hostname or "",
                trust=trust,
                rejected=pki / "rejected",
            )
        except security.Untrusted as error:
            raise self._failures.refused("C511", str(error)) from None
        session.protect(policy(server, own.certificate, own.key, mode), own.application_uri)

    async def _look_around(self, session: Session) -> bool:
        """Namespaces, limits and start time of the server. Returns whether it was restarted since the last time."""
        namespaces, started, most = await session.read((_NAMESPACE_ARRAY, _START_TIME, _ITEMS_PER_CALL))
        self._namespaces = [str(uri) for uri in namespaces or ()]
        if isinstance(most, int) and most > 0:
            self._per_call = min(most, _MOST_PER_CALL)
        if not isinstance(started, datetime):
            return False
        before = self._starts.get(self._name)
        self._starts[self._name] = started
        return before is not None and before != started

    async def _subscribe(self, session: Session) -> None:
        publishing = self._options.publishing / 1000
        wanted = ua.CreateSubscriptionParameters()
        wanted.RequestedPublishingInterval = publishing
        wanted.RequestedMaxKeepAliveCount, wanted.RequestedLifetimeCount = _counts(publishing)
        wanted.MaxNotificationsPerPublish = 0
        wanted.PublishingEnabled = True
        granted = await session.subscribe(wanted)
        self._subscription = granted.SubscriptionId
        interval, count = granted.RevisedPublishingInterval, granted.RevisedMaxKeepAliveCount
        keep_alive, lifetime = _counts(interval)
        if count > keep_alive:
            change = ua.ModifySubscriptionParameters()
            change.SubscriptionId = granted.SubscriptionId
            change.RequestedPublishingInterval = interval
            change.RequestedMaxKeepAliveCount, change.RequestedLifetimeCount = keep_alive, lifetime
            changed = await session.modify(change)
            interval, count = changed.RevisedPublishingInterval, changed.RevisedMaxKeepAliveCount
        self._stale_after = 3 * max(count, 1) * interval / 1000 + self._options.timeout / 1e6
        self._stale_at = self._now() + self._stale_after

    async def _monitor(self, session: Session, tags: Iterable[str]) -> None:
        """Ask the server for the tags' items, and once for its list of namespaces. Sorts into live and missing."""
        asked: list[tuple[str | None, ua.MonitoredItemCreateRequest]] = []
        if self._handle == _NAMESPACES:
            asked.append((None, _item(node_id(_NAMESPACE_ARRAY, 0), _NAMESPACES, 1000.0, 1)))
        for tag in tags:
            node = self._node_id(self._nodes[tag])
            if node is None:
                self._missing[tag] = f"BadNodeIdUnknown: the server has no namespace {self._nodes[tag].uri}"
                continue
            self._handle += 1
            sampling = self._options.sampling_of(tag) / 1000
            asked.append((tag, _item(node, self._handle, sampling, self._options.queue_of(tag))))
        while asked:
            part = asked[: self._per_call]
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = self._subscription
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
            parameters.ItemsToCreate = [request for _, request in part]
            try:
                results = await session.monitor(parameters)
            except UaStatusCodeError as error:
                if error.code != StatusCodes.BadTooManyOperations or len(part) == 1:
                    raise
                self._per_call = len(part) // 2  # it did not tell its limit
                continue
            del asked[: len(part)]
            for (name, request), result in zip(part, results, strict=True):
                if name is None:
                    continue
                if not result.StatusCode.is_good():
                    self._missing[name] = status_name(result.StatusCode.value)
                    continue
                handle = int(request.RequestedParameters.ClientHandle)
                self._live[handle] = self._values[name]
                self._items[name] = handle, int(result.MonitoredItemId)
                self._missing.pop(name, None)

    def _node_id(self, node: NodeAddress) -> ua.NodeId | None:
        """The node's id with today's index; None if the server does not know its namespace."""
        index = node.namespace
        if node.uri is not None:
            if node.uri not in self._namespaces:
                return None
            index = self._namespaces.index(node.uri)
        return node_id(node.identifier, index)

    # reading

    async def _next(self, session: Session) -> Batch:
        while True:
            if self._moved:
                await self._check_namespaces(session)
            if self._publish is None:
                self._publish = asyncio.create_task(
                    session.publish(self._acknowledge), name=f"opcua publish {self._name}"
                )
                self._acknowledge = None
            wait = min(self._stale_at, self._renew_at, self._retry_at if self._missing else math.inf) - self._now()
            if wait > 0:
                await asyncio.wait({self._publish}, timeout=wait)
            if self._publish.done():
                batch = self._published()
                if batch is not None:
                    return batch
            elif self._now() >= self._stale_at:
                raise self._failures.lost(
                    f"the server has not published for {self._stale_after:.1f} s, although it should say at least "
                    "that nothing changed. Is the PLC in a state in which it serves nobody?",
                    code="C502",
                )
            elif self._now() >= self._renew_at:
                await session.renew()
                self._renew_at = self._now() + session.renew_after
            elif self._missing and self._now() >= self._retry_at:
                await self._retry(session)
                if self._missing:
                    return Batch(self._name, self._bad_readings())

    def _published(self) -> Batch | None:
        """The answer to the publish request as a batch; None if another one must be sent."""
        assert self._publish is not None
        publish, self._publish = self._publish, None
        try:
            answer = binary.publish_response(publish.result())
        except UaStatusCodeError as error:
            if error.code in _AGAIN:
                return None
            raise
        if answer.result >> 30 > 1:
            ua.StatusCode(ua.UInt32(answer.result)).check()
        if answer.ended is not None:
            raise self._failures.lost(f"the server ended the subscription ({status_name(answer.ended)}).")
        self._stale_at = self._now() + self._stale_after
        if answer.subscription != self._subscription:
            return None
        return self._batch(answer)

    def _batch(self, answer: binary.Published) -> Batch:
        lost = self._sequence is not None and answer.sequence != self._sequence
        if answer.items:
            self._sequence = answer.sequence % 0xFFFFFFFF + 1
            self._acknowledge = ua.SubscriptionAcknowledgement(self._subscription, answer.sequence)
        else:
            self._sequence = answer.sequence
        overflow = set(self._items) if lost else set()
        readings: list[Reading] = []
        live = self._live
        for item in answer.items:
            values = live.get(item[0])
            if values is None:
                if item[0] == _NAMESPACES:
                    self._moved = self._seen
                    self._seen = True  # the first one is what they were anyway
                continue
            reading = values.read(item)
            if reading is not None:
                readings.append(reading)
            if status := item[3]:
                if overflowed(status):
                    overflow.add(values.tag)
                if status & 0xFFFF0000 in GONE:
                    self._missing.setdefault(values.tag, status_name(status))
        return Batch(self._name, readings, frozenset(overflow))

    async def _check_namespaces(self, session: Session) -> None:
        (found,) = await session.read((_NAMESPACE_ARRAY,))
        now = [str(uri) for uri in found or ()]
        if now[: len(self._namespaces)] != self._namespaces:
            raise self._failures.lost(
                "its namespaces have moved, as after a program download; the nodes are looked up again.", code="C522"
            )
        self._namespaces, self._moved = now, False

    async def _retry(self, session: Session) -> None:
        """Ask again for what is missing; forget items of nodes that went away."""
        gone = [self._items.pop(tag) for tag in self._missing if tag in self._items]
        for handle, _ in gone:
            self._live.pop(handle, None)
        if gone:
            parameters = ua.DeleteMonitoredItemsParameters()
            parameters.SubscriptionId = self._subscription
            parameters.MonitoredItemIds = [ua.IntegerId(item) for _, item in gone]
            await session.unmonitor(parameters)
        await self._monitor(session, list(self._missing))
        self._retry_at = self._now() + RETRY

    def _bad_readings(self) -> list[Reading]:
        return [Reading(tag, None, Quality.BAD, None, why) for tag, why in self._missing.items()]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


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
