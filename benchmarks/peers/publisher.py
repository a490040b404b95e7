"""An OPC UA server that speaks the handshake and then sends notifications that were encoded before.

python publisher.py PERIOD_MS COPIES   prints {"port": N}. Every monitored item changes COPIES times per period; a
period's changes are one notification. A line on stdin is answered by
{"due": values that were due since the session's first publish request, "sent": values sent,
 "confirmed": values acknowledged by the client, "late": periods that had to wait for a publish request}.

The cost per value here is a few strided copies, so that this is not the limit. Only one session, without security.
"""

import asyncio
import json
import logging
import struct
import sys
import time
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.ua.ua_binary import (
    header_from_binary,
    nodeid_from_binary,
    struct_from_binary,
    struct_to_binary,
    uatcp_to_binary,
)

NAMESPACE = "urn:acme:bench"
_ITEM = struct.Struct("<IBBdq")  # handle, what follows, Double, value, source time
_CHUNK = 60_000
_EPOCH = 116_444_736_000_000_000
_BEHIND = 50
"""Periods that may wait; more are not made up for."""


class Notification:
    """The items of one period, patched in place: other values, times of now."""

    def __init__(self, handles: list[int], copies: int) -> None:
        items = [_ITEM.pack(handle, 0x05, 11, 1.0 + n, 0) for n in range(copies) for handle in handles]
        self.count = len(items)
        self._items = bytearray(b"".join(items))
        self._turn = 0

    def body(self, subscription: int, sequence: int, handle: int) -> bytes:
        """A PublishResponse."""
        self._turn = self._turn % 255 + 1
        size, at = _ITEM.size, time.time_ns() // 100 + _EPOCH
        self._items[6 + 5 :: size] = bytes([self._turn]) * self.count
        for place, byte in enumerate(at.to_bytes(8, "little")):
            self._items[14 + place :: size] = bytes([byte]) * self.count
        data = struct.pack("<i", self.count) + bytes(self._items) + struct.pack("<i", -1)
        return b"".join(
            (
                _head(829, handle),
                struct.pack("<I", subscription),
                struct.pack("<iI", 1, sequence),
                struct.pack("<?Iqi", False, sequence, at, 1),
                b"\x01\x00" + struct.pack("<H", 811) + b"\x01" + struct.pack("<i", len(data)) + data,
                struct.pack("<ii", -1, -1),
            )
        )


def _head(kind: int, handle: int) -> bytes:
    stamp = time.time_ns() // 100 + _EPOCH
    return b"\x01\x00" + struct.pack("<HqIIBi", kind, stamp, handle, 0, 0, 0) + b"\x00\x00\x00"


class Publisher(asyncio.Protocol):
    def __init__(self, shared: "Shared") -> None:
        self._shared = shared
        self._received = b""
        self._limits = TransportLimits(65535, 65535)
        self._connection = SecureConnection(SecurityPolicyNone(), self._limits)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.leave(self)

    def get_new_channel_id(self) -> int:
        return 7

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= 8:
            size = int.from_bytes(self._received[4:8], "little")
            if len(self._received) < size:
                return
            message, self._received = self._received[:size], self._received[size:]
            buffer = Buffer(message)
            header = header_from_binary(buffer)
            self._take(header, self._connection.receive_from_header_and_body(header, buffer))

    def _take(self, header: Any, message: Any) -> None:
        if isinstance(message, ua.Hello):
            answer = self._limits.create_acknowledge_and_set_limits(message)
            self._transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, answer))
        elif header.MessageType == ua.MessageType.SecureOpen:
            request = struct_from_binary(ua.OpenSecureChannelRequest, message.body())
            answer = ua.OpenSecureChannelResponse()
            answer.Parameters = self._connection.open(request.Parameters, self)
            self._send(answer, request.RequestHeader, message.SequenceHeader(), ua.MessageType.SecureOpen)
        elif header.MessageType == ua.MessageType.SecureMessage and message is not None:
            body = message.body()
            kind = nodeid_from_binary(body).Identifier
            head = struct_from_binary(ua.RequestHeader, body)
            self._serve(kind, head, body, message.SequenceHeader())

    def _send(self, answer: Any, head: Any, sequence: Any, kind: Any = ua.MessageType.SecureMessage) -> None:
        answer.ResponseHeader.RequestHandle = head.RequestHandle
        data = self._connection.message_to_binary(struct_to_binary(answer), kind, sequence.RequestId)
        self._transport.write(data)

    def _serve(self, kind: int, head: Any, body: Any, sequence: Any) -> None:
        if kind == ua.ObjectIds.PublishRequest_Encoding_DefaultBinary:
            parameters = struct_from_binary(ua.PublishParameters, body)
            for one in parameters.SubscriptionAcknowledgements or ():
                self._shared.acknowledged(one.SequenceNumber)
            self._shared.wanted(self, head.RequestHandle, sequence.RequestId)
            return
        answer = _ANSWERS[kind](self._shared, body)
        self._send(answer, head, sequence)

    def publish(self, body: bytes, request: int) -> None:
        for start in range(0, len(body), _CHUNK):
            part = body[start : start + _CHUNK]
            self._connection._sequence_number += 1
            last = b"F" if start + _CHUNK >= len(body) else b"C"
            head = struct.pack("<IIIII", 24 + len(part), 7, 13, self._connection._sequence_number, request)
            self._transport.write(b"MSG" + last + head + part)


