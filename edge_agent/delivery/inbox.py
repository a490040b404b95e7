"""What the MOM sends down: a connection of its own to the broker, with a session that outlives it.

A command is confirmed to the broker when it has been dealt with, which means stored; until then the broker keeps it
and sends it again, also over a restart of this agent or a lost network. So it takes a session that is not clean,
which the connection for events, where the database is the session, does not want. What cannot be received does not
disturb what is sent.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.backoff import Backoff
from edge_agent.clock import SECOND, Clock
from edge_agent.delivery import refusals
from edge_agent.delivery.login import Login
from edge_agent.delivery.network import Packed
from edge_agent.delivery.publisher import REFUSED_WAIT, SILENT_WAIT, NotConnected, PublishError, Silence

log = logging.getLogger(__name__)

SESSION_EXPIRY: Final = 24 * 3600
"""Seconds that the broker keeps commands for an agent that is away; most have expired by themselves by then."""
_AT_ONCE: Final = 20
"""Commands that the broker may send before the first of them is confirmed."""
_FILTERS: Final = 50
"""Topics in one SUBSCRIBE."""
_REFUSED: Final = 0x80


class Delivered(NamedTuple):
    """A message as it came. `retained`: it stood at the broker, nobody sent it now."""

    topic: str
    body: bytes
    retained: bool


class Inbox:
    """Receives for as long as `run` runs, one message after the other; without topics it waits for `renew`. `take`
    deals with a message and returns when that is stored."""

    def __init__(
        self,
        login: Callable[[], Login],
        topics: Callable[[], Sequence[str]],
        take: Callable[[Delivered], Awaitable[None]],
        clock: Clock,
        random: Random,
        on_listening: Callable[[bool, PublishError | None], None] = lambda *_: None,
    ) -> None:
        """`on_listening` is told when commands can come, and when they cannot any more and why."""
        self._on_listening = on_listening
        self._login = login
        self._topics = topics
        self._take = take
        self._clock = clock
        self._backoff = Backoff(1 * SECOND, REFUSED_WAIT, random, silent=SILENT_WAIT)
        self._told: str | None = None
        self._renewed = asyncio.Event()

    def renew(self) -> None:
        """Login or topics are others now."""
        self._renewed.set()

    async def run(self) -> None:
        """Never returns; ends by cancellation."""
        while True:
            self._renewed.clear()
            if not self._topics():
                await self._renewed.wait()
                continue
            error = await self._until_renewed()
            if error is None:
                continue
            self._on_listening(False, error)
            wait = self._backoff.next(silent=isinstance(error, Silence))
            level = logging.DEBUG if self._told == error.code else logging.WARNING
            self._told = error.code
            log.log(level, "%s No commands are received: %s Next attempt in %.0f s.", error.code, error, wait)
            await self._clock.sleep(wait)

    async def _until_renewed(self) -> PublishError | None:
        """One connection; why it ended, None if it is to be made anew at once."""
        receiving = asyncio.create_task(self._receive(), name="inbox: connection")
        renewed = asyncio.create_task(self._renewed.wait(), name="inbox: renewed")
        try:
            await asyncio.wait((receiving, renewed), return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else None
        finally:
            self._on_listening(False, None)
            for task in (receiving, renewed):
                task.cancel()
            await asyncio.wait((receiving, renewed))

    async def _receive(self) -> PublishError:
        """One connection; why it ended."""
        try:
            line = Line(self._login(), self._topics(), asyncio.get_running_loop())
        except PublishError as error:
            return error
        except Exception as error:  # a fault of ours, or of a secret's file, must not end the agent
            log.debug("the login for commands cannot be made", exc_info=True)
            return NotConnected(f"{error}.", code="B699", native=repr(error))
        try:
            line.open()
            while True:
                message = await line.next()
                if isinstance(message, PublishError):
                    return message
                if message is None:
                    self._subscribed()
                    continue
                await self._take(Delivered(message.topic, bytes(message.payload), message.retain))
                line.confirm(message)
        finally:
            line.close()

    def _subscribed(self) -> None:
        self._on_listening(True, None)
        self._backoff.reset()
        if self._told is not None:
            log.info("commands are received again")
            self._told = None


class Line:
    """One paho client with a thread of its own, whose callbacks only hand over to the event loop.

    `lasting`: the broker keeps the session, with what came meanwhile, for the next time.
    """

    def __init__(
        self, login: Login, topics: Sequence[str], loop: asyncio.AbstractEventLoop, *, lasting: bool = True
    ) -> None:
        self._lasting = lasting
        self._login = login
        self._topics = topics
        self._loop = loop
        self._news: asyncio.Queue[MQTTMessage | PublishError | None] = asyncio.Queue()
        self._asked: set[int] = set()
        client = self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            clean_session=None if login.v5 else not lasting,
            protocol=MQTTv5 if login.v5 else MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.suppress_exceptions = True
        client.connect_timeout = login.limit
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            client.tls_set_context(login.tls)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._end(self._lost())
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _userdata, message: self._tell(message)

    def open(self) -> None:
        """Connect in the background; what comes of it is told by `next`."""
        login = self._login
        if login.v5 and not self._lasting:
            self._client.connect_async(login.host, login.port, login.keepalive, clean_start=True)
        elif login.v5:
            asked = Packed(b"\x08\x11" + SESSION_EXPIRY.to_bytes(4, "big") + b"\x21" + _AT_ONCE.to_bytes(2, "big"))
            self._client.connect_async(login.host, login.port, login.keepalive, clean_start=False, properties=asked)
        else:
            self._client.connect_async(login.host, login.port, login.keepalive)
        self._client.loop_start()

    async def next(self) -> MQTTMessage | PublishError | None:
        """The next message, None when the topics have been subscribed, or why the connection ended."""
        return await self._news.get()

    def confirm(self, message: MQTTMessage) -> None:
        self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Leave; the session stays at the broker. Waits for nothing: the thread ends with the connection."""
        self._client.disconnect()
        self._loop.run_in_executor(None, self._client.loop_stop)

    def _tell(self, news: MQTTMessage | PublishError | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.put_nowait, news)
        except RuntimeError:  # the event loop is closed: nobody listens any more
            self._client.disconnect()

    def _end(self, error: PublishError) -> None:
        self._tell(error)

    def _lost(self) -> PublishError:
        return Silence(f"There is no connection to the broker {self._login.broker}.", code="B605")

    def _on_connect(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        login = self._login
        if reason.is_failure:
            self._end(
                refusals.connack_refused(
                    reason.value, broker=login.broker, user=login.username, client_id=login.client_id
                )
            )
            return
        for start in range(0, len(self._topics), _FILTERS):
            some = self._topics[start : start + _FILTERS]
            if login.v5:
                options = SubscribeOptions(qos=1, retainAsPublished=True)
                _, mid = client.subscribe([(topic, options) for topic in some])
            else:
                _, mid = client.subscribe([(topic, 1) for topic in some])
            if mid is not None:
                self._asked.add(mid)
        if not self._topics:
            self._tell(None)

    def _on_subscribe(
        self, client: Client, userdata: object, mid: int, reasons: Sequence[ReasonCode], properties: object
    ) -> None:
        refused = [reason for reason in reasons if reason.value >= _REFUSED]
        if refused:
            self._end(refusals.subscription_refused(refused[0].value, broker=self._login.broker))
            return
        self._asked.discard(mid)
        if not self._asked:
            self._tell(None)

    def _on_disconnect(
        self, client: Client, userdata: object, flags: DisconnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        login = self._login
        if flags.is_disconnect_packet_from_server:
            self._end(refusals.disconnected(reason.value, broker=login.broker, client_id=login.client_id))
        else:
            self._end(self._lost())
