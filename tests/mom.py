"""A strict MOM: what it receives must follow the contract, it holds each event once (see `mom_database`), and it
knows up to which number it has every event of a stream, which is what it acknowledges.
"""

import asyncio
import itertools
import json
from collections.abc import Iterable
from typing import Any

import paho.mqtt.publish
from paho.mqtt.client import MQTTv5

from edge_agent.clock import SystemClock, rfc3339
from tests.mom_database import MomDatabase
from tests.servers_mqtt import Received


def command(name: str, id_: str, *, subject: str, **params: Any) -> bytes:
    """A command as the MOM sends it."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": id_,
            "source": "urn:mom:acme",
            "type": f"dev.edgeagent.cmd.{name}.v1",
            "subject": subject,
            "time": rfc3339(SystemClock().now().wall),
            "data": {"issued_by": "E1", **params},
        }
    ).encode()


async def send(port: int, topic: str, body: bytes, *, retain: bool = False) -> None:
    await asyncio.to_thread(
        paho.mqtt.publish.single,
        topic,
        body,
        qos=1,
        retain=retain,
        hostname="127.0.0.1",
        port=port,
        protocol=MQTTv5,
    )


class Mom:
    """Feed it what a `Sink` received, in any portions; what it has taken is taken once."""

    def __init__(self, port: int, agent: str, subject: str, database: MomDatabase | None = None) -> None:
        self._port = port
        self._agent = agent
        self._subject = subject
        self._asked = itertools.count(1)
        self.database = database or MomDatabase()

    def take(self, messages: Iterable[Received]) -> None:
        self.database.take((message.topic, message.payload) for message in messages)

    def marks(self) -> dict[tuple[str, str], int]:
        """(stream, epoch) → the number up to which it has everything."""
        held = self.database
        return {(source.rpartition(":")[2], epoch): held.has(source, epoch) for source, epoch in held.streams()}

    def has(self, stream: str, epoch: str) -> int:
        return self.marks().get((stream, epoch), 0)

    async def acknowledge(self) -> None:
        """Send a mark for every stream."""
        for (stream, epoch), seq in self.marks().items():
            mark = {"stream": stream, "epoch": epoch, "seq": seq}
            body = command("stream.ack", f"mark-{next(self._asked)}", subject=self._subject, **mark)
            await send(self._port, f"ea/v1/_agents/{self._agent}/cmd/adm", body)