class Shared:
    """The one subscription."""

    def __init__(self, period: float, copies: int) -> None:
        self.period, self.copies = period, copies
        self.handles: list[int] = []
        self.due = self.sent = self.confirmed = self.late = 0
        self._notification: Notification | None = None
        self._waiting: tuple[Publisher, int, int] | None = None
        self._sequence = 0
        self._owed = 0
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def leave(self, _: Publisher) -> None:
        self._waiting = None
        self.handles = []
        self._sequence = self._owed = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wanted(self, client: Publisher, handle: int, request: int) -> None:
        self._waiting = client, handle, request
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._notification = Notification(self.handles, self.copies)
            self._next = loop.time() + self.period
            self._timer = loop.call_at(self._next, self._tick)
        elif self._owed:
            self._publish()

    def acknowledged(self, _: int) -> None:
        assert self._notification is not None
        self.confirmed += self._notification.count

    def _tick(self) -> None:
        assert self._notification is not None
        self._next += self.period
        self._timer = asyncio.get_running_loop().call_at(self._next, self._tick)
        self.due += self._notification.count
        self._owed = min(self._owed + 1, _BEHIND)
        if self._waiting is None:
            self.late += 1
        else:
            self._publish()

    def _publish(self) -> None:
        assert self._waiting is not None
        assert self._notification is not None
        (client, handle, request), self._waiting = self._waiting, None
        self._owed -= 1
        self._sequence += 1
        self.sent += self._notification.count
        client.publish(self._notification.body(1, self._sequence, handle), request)


def _endpoint() -> ua.EndpointDescription:
    end = ua.EndpointDescription()
    end.EndpointUrl = "opc.tcp://127.0.0.1"
    end.SecurityMode = ua.MessageSecurityMode.None_
    end.SecurityPolicyUri = SecurityPolicyNone.URI
    token = ua.UserTokenPolicy()
    token.PolicyId, token.TokenType = "anonymous", ua.UserTokenType.Anonymous
    end.UserIdentityTokens = [token]
    return end


def _session(_: Shared, __: Any) -> Any:
    answer = ua.CreateSessionResponse()
    found = answer.Parameters
    found.SessionId, found.AuthenticationToken = ua.NodeId(1, 1), ua.NodeId(2, 1)
    found.RevisedSessionTimeout = 60_000.0
    found.ServerNonce, found.ServerEndpoints = bytes(32), [_endpoint()]
    return answer


def _activate(_: Shared, __: Any) -> Any:
    answer = ua.ActivateSessionResponse()
    answer.Parameters.ServerNonce = bytes(32)
    return answer


def _endpoints(_: Shared, __: Any) -> Any:
    answer = ua.GetEndpointsResponse()
    answer.Endpoints = [_endpoint()]
    return answer


def _read(_: Shared, body: Any) -> Any:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    known = {2255: [SecurityPolicyNone.URI, NAMESPACE], 2257: started, 2259: 0}
    answer = ua.ReadResponse()
    wanted = struct_from_binary(ua.ReadParameters, body).NodesToRead
    answer.Results = [ua.DataValue(ua.Variant(known.get(one.NodeId.Identifier))) for one in wanted]
    return answer


def _subscribe(shared: Shared, body: Any) -> Any:
    wanted = struct_from_binary(ua.CreateSubscriptionParameters, body)
    answer = ua.CreateSubscriptionResponse()
    found = answer.Parameters
    found.SubscriptionId, found.RevisedPublishingInterval = 1, shared.period * 1000
    found.RevisedLifetimeCount = wanted.RequestedLifetimeCount
    found.RevisedMaxKeepAliveCount = wanted.RequestedMaxKeepAliveCount
    return answer


def _modify(_: Shared, body: Any) -> Any:
    wanted = struct_from_binary(ua.ModifySubscriptionParameters, body)
    answer = ua.ModifySubscriptionResponse()
    found = answer.Parameters
    found.RevisedPublishingInterval = wanted.RequestedPublishingInterval
    found.RevisedLifetimeCount = wanted.RequestedLifetimeCount
    found.RevisedMaxKeepAliveCount = wanted.RequestedMaxKeepAliveCount
    return answer


def _monitor(shared: Shared, body: Any) -> Any:
    answer = ua.CreateMonitoredItemsResponse()
    for item in struct_from_binary(ua.CreateMonitoredItemsParameters, body).ItemsToCreate:
        if item.ItemToMonitor.NodeId.NamespaceIndex:
            shared.handles.append(item.RequestedParameters.ClientHandle)
        result = ua.MonitoredItemCreateResult()
        result.MonitoredItemId = len(shared.handles)
        answer.Results.append(result)
    return answer


_ANSWERS = {
    ua.ObjectIds.GetEndpointsRequest_Encoding_DefaultBinary: _endpoints,
    ua.ObjectIds.CreateSessionRequest_Encoding_DefaultBinary: _session,
    ua.ObjectIds.ActivateSessionRequest_Encoding_DefaultBinary: _activate,
    ua.ObjectIds.ReadRequest_Encoding_DefaultBinary: _read,
    ua.ObjectIds.CreateSubscriptionRequest_Encoding_DefaultBinary: _subscribe,
    ua.ObjectIds.ModifySubscriptionRequest_Encoding_DefaultBinary: _modify,
    ua.ObjectIds.CreateMonitoredItemsRequest_Encoding_DefaultBinary: _monitor,
    ua.ObjectIds.CloseSessionRequest_Encoding_DefaultBinary: lambda _, __: ua.CloseSessionResponse(),
    ua.ObjectIds.DeleteSubscriptionsRequest_Encoding_DefaultBinary: lambda _, __: ua.DeleteSubscriptionsResponse(),
}


async def main() -> None:
    logging.disable(logging.CRITICAL)
    shared = Shared(float(sys.argv[1]) / 1000, int(sys.argv[2]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Publisher(shared), "127.0.0.1", 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        _say({"due": shared.due, "sent": shared.sent, "confirmed": shared.confirmed, "late": shared.late})


def _say(message: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
