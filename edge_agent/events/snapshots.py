"""Messages that stand for now instead of for something that happened: the agent's status and `cur/*`.

They are plain JSON, retained, outside every stream (`seq` 0) and never stored in the outbox. The exception is
what repeats an event: `cur/state`, `cur/downtime` and `cur/order` are that event's own bytes (event model §7.21).
"""

import json
from collections.abc import Mapping
from typing import Any

from buffer.outbox import Lane, Message
from config.model import Config
from edge_agent.events.codec import stamp
from edge_agent.events.topics import AGENT_STREAM, Place, agent_place

_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

STATUS = "agent.status"


def status(
    config: Config,
    *,
    online: bool,
    epoch: str,
    version: str,
    config_hash: str,
    last_seq: Mapping[str, int] | None = None,
    since: int | None = None,
) -> Message:
    """The retained birth (`online`), will and farewell of the agent (event model §7.20).

    `last_seq` is the highest sequence number by stream; `since` is when it went on or off line in UTC
    microseconds. A will knows neither.
    """
    content: dict[str, Any] = {"online": online, "agent_id": config.agent.id, "epoch": epoch}
    if last_seq is not None:
        content["last_seq"] = dict(last_seq)
    content |= {"version": version, "config_hash": config_hash}
    if since is not None:
        content["since"] = stamp(since)
    return _message(STATUS, agent_place(config).status, epoch, content)


def current(place: Place, what: str, epoch: str, content: Mapping[str, Any]) -> Message:
    """A snapshot under `cur/<what>`, such as `counters` or `tags`; `content` is plain JSON values."""
    return _message(f"cur.{what}", place.current(what), epoch, {"subject": place.subject, "epoch": epoch, **content})


def _message(type_: str, topic: str, epoch: str, content: Mapping[str, Any]) -> Message:
    return Message(AGENT_STREAM, epoch, 0, Lane.HEALTH, type_, topic, _to_json(content).encode())
