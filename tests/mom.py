"""A strict MOM: what it receives must follow the contract, and it holds each event once.

It drops equal (source, id) whose bytes are equal, refuses the same id with other bytes (I4), and knows up to which
number it has every event of a stream, which is what it acknowledges.
"""

import asyncio
import itertools
import json
from collections import defaultdict
from typing import Any

import paho.mqtt.publish
from paho.mqtt.client import MQTTv5

from edge_agent.clock import SystemClock, rfc3339
from tests.schema_check import check_message
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

    def __init__(self, port: int, agent: str, subject: str) -> None:
        self._port = port
        self._agent = agent
        self._subject = subject
        self._bytes: dict[tuple[str, str], bytes] = {}
        self._numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._asked = itertools.count(1)
        self.duplicates = 0

    def take(self, messages: list[Received]) -> None:
        for message in messages:
            if "/evt/" not in message.topic and "/ack" not in message.topic:
                continue
            event = check_message(message.topic, message.payload)
            key = event["source"], event["id"]
            known = self._bytes.setdefault(key, message.payload)
            assert known == message.payload, f"{key} came with other bytes"
            stream = event["source"].rpartition(":")[2], event["epoch"]
            number = int(event["sequence"])
            self.duplicates += number in self._numbers[stream]
            self._numbers[stream].add(number)

    def has(self, stream: str, epoch: str) -> int:
        """The number up to which it has everything."""
        known = self._numbers[stream, epoch]
        return next(number for number in itertools.count(1) if number not in known) - 1

    async def acknowledge(self) -> None:
        """Send a mark for every stream."""
        for stream, epoch in list(self._numbers):
            mark = {"stream": stream, "epoch": epoch, "seq": self.has(stream, epoch)}
            body = command("stream.ack", f"mark-{next(self._asked)}", subject=self._subject, **mark)
            await send(self._port, f"ea/v1/_agents/{self._agent}/cmd/adm", body)
