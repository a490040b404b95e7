"""Commands to the agent itself, class `adm`: what concerns the delivery and no machine.

They are answered in `$agent.h` on the agent's own `ack` topic. Doing one of them twice does no harm, so no result is
kept for repeats. `stream.ack` is answered by its effect alone, or acknowledging would never end (event model §7.22).
"""

from collections.abc import Mapping
from typing import Any, Final

from edge_agent.clock import Clock, rfc3339
from edge_agent.commands.envelope import CLASSES, Command, Refused, check_class
from edge_agent.delivery.retained import Retained
from edge_agent.events.types import Command as Answer
from edge_agent.events.types import CommandDone, CommandExpired, CommandRejected
from edge_agent.floor import Floor

_SILENT: Final = frozenset({"stream.ack"})


class Administration:
    def __init__(self, floor: Floor, retained: Retained, clock: Clock) -> None:
        self._floor = floor
        self._retained = retained
        self._clock = clock

    async def take(self, command: Command, subject: str) -> None:
        """Carry it out and answer it; `subject` is the agent's. Returns when the answer is stored."""
        now = self._clock.now().wall
        if command.expires < now:
            late = f"it was valid until {rfc3339(command.expires)}"
            await self._answer(CommandExpired, command, "expired", "expired", late)
            return
        try:
            result = self._carry_out(command, subject)
        except Refused as refused:
            await self._answer(CommandRejected, command, "rejected", refused.code, refused.detail)
            return
        if command.name not in _SILENT:
            await self._answer(CommandDone, command, "done", "ok", None, result)

    def _carry_out(self, command: Command, subject: str) -> Mapping[str, Any]:
        if command.retained:
            raise Refused("retained", "commands must not be retained: it would be carried out at every reconnect")
        if command.name not in CLASSES:
            raise Refused("unknown_command", f"there is no command {command.name!r}")
        check_class(command)
        if command.subject != subject:
            raise Refused("unknown_asset", f"this is {subject}, not {command.subject}")
        if command.name == "snapshot.request":
            return self._snapshots(command.params)
        raise Refused("unavailable", f"{command.name} is not available here")

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
