"""Commands to the agent itself, class `adm`: what concerns the delivery and no machine.

They are answered in `$agent.h` on the agent's own `ack` topic. Doing one of them twice does no harm, so no result is
kept for repeats. `stream.ack` is answered by its effect alone, or acknowledging would never end (event model §7.22).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from buffer.outbox import Outbox, Span
from edge_agent.clock import Clock, rfc3339
from edge_agent.commands.envelope import CLASSES, Command, Refused, check_class
from edge_agent.commands.parameters import Parameters, Text, checked
from edge_agent.delivery.continuity import Continuity
from edge_agent.delivery.forwarder import Forwarder
from edge_agent.delivery.retained import Retained
from edge_agent.events.topics import AGENT_STREAM
from edge_agent.events.types import Command as Answer
from edge_agent.events.types import CommandDone, CommandExpired, CommandRejected
from edge_agent.floor import Floor

log = logging.getLogger(__name__)

RESEND_AT_ONCE: Final = 5000
"""Messages that one command may ask for; the answer says where to go on."""
_SILENT: Final = frozenset({"stream.ack"})


class StreamAck(Parameters):
    stream: Text
    epoch: Text
    seq: Annotated[int, Field(ge=0, lt=1 << 63)]


class ResendRange(Parameters):
    stream: Text
    epoch: Text
    seq_from: Annotated[int, Field(ge=1, lt=1 << 63)]
    seq_to: Annotated[int, Field(ge=1, lt=1 << 63)]


class Administration:
    def __init__(
        self, floor: Floor, outbox: Outbox, retained: Retained, clock: Clock, forwarder: Callable[[], Forwarder]
    ) -> None:
        """`forwarder` gives that of now: a reload may replace it."""
        self._outbox = outbox
        self._forwarder = forwarder
        self._floor = floor
        self._retained = retained
        self._clock = clock
        self._continuity = Continuity(outbox)

    async def take(self, command: Command, subject: str) -> None:
        """Carry it out and answer it; `subject` is the agent's. Returns when the answer is stored. Raises
        `RolledBack` for a mark that is ahead of the buffer."""
        now = self._clock.now().wall
        if command.expires < now:
            late = f"it was valid until {rfc3339(command.expires)}"
            await self._answer(CommandExpired, command, "expired", "expired", late)
            return
        try:
            result = await self._carry_out(command, subject)
        except Refused as refused:
            await self._answer(CommandRejected, command, "rejected", refused.code, refused.detail)
            return
        if command.name not in _SILENT:
            await self._answer(CommandDone, command, "done", "ok", None, result)

    async def _carry_out(self, command: Command, subject: str) -> Mapping[str, Any]:
        if command.retained:
            raise Refused("retained", "commands must not be retained: it would be carried out at every reconnect")
        if command.name not in CLASSES:
            raise Refused("unknown_command", f"there is no command {command.name!r}")
        check_class(command)
        if command.subject != subject:
            raise Refused("unknown_asset", f"this is {subject}, not {command.subject}")
        if command.name == "snapshot.request":
            return self._snapshots(command.params)
        if command.name == "stream.ack":
            return await self._mark(checked(StreamAck, command.params))
        if command.name == "resend.range":
            return await self._resend(checked(ResendRange, command.params))
        raise Refused("unavailable", f"{command.name} is not available here")

    async def _mark(self, asked: StreamAck) -> Mapping[str, Any]:
        if asked.stream not in (AGENT_STREAM, *self._floor.streams()):
            log.warning("the MOM confirms %s, and there is no such stream here", asked.stream)
            raise Refused("invalid", f"there is no stream {asked.stream}")
        await self._continuity.check_mark(asked.stream, asked.epoch, asked.seq)
        await self._forwarder().marked(asked.stream, asked.epoch, asked.seq)
        return {}

    async def _resend(self, asked: ResendRange) -> Mapping[str, Any]:
        """Send a range again as far as it is kept and was sent; the same bytes, marked as sent again."""
        last = min(asked.seq_to, asked.seq_from + RESEND_AT_ONCE - 1)
        kept = await self._outbox.find(Span(asked.stream, asked.epoch, asked.seq_from, last), RESEND_AT_ONCE)
        if self._forwarder().resending > RESEND_AT_ONCE:
            raise Refused("unavailable", "what was asked for before is still being sent again")
        sent = self._forwarder().resend(kept)
        if sent is None:
            raise Refused("unavailable", "there is no connection for events")
        missing = gaps([one.message.seq for one in kept], asked.seq_from, last)
        more = {"next": last + 1} if last < asked.seq_to else {}
        return {"sent": sent, "unavailable": [list(one) for one in missing], **more}

    def _snapshots(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """All that is retained is published again, or that of one asset."""
        asset = params.get("subject")
        if asset is not None and not isinstance(asset, str):
            raise Refused("invalid", "subject is no text")
        count = self._retained.again(asset)
        if asset is not None and count == 0:
            raise Refused("unknown_asset", f"nothing is retained of {asset}")
        return {"snapshots": count}

    async def _answer(
        self,
        kind: type[Answer],
        command: Command,
        status: str,
        code: str,
        detail: str | None,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        data = kind(
            command_id=command.id,
            command_source=command.source,
            name=command.name,
            status=status,
            code=code,
            detail=detail,
            result=result,
        )
        await self._floor.record(data, story=command.id)


def gaps(numbers: Sequence[int], first: int, last: int) -> list[tuple[int, int]]:
    """The runs of numbers from `first` to `last` that are not among `numbers`, which are in order."""
    found = []
    for number in (*numbers, last + 1):
        if number > first:
            found.append((first, number - 1))
        first = number + 1
    return found
