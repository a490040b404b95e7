"""Retained messages that are no events: the agent's status (birth, will, farewell), `cur/counters` and `cur/tags`.

They describe the present, so they are made when they are needed, carry no sequence number (`seq` 0) and are
never stored (event model §7.20, §7.21).
"""

import json
from collections.abc import Mapping
from typing import Any

from buffer.outbox import Lane, Message
from edge_agent.clock import rfc3339
from edge_agent.events.topics import AGENT_STREAM, Place


def status(
    place: Place,
    *,
    online: bool,
    agent_id: str,
    epoch: str,
    last_seq: Mapping[str, int],
    version: str,
    config_hash: str,
    since: int,
) -> Message:
    """Birth with `online`, will and farewell without. `last_seq` by stream; `since` is UTC microseconds and stands
    in a birth alone: a will is written before anybody knows when it will be true."""
    body: dict[str, Any] = {
        "online": online,
        "agent_id": agent_id,
        "epoch": epoch,
        "last_seq": dict(last_seq),
        "version": version,
        "config_hash": config_hash,
    }
    if online:
        body["since"] = rfc3339(since)
    return _plain(AGENT_STREAM, epoch, Lane.HEALTH, "status", place.status, body)


def counters(place: Place, machine: str, epoch: str, *, at: int, values: Mapping[str, Any]) -> Message:
    """`values` by counter: `totals` and `raw` as `Machine.describe` gives them; `at` is UTC microseconds."""
    body = {"subject": place.subject, "epoch": epoch, "at": rfc3339(at), "counters": dict(values)}
    return _plain(f"{machine}.p", epoch, Lane.PRODUCTION, "counters", place.current("counters"), body)


def tags(place: Place, machine: str, epoch: str, revision: int, tags: Mapping[str, Any]) -> Message:
    """The dictionary of the machine's tags, by the names that events use."""
    body = {"subject": place.subject, "tags_rev": revision, "tags": dict(tags)}
    return _plain(f"{machine}.m", epoch, Lane.MEASUREMENT, "tags", place.current("tags"), body)


def _plain(stream: str, epoch: str, lane: Lane, kind: str, topic: str, body: Mapping[str, Any]) -> Message:
    return Message(stream, epoch, 0, lane, kind, topic, _to_json(body).encode())


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
