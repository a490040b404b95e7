"""The network thread of one MQTT connection: paho driven through its public external-loop calls.

The thread alone touches the paho client. Others hand it messages and are told what the broker said; both ways
cost one wake-up per burst. paho writes each packet and reads each few bytes with a system call of its own; a
buffer between it and the socket makes that one call per burst, which is most of the cost of a message. Callbacks
only pass on what they were told, so nothing in them can fail; whatever ends the thread is told too.
"""

import contextlib
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from buffer.outbox import Message
from edge_agent.delivery.login import Login

_IDLE = 1.0
"""Seconds between two looks at the keep-alive when nothing happens."""
REACH_LIMIT = 5.0
"""Seconds that a TCP connection may take: a packet that got lost is sent again by the system after 1, 2, 4 s, so an
attempt that waits for longer would notice later that the network is back than a new one."""
_LEAVING = 0.5
"""Seconds for what is left to send when it ends."""
_FAILURE = 0x80
_CHUNK = 1 << 16
_NO_SESSION = b"\x05\x11\x00\x00\x00\x00"
"""CONNECT properties: session expiry interval 0."""


class Packed(Properties):
    """Properties that were packed before; making and packing paho's own takes longer than the rest of a message."""

    packed: bytes

    def __init__(self, packed: bytes) -> None:
        object.__setattr__(self, "packed", packed)

    def pack(self) -> bytes:
        return self.packed

    def __str__(self) -> str:
        return repr(self.packed)


class Outgoing(NamedTuple):
    """One PUBLISH. `token` comes back with its confirmation."""

    token: int
    message: Message
    retain: bool
    properties: Properties | None


class Lookup(NamedTuple):
    """Ask what is retained on a topic."""

    topic: str


class Events(NamedTuple):
    """What the thread tells, called through `tell` of the connection, in the event loop."""

    answered: Callable[[int, Properties | None], None]
    """CONNACK: reason code and properties."""
    acknowledged: Callable[[int, int], None]
    """PUBACK: token and reason code; -1 for a message that could not even be sent."""
    looked_up: Callable[[bytes | None, None], None]
    """The answer to a `Lookup`."""
    dismissed: Callable[[int, None], None]
    """DISCONNECT of the broker: reason code."""
    ended: Callable[[Exception | None, None], None]
    """The thread is over; nothing follows."""


Tell = Callable[[Callable[[Any, Any], None], Any, Any], None]


