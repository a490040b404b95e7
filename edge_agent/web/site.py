"""What is served where: `/` for people; `/status.json`, `/metrics`, `/healthz` and `/readyz` for programs."""

import asyncio
import errno
import json
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from hashlib import sha256
from http import HTTPStatus
from importlib import resources
from typing import Any

from config.errors import Problem
from config.model import Http
from edge_agent.attention import stamped, troubles
from edge_agent.clock import Clock
from edge_agent.gauge import SILENT_AFTER
from edge_agent.running import Running
from edge_agent.web.metrics import CONTENT_TYPE, exposition
from edge_agent.web.server import Answer, Page, Server

log = logging.getLogger(__name__)

TRY_AGAIN = 5.0
"""Seconds until an address that is taken is tried again."""
JSON = "application/json"

Status = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Site:
    """`run` it beside the collectors. `status` answers as the command of the local socket; `secret` resolves the
    token of a configuration and may raise Problem E313."""

    def __init__(self, running: Running, status: Status, clock: Clock, secret: Callable[[Http], str | None]) -> None:
        self._running = running
        self._status = status
        self._clock = clock
        self._secret = secret
        self._changed = asyncio.Event()

    def renew(self) -> None:
        """The configuration has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled. What is wrong with the page never ends the agent."""
        told: object = None
        while True:
            self._changed.clear()
            http = self._running.config.http
            async with AsyncExitStack() as stack:
                wait: float | None = None
                try:
                    if http:
                        await stack.enter_async_context(Server(http.listen, self._secret(http), self._pages()))
                        log.info("the page of this agent is at http://%s/", http.listen)
                except (OSError, Problem) as error:
                    wait = TRY_AGAIN
                    if told != (http, str(error)):
                        log.warning("there is no page on %s: %s", http and http.listen, _why(error))
                    told = (http, str(error))
                await self._until_changed(wait)

    async def _until_changed(self, limit: float | None) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        slept = asyncio.ensure_future(self._clock.sleep(limit)) if limit is not None else changed
        try:
            await asyncio.wait({changed, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            slept.cancel()

    def _pages(self) -> Mapping[str, Page]:
        return {
            "/": _front,
            "/status.json": self._status_json,
            "/metrics": self._metrics,
            "/healthz": _alive,
            "/readyz": self._ready,
        }

    async def _status_json(self) -> Answer:
        status = await self._status({})
        wrong = troubles(status)
        text = json.dumps({"ok": not wrong, **stamped(status), "needs_a_person": wrong}, ensure_ascii=False)
        return Answer(text.encode(), JSON)

    async def _metrics(self) -> Answer:
        return Answer(exposition(await self._status({})).encode(), CONTENT_TYPE)

    async def _ready(self) -> Answer:
        """Whether what happens is kept: not whether devices and broker are there, which a restart would not mend."""
        buffer = (await self._status({}))["buffer"]
        if buffer["silent_s"] is not None and buffer["silent_s"] >= SILENT_AFTER:
            return Answer(b"the disk of the buffer does not answer\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        if buffer["full"]:
            return Answer(b"the buffer is full\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Answer(b"ready\n")


async def _alive() -> Answer:
    return Answer(b"alive\n")


async def _front() -> Answer:
    page = await asyncio.to_thread(resources.files("edge_agent.web").joinpath("page.html").read_bytes)
    allowed = "; ".join(f"{tag}-src 'sha256-{_digest(page, tag)}'" for tag in ("script", "style"))
    policy = f"default-src 'none'; {allowed}; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    guards = {"Content-Security-Policy": policy}
    return Answer(page, "text/html; charset=utf-8", headers=guards)


def _digest(page: bytes, tag: str) -> str:
    """What the policy of the page allows: its own script and style, and no other."""
    _, _, rest = page.partition(f"<{tag}>".encode())
    text, _, _ = rest.partition(f"</{tag}>".encode())
    return b64encode(sha256(text).digest()).decode()


def _why(error: OSError | Problem) -> str:
    if isinstance(error, Problem):
        return f"{error.code}: {error.what}"
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; give this agent another http.listen, or http: false"
    return error.strerror or str(error)
