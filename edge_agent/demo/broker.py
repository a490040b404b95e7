"""A small MQTT broker on the loopback interface, for the demo and for fast tests only.

MQTT 5 and 3.1.1, QoS 0 and 1, retained messages, wills, wildcards, keep-alive, Receive Maximum, take-over of a
client id. Everything is in memory and there are no sessions beyond a connection. It has no access control and
binds 127.0.0.1 alone: it is no broker for a plant.
"""

import asyncio
from collections import deque
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from edge_agent.demo import packets
from edge_agent.demo.packets import Connect, Malformed, Publish, Subscription

PACKET_LIMIT = 1 << 20
"""Bytes of the largest packet."""
QUEUE_LIMIT = 20_000
"""Messages that wait for one slow subscriber; then it is disconnected."""
_TAKEN_OVER, _SHUTTING_DOWN, _KEEPALIVE, _QUOTA, _NO_QOS_2 = 0x8E, 0x8B, 0x8D, 0x97, 0x9B


class LoopbackBroker:
    """`open` it, use the port, `close` it. `receive_maximum` is granted to publishers that speak MQTT 5."""

    def __init__(self, *, receive_maximum: int = 100) -> None:
        self._receive_maximum = receive_maximum
        self._server: asyncio.Server | None = None
        self._clients: dict[str, _Client] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._retained: dict[str, Publish] = {}
        self._anonymous = count(1)

    async def open(self, port: int = 0) -> int:
        """Listen on 127.0.0.1; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def close(self) -> None:
        """Disconnect everybody. Safe twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for client in list(self._clients.values()):
            client.end(_SHUTTING_DOWN)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the peer is gone, silent, or the broker closes: there is nothing left to do here
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                kind, _, body = await packets.read_packet(reader, PACKET_LIMIT)
            if kind != packets.CONNECT:
                return
            connect = packets.read_connect(body)
        except Malformed as error:
            writer.write(packets.connack(5 if error.code != 0x84 else 4, error.code))
            return
        client = self._admit(connect, writer)
        clean = False
        try:
            clean = await self._listen(client, reader)
        except Malformed as error:
            client.end(error.code)
        except TimeoutError:
            client.end(_KEEPALIVE)
        finally:
            if self._clients.get(client.id) is client:
                del self._clients[client.id]
            if clean:
                client.will = None
            self._execute_will(client)

    def _admit(self, connect: Connect, writer: asyncio.StreamWriter) -> "_Client":
        client_id = connect.client_id or f"anonymous-{next(self._anonymous)}"
        older = self._clients.pop(client_id, None)
        if older is not None:
            older.end(_TAKEN_OVER)
            self._execute_will(older)
        window = packets.property_of(connect.properties, packets.RECEIVE_MAXIMUM) or 65_535
        client = _Client(client_id, connect, window, writer)
        self._clients[client_id] = client
        writer.write(packets.connack(connect.level, 0, self._grants(connect, client_id)))
        return client

    def _execute_will(self, client: "_Client") -> None:
        will, client.will = client.will, None
        if will is not None:
            self._distribute(Publish(will.topic, will.payload, will.qos, will.retain, 0, will.properties))

    def _grants(self, connect: Connect, client_id: str) -> bytes:
        grants = [
            (packets.SESSION_EXPIRY, 0, 4),
            (packets.RECEIVE_MAXIMUM, self._receive_maximum, 2),
            (packets.MAXIMUM_QOS, 1, 1),
            (packets.MAXIMUM_PACKET_SIZE, PACKET_LIMIT, 4),
            (packets.SUBSCRIPTION_IDS, 0, 1),
            (packets.SHARED_SUBSCRIPTIONS, 0, 1),
        ]
        granted = b"".join(bytes([kind]) + value.to_bytes(size, "big") for kind, value, size in grants)
        return granted if connect.client_id else granted + b"\x12" + packets.text(client_id)

    async def _listen(self, client: "_Client", reader: asyncio.StreamReader) -> bool:
        """Until the client goes; whether it went with a clean DISCONNECT."""
        limit = client.connect.keepalive * 1.5 or None
        level = client.connect.level
        while True:
            async with asyncio.timeout(limit):
                kind, flags, body = await packets.read_packet(reader, PACKET_LIMIT)
            if kind == packets.PUBLISH:
                self._take(client, packets.read_publish(level, flags, body))
            elif kind == packets.PUBACK:
                client.acknowledged(body.number(2))
            elif kind == packets.SUBSCRIBE:
                self._subscribe(client, *packets.read_subscribe(level, body))
            elif kind == packets.UNSUBSCRIBE:
                packet_id, filters = packets.read_unsubscribe(level, body)
                codes = [0 if client.subscriptions.pop(f, None) else 0x11 for f in filters]
                client.write(packets.suback(level, packet_id, codes, packets.UNSUBACK))
            elif kind == packets.PINGREQ:
                client.write(packets.packet(packets.PINGRESP, 0, b""))
            elif kind == packets.DISCONNECT:
                return (body.number(1) if body.left else 0) != 0x04
            else:
                raise Malformed(f"packet type {kind} is not for a broker", 0x82)

    def _take(self, client: "_Client", message: Publish) -> None:
        topic = message.topic
        if message.qos > 1:
            raise Malformed("QoS 2 is not offered", _NO_QOS_2)
        if not topic or "+" in topic or "#" in topic:
            raise Malformed(f"{topic!r} is no topic to publish on", 0x90)
        reached = self._distribute(message)
        if message.qos:
            client.write(packets.puback(client.connect.level, message.packet_id, 0 if reached else 0x10))

    def _distribute(self, message: Publish) -> int:
        """Keep it if it is retained, hand it to who wants it; to how many."""
        if message.retain:
            if message.payload:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)
        reached = 0
        for client in list(self._clients.values()):
            wanted = [s for s in client.subscriptions.values() if packets.matches(s.filter, message.topic)]
            if wanted:
                reached += 1
                best = max(wanted, key=lambda subscription: subscription.qos)
                client.deliver(message, best.qos, message.retain and best.retain_as_published)
        return reached

    def _subscribe(self, client: "_Client", packet_id: int, wanted: list[Subscription]) -> None:
        codes: list[int] = []
        fresh: list[Subscription] = []
        for subscription in wanted:
            if not packets.valid_filter(subscription.filter) or subscription.filter.startswith("$share/"):
                codes.append(0x8F if client.connect.level == 5 else 0x80)
                continue
            granted = subscription._replace(qos=min(subscription.qos, 1))
            known = client.subscriptions.get(granted.filter) is not None
            client.subscriptions[granted.filter] = granted
            codes.append(granted.qos)
            if granted.retain_handling == 0 or (granted.retain_handling == 1 and not known):
                fresh.append(granted)
        client.write(packets.suback(client.connect.level, packet_id, codes))
        for subscription in fresh:
            for topic, message in self._retained.items():
                if packets.matches(subscription.filter, topic):
                    client.deliver(message, subscription.qos, True)