class Network:
    """Start it once. `send`, `leave` and `cut` may be called from any thread."""

    def __init__(self, login: Login, will: Message, will_properties: Properties | None, events: Events, tell: Tell):
        self._login = login
        self._events = events
        self._tell = tell
        self._orders: deque[Outgoing | Lookup | None] = deque()
        self._found: bytes | None = None
        self._tokens: dict[int, int] = {}
        self._poke_read, self._poke_write = socket.socketpair()
        self._poke_read.setblocking(False)
        self._poke_write.setblocking(False)
        self._poked = False
        self._cut = False
        self.connected = False
        """TCP and TLS are done, whatever MQTT says."""
        self._client = self._new_client()
        self._client.will_set(will.topic, will.body, qos=1, retain=True, properties=will_properties)

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"mqtt-{self._login.client_id}", daemon=True).start()

    def send(self, outgoing: Outgoing) -> None:
        self._orders.append(outgoing)
        self._poke()

    def look_up(self, topic: str) -> None:
        self._orders.append(Lookup(topic))
        self._poke()

    def leave(self) -> None:
        """Disconnect cleanly after what was given to send."""
        self._orders.append(None)
        self._poke()

    def cut(self) -> None:
        """End at once."""
        self._cut = True
        self._poked = False
        self._poke()

    def _poke(self) -> None:
        if not self._poked:
            self._poked = True
            with contextlib.suppress(OSError):  # full: the thread will wake anyway; closed: it is over
                self._poke_write.send(b"!")

    def _new_client(self) -> Client:
        login = self._login
        client = _Client(
            login,
            refused=lambda code: self._tell(self._events.answered, code, None),
            dismissed=lambda code: self._tell(self._events.dismissed, code, None),
        )
        client.suppress_exceptions = True
        client.connect_timeout = login.limit
        client.max_inflight_messages_set(0)
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            client.tls_set_context(login.tls)
        client.on_socket_register_write = _written_by_the_loop
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_unsubscribe = self._on_unsubscribe
        return client

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._connect()
            self.connected = True
            error = self._serve()
        except Exception as caught:  # told as the end of this connection
            error = caught
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._poke_read.close()
        self._poke_write.close()
        self._tell(self._events.ended, error, None)

    def _connect(self) -> None:
        login = self._login
        if login.v5:
            self._client.connect(
                login.host, login.port, login.keepalive, clean_start=True, properties=Packed(_NO_SESSION)
            )
        else:
            self._client.connect(login.host, login.port, login.keepalive)

    def _serve(self) -> Exception | None:
        """Until the connection ends; the socket's own error, if that ended it. paho tells only that it is lost."""
        client = self._client
        sock: Any = client.socket()
        if sock is None:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(self._poke_read, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            waiting_to_write = False
            while not self._cut and client.socket() is not None:
                unsent = _flush(client, sock)
                if client.socket() is None:
                    break
                if unsent != waiting_to_write:
                    waiting_to_write = unsent
                    selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
                left_over = sock.pending() if hasattr(sock, "pending") else 0
                ready = {key.fileobj for key, _ in selector.select(0 if left_over else _IDLE)}
                if self._poke_read in ready:
                    self._poke_read.recv(64)
                    self._poked = False
                    self._take_orders()
                if left_over or sock in ready:
                    client.loop_read()
                client.loop_misc()
        return sock.failure if isinstance(sock, _Buffered) else None

    def _take_orders(self) -> None:
        client, orders = self._client, self._orders
        while orders:
            order = orders.popleft()
            if order is None:
                client.disconnect()
                continue
            if isinstance(order, Lookup):
                # What is retained comes between the two answers, as a broker deals with packets in their order.
                client.subscribe(order.topic, 0)
                client.unsubscribe(order.topic)
                continue
            token, message, retain, properties = order
            info = client.publish(message.topic, message.body, 1, retain, properties)
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._tokens[info.mid] = token
            else:
                self._tell(self._events.acknowledged, token, -1)

    def _on_connect(
        self, client: Client, userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._tell(self._events.answered, reason.value, properties)

    def _on_publish(
        self, client: Client, userdata: object, mid: int, reason: ReasonCode | int, properties: object
    ) -> None:
        code = reason if isinstance(reason, int) else reason.value
        self._tell(self._events.acknowledged, self._tokens.pop(mid), code)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        if message.retain:
            self._found = bytes(message.payload)

    def _on_unsubscribe(self, *_: object) -> None:
        self._tell(self._events.looked_up, self._found, None)


class _Client(Client):
    """paho with some of its inner steps replaced; without them it works as before, but slower and less robust.

    What the broker says is taken as it is: paho ends the connection, without a word about the reason, over a code
    that it does not list for that packet, such as 0x99 in a CONNACK."""

    def __init__(self, login: Login, *, refused: Callable[[int], None], dismissed: Callable[[int], None]) -> None:
        self._refused = refused
        self._dismissed = dismissed
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            protocol=MQTTv5 if login.v5 else MQTTv311,
            reconnect_on_failure=False,
        )
        self._login = login

    def _create_socket(self) -> "_Buffered":
        """paho's own leaves the socket open when the TLS handshake fails."""
        login = self._login
        sock = socket.create_connection((login.host, login.port), timeout=min(login.limit, REACH_LIMIT))
        sock.settimeout(login.limit)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if login.tls is not None:
            try:
                sock = login.tls.wrap_socket(sock, server_hostname=login.host)
            except (ConnectionError, TimeoutError) as error:
                raise ssl.SSLError(f"the handshake was not answered ({error})") from error
        return _Buffered(sock)

    def _handle_connack(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if self._login.v5 and len(packet) > 1 and packet[1] >= _FAILURE:
            self._refused(packet[1])
            return MQTTErrorCode.MQTT_ERR_CONN_REFUSED
        return super()._handle_connack()

    def _handle_disconnect(self) -> None:
        packet = self._in_packet["packet"]
        self._dismissed(packet[0] if packet else 0)
        self._sock_close()

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        """A code of another packet, such as 0x95 from mosquitto, would end every connection that follows."""
        packet = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 2:
            return super()._handle_pubackcomp(cmd)
        mid = int.from_bytes(packet[:2], "big")
        code: Any = packet[2] if len(packet) > 2 else 0
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, code, cast(Any, None))
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class _Buffered:
    """A socket for paho: everything that came is read at once, everything to send is sent at once by `flush`."""

    def __init__(self, sock: Any) -> None:
        self.raw: socket.socket = sock
        self.failure: OSError | None = None
        self._came = b""
        self._at = 0
        self._unsent = bytearray()

    def recv(self, buffer_size: int) -> bytes:
        if self._at == len(self._came):
            try:
                self._came = self.raw.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError as error:
                self.failure = error
                raise
            self._at = 0
        data = self._came[self._at : self._at + buffer_size]
        self._at += len(data)
        return data

    def pending(self) -> int:
        """Bytes that `recv` has without waiting for the socket."""
        inside = self.raw.pending() if isinstance(self.raw, ssl.SSLSocket) else 0
        return len(self._came) - self._at + inside

    def send(self, buffer: bytes | bytearray) -> int:
        self._unsent += buffer
        return len(buffer)

    def flush(self) -> bool:
        """Send what the socket takes; whether something is left. Raises OSError."""
        unsent = self._unsent
        try:
            while unsent:
                del unsent[: self.raw.send(bytes(unsent[:_CHUNK]))]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        return False

    def close(self) -> None:
        """What is left to send still has a moment: the DISCONNECT is in it."""
        if self._unsent and self.raw.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.raw.settimeout(_LEAVING)
                self.raw.sendall(bytes(self._unsent))
        self._unsent.clear()
        self.raw.close()

    def fileno(self) -> int:
        return self.raw.fileno()

    def setblocking(self, flag: bool) -> None:
        self.raw.setblocking(flag)


def _flush(client: Client, sock: Any) -> bool:
    """Write what paho has queued; whether something is left."""
    if client.want_write():
        client.loop_write()
    if isinstance(sock, _Buffered) and client.socket() is not None:
        return sock.flush()
    return client.want_write()


def _written_by_the_loop(client: Client, userdata: object, sock: object) -> None:
    """That this callback exists keeps paho from writing to the socket inside every `publish`."""
