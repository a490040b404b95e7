"""From a message on a command topic to who carries it out: a machine, or the agent itself (class `adm`).

Nothing that comes in raises. What is no command at all cannot be answered and is warned of; every other is answered
by `command.*`, also when it is refused. The topic's class is the broker's permission, so a command must come on the
topic of its class.
"""

import json
import logging
from collections.abc import Sequence
from typing import Final

from buffer.outbox import OutboxError
from config.model import Config
from edge_agent.administration import Administration
from edge_agent.clock import SECOND, Clock
from edge_agent.commands import envelope
from edge_agent.commands.envelope import Command, Malformed
from edge_agent.delivery.inbox import Delivered
from edge_agent.events.topics import agent_place, machine_place
from edge_agent.events.types import AgentWarning
from edge_agent.floor import Floor
from edge_agent.running import Running

log = logging.getLogger(__name__)

_CLASSES: Final = ("ctx", "adm", "plc")
MAX_BYTES: Final = 64 * 1024
WARN_EVERY: Final = 60 * SECOND


class Downlink:
    """`take` what the inbox delivers from `topics`."""

    def __init__(self, running: Running, floor: Floor, administration: Administration, clock: Clock) -> None:
        self._running = running
        self._floor = floor
        self._administration = administration
        self._clock = clock
        self._warned: dict[str, int] = {}

    def topics(self) -> Sequence[str]:
        """Where commands come in the configuration of now; none if they are not wanted."""
        return topics(self._running.config)

    async def take(self, delivered: Delivered) -> None:
        """Returns when what came of the message is stored."""
        config = self._running.config
        target = _targets(config).get(delivered.topic)
        if target is None:
            log.warning("%s is not a topic of a machine that is configured now", delivered.topic)
            return
        machine, class_ = target
        try:
            command = _read(delivered, class_)
        except Malformed as fault:
            await self._malformed(delivered.topic, str(fault), agent_place(config).subject)
            return
        try:
            if machine is not None:
                await self._floor.command(machine, command)
            else:
                await self._administration.take(command, agent_place(config).subject)
        except OutboxError:
            raise
        except Exception as error:  # a fault of ours: it must not end the agent, nor come again at every reconnect
            log.exception("command %s %s of %s failed", command.name, command.id, command.source)
            await self._malformed(delivered.topic, f"{command.name} failed: {error!r}", agent_place(config).subject)

    async def _malformed(self, topic: str, why: str, subject: str) -> None:
        """Say so, once a minute for each topic: somebody may send nothing else."""
        log.warning("a message on %s is no command: %s", topic, why)
        now = self._clock.now().mono
        if now - self._warned.get(topic, -WARN_EVERY) >= WARN_EVERY:
            self._warned[topic] = now
            text = f"A message on {topic} is no command and cannot be answered: {why}."
            await self._floor.record(AgentWarning(code="malformed_command", text=text, subject=subject))


def _read(delivered: Delivered, class_: str) -> Command:
    """Raises Malformed."""
    if len(delivered.body) > MAX_BYTES:
        raise Malformed(f"it has {len(delivered.body)} bytes, and {MAX_BYTES} are the most")
    try:
        event = json.loads(delivered.body)
    except (ValueError, RecursionError) as error:
        raise Malformed("it is no JSON") from error
    if not isinstance(event, dict):
        raise Malformed("it is no JSON object")
    return envelope.read(event, retained=delivered.retained, topic_class=class_)


def topics(config: Config) -> Sequence[str]:
    """Where the commands of a configuration come; none if they are not wanted."""
    return tuple(_targets(config)) if config.mqtt.commands else ()


def _targets(config: Config) -> dict[str, tuple[str | None, str]]:
    """Topic → machine (None: the agent) and class."""
    targets: dict[str, tuple[str | None, str]] = {}
    for name in config.machines:
        place = machine_place(config, name)
        targets.update((place.command(class_), (name, class_)) for class_ in _CLASSES)
    targets[agent_place(config).command("adm")] = None, "adm"
    return targets
