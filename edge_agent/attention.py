"""What of a running agent's status needs a person, in words."""

from collections.abc import Mapping
from typing import Any

from edge_agent.clock import rfc3339
from edge_agent.gauge import SILENT_AFTER, unanswered

_NEED_A_PERSON = ("DOWN", "STALE", "DEGRADED")
_FORBIDDEN = ("B601", "B608")
NEARLY_FULL = 0.7
SOON = 86_400
"""Seconds until a buffer that fills is full: time enough for a person."""


def stamped(told: Any, key: str = "") -> Any:
    """The same with times, where they are UTC µs, as RFC 3339."""
    if isinstance(told, Mapping):
        return {name: stamped(value, name) for name, value in told.items()}
    if isinstance(told, int) and (key == "since" or key.endswith("_at")):
        return rfc3339(told)
    return told


def troubles(told: Mapping[str, Any]) -> list[str]:
    """What needs a person, one sentence each."""
    out = [
        f"device {name} is {device['status']}"
        for name, device in told["devices"].items()
        if device["status"] in _NEED_A_PERSON
    ]
    if told["broker"]["status"] == "DOWN":
        out.append("the broker is DOWN; events are kept in the buffer")
    elif (why := told["broker"].get("no_commands")) and why["code"] in _FORBIDDEN:
        out.append(f"no commands of the MOM are received: {why['code']} {why['message']}")
    buffer = told["buffer"]
    if (silent := buffer.get("silent_s")) is not None and silent >= SILENT_AFTER:
        out.append(unanswered(silent))
    if buffer["full"]:
        out.append("the buffer is FULL")
    elif buffer["fill"] >= NEARLY_FULL:
        out.append(f"the buffer is {buffer['fill']:.0%} full")
    elif buffer["full_in_s"] is not None and buffer["full_in_s"] < SOON:
        out.append("the buffer will be full within a day")
    if buffer["dead"]:
        count = "a message" if buffer["dead"] == 1 else f"{buffer['dead']} messages"
        out.append(f"the broker refused {count} for ever: edge-agent buffer list --state dead")
    return out
