"""Values of many nodes, in as few Read requests as the server takes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.opcua import binary
from drivers.opcua.session import Session

T = TypeVar("T")
_LARGE = 1 << 20
"""Bytes of an answer that is decoded beside the loop, so that no other device waits for it."""


async def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """What an answer says."""
    return decode(body) if len(body) < _LARGE else await asyncio.to_thread(decode, body)


class Part(NamedTuple):
    """What is read: a node's value, or of an array only the elements of `index_range`, `8:15` (Part 4, 7.27)."""

    node: ua.NodeId
    index_range: str | None = None


class Reads:
    """Over one session. `per_call`: most nodes of one request; it falls for a server that takes less and did not say
    so."""

    def __init__(self, session: Session, per_call: int) -> None:
        self._session = session
        self._per_call = per_call

    async def of(self, nodes: Sequence[ua.NodeId]) -> list[binary.Item]:
        """What the server says of each. Raises what asyncua raises, and `binary.Malformed`."""
        return await self.parts([Part(node) for node in nodes])

    async def parts(self, wanted: Sequence[Part]) -> list[binary.Item]:
        """The same of parts of them."""
        found: list[binary.Item] = []
        while len(found) < len(wanted):
            some = wanted[len(found) : len(found) + self._per_call]
            try:
                result, items = await decoded(binary.read_response, await self._session.values(some))
                if result >> 30 > 1:
                    ua.StatusCode(ua.UInt32(result)).check()
            except UaStatusCodeError as error:
                if error.code != StatusCodes.BadTooManyOperations or len(some) == 1:
                    raise
                self._per_call = len(some) // 2
                continue
            if len(items) != len(some):
                raise binary.Malformed(f"{len(items)} values for {len(some)} nodes")
            found += items
        return found
