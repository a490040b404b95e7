"""MQTT control packets as the loopback broker reads and writes them; versions 5 (level 5) and 3.1.1 (level 4).

Properties are kept as the bytes they came in, because a broker hands them on unchanged; the few that it must
understand are picked out by `property_of`.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, TOPIC_ALIAS = 0x21, 0x27, 0x23
MAXIMUM_QOS, RETAIN_AVAILABLE = 0x24, 0x25
SESSION_EXPIRY, SUBSCRIPTION_IDS, SHARED_SUBSCRIPTIONS = 0x11, 0x29, 0x2A
_SIZES = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
_TEXTS = {0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F}
_TEXT_PAIR, _VARINT = 0x26, 0x0B


class Malformed(Exception):
    """The peer does not speak MQTT; `code` is the MQTT 5 reason."""

    def __init__(self, message: str, code: int = 0x81) -> None:
        super().__init__(message)
        self.code = code


class Cursor:
    """Reads a packet's body from front to back. Raises `Malformed` where it ends early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise Malformed("a packet ends early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError:
            raise Malformed("a text is not UTF-8") from None

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("a length has more than four bytes")

    def properties(self) -> bytes:
        """The properties without their length."""
        return self.take(self.varint())

    def rest(self) -> bytes:
        return self.take(self.left)


class Will(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes


class Connect(NamedTuple):
    level: int
    client_id: str
    clean: bool
    keepalive: int
    username: str | None
    password: bytes | None
    will: Will | None
    properties: bytes


class Publish(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    properties: bytes


class Subscription(NamedTuple):
    filter: str
    qos: int
    retain_as_published: bool
    retain_handling: int


async def read_packet(reader: asyncio.StreamReader, limit: int) -> tuple[int, int, Cursor]:
    """(type, flags, body). Raises `Malformed`, or IncompleteReadError at the end of the stream."""
    first = (await reader.readexactly(1))[0]
    size = 0
    for shift in (0, 7, 14, 21):
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise Malformed("a length has more than four bytes")
    if size > limit:
        raise Malformed(f"a packet of {size} bytes is too large", 0x95)
    return first >> 4, first & 0x0F, Cursor(await reader.readexactly(size))


def read_connect(body: Cursor) -> Connect:
    if body.text() != "MQTT":
        raise Malformed("not MQTT", 0x84)
    level, flags, keepalive = body.number(1), body.number(1), body.number(2)
    if level not in (4, 5):
        raise Malformed(f"protocol level {level} is not spoken here", 0x84)
    properties = body.properties() if level == 5 else b""
    client_id = body.text()
    will = None
    if flags & 0x04:
        will_properties = body.properties() if level == 5 else b""
        will = Will(body.text(), body.binary(), flags >> 3 & 3, bool(flags & 0x20), will_properties)
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    return Connect(level, client_id, bool(flags & 0x02), keepalive, username, password, will, properties)


def read_publish(level: int, flags: int, body: Cursor) -> Publish:
    qos = flags >> 1 & 3
    topic = body.text()
    packet_id = body.number(2) if qos else 0
    properties = body.properties() if level == 5 else b""
    return Publish(topic, body.rest(), qos, bool(flags & 1), packet_id, properties)


def read_subscribe(level: int, body: Cursor) -> tuple[int, list[Subscription]]:
    packet_id = body.number(2)
    if level == 5:
        body.properties()
    wanted = []
    while body.left:
        topic_filter, options = body.text(), body.number(1)
        wanted.append(Subscription(topic_filter, options & 3, bool(options & 8), options >> 4 & 3))
    return packet_id, wanted


def read_unsubscribe(level: int, body: Cursor) -> tuple[int, list[str]]:
    packet_id = body.number(2)
    if level == 5:
        body.properties()
    filters = []
    while body.left:
        filters.append(body.text())
    return packet_id, filters


def connack(level: int, code: int, properties: bytes = b"") -> bytes:
    """`code` is the MQTT 5 reason; 3.1.1 has five of its own."""
    if level == 5:
        return packet(CONNACK, 0, bytes([0, code]) + varint(len(properties)) + properties)
    return packet(CONNACK, 0, bytes([0, {0: 0, 0x84: 1, 0x85: 2, 0x88: 3, 0x86: 4}.get(code, 5)]))


def publish(level: int, message: Publish) -> bytes:
    body = text(message.topic)
    if message.qos:
        body += message.packet_id.to_bytes(2, "big")
    if level == 5:
        body += varint(len(message.properties)) + message.properties
    return packet(PUBLISH, message.qos << 1 | message.retain, body + message.payload)


def puback(level: int, packet_id: int, code: int = 0) -> bytes:
    return packet(PUBACK, 0, packet_id.to_bytes(2, "big") + (bytes([code]) if level == 5 and code else b""))


def suback(level: int, packet_id: int, codes: Sequence[int], kind: int = SUBACK) -> bytes:
    """Also UNSUBACK, which has no codes on 3.1.1."""
    body = packet_id.to_bytes(2, "big") + (b"\x00" if level == 5 else b"")
    return packet(kind, 0, body + (b"" if kind == UNSUBACK and level == 4 else bytes(codes)))


def disconnect(code: int) -> bytes:
    """Only MQTT 5 servers may say why."""
    return packet(DISCONNECT, 0, bytes([code]))


def packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def property_of(properties: bytes, wanted: int) -> int | None:
    """The value of a numeric property, or None. Raises `Malformed`."""
    cursor = Cursor(properties)
    while cursor.left:
        kind = cursor.number(1)
        if kind in _SIZES:
            value = cursor.number(_SIZES[kind])
            if kind == wanted:
                return value
        elif kind in _TEXTS:
            cursor.binary()
        elif kind == _TEXT_PAIR:
            cursor.binary()
            cursor.binary()
        elif kind == _VARINT:
            cursor.varint()
        else:
            raise Malformed(f"property {kind} is unknown")
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic is in a filter with `+` and `#`; `$…` topics are not in a filter that begins with either."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


def valid_filter(topic_filter: str) -> bool:
    levels = topic_filter.split("/")
    return (
        bool(topic_filter)
        and all(level in ("+", "#") or not ("+" in level or "#" in level) for level in levels)
        and "#" not in levels[:-1]
    )
