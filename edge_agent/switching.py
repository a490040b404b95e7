"""A running agent goes on with another configuration.

The new configuration is read and checked beside the running one. Then the collectors of devices that changed end, the
machines that changed go on under it in one commit, and the collectors begin again. What did not change notices
nothing, and whatever is wrong with the new configuration leaves the old one as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from buffer.outbox import OutboxError
from config.errors import ConfigFaults, Problem
from config.load import Loaded
from config.model import Config
from drivers.base import Reading
from edge_agent.delivery.inbox import Inbox
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.events.topics import agent_place
from edge_agent.events.types import AgentWarning
from edge_agent.floor import Floor
from edge_agent.health import DeviceHealth, Health, Link
from edge_agent.heartbeat import Heartbeat
from edge_agent.machine.machine import Machine
from edge_agent.reloading import Changes, Refused, changes
from edge_agent.running import Running
from edge_agent.tasks import Collectors, Sending
from edge_agent.web.site import Site

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Life:
    """What is switched, from the opening of a buffer to its closing. `secret`: the broker's password as resolved."""

    floor: Floor
    collectors: Collectors
    sending: Sending
    inbox: Inbox
    heartbeat: Heartbeat
    site: Site
    epoch: str
    secret: str | None


class Switching:
    """`run` it beside the collectors, with `life` set while there is something to switch.

    `reread` reads the configuration again; it may raise `ConfigFaults` and OSError. `publisher` and `secret` make
    those of a configuration; they may raise Problem.
    """

    def __init__(
        self,
        running: Running,
        health: Health,
        reread: Callable[[], Loaded] | None,
        publisher: Callable[[Config], MqttPublisher],
        secret: Callable[[Config], str | None],
    ) -> None:
        self._running = running
        self._health = health
        self._reread = reread
        self._publisher = publisher
        self._secret = secret
        self.life: Life | None = None
        self.asked = asyncio.Event()
        """Set to reload without waiting."""
        self.busy = asyncio.Lock()
        """Held during a reload."""

    async def run(self) -> None:
        while True:
            await self.asked.wait()
            self.asked.clear()
            with suppress(Refused):  # it is logged
                await self.reload()

    async def told(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """The command `reload` of the local socket."""
        try:
            done = await self.reload()
        except Refused as refused:
            faults = [fault.as_json() for fault in refused.faults]
            return {"ok": False, "error": str(refused), "faults": faults, "config_hash": self._running.config_hash}
        return {"ok": True, "config_hash": self._running.config_hash, "changed": bool(done), **done.as_json()}

    async def reload(self) -> Changes:
        """Go on with the configuration as it is written now. Raises `Refused`, and then nothing has changed."""
        async with self.busy:
            try:
                loaded = (await self._read_again()).running()
                done = await self._switch_safely(loaded)
            except Refused as refused:
                log.warning("the new configuration is not taken, the old one goes on: %s", refused)
                if self.life is not None:
                    subject = agent_place(self._running.config).subject
                    text = f"The new configuration is not taken, the old one goes on: {refused}"
                    await self.life.floor.record(AgentWarning(code="reload_refused", text=text, subject=subject))
                raise
            log.info("configuration %s: %s", loaded.hash, done.told())
            return done

    async def _read_again(self) -> Loaded:
        if self._reread is None:
            raise Refused("this agent was not started from a file")
        try:
            return await asyncio.to_thread(self._reread)
        except ConfigFaults as broken:
            errors = [fault for fault in broken.faults if fault.severity == "error"]
            first = f"{errors[0].file}:{errors[0].line}:{errors[0].column}: {errors[0].code}: {errors[0].what}"
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise Refused(first + more, broken.faults) from None
        except OSError as error:
            raise Refused(f"the configuration cannot be read: {error}") from None

    async def _switch_safely(self, loaded: Loaded) -> Changes:
        try:
            return await self._switch(loaded)
        except (Refused, OutboxError):
            raise
        except Exception as error:  # a fault of ours must not end an agent that runs
            log.exception("the switch failed in a way it should not")
            raise Refused(f"a fault of the program: {error!r}") from error

    async def _switch(self, loaded: Loaded) -> Changes:
        """Everything that can be refused comes before anything is switched."""
        old, new, known = self._running.config, loaded.config, self.life
        fresh = {} if known is None else await asyncio.to_thread(_machines, new, known.epoch)
        life = self.life
        if life is None or life is not known:
            raise Refused("the agent is starting or stopping: try again")
        done = changes(old, new, {name: machine.devices for name, machine in fresh.items()})
        try:
            secret = self._secret(new)
            publisher = self._publisher(new) if done.broker or secret != life.secret else None
        except Problem as problem:
            raise Refused(f"{problem.code}: {problem.what}") from None
        done = replace(done, broker=publisher is not None)
        machines = [
            life.floor.machines[name] if name in done.machines.kept else machine for name, machine in fresh.items()
        ]
        await life.collectors.end((*done.devices.changed, *done.devices.removed))
        try:
            await life.floor.switch(new, machines, lambda: self._newest(done.devices.kept))
            self._running.loaded = loaded
            begun = {name: DeviceHealth() for name in (*done.devices.changed, *done.devices.added)}
            self._health.devices = {name: begun.get(name) or self._health.devices[name] for name in new.devices}
        finally:  # also the old ones, if a machine could not go on
            for name in self._running.config.devices:
                if name not in life.collectors:
                    life.collectors.begin(name)
        if publisher is not None:
            life.secret = secret
            await life.sending.replace(publisher)
        if publisher is not None or done.machines.added or done.machines.removed:
            life.inbox.renew()
        if done.page:
            life.site.renew()
        life.sending.forwarder.introduce()
        await life.heartbeat.beat()
        return done

    def _newest(self, devices: tuple[str, ...]) -> dict[str, list[Reading]]:
        """The newest readings of these devices, if they are connected."""
        return {
            name: [reading for reading, _ in health.latest.values()]
            for name in devices
            if (health := self._health.devices[name]).link not in (None, Link.DOWN)
        }


def _machines(config: Config, epoch: str) -> dict[str, Machine]:
    return {name: Machine(config, name, epoch=epoch) for name in config.machines}
