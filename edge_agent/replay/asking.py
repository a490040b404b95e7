"""The `command:` of a timeline: the parameters beside the envelope, as the CloudEvent that the MOM would send.

Times are offsets (`12.5s`) or RFC 3339. `last` as an id names the newest downtime, alarm or order run.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from edge_agent.clock import rfc3339
from edge_agent.commands.envelope import PREFIX
from edge_agent.events.types import Alarm, Data, Downtime, Order

Micros: TypeAlias = int

ENVELOPE: Final = ("id", "source", "subject", "time", "expirytime", "retained")
TIMES: Final = frozenset({"time", "expirytime", "effective_at", "at", "not_before"})
LAST: Final = ("downtime_id", "alarm_id", "order_run_id")
SOURCE: Final = "urn:mom"
ISSUED_BY: Final = "mom"


def cloud_event(
    said: Mapping[str, Any],
    *,
    number: int,
    now: Micros,
    wall: Callable[[Micros], Micros],
    subject: str,
    last: Mapping[str, str],
) -> dict[str, Any]:
    """The event of a command line. `said` holds times as offsets in µs, `wall` turns them into UTC µs; `number` makes
    the id of a command without one; `last`: the newest id of each kind."""
    words = {
        key: rfc3339(wall(value)) if key in TIMES and isinstance(value, int) else value for key, value in said.items()
    }
    data: dict[str, Any] = {"issued_by": ISSUED_BY}
    data |= {key: value for key, value in words.items() if key not in ENVELOPE and key != "name"}
    for key in LAST:
        if data.get(key) == "last" and key in last:
            data[key] = last[key]
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": words.get("id", f"command-{number}"),
        "source": words.get("source", SOURCE),
        "type": f"{PREFIX}{said['name']}.v1",
        "subject": words.get("subject", subject),
        "time": words.get("time", rfc3339(now)),
        "datacontenttype": "application/json",
        "data": data,
    }
    if "expirytime" in words:
        event["expirytime"] = words["expirytime"]
    return event


def newest(last: Mapping[str, str], data: Data) -> Mapping[str, str]:
    """The newest ids after an event."""
    if isinstance(data, Downtime):
        return {**last, "downtime_id": data.downtime_id}
    if isinstance(data, Alarm):
        return {**last, "alarm_id": data.alarm_id}
    if isinstance(data, Order):
        return {**last, "order_run_id": data.order_run_id}
    return last
