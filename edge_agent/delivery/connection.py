"""One MQTT connection: one paho client, one network thread, never used again.

The thread connects and runs paho's loop; paho's own retry and reconnect are never entered. Callbacks only put
what they were told into a list and wake the event loop, once per burst, so nothing in them can fail and kill the
thread; whatever ends the thread ends the connection visibly. Everything else happens in the event loop.

paho counts a PUBACK with a failure code as published and keeps `is_connected()` true over a dead thread; so
neither is believed: the reason code decides, and a message that is not confirmed in time ends the connection.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from buffer.outbox import Message
from edge_agent.delivery import refusals
from edge_agent.delivery.publisher import NotConnected, PublishError, Rejected

CLOSE_LIMIT = 2.0
"""Seconds a clean disconnect may take."""
MISSING_LIMIT = 6
"""One confirmation may be missing so many times `limit` while others come; without any, `limit` is the end."""
_NO_SESSION = b"\x05\x11\x00\x00\x00\x00"
"""CONNECT properties: session expiry interval 0."""
_OVERHEAD = 128
"""Bytes of a PUBLISH besides topic and payload, at most: header, id, properties."""


class Login(NamedTuple):
    """Where to connect and as whom. `keepalive` and `limit` are seconds."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    ca_file: str | None
    v5: bool
    keepalive: int
    limit: float

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.port}"


class Packed(Properties):
    """Properties of a PUBLISH that were packed before; paho's own take longer than all the rest of a message."""

    packed: bytes

    def __init__(self, packed: bytes) -> None:
        object.__setattr__(self, "packed", packed)

    def pack(self) -> bytes:
        return self.packed

    def __str__(self) -> str:
        return repr(self.packed)


class _Pending(NamedTuple):
    confirmed: "asyncio.Future[None]"
    topic: str
    sent: float


