"""What a stranger at an address offers as an OPC UA server: endpoints, security, certificates, logins, its state.

Servers often announce a host name that only they know. The address typed is proven to work, so endpoints are told
with it; the announced one stands beside where it differs, and nothing is ever connected to by it.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asyncua import ua
from cryptography import x509

from drivers.errors import DriverError
from drivers.looking import Answered, Asking
from drivers.opcua import security
from drivers.opcua.failures import Failures
from drivers.opcua.options import OpcuaDevice, with_port
from drivers.opcua.session import POLICIES, Session

_STATE, _START_TIME, _NOW, _NAMESPACES = 2259, 2257, 2258, 2255
_PRODUCT, _MAKER, _VERSION = 2261, 2263, 2264
_HELLO = struct.Struct("<4sI5II")
_ANSWERS = (b"ACK", b"ERR")
_IDLE = 60_000_000


async def discover(url: str, asking: Asking) -> Answered | None:
    """See `drivers.looking.Discoverer`."""
    OpcuaDevice.model_validate({"driver": "opcua", "url": url, "tags": {}}, context={"base_dir": Path()})
    address = with_port(url)
    failures = Failures(address, address, round(asking.limit * 1e6), None)
    with failures.translated():
        if not await _greets(address, asking.limit):
            return None
        asking.told(f"{address} endpoints")
        offered, servers = await _offers(address, asking.limit)
        asking.told(f"{address} state")
        status = await _status(address, asking.limit, offered, failures)
    return Answered(
        "opcua",
        {
            "url": address,
            "application": _application(offered),
            **status,
            "endpoints": [_endpoint(end, address) for end in offered],
            "certificates": _certificates(offered, urlsplit(address).hostname or ""),
            "announced": await _announced(offered, address),
            "servers": servers,
        },
    )


async def _greets(address: str, limit: float) -> bool:
    """Whether it answers Hello as an OPC UA server does (Part 6, 7.1.2). Raises OSError if nothing listens."""
    parts = urlsplit(address)
    async with asyncio.timeout(limit):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        text = address.encode()
        writer.write(_HELLO.pack(b"HELF", 32 + len(text), 0, 65_535, 65_535, 0, 0, len(text)) + text)
        async with asyncio.timeout(limit):
            return (await reader.readexactly(3)) in _ANSWERS
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.transport.abort()


async def _offers(address: str, limit: float) -> tuple[list[ua.EndpointDescription], list[dict[str, Any]]]:
    """The endpoints, and other servers that this one knows."""
    session = Session(address, "discover", round(limit * 1e6), _IDLE)
    try:
        offered = await session.endpoints()
        known = await session.servers()
    finally:
        await session.close()
    own = {str(end.Server.ApplicationUri) for end in offered}
    others = [one for one in known if str(one.ApplicationUri) not in own]
    return offered, [
        {
            "name": _text(one.ApplicationName),
            "uri": str(one.ApplicationUri),
            "urls": [str(url) for url in one.DiscoveryUrls or ()],
        }
        for one in others
    ]


async def _status(
    address: str, limit: float, offered: Sequence[ua.EndpointDescription], failures: Failures
) -> dict[str, Any]:
    """State, product and times, where the server tells them to anybody; otherwise `locked` says why not."""
    told: dict[str, Any] = dict.fromkeys(("state", "started_at", "clock_off_s", "product", "maker", "version"))
    told |= {"namespaces": [], "locked": ""}
    if not any(end.SecurityMode == ua.MessageSecurityMode.None_ and "anonymous" in _logins(end) for end in offered):
        return {**told, "locked": "the server tells its state only over a protected connection, or to a known user"}
    session = Session(address, "discover", round(limit * 1e6), _IDLE)
    try:
        with failures.translated():
            await session.open()
            state, started, now, names, *product = await session.read(
                (_STATE, _START_TIME, _NOW, _NAMESPACES, _PRODUCT, _MAKER, _VERSION)
            )
    except DriverError as error:
        return {**told, "locked": str(error)}
    finally:
        await session.close()
    here = datetime.now(UTC)  # noqa: TID251 - it is this PC's clock that is compared
    known = isinstance(state, int) and state in ua.ServerState.__members__.values()
    return {
        **told,
        "state": ua.ServerState(state).name if known else None,
        "started_at": f"{started:%Y-%m-%dT%H:%M:%SZ}" if isinstance(started, datetime) else None,
        "clock_off_s": round((now.replace(tzinfo=UTC) - here).total_seconds(), 1)
        if isinstance(now, datetime)
        else None,
        **dict(zip(("product", "maker", "version"), (str(one or "") for one in product), strict=True)),
        "namespaces": [str(uri) for uri in names or ()],
    }


def _application(offered: Sequence[ua.EndpointDescription]) -> dict[str, str]:
    if not offered:
        return {"name": "", "uri": ""}
    server = offered[0].Server
    return {"name": _text(server.ApplicationName), "uri": str(server.ApplicationUri)}


def _text(text: ua.LocalizedText | None) -> str:
    return str(text.Text or "") if text is not None else ""


def _endpoint(end: ua.EndpointDescription, address: str) -> dict[str, Any]:
    policy = str(end.SecurityPolicyUri).rpartition("#")[2]
    return {
        "url": address,
        "policy": policy,
        "mode": end.SecurityMode.name.strip("_"),
        "usable": policy == "None" or policy in POLICIES,
        "logins": _logins(end),
        "announced": str(end.EndpointUrl),
    }


def _logins(end: ua.EndpointDescription) -> list[str]:
    words = {
        ua.UserTokenType.Anonymous: "anonymous",
        ua.UserTokenType.UserName: "username",
        ua.UserTokenType.Certificate: "certificate",
        ua.UserTokenType.IssuedToken: "token",
    }
    return list(dict.fromkeys(words[token.TokenType] for token in end.UserIdentityTokens or ()))


def _certificates(offered: Sequence[ua.EndpointDescription], host: str) -> list[dict[str, Any]]:
    """Each certificate that the server shows, once."""
    found: dict[str, dict[str, Any]] = {}
    for shown in dict.fromkeys(bytes(end.ServerCertificate or b"") for end in offered):
        try:
            certificate = security.certificate_of(shown)
        except ValueError:
            found[""] = {"problem": "a certificate that cannot be read"}
            continue
        if certificate is not None:
            found[security.thumbprint(certificate)] = _described(certificate, host)
    return list(found.values())


def _described(certificate: x509.Certificate, host: str) -> dict[str, Any]:
    now = datetime.now(UTC)  # noqa: TID251 - validity is judged by the wall clock of this PC
    valid = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    problems = [] if valid else ["is not valid today"]
    if not security.names_host(certificate, host):
        problems.append(f"does not name {host}")
    return {
        "subject": certificate.subject.rfc4514_string(),
        "thumbprint": security.thumbprint(certificate),
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "self_signed": certificate.issuer == certificate.subject,
        "problem": " and ".join(problems),
    }


async def _announced(offered: Sequence[ua.EndpointDescription], address: str) -> list[Mapping[str, Any]]:
    """Names that the server gives itself other than the one typed, and whether this PC can resolve them."""
    typed = urlsplit(address)
    told: dict[str, bool] = {}
    loop = asyncio.get_running_loop()
    for end in offered:
        try:
            parts = urlsplit(str(end.EndpointUrl))
            host, port = parts.hostname or "", parts.port
        except ValueError:
            continue
        if (host, port) == (typed.hostname, typed.port) or str(end.EndpointUrl) in told or not host:
            continue
        try:
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            told[str(end.EndpointUrl)] = False
        else:
            told[str(end.EndpointUrl)] = True
    return [{"url": url, "resolves": resolves} for url, resolves in told.items()]
