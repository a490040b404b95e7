"""What stands retained under `cur/*`: for each machine the newest state, downtime and order event as it was sent.

A snapshot is taken from a message that has been committed, so it never shows what could still be rolled back.
To survive a restart the newest event of each kind is kept as a row of state (`keep`) in the very transaction
that commits the event: after a crash the snapshot and the stream cannot disagree. Snapshots are not in the
outbox; the forwarder publishes all of them after each connect and then those that changed.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

from buffer.outbox import Lane, Message, Outbox
from edge_agent.events.topics import Place

_SUFFIXES = {
    "state.changed": "state",
    "downtime.started": "downtime",
    "downtime.updated": "downtime",
    "downtime.ended": "downtime",
    "order.started": "order",
    "order.changed": "order",
    "order.completed": "order",
}
_KINDS = ("state", "downtime", "order")
_LANES = {"p": Lane.PRODUCTION, "m": Lane.MEASUREMENT}


class Retained:
    """All snapshots of one agent, by topic. `changed` is set while some have not been taken."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._newest: dict[str, Message] = {}
        self._dirty: dict[str, None] = {}
        self._once: Message | None = None

    async def load(self, outbox: Outbox, places: Iterable[Place]) -> None:
        """Take up what `keep` stored before the last stop."""
        topics = {_key(topic): topic for place in places for what in _KINDS for topic in [place.current(what)]}
        for key, body in (await outbox.load_states(list(topics))).items():
            self.put(_from_body(topics[key], body))

    def keep(self, messages: Sequence[Message]) -> Mapping[str, bytes]:
        """Rows of state to commit together with these messages."""
        return {_key(topic): message.body for message in messages if (topic := _topic(message)) is not None}

    def observe(self, messages: Sequence[Message]) -> None:
        """Messages that have been committed, in their order."""
        for message in messages:
            topic = _topic(message)
            if topic is not None:
                self.put(message._replace(topic=topic))

    def put(self, snapshot: Message) -> None:
        """A snapshot by its topic; one that says what it said before is no change."""
        known = self._newest.get(snapshot.topic)
        if known is not None and known.body == snapshot.body:
            return
        self._newest[snapshot.topic] = snapshot
        self._dirty[snapshot.topic] = None
        self.changed.set()

    def once(self, message: Message) -> None:
        """A retained message that is no snapshot: it is sent on this connection, and the newest one only."""
        self._once = message
        self.changed.set()

    def all_changed(self) -> int:
        """A new connection: the broker may have lost them all. How many they are."""
        self._once = None
        self._dirty = dict.fromkeys(self._newest)
        if self._dirty:
            self.changed.set()
        return len(self._dirty)

    def again(self, subject: str | None) -> int:
        """Send those of one asset once more, or all; how many they are."""
        topics = [topic for topic, known in self._newest.items() if subject in (None, _subject(known.body))]
        self._dirty.update(dict.fromkeys(topics))
        if topics:
            self.changed.set()
        return len(topics)

    def forget(self, snapshot: Message) -> None:
        """The broker does not take it: not again before it says something else."""
        if self._newest.get(snapshot.topic) is snapshot:
            del self._newest[snapshot.topic]
            self._dirty.pop(snapshot.topic, None)

    def take(self) -> Message | None:
        """The next snapshot that was not yet sent as it is now, or None."""
        if self._once is not None:
            message, self._once = self._once, None
            return message
        if not self._dirty:
            self.changed.clear()
            return None
        topic = next(iter(self._dirty))
        del self._dirty[topic]
        return self._newest[topic]


def _topic(message: Message) -> str | None:
    what = _SUFFIXES.get(message.type)
    if what is None:
        return None
    root, _, _ = message.topic.rpartition("/evt/")
    return f"{root}/cur/{what}"


def _subject(body: bytes) -> object:
    return json.loads(body).get("subject")


def _key(topic: str) -> str:
    return f"retained/{topic}"


def _from_body(topic: str, body: bytes) -> Message:
    event = json.loads(body)
    stream = event["source"].rpartition(":")[2]
    type_ = event["type"].removeprefix("dev.edgeagent.").rpartition(".")[0]
    return Message(stream, event["epoch"], int(event["sequence"]), _LANES[stream[-1]], type_, topic, body)