class _Waiting(NamedTuple):
    message: Publish
    retain: bool


class _Client:
    """One connected client: what it wants and what is on its way to it."""

    def __init__(self, id: str, connect: Connect, window: int, writer: asyncio.StreamWriter) -> None:
        self.id = id
        self.connect = connect
        self.will = connect.will
        self.subscriptions: dict[str, Subscription] = {}
        self._window = window
        self._writer = writer
        self._in_flight: set[int] = set()
        self._waiting: deque[_Waiting] = deque()
        self._last_id = 0

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def deliver(self, message: Publish, qos: int, retain: bool) -> None:
        if min(qos, message.qos) == 0:
            self.write(packets.publish(self.connect.level, message._replace(qos=0, retain=retain)))
            return
        self._waiting.append(_Waiting(message, retain))
        self._send_waiting()
        if len(self._waiting) > QUEUE_LIMIT:
            self.end(_QUOTA)

    def acknowledged(self, packet_id: int) -> None:
        self._in_flight.discard(packet_id)
        self._send_waiting()

    def end(self, code: int) -> None:
        """Disconnect it, with the reason on MQTT 5."""
        if self.connect.level == 5:
            self.write(packets.disconnect(code))
        with suppress(OSError):
            self._writer.close()

    def _send_waiting(self) -> None:
        while self._waiting and len(self._in_flight) < self._window:
            message, retain = self._waiting.popleft()
            packet_id = self._next_id()
            self._in_flight.add(packet_id)
            self.write(
                packets.publish(self.connect.level, message._replace(qos=1, retain=retain, packet_id=packet_id))
            )

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self._in_flight:
                return self._last_id