class Connection:
    """Open it, publish, close it. All methods belong to the event loop."""

    def __init__(self, login: Login, window: int) -> None:
        self._login = login
        self.window = window
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[PublishError] = self._loop.create_future()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._goodbye: int | None = None
        self._max_packet: int | None = None
        self._pending: dict[int, _Pending] = {}
        self._progress = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._stopping = False
        self._news: deque[tuple[Callable[..., None], Any, Any]] = deque()
        self._woken = False
        self._client = self._new_client()

    async def open(self, will: Message, will_properties: Properties | None) -> None:
        """Connect and log in. Raises `NotConnected` or `Forbidden`."""
        self._client.will_set(will.topic, will.body, qos=1, retain=True, properties=will_properties)
        name = f"mqtt-{self._login.client_id}"
        threading.Thread(target=self._network, args=(self._client,), name=name, daemon=True).start()
        try:
            async with asyncio.timeout(self._login.limit):
                await self._opened
        except TimeoutError:
            broker = self._login.broker
            if self._client.socket() is None:
                text = f"No answer from the broker {broker} in {self._login.limit:g} s."
            else:
                text = f"{broker} accepts connections but does not answer MQTT. Is it the broker's port?"
            self._lose(NotConnected(text, code="B605", native="no CONNACK"))
            raise self.lost.result() from None

    def publish(self, message: Message, *, retain: bool, properties: Properties | None) -> "asyncio.Future[None]":
        confirmed: asyncio.Future[None] = self._loop.create_future()
        if self.lost.done():
            confirmed.set_exception(self.lost.result())
            return confirmed
        size = len(message.topic) + len(message.body) + _OVERHEAD
        if self._max_packet is not None and size > self._max_packet:
            confirmed.set_exception(refusals.puback_refused(0x95, broker=self._login.broker, topic=message.topic))
            return confirmed
        try:
            info = self._client.publish(message.topic, message.body, 1, retain, properties)
        except ValueError as error:
            confirmed.set_exception(Rejected(f"{error} (topic {message.topic})", code="B607", native=repr(error)))
            return confirmed
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            confirmed.set_exception(self._gone())
            return confirmed
        now = self._loop.time()
        self._pending[info.mid] = _Pending(confirmed, message.topic, now)
        if self._watch is None:
            self._progress = now
            self._watch = self._loop.call_later(self._login.limit, self._check)
        return confirmed

    async def close(self) -> None:
        """Disconnect cleanly if that is still possible, and end the thread."""
        if not self.lost.done():
            self._client.disconnect()
            try:
                async with asyncio.timeout(CLOSE_LIMIT):
                    await self._ended.wait()
            except TimeoutError:
                pass  # the broker does not even take the farewell
        self._lose(NotConnected("The connection was closed.", code="B606"))

    def _new_client(self) -> Client:
        login = self._login
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            protocol=MQTTv5 if login.v5 else MQTTv311,
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.connect_timeout = login.limit
        client.max_inflight_messages_set(0)
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            client.tls_set_context(login.tls)
        client.on_socket_open = _no_delay
        client.on_socket_register_write = _leave_writing_to_the_thread
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    # In the network thread.

    def _network(self, client: Client) -> None:
        error: Exception | None = None
        login = self._login
        try:
            if login.v5:
                client.connect(
                    login.host, login.port, login.keepalive, clean_start=True, properties=Packed(_NO_SESSION)
                )
            else:
                client.connect(login.host, login.port, login.keepalive)
            while not self._stopping and client.loop(1.0) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        except Exception as caught:  # goes to the event loop as the end of this connection
            error = caught
        self._tell(self._thread_ended, error, None)

    def _on_connect(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._tell(self._answered, reason.value, properties)

    def _on_disconnect(
        self, client: Client, userdata: object, flags: DisconnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._tell(self._dismissed, reason.value, None)

    def _on_publish(self, client: Client, userdata: object, mid: int, reason: ReasonCode, properties: object) -> None:
        self._tell(self._acknowledged, mid, reason.value)

    def _tell(self, what: Callable[..., None], first: Any, second: Any) -> None:
        self._news.append((what, first, second))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._listen)
            except RuntimeError:
                self._stopping = True  # the event loop is closed: nobody needs this connection any more

    # In the event loop.

    def _listen(self) -> None:
        self._woken = False
        news = self._news
        while news:
            what, first, second = news.popleft()
            what(first, second)

    def _answered(self, code: int, properties: Properties | None) -> None:
        if code >= 0x80:
            login = self._login
            self._lose(
                refusals.connack_refused(code, broker=login.broker, user=login.username, client_id=login.client_id)
            )
            return
        self.window = min(self.window, getattr(properties, "ReceiveMaximum", self.window))
        self._max_packet = getattr(properties, "MaximumPacketSize", None)
        if not self._opened.done():
            self._opened.set_result(None)

    def _dismissed(self, code: int, _: object) -> None:
        self._goodbye = code

    def _acknowledged(self, mid: int, code: int) -> None:
        pending = self._pending.pop(mid, None)
        if pending is None:
            return
        self._progress = self._loop.time()
        confirmed = pending.confirmed
        if confirmed.done():
            return
        if code < 0x80:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(refusals.puback_refused(code, broker=self._login.broker, topic=pending.topic))

    def _thread_ended(self, error: Exception | None, _: object) -> None:
        self._ended.set()
        login = self._login
        if error is not None:
            self._lose(refusals.unreachable(error, broker=login.broker, ca_file=login.ca_file))
        else:
            self._lose(self._gone())

    def _gone(self) -> PublishError:
        login = self._login
        if self._goodbye is not None:
            return refusals.disconnected(self._goodbye, broker=login.broker, client_id=login.client_id)
        return NotConnected(f"The connection to the broker {login.broker} was lost.", code="B605")

    def _check(self) -> None:
        """The oldest unconfirmed message decides whether the broker still confirms."""
        self._watch = None
        oldest = next(iter(self._pending.values()), None)
        if oldest is None or self.lost.done():
            return
        limit = self._login.limit
        deadline = min(max(oldest.sent, self._progress) + limit, oldest.sent + MISSING_LIMIT * limit)
        now = self._loop.time()
        if now < deadline:
            self._watch = self._loop.call_at(deadline, self._check)
            return
        waited = now - oldest.sent
        self._lose(
            NotConnected(
                f"The broker {self._login.broker} has not confirmed a message in {waited:.0f} s.",
                code="B605",
                native="no PUBACK",
            )
        )

    def _lose(self, error: PublishError) -> None:
        """The end, once: tell everybody who waits, and let the thread go."""
        if self.lost.done():
            return
        self.lost.set_result(error)
        if not self._opened.done():
            self._opened.set_exception(error)
        pending, self._pending = self._pending, {}
        for message in pending.values():
            if not message.confirmed.done():
                message.confirmed.set_exception(error)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._stopping = True
        if not self._ended.is_set():
            _hang_up(self._client)


def _no_delay(client: Client, userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave_writing_to_the_thread(client: Client, userdata: object, sock: object) -> None:
    """Without a thread of its own making, paho would write to the socket in whatever thread publishes."""


def _hang_up(client: Client) -> None:
    """Wake the thread out of whatever it waits for on the socket."""
    sock = client.socket()
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):  # it was closed meanwhile, which is what is wanted
            sock.shutdown(socket.SHUT_RDWR)
