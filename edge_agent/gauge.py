"""How full the buffer is, also while its disk does not answer: then what was known last, and for how long it is so.

Every answer about the buffer comes from the one thread that owns it. While a sync hangs there, whoever asks it waits
for ever; so whoever answers a person asks here.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final, NamedTuple

from buffer.outbox import Depth, Outbox, OutboxError
from edge_agent.clock import SECOND, Clock

log = logging.getLogger(__name__)

SILENT: Final = "S710"
SILENT_AFTER: Final = 10.0
"""Seconds without an answer that are more than a busy disk."""
LOOK_EVERY: Final = 5.0
PATIENCE: Final = 1.0
_UNKNOWN: Final = Depth(rows=0, bytes=0, oldest_at=None, dead=0, fill=0.0)


def unanswered(seconds: float) -> str:
    """What is said of a disk that has not answered for so long."""
    return f"the disk of the buffer has not answered for {seconds:.0f} s: nothing new is stored"


class Seen(NamedTuple):
    depth: Depth
    """As it was when the disk answered last."""
    silent: float | None
    """Seconds for which it has not answered, None while it does."""


class Gauge:
    """`run` it beside the collectors; `read` it at any time."""

    def __init__(self, outbox: Outbox, clock: Clock, *, patience: float = PATIENCE) -> None:
        """`patience`: seconds that one who asks is kept waiting."""
        self._outbox = outbox
        self._clock = clock
        self._patience = patience
        self._last = _UNKNOWN
        self._since: int | None = None
        """When the oldest question without an answer was asked, monotonic µs."""
        self._asking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Says in the log when the disk has ceased to answer, and when it does again."""
        said = False
        try:
            while True:
                silent = (await self.read()).silent
                if silent is None and said:
                    log.info("the disk of the buffer answers again")
                    said = False
                elif silent is not None and silent >= SILENT_AFTER and not said:
                    log.warning("%s %s", SILENT, unanswered(silent))
                    said = True
                await self._clock.sleep(LOOK_EVERY)
        finally:
            if self._asking is not None:
                self._asking.cancel()

    async def read(self) -> Seen:
        """Waits a little at most, and never raises."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="buffer: how full")
        await asyncio.wait({self._asking}, timeout=self._patience)
        silent = None if self._since is None else (self._clock.now().mono - self._since) / SECOND
        return Seen(self._last, silent)

    async def _ask(self) -> None:
        if self._since is None:
            self._since = self._clock.now().mono
        try:
            with suppress(OutboxError):
                self._last = await self._outbox.depth()
                self._since = None
        finally:
            self._asking = None
