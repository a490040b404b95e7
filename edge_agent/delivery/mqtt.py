"""The publisher for MQTT 5 and 3.1.1: QoS 1, clean start, session expiry 0, a new connection each time.

The database is the session: the broker keeps nothing for us but retained messages, and paho queues nothing,
because nothing is published while disconnected and never more than the window. On MQTT 5 a message carries its
content type and the user properties `published` (when this copy was sent) and `replay` (it was waiting when the
connection was made).

MQTT 3.1.1 has no word for a refused message: a broker that does not allow a topic confirms and drops, or closes.
Use it only where the broker knows nothing better.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from paho.mqtt.properties import Properties

from buffer.outbox import Message
from config.model import Mqtt
from edge_agent.clock import Clock
from edge_agent.delivery.connection import Connection
from edge_agent.delivery.login import Login, login
from edge_agent.delivery.network import Packed
from edge_agent.delivery.publisher import NotConnected, PublishError
from edge_agent.events.codec import stamp

CLOUD_EVENT = b"application/cloudevents+json; charset=utf-8"
PLAIN = b"application/json"

QUESTIONS = 2
"""A broker that ends the connection over the question what it keeps is asked so often."""


class MqttPublisher:
    """Fulfils `Publisher`. `password` is the resolved secret, `home` the folder relative file names start from."""

    def __init__(
        self,
        options: Mqtt,
        *,
        client_id: str,
        password: str | None,
        clock: Clock,
        home: Path = Path(),
        on_former: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        """`on_former` is given what the broker keeps in the place of the birth before that replaces it; what it
        raises ends `connect`."""
        self._options = options
        self._client_id = client_id
        self._password = password
        self._clock = clock
        self._home = home
        self._on_former = on_former
        self._questions = QUESTIONS
        self._v5 = options.protocol == "5"
        self._connection: Connection | None = None
        self._lost: asyncio.Future[PublishError] | None = None
        self._packed: dict[tuple[bool, bool], Packed] = {}
        self._packed_at = ""

    @property
    def window(self) -> int:
        return self._connection.window if self._connection is not None else self._options.window

    @property
    def lost(self) -> "asyncio.Future[PublishError]":
        if self._lost is None:
            raise RuntimeError("lost is known after the first connect")
        return self._lost

    async def connect(self, will: Message, birth: Message) -> None:
        await self.close()
        connection = Connection(self._login(), self._options.window)
        self._connection, self._lost = connection, connection.lost
        try:
            await connection.open(will, self._will_properties())
            await self._compare(connection, birth.topic)
            await self.publish(birth, retain=True)
        except PublishError as error:
            await self.close()
            if isinstance(error, NotConnected) or error.code in ("B601", "B603"):
                raise
            raise NotConnected(f"The broker does not take the birth message: {error}", code=error.code) from error
        except BaseException:
            await self.close()
            raise

    async def _compare(self, connection: Connection, topic: str) -> None:
        """The first connections only: later the birth that is there may be that of a twin with our name, and each
        would begin a new epoch because of the other."""
        if self._on_former is None or self._questions == 0:
            return
        self._questions -= 1
        try:
            former = await connection.retained(topic)
        except TimeoutError:
            return
        self._questions = 0
        if former is not None:
            await self._on_former(former)

    def publish(self, message: Message, *, retain: bool = False, replay: bool = False) -> "asyncio.Future[None]":
        if self._connection is None:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(NotConnected("There is no connection to the broker.", code="B605"))
            return refused
        properties = self._properties(plain=message.seq == 0, replay=replay) if self._v5 else None
        return self._connection.publish(message, retain=retain, properties=properties)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _login(self) -> Login:
        return login(self._options, client_id=self._client_id, password=self._password, home=self._home)

    def _will_properties(self) -> Properties | None:
        return Packed(pack([content_type(PLAIN)])) if self._v5 else None

    def _properties(self, *, plain: bool, replay: bool) -> Packed:
        """Packed once per millisecond and kind; most of a burst shares one."""
        now = stamp(self._clock.now().wall)
        if now != self._packed_at:
            self._packed_at = now
            self._packed.clear()
        packed = self._packed.get((plain, replay))
        if packed is None:
            packed = self._packed[plain, replay] = Packed(
                pack(
                    [
                        content_type(PLAIN if plain else CLOUD_EVENT),
                        user_property(b"published", now.encode()),
                        user_property(b"replay", b"true" if replay else b"false"),
                    ]
                )
            )
        return packed


def pack(properties: list[bytes]) -> bytes:
    """Property length and properties, as they stand in a PUBLISH; shorter than 16 KiB."""
    body = b"\x01\x01" + b"".join(properties)  # payload format: UTF-8
    low, high = len(body) & 0x7F, len(body) >> 7
    return (bytes([low | 0x80, high]) if high else bytes([low])) + body


def content_type(value: bytes) -> bytes:
    return b"\x03" + _text(value)


def user_property(name: bytes, value: bytes) -> bytes:
    return b"\x26" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value
