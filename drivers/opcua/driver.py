"""One OPC UA connection: which server, how it is protected, who we are, and what it tells.

**Which.** Of several servers that stand in for each other (`urls`) the first healthy one is read, or the one with the
highest ServiceLevel. When that falls the connection is given up and all are asked again.

**Where.** Namespace URIs become indices at every connect. The list of namespaces is watched: when it changes
(a program was downloaded), the connection is given up and made anew.

Values come from a `Subscription`, or by `Polling` where the server has none.
"""

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from config.errors import Problem
from config.secrets import resolve
from drivers.base import Batch, Micros
from drivers.errors import ConnectionLost, DriverError
from drivers.looking import Listing, Looked
from drivers.opcua import security
from drivers.opcua.browsing import Browsing
from drivers.opcua.failures import Failures
from drivers.opcua.history import History
from drivers.opcua.options import Identity, OpcuaDevice, Security
from drivers.opcua.polling import Polling
from drivers.opcua.ring import OpcuaAccess
from drivers.opcua.ring import reader as ring_reader
from drivers.opcua.session import POLICIES, Session
from drivers.opcua.standing import Standing
from drivers.opcua.subscription import IDLE, Subscription
from drivers.opcua.wanted import Wanted
from drivers.ring.beside import Beside, Reader

_NAMESPACE_ARRAY, _SERVICE_LEVEL, _STATE = 2255, 2267, 2259
_START_TIME, _ITEMS_PER_CALL, _NODES_PER_READ = 2257, 11714, 11705
_MOST_PER_CALL = 1000
_NO_SUBSCRIPTIONS = frozenset(
    (StatusCodes.BadServiceUnsupported, StatusCodes.BadNotImplemented, StatusCodes.BadNotSupported)
)


