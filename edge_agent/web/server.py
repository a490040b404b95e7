"""A small HTTP server: GET and HEAD of a few paths, one request for each connection (RFC 9112).

Whoever asks, however badly or slowly: a request is bounded in size and time, connections in number, and an answer
that is not read is given up. A page in a browser on this computer cannot be made to fetch from here under another
name: without a token only the names of this address are answered (a guard against DNS rebinding).
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

from config.kinds import is_loopback
from edge_agent.clients import Clients

log = logging.getLogger(__name__)

REQUEST_LIMIT = 1 << 14
"""Longest request in bytes, head included; it has no body."""
REQUEST_TIME = 5.0
ANSWER_TIME = 10.0
"""Seconds."""
CONNECTIONS = 16


class Answer(NamedTuple):
    """`headers` beside those that every answer has."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = {}


Page: TypeAlias = Callable[[], Awaitable[Answer]]


class Server:
    """Use as `async with`; entering raises OSError where it cannot listen. `pages`: path → what answers it."""

    def __init__(self, listen: str, token: str | None, pages: Mapping[str, Page]) -> None:
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._token = token
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._clients = Clients("web client", CONNECTIONS, self._serve)

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._clients.accept, self._host, self._port, limit=REQUEST_LIMIT)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._clients.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, busy: bool) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIME):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            answer, bodiless = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), False
        else:
            answer, bodiless = await self._answer(head, busy)
        writer.write(_encoded(answer, bodiless))
        async with asyncio.timeout(ANSWER_TIME):
            await writer.drain()

    async def _answer(self, head: bytes, busy: bool) -> tuple[Answer, bool]:
        """(answer, whether it goes without its body)."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            return _refusal(HTTPStatus.BAD_REQUEST), False
        if method not in ("GET", "HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"}), False
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
        }
        return await self._look_up(target, headers, busy), method == "HEAD"

    async def _look_up(self, target: str, headers: Mapping[str, str], busy: bool) -> Answer:
        if busy:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"})
        try:
            url = urlsplit(target)
            shown = _token_of(headers) or "".join(parse_qs(url.query).get("token", []))
            known = self._is_known(headers.get("host", ""))
        except ValueError:
            return _refusal(HTTPStatus.BAD_REQUEST)
        if self._token is None:
            if not known:
                return _refusal(HTTPStatus.MISDIRECTED_REQUEST)
        elif not hmac.compare_digest(shown.encode(), self._token.encode()):
            return _refusal(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Bearer realm="edge-agent"'})
        page = self._pages.get(url.path)
        if page is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        try:
            return await page()
        except Exception:  # a bug in one page is told to its reader; the agent goes on
            log.exception("the page %s failed", url.path)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _is_known(self, host: str) -> bool:
        """The name that the client believes to talk to, where only loopback is listened on."""
        if not is_loopback(self._host):
            return True
        name = urlsplit(f"//{host}").hostname or ""
        return name == self._host or is_loopback(name)


def _token_of(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refusal(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(f"{status.value} {status.phrase}\n".encode(), status=status, headers=headers or {})


def _encoded(answer: Answer, bodiless: bool) -> bytes:
    headers = {
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        **answer.headers,
    }
    head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    return head.encode("latin-1") + (b"" if bodiless else answer.body)
