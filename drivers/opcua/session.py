"""One session with one server, on top of asyncua's client: the requests the driver needs, each with a time limit.

Of asyncua's client the handshake is used and none of its background tasks: no watchdog, no reconnect, no publish
loop. The channel is renewed by the one who reads (`renew`). The transport reads whole chunks only and refuses one
that is larger than agreed, before it is received.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.crypto import security_policies
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.binary import Malformed

_CHUNK = 65_535
"""Largest chunk, in bytes, that is accepted and sent."""
_CONDITION_TYPE, _CONDITION_REFRESH = 2782, 3875
_MESSAGE = 16 << 20
"""Largest message, in bytes, that is accepted: 500,000 plain values."""
_CHANNEL = 3_600_000
"""Milliseconds that a channel's keys are asked to hold."""

POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
}


def node_id(identifier: int | str | bytes | UUID, namespace: int) -> ua.NodeId:
    return ua.NodeId(identifier, namespace)  # type: ignore[arg-type]  # asyncua's integers and texts are NewTypes


class _Protocol(UASocketProtocol):
    """asyncua's transport behind a gate that lets whole chunks of an agreed size through."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gate = bytearray()

    async def send_hello(self, url: str, max_messagesize: int = 0, max_chunkcount: int = 0) -> ua.Acknowledge:
        hello = ua.Hello(
            ReceiveBufferSize=_CHUNK,  # type: ignore[arg-type]  # asyncua's integers are NewTypes
            SendBufferSize=_CHUNK,  # type: ignore[arg-type]
            MaxMessageSize=_MESSAGE,  # type: ignore[arg-type]
            MaxChunkCount=_MESSAGE // 4096,  # type: ignore[arg-type]
            EndpointUrl=url,  # type: ignore[arg-type]
        )
        answer: asyncio.Future[ua.Acknowledge] = asyncio.get_running_loop().create_future()
        self._callbackmap[0] = answer
        if self.transport is None:
            raise ConnectionError("Connection is not open")
        self.transport.write(uatcp_to_binary(ua.MessageType.Hello, hello))  # type: ignore[arg-type]  # it is bytes
        async with asyncio.timeout(self.timeout):
            acknowledge = await answer
        limits = self._connection._limits
        limits.max_recv_buffer = _CHUNK  # asyncua takes the server's receive size for ours
        limits.max_send_buffer = min(_CHUNK, acknowledge.ReceiveBufferSize)
        limits.max_message_size, limits.max_chunk_count = _MESSAGE, 0  # asyncua adds the chunks of a message up
        return acknowledge

    def data_received(self, data: bytes) -> None:
        gate = self._gate
        gate += data
        while len(gate) >= 8:
            size = int.from_bytes(gate[4:8], "little")
            if not 8 <= size <= _CHUNK:
                self._fail_all_pending(Malformed(f"a chunk of {size} bytes, {_CHUNK} were agreed"))
                self.disconnect_socket()
                gate.clear()
                return
            if len(gate) < size:
                return
            chunk = bytes(gate[:size])
            del gate[:size]
            super().data_received(chunk)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)


class _UaClient(UaClient):
    def _make_protocol(self) -> UASocketProtocol:
        self.protocol = _Protocol(self._timeout, security_policy=self.security_policy)
        self.protocol.on_connection_lost = self._on_transport_lost
        self.protocol.is_session_closing = self._is_session_closing
        return self.protocol


class Session:
    """Opens nothing until `open`. Requests raise what asyncua raises; see `failures`."""

    def __init__(self, address: str, name: str, timeout: int, idle: int) -> None:
        """`timeout`: µs for one answer. `idle`: µs after which the server may end a silent session."""
        self._timeout = timeout / 1e6
        self.renew_at = math.inf
        self._client = Client(address, timeout=self._timeout)
        self._client.uaclient = _UaClient(self._timeout)
        self._client.name = self._client.description = f"edge-agent {name}"
        self._client.product_uri = "urn:edge-agent"
        self._client.application_uri = "urn:edge-agent"
        self._client.session_timeout = idle // 1000
        self._client.secure_channel_timeout = _CHANNEL

    async def endpoints(self) -> list[ua.EndpointDescription]:
        """What the server offers, over a channel without security. For a Session object of its own: asyncua's
        client is not to be used twice."""
        await self._client.connect_sessionless()
        return await self._client.get_endpoints()

    async def servers(self) -> list[ua.ApplicationDescription]:
        """The servers that it knows of, itself among them; after `endpoints`."""
        return await self._client.find_servers()

    def protect(self, policy: security_policies.SecurityPolicy, application_uri: str) -> None:
        """Use the policy, made with both certificates, from `open` on."""
        self._client.application_uri = application_uri
        self._client.security_policy = policy  # type: ignore[assignment]  # asyncua infers the type of the default
        self._client.uaclient.set_security(policy)

    def identify(self, username: str, password: str | None) -> None:
        self._client.set_user(username)
        if password is not None:
            self._client.set_password(password)

    def identify_by(self, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        """A user who proves to hold the certificate's key."""
        self._client.user_certificate = certificate
        self._client.user_private_key = key

    async def open(self) -> None:
        client = self._client
        await client.connect_sessionless()
        await client.create_session()
        await client.activate_session(client._username, client._password, client.user_certificate)
        self.renew_at = self._now() + self._renew_after

    @property
    def _renew_after(self) -> float:
        """Seconds: 75 % of what the server granted."""
        return self._client.secure_channel_timeout * 0.75 / 1000

    async def upkeep(self) -> None:
        """New keys for the channel when it is time, `renew_at` on the loop's clock."""
        if self._now() >= self.renew_at:
            await self._client.open_secure_channel(renew=True)
            self._client.uaclient.revolve_security_token()
            self.renew_at = self._now() + self._renew_after

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def read(self, identifiers: Sequence[int]) -> list[Any]:
        """Values of nodes of namespace 0; None where there is none."""
        nodes = [node_id(identifier, 0) for identifier in identifiers]
        found = await self._client.uaclient.read_attributes(nodes, AttributeIds.Value)
        return [value.Value.Value if value.Value is not None else None for value in found]

    async def attribute(self, node: ua.NodeId, attribute: AttributeIds) -> Any:
        """One attribute of a node; None where there is none."""
        (found,) = await self._client.uaclient.read_attributes([node], attribute)
        return (
            found.Value.Value if found.Value is not None and found.StatusCode and found.StatusCode.is_good() else None
        )

    async def values(self, wanted: Sequence[tuple[ua.NodeId, str | None]]) -> bytes:
        """The body of a ReadResponse with the values and source times of nodes, each as a whole or a range of its
        elements."""
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value, IndexRange=elements)
            for node, elements in wanted
        ]
        return bytes(await self._transport().send_request(request))

    async def write(self, node: ua.NodeId, value: int, kind: int) -> int:
        """Set a node's value, of a built-in type; the status code. Nothing else of this driver writes values."""
        data = ua.DataValue(ua.Variant(value, ua.VariantType(kind)))
        (found,) = await self._client.uaclient.write_attributes([node], [data], AttributeIds.Value)
        return int(found.value)

    async def browse(
        self, node: ua.NodeId, reference: ua.NodeId, *, forward: bool = True, most: int = 0
    ) -> list[ua.ReferenceDescription]:
        """What the references of a type lead to; `most` of them, 0 for all."""
        wanted = ua.BrowseDescription()
        wanted.NodeId, wanted.ReferenceTypeId = node, reference
        wanted.BrowseDirection = ua.BrowseDirection.Forward if forward else ua.BrowseDirection.Inverse
        wanted.IncludeSubtypes = True
        wanted.NodeClassMask = ua.NodeClass.Unspecified
        wanted.ResultMask = ua.BrowseResultMask.BrowseName | ua.BrowseResultMask.NodeClass
        parameters = ua.BrowseParameters()
        parameters.NodesToBrowse = [wanted]
        parameters.RequestedMaxReferencesPerNode = most
        (found,) = await self._client.uaclient.browse(parameters)
        found.StatusCode.check()
        references = list(found.References or ())
        while found.ContinuationPoint and not most:
            rest = ua.BrowseNextParameters(ContinuationPoints=[found.ContinuationPoint])
            (found,) = await self._client.uaclient.browse_next(rest)
            references += found.References or ()
        return references

    async def history(self, nodes: Sequence[ua.NodeId], start: datetime, end: datetime, most: int) -> bytes:
        """The body of a HistoryReadResponse: raw values between two times, oldest first, at most so many a node."""
        details = ua.ReadRawModifiedDetails()
        details.IsReadModified = details.ReturnBounds = False
        details.StartTime, details.EndTime, details.NumValuesPerNode = start, end, most
        wanted = ua.HistoryReadParameters()
        wanted.HistoryReadDetails = details
        wanted.TimestampsToReturn = ua.TimestampsToReturn.Source
        wanted.ReleaseContinuationPoints = False
        wanted.NodesToRead = [ua.HistoryReadValueId(NodeId=node) for node in nodes]
        return bytes(await self._transport().send_request(ua.HistoryReadRequest(Parameters=wanted)))

    async def release(self, points: Sequence[tuple[ua.NodeId, bytes]]) -> None:
        """The server may forget where it stopped to give values of these nodes."""
        wanted = ua.HistoryReadParameters()
        wanted.HistoryReadDetails = ua.ReadRawModifiedDetails()
        wanted.ReleaseContinuationPoints = True
        wanted.NodesToRead = [ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point) for node, point in points]
        await self._transport().send_request(ua.HistoryReadRequest(Parameters=wanted))

    async def refresh_conditions(self, subscription: int) -> None:
        """Have all conditions told to the subscription; a server without the method has none."""
        call = ua.CallMethodRequest()
        call.ObjectId, call.MethodId = node_id(_CONDITION_TYPE, 0), node_id(_CONDITION_REFRESH, 0)
        call.InputArguments = [ua.Variant(subscription, ua.VariantType.UInt32)]
        with suppress(UaStatusCodeError):
            await self._client.uaclient.call([call])

    async def republish(self, subscription: int, sequence: int) -> bytes:
        """The body of a RepublishResponse: a notification that was sent before and never came."""
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.RetransmitSequenceNumber = sequence
        return bytes(await self._transport().send_request(request))

    async def subscribe(self, parameters: ua.CreateSubscriptionParameters) -> ua.CreateSubscriptionResult:
        request = ua.CreateSubscriptionRequest()
        request.Parameters = parameters
        response = await self._request(request, ua.CreateSubscriptionResponse)
        result: ua.CreateSubscriptionResult = response.Parameters
        return result

    async def modify(self, parameters: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        return await self._client.uaclient.update_subscription(parameters)

    async def monitor(self, parameters: ua.CreateMonitoredItemsParameters) -> list[ua.MonitoredItemCreateResult]:
        return await self._client.uaclient.create_monitored_items(parameters)

    async def unmonitor(self, parameters: ua.DeleteMonitoredItemsParameters) -> None:
        await self._client.uaclient.delete_monitored_items(parameters)

    async def publish(self, acknowledged: ua.SubscriptionAcknowledgement | None) -> bytes:
        """One publish request; the body of its answer, whenever that comes. No time limit: watch the clock."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [] if acknowledged is None else [acknowledged]
        return bytes(await self._transport().send_request(request, timeout=0))

    async def close(self) -> None:
        """End the session and the connection, politely within the time-out and otherwise without a word."""
        try:
            with suppress(Exception):  # whatever is wrong, the connection ends below
                async with asyncio.timeout(self._timeout):
                    await self._client.uaclient.close_session(True)
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        protocol = self._client.uaclient.protocol
        transport = None if protocol is None else protocol.transport
        if protocol is None or transport is None:
            return
        assert isinstance(protocol, _Protocol)
        with suppress(Exception):  # a courtesy; the socket is closed below
            await protocol.close_secure_channel()
        transport.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await asyncio.shield(protocol.closed)
        finally:
            transport.abort()

    async def _request(self, request: Any, answer: type[Any]) -> Any:
        data = await self._transport().send_request(request)
        response = struct_from_binary(answer, data)
        response.ResponseHeader.ServiceResult.check()
        return response

    def _transport(self) -> UASocketProtocol:
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("Connection is not open")
        return protocol