class OpcuaDriver:
    """See `drivers.base.Driver`. `starts` outlives the connection: StartTime of each of the device's servers."""

    def __init__(
        self, name: str, options: OpcuaDevice, *, starts: MutableMapping[str, datetime] | None = None
    ) -> None:
        self._name = name
        self._options = options
        self._starts: MutableMapping[str, datetime] = {} if starts is None else starts
        self._failures = self._failures_of(options.endpoint)
        self._wanted = Wanted(options)
        self._sessions: list[Session] = []
        self._address = ""
        self._session: Session | None = None
        self._reader: Reader | None = None
        self._first: Batch | None = None
        self._position: str | None = None
        self._beside: Beside | None = None
        self._history: History | None = None
        self._standing = Standing()
        self._chosen = Standing()
        self._per_call = _MOST_PER_CALL
        self._told: object = None
        self._moved = False

    def resume(self, position: str) -> None:
        """See `drivers.base.RingReader`."""
        self._position = position

    async def connect(self) -> None:
        with self._failures.translated():
            session = self._session = await self._choose()
        with self._failures.translated():
            restarted = await self._look_around(session)
            self._reader = await self._begin(session)
            self._first = Batch(self._name, self._wanted.bad_readings(), restarted=restarted)
            if self._options.ring is not None:
                access = OpcuaAccess(self._options.ring, session, self._wanted.namespaces, self._per_call)
                ring = ring_reader(self._name, self._options, self._options.ring, access)
                if self._position is not None:
                    ring.resume(self._position)
                self._reader = self._beside = Beside(self._reader, ring, self._options.ring_period)
            if self._options.history:
                self._history = History(self._name, session, self._wanted, per_call=self._per_call)

    async def read(self) -> Batch:
        if self._session is None or self._reader is None:
            raise self._failures.lost("it is not connected.")
        if self._first is not None:
            with self._failures.translated(ConnectionLost):
                entries = None if self._beside is None else await self._beside.entries()
            if entries is not None:
                return entries
            batch, self._first = self._first, None
            return batch
        with self._failures.translated(ConnectionLost):
            if self._moved:
                await self._check_namespaces(self._session)
            if self._standing.below(self._chosen):
                raise self._failures.lost(f"{self._standing}; the other servers are asked.", code="C507")
            return await self._reader.read()

    async def recall(self, since: Micros) -> Batch | None:
        if self._session is None or self._history is None or (self._first is not None and self._first.restarted):
            return None
        with self._failures.translated(ConnectionLost):
            return await self._history.recall(since)

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        sessions, self._sessions = self._sessions, []
        self._session = None
        try:
            if reader is not None:
                await reader.close()
        finally:
            await asyncio.gather(*(session.close() for session in sessions))

    # looking, beside reading

    async def browse(self, path: str) -> Listing:
        """See `drivers.looking.Looker`."""
        with self._failures.translated():
            return await self._browsing().listing(path)

    async def look(self, tags: Sequence[str], *, wide: bool = False) -> list[Looked]:
        """See `drivers.looking.Looker`; values come from the server anew, not from the subscription."""
        browsing = self._browsing()
        with self._failures.translated():
            polled = {tag: self._options.polled[tag] for tag in tags if tag in self._options.polled}
            looked = dict(zip(polled, await browsing.look(polled, self._wanted), strict=True))
        told = {} if self._beside is None else {one.tag: Looked(one) for one in self._beside.ring.readings}
        return [(looked.get(tag) or told[tag]) for tag in tags]

    def _browsing(self) -> Browsing:
        if self._session is None:
            raise self._failures.lost("it is not connected.")
        return Browsing(self._session, self._wanted.namespaces, self._per_call)

    # choosing a server

    async def _choose(self) -> Session:
        """A session with the first healthy server, or with the best there is."""
        addresses = self._options.addresses
        best: tuple[Standing, Session, str] | None = None
        failed: list[DriverError] = []
        for address in addresses:
            failures = self._failures_of(address)
            try:
                with failures.translated():
                    session = await self._open(address, failures)
                    standing = await self._ask_standing(session) if len(addresses) > 1 else Standing()
            except DriverError as error:
                failed.append(error)
                continue
            if best is None or best[0].below(standing):
                best = standing, session, address
            if standing.healthy:
                break
        if best is None:
            raise failed[0] if len(failed) == 1 else _none_left(failed)
        self._chosen, session, self._address = best
        self._standing = self._chosen
        self._failures = self._failures_of(self._address)
        others = [other for other in self._sessions if other is not session]
        self._sessions = [session]
        await asyncio.gather(*(other.close() for other in others))
        return session

    async def _open(self, address: str, failures: Failures) -> Session:
        session = self._new_session(address)
        self._sessions.append(session)
        if isinstance(self._options.security, Security):
            await self._protect(address, session, self._options.security, failures)
        if self._options.identity is not None:
            await self._identify(session, self._options.identity, failures)
        await session.open()
        return session

    def _failures_of(self, address: str) -> Failures:
        identity = self._options.identity
        who = None if identity is None else identity.username or identity.certificate
        return Failures(self._name, address, self._options.timeout, who)

    def _new_session(self, address: str) -> Session:
        return Session(address, self._name, self._options.timeout, max(IDLE, 4 * self._options.publishing))

    async def _identify(self, session: Session, identity: Identity, failures: Failures) -> None:
        if identity.username is not None:
            try:
                password = None if identity.password is None else resolve(identity.password, base_dir=Path())
            except Problem as problem:
                raise failures.refused("C513", f"{problem.what}.") from None
            session.identify(identity.username, password)
            return
        assert identity.certificate is not None
        assert identity.key is not None
        try:
            holder = await asyncio.to_thread(security.user, Path(identity.certificate), Path(identity.key))
        except (OSError, ValueError) as error:
            raise failures.refused("C513", f"the user's certificate cannot be used: {error}.") from None
        session.identify_by(holder.certificate, holder.key)

    async def _protect(self, address: str, session: Session, wanted: Security, failures: Failures) -> None:
        """Find the endpoint, judge its certificate, and prepare the session for it."""
        pki = Path(wanted.pki)
        own = await asyncio.to_thread(security.own, pki)
        failures.certificate = str(own.file)
        policy = POLICIES[wanted.policy]
        mode = ua.MessageSecurityMode[wanted.mode]
        discovery = self._new_session(address)
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
            raise failures.refused(
                "C512",
                f"the server does not offer {wanted.policy}/{wanted.mode}; it offers "
                f"{', '.join(names) or 'nothing'}. Enable it in the server, or choose another policy in 'security'.",
            )
        trust = Path(wanted.trust) if wanted.trust else pki / "trusted"
        try:
            await asyncio.to_thread(
                security.check_server,
                server,
                urlsplit(address).hostname or "",
                trust=trust,
                rejected=pki / "rejected",
            )
        except security.Untrusted as error:
            raise failures.refused("C511", str(error)) from None
        session.protect(policy(server, own.certificate, own.key, mode), own.application_uri)

    async def _ask_standing(self, session: Session) -> Standing:
        level, state = await session.read((_SERVICE_LEVEL, _STATE))
        return Standing().told(level=level).told(state=state)

    # what is there

    async def _look_around(self, session: Session) -> bool:
        """Namespaces, limits and start time of the server. Returns whether it was restarted since the last time."""
        namespaces, started, *most = await session.read(
            (_NAMESPACE_ARRAY, _START_TIME, _ITEMS_PER_CALL, _NODES_PER_READ)
        )
        self._wanted.namespaces = [str(uri) for uri in namespaces or ()]
        limits = [limit for limit in most if isinstance(limit, int) and limit > 0]
        self._per_call = min([_MOST_PER_CALL, *limits])
        if not isinstance(started, datetime):
            return False
        key = f"{self._name} {self._address}"
        before = self._starts.get(key)
        self._starts[key] = started
        return before is not None and before != started

    async def _begin(self, session: Session) -> Reader:
        watch = (
            (_NAMESPACE_ARRAY, _SERVICE_LEVEL, _STATE) if len(self._options.addresses) > 1 else (_NAMESPACE_ARRAY,)
        )
        if not self._options.polling:
            self._reader = Subscription(
                self._name,
                self._options,
                session,
                self._wanted,
                self._failures,
                per_call=self._per_call,
                watch=watch,
                on_watched=self._watched,
            )
            try:
                await self._reader.open()
                return self._reader
            except UaStatusCodeError as error:
                if error.code not in _NO_SUBSCRIPTIONS:
                    raise
        polling = Polling(
            self._name,
            self._options,
            session,
            self._wanted,
            per_call=self._per_call,
            watch=watch,
            on_watched=self._watched,
        )
        await polling.open()
        return polling

    def _watched(self, place: int, value: object) -> None:
        if place == 0:
            self._moved = self._told not in (None, value)  # the first one is what they were anyway
            self._told = value
        elif place == 1:
            self._standing = self._standing.told(level=value)
        else:
            self._standing = self._standing.told(state=value)

    async def _check_namespaces(self, session: Session) -> None:
        (found,) = await session.read((_NAMESPACE_ARRAY,))
        now, known = [str(uri) for uri in found or ()], self._wanted.namespaces
        if now[: len(known)] != known:
            raise self._failures.lost(
                "its namespaces have moved, as after a program download; the nodes are looked up again.", code="C522"
            )
        self._wanted.namespaces, self._moved = now, False


def _none_left(failed: list[DriverError]) -> DriverError:
    last = failed[-1]
    return DriverError(
        " ".join(str(error) for error in failed),
        code=last.code,
        reason=last.reason,
        native="; ".join(error.native for error in failed),
    )
