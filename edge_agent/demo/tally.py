"""What the events say so far: which machines have spoken and how many parts have been reported.

Held against what the simulated machines have really made when the demo ends.
"""

import json
from collections.abc import Sequence
from typing import Any

from buffer.outbox import Message


class Tally:
    """Fed with every committed message."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        """Machine → its state, once it has one."""
        self.counts: dict[str, dict[str, int]] = {}
        """Machine → part → the sum of all deltas."""

    def take(self, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            machine, data = machine_of(event), event["data"]
            if event["type"].startswith("dev.edgeagent.state.changed."):
                self.states[machine] = data["state"]
            elif event["type"].startswith("dev.edgeagent.production.counted."):
                sums = self.counts.setdefault(machine, {})
                for part, count in data["delta"].items():
                    sums[part] = sums.get(part, 0) + count


def parse(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The CloudEvents of the messages."""
    return [json.loads(message.body) for message in messages]


def machine_of(event: dict[str, Any]) -> str:
    """Last level of the asset path."""
    subject: str = event["subject"]
    return subject.rpartition("/")[2]
