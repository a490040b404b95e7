"""One MQTT connection as the event loop sees it: open, publish, confirmations, the end. Never used again.

paho counts a PUBACK with a failure code as published and believes in a connection whose thread is dead; so
neither is believed here: the reason code decides, and a message that is not confirmed in time ends the
connection. The loss is reported once, by `lost`, and to everybody who still waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt.properties import Properties

from buffer.outbox import Message
from edge_agent.delivery import refusals
from edge_agent.delivery.login import Login
from edge_agent.delivery.network import Events, Network, Outgoing
from edge_agent.delivery.publisher import NotConnected, PublishError, Rejected, Silence

CLOSE_LIMIT = 1.0
"""Seconds a clean disconnect may take."""
LOOK_LIMIT = 3.0
"""Seconds that the answer to what is retained may take."""
MISSING_LIMIT = 6
"""One confirmation may be missing so many times `limit` while others come; without any, `limit` is the end."""
SLOWEST = 1_000
"""Bytes per second of a line that is still good: half of 16 kbit/s. A message has as much longer as it then takes."""
_OVERHEAD = 128
"""Bytes of a PUBLISH besides topic and payload, at most: header, id, properties."""
_TOPIC_LIMIT = 65_535


class _Pending(NamedTuple):
    confirmed: "asyncio.Future[None]"
    topic: str
    sent: float
    takes: float
    """Seconds that it takes on the slowest line."""
    queue: float
    """Seconds that it takes there with everything that was unconfirmed when it was sent."""


class Connection:
    """Open it, publish, close it. All methods belong to the event loop."""

    def __init__(self, login: Login, window: int) -> None:
        self._login = login
        self.window = window
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[PublishError] = self._loop.create_future()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._found: asyncio.Future[bytes | None] = self._loop.create_future()
        self._logged_in = False
        self._ended = asyncio.Event()
        self._goodbye: int | None = None
        self._max_packet: int | None = None
        self._token = 0
        self._pending: dict[int, _Pending] = {}
        self._progress = 0.0
        self._queue = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._news: deque[tuple[Callable[[Any, Any], None], Any, Any]] = deque()
        self._woken = False
        self._network: Network | None = None

    async def open(self, will: Message, will_properties: Properties | None) -> None:
        """Connect and log in. Raises `NotConnected` or `Forbidden`."""
        events = Events(self._answered, self._acknowledged, self._looked_up, self._dismissed, self._thread_ended)
        network = self._network = Network(self._login, will, will_properties, events, self._tell)
        network.start()
        try:
            async with asyncio.timeout(self._login.limit):
                await self._opened
        except TimeoutError:
            broker = self._login.broker
            if network.connected:
                text = f"{broker} accepts connections but does not answer MQTT. Is it the broker's port?"
            else:
                text = f"No answer from the broker {broker} in {self._login.limit:g} s."
            self._lose(Silence(text, code="B605", native="no CONNACK"))
            raise self.lost.result() from None

    async def retained(self, topic: str) -> bytes | None:
        """What the broker keeps of a topic; None if that is nothing, or we may not know. Raises `NotConnected` if it
        ends the connection over it, and TimeoutError if it does not answer. Once for a connection."""
        assert self._network is not None
        self._network.look_up(topic)
        awaited: set[asyncio.Future[Any]] = {self._found, self.lost}
        async with asyncio.timeout(LOOK_LIMIT):
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self.lost.result()
        return self._found.result()

    def publish(self, message: Message, *, retain: bool, properties: Properties | None) -> "asyncio.Future[None]":
        confirmed: asyncio.Future[None] = self._loop.create_future()
        if self._network is None or self.lost.done():
            confirmed.set_exception(self.lost.result() if self.lost.done() else self._gone())
            return confirmed
        unfit = self._unfit(message)
        if unfit is not None:
            confirmed.set_exception(unfit)
            return confirmed
        self._token += 1
        now = self._loop.time()
        takes = (len(message.topic) + len(message.body) + _OVERHEAD) / SLOWEST
        self._queue += takes
        self._pending[self._token] = _Pending(confirmed, message.topic, now, takes, self._queue)
        self._network.send(Outgoing(self._token, message, retain, properties))
        if self._watch is None:
            self._progress = now
            self._watch = self._loop.call_later(self._login.limit, self._check)
        return confirmed

    def _unfit(self, message: Message) -> PublishError | None:
        """What would make the broker, or paho, give up the whole connection."""
        topic, size = message.topic, len(message.topic) + len(message.body) + _OVERHEAD
        if self._max_packet is not None and size > self._max_packet:
            return refusals.puback_refused(0x95, broker=self._login.broker, topic=topic)
        if not topic or "+" in topic or "#" in topic or len(topic) > _TOPIC_LIMIT:
            return Rejected(f"'{topic}' cannot be a topic to publish on", code="B607")
        return None

    async def close(self) -> None:
        """Disconnect cleanly if there is something to disconnect, and end the thread."""
        try:
            if self._logged_in and not self.lost.done() and self._network is not None:
                self._network.leave()
                async with asyncio.timeout(CLOSE_LIMIT):
                    await self._ended.wait()
        except TimeoutError:
            pass  # the broker does not even take the farewell
        finally:
            self._lose(NotConnected("The connection was closed.", code="B606"))

    def _tell(self, what: Callable[[Any, Any], None], first: Any, second: Any) -> None:
        """Called in the network thread."""
        self._news.append((what, first, second))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._listen)
            except RuntimeError:  # the event loop is closed: nobody needs this connection any more
                if self._network is not None:
                    self._network.cut()

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
        self._logged_in = True
        if not self._opened.done():
            self._opened.set_result(None)

    def _looked_up(self, found: bytes | None, _: object) -> None:
        if not self._found.done():
            self._found.set_result(found)

    def _dismissed(self, code: int, _: object) -> None:
        self._goodbye = code

    def _acknowledged(self, token: int, code: int) -> None:
        pending = self._pending.pop(token, None)
        if pending is None:
            return
        self._queue -= pending.takes
        self._progress = self._loop.time()
        confirmed = pending.confirmed
        if confirmed.done():
            return
        if code < 0:
            confirmed.set_exception(self._gone())
        elif code < 0x80:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(refusals.puback_refused(code, broker=self._login.broker, topic=pending.topic))

    def _thread_ended(self, error: Exception | None, _: object) -> None:
        self._ended.set()
        login = self._login
        if error is not None and self._goodbye is None:
            self._lose(refusals.unreachable(error, broker=login.broker, ca_file=login.ca_file))
        else:
            self._lose(self._gone())

    def _gone(self) -> PublishError:
        login = self._login
        if self._goodbye is not None:
            return refusals.disconnected(self._goodbye, broker=login.broker, client_id=login.client_id)
        if not self._logged_in:
            version = "5; if not, set mqtt.protocol: 3.1.1" if login.v5 else "3.1.1"
            return Silence(
                f"{login.broker} closed the connection instead of answering. Does it speak MQTT {version}?",
                code="B606",
            )
        return Silence(f"The connection to the broker {login.broker} was lost.", code="B605")

    def _check(self) -> None:
        """The oldest unconfirmed message decides whether the broker still confirms."""
        self._watch = None
        oldest = next(iter(self._pending.values()), None)
        if oldest is None or self.lost.done():
            return
        limit = self._login.limit
        deadline = min(
            max(oldest.sent, self._progress) + limit + oldest.takes,
            oldest.sent + MISSING_LIMIT * limit + oldest.queue,
        )
        now = self._loop.time()
        if now < deadline:
            self._watch = self._loop.call_at(deadline, self._check)
            return
        waited = now - oldest.sent
        self._lose(
            Silence(
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
        if self._network is not None:
            self._network.cut()
