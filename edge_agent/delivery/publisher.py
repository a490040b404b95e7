"""What the forwarder needs of a broker connection: connect, publish in order, know when it is confirmed."""

import asyncio
from typing import Final, Protocol

from buffer.outbox import Message
from edge_agent.clock import SECOND

REFUSED_WAIT: Final = 60 * SECOND
SILENT_WAIT: Final = 4 * SECOND
"""The longest waits between two attempts (µs): at a broker that refuses us, and at one that is `Silence`."""


class PublishError(Exception):
    """A message or a connection was refused. `code` is the fault's code (B601 …), `native` the raw text."""

    def __init__(self, message: str, *, code: str, native: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.native = native


class NotConnected(PublishError):
    """Keep the message, wait, connect again, send again."""


class Silence(NotConnected):
    """Nobody answers, or the line broke without a word: as `NotConnected`, and ask again within seconds."""


class Poisoned(NotConnected):
    """The broker ended the connection over one of the messages on their way; which one shows when they are sent one
    at a time."""


class Rejected(PublishError):
    """The broker will never take this message: set it aside (dead letter) and go on."""


class Forbidden(PublishError):
    """The broker does not allow it now (0x87): stop sending, keep storing, alarm; try again later."""


class Publisher(Protocol):
    """One broker, one connection at a time. Owned by the forwarder; calls never overlap."""

    @property
    def window(self) -> int:
        """How many messages may be unconfirmed at once: min(configured, the broker's Receive Maximum)."""

    @property
    def lost(self) -> "asyncio.Future[PublishError]":
        """Done when the connection of the last `connect` is gone; holds why."""

    async def connect(self, will: Message, birth: Message) -> None:
        """Open a new connection with `will`, publish `birth` (both retained) and wait until it is confirmed.
        Raises `NotConnected` or `Forbidden`."""

    def publish(self, message: Message, *, retain: bool = False, replay: bool = False) -> "asyncio.Future[None]":
        """Send at QoS 1. Messages leave in the order of the calls. The future is done when the broker has
        confirmed, or holds `NotConnected`, `Rejected` or `Forbidden`. `replay` marks a late sending."""

    async def close(self) -> None:
        """Publish nothing more, disconnect cleanly. Safe twice, never raises."""
