"""Whether somebody outside knows more of our streams than the buffer: then it was rolled back (a restored copy, an
image, a disk that lied), and a number that is given now may have been given before for something else.

Two of them are asked: the birth that the broker kept of us, and the MOM's marks. What they say is compared with what
is committed; where they are ahead the buffer is disowned, and with `RolledBack` it is opened anew, under a new epoch
that is declared.
"""

import json
import logging
import re
from collections.abc import Mapping
from typing import Final

from buffer.outbox import Outbox, OutboxError

log = logging.getLogger(__name__)

_EPOCH: Final = re.compile(r"[0-9a-y][0-9a-z]{11}")
"""Another could not be followed: what sorts behind it is longer."""


class RolledBack(OutboxError):
    """The buffer is disowned: open it anew."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The buffer is older than what was sent: {why}. A new epoch begins.", code="S709")


class Continuity:
    """Both checks return if nobody is ahead, or if nothing can be learned, and raise `RolledBack` otherwise."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def check_birth(self, body: bytes) -> None:
        """`body` is what the broker kept of our status."""
        try:
            told = json.loads(body)
            epoch, numbers = str(told["epoch"]), {str(stream): int(seq) for stream, seq in told["last_seq"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            log.debug("what the broker keeps of our status is not readable: %r", body[:200])
            return
        await self._check(epoch, numbers, "the broker keeps a birth of this agent")

    async def check_mark(self, stream: str, epoch: str, seq: int) -> None:
        """The MOM has everything of the stream up to `seq`."""
        await self._check(epoch, {stream: seq}, "the MOM has events")

    async def _check(self, epoch: str, numbers: Mapping[str, int], who: str) -> None:
        ours = self._outbox.epoch
        if epoch == ours:
            stored = await self._outbox.last_numbers()
            ahead = {stream: seq for stream, seq in numbers.items() if seq > stored.get(stream, 0)}
            if not ahead:
                return
            stream, seq = next(iter(ahead.items()))
            why = f"{who} with number {seq} of {stream}, and the last one here is {stored.get(stream, 0)}"
        elif epoch > ours and _EPOCH.fullmatch(epoch) is not None:
            why = f"{who} of epoch {epoch}, and the one here is {ours}"
        else:
            return
        await self._outbox.disown(f"{why}: was a copy or an image restored?", epoch=epoch)
        raise RolledBack(why)
