"""Why: what a running agent answers about one machine or one tag, from the PLC to the broker's confirmation.

The chain has no gaps: the tags that decide, how fresh they are, the device they come from, what the machine made of
them, its last events, and for each event whether the broker has confirmed it. Changes nothing.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from buffer.outbox import Lane, Message, Outbox
from config.errors import did_you_mean, listed
from config.load import dumped
from config.secrets import masked
from edge_agent.clock import Clock, rfc3339
from edge_agent.control.server import Command
from edge_agent.floor import Floor
from edge_agent.health import Health
from edge_agent.inspection import broker_status, device_status
from edge_agent.running import Running

EVENTS = 5
"""The newest of each stream that are told."""
LOOKED_AT = 500
"""Unconfirmed messages of a lane that are looked at; what is further behind waits."""


class Explanation:
    """Answers `explain` and `config` on the local socket."""

    def __init__(self, running: Running, health: Health, floor: Floor, outbox: Outbox, clock: Clock) -> None:
        self._running = running
        self._health = health
        self._floor = floor
        self._outbox = outbox
        self._clock = clock
        self._newest: dict[str, deque[Message]] = {}
        floor.observers.append(self._observe)

    def commands(self) -> Mapping[str, Command]:
        return {"explain": self._explain, "config": self._config}

    def _observe(self, messages: Sequence[Message]) -> None:
        for message in messages:
            known = self._newest.get(message.stream)
            if known is None:
                known = self._newest[message.stream] = deque(maxlen=EVENTS)
            known.append(message)

    async def _config(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """What runs, without secrets."""
        loaded = self._running.loaded
        return {"file": loaded.file, "config_hash": loaded.hash, "config": masked(dumped(loaded.config))}

    async def _explain(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        what = str(asked.get("what", ""))
        if what in self._floor.machines:
            return await self._machine(what)
        return await self._tag(*self._find(what))

    def _find(self, what: str) -> tuple[str, str]:
        """Device and tag. Raises ValueError."""
        devices = self._running.config.devices
        device, _, tag = what.rpartition("/")
        if device in devices and tag in devices[device].tags:
            return device, tag
        owners = [name for name, options in devices.items() if tag in options.tags] if not device else []
        if len(owners) == 1:
            return owners[0], tag
        if owners:
            raise ValueError(f"several devices have a tag '{tag}': {listed([f'{name}/{tag}' for name in owners])}")
        known = [*self._floor.machines, *(f"{name}/{tag}" for name, one in devices.items() for tag in one.tags)]
        hint = did_you_mean(what, known) or f"the machines are {listed([*self._floor.machines])}"
        raise ValueError(f"there is no machine and no tag '{what}'; {hint}")

    async def _machine(self, name: str) -> dict[str, Any]:
        machine = self._floor.machines[name]
        inputs = [
            {**self._reading(*key.split("/", 1)), "used_for": list(roles)} for key, roles in machine.roles().items()
        ]
        described = self._floor.describe()[name]
        devices = {device: self._device(device) for device in sorted(machine.devices)}
        return {
            "kind": "machine",
            "name": name,
            "machine": described,
            "inputs": inputs,
            "devices": devices,
            **await self._way_out([name]),
        }

    async def _tag(self, device: str, tag: str) -> dict[str, Any]:
        key = f"{device}/{tag}"
        used = {
            name: list(roles) for name, machine in self._floor.machines.items() if (roles := machine.roles().get(key))
        }
        return {
            "kind": "tag",
            "name": key,
            **self._reading(device, tag),
            "used_by": used,
            "devices": {device: self._device(device)},
            **await self._way_out(list(used)),
        }

    def _device(self, name: str) -> dict[str, Any]:
        return device_status(self._running.config.devices[name], self._health.devices[name], self._clock.now().wall)

    def _reading(self, device: str, tag: str) -> dict[str, Any]:
        reading, at = self._health.devices[device].latest.get(tag, (None, 0))
        origins = self._running.loaded.origins
        prefix = f"devices.{device}.tags.{tag}."
        origin = next((str(origin) for path, origin in origins.items() if path.startswith(prefix)), None)
        return {
            "device": device,
            "tag": tag,
            "value": None if reading is None else reading.value,
            "quality": "NEVER" if reading is None else reading.quality.name,
            "detail": "" if reading is None else reading.detail,
            "age_s": None if reading is None else (self._clock.now().wall - at) / 1e6,
            "written": origin,
        }

    async def _way_out(self, machines: Sequence[str]) -> dict[str, Any]:
        """The last events of the machines, and how far they have come."""
        waiting: dict[str, int] = {}
        behind = False
        for lane in Lane:
            rows = await self._outbox.next_batch(LOOKED_AT, lane=lane)
            behind = behind or len(rows) == LOOKED_AT
            for row in rows:
                waiting[row.message.stream] = min(row.message.seq, waiting.get(row.message.stream, row.message.seq))
        messages = [
            message for name in machines for end in ("p", "m") for message in self._newest.get(f"{name}.{end}", ())
        ]
        depth = await self._outbox.depth()
        return {
            "events": [_event(message, waiting, behind=behind) for message in messages],
            "buffer": {"rows": depth.rows, "full": self._outbox.full, "dead": depth.dead},
            "broker": {"url": self._running.config.mqtt.url, **broker_status(self._health.broker)},
            "at": rfc3339(self._clock.now().wall),
        }


def _event(message: Message, waiting: Mapping[str, int], *, behind: bool) -> dict[str, Any]:
    first = waiting.get(message.stream)
    sent = message.seq < first if first is not None else not behind
    return {
        "delivery": "confirmed" if sent else "waiting",
        "stream": message.stream,
        "seq": message.seq,
        "topic": message.topic,
        "event": json.loads(message.body),
    }
