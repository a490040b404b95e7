"""One line of text for each event, for a person who sees them for the first time."""

from collections.abc import Mapping
from typing import Any

from edge_agent.demo.tally import machine_of


def line(event: Mapping[str, Any]) -> str:
    """`01:14:07.250  press-1     state.changed       fault (was running for 4.0 s)`; the time is UTC."""
    kind = event["type"].removeprefix("dev.edgeagent.").rpartition(".")[0]
    told = _TELL.get(kind, _plain)(event["data"])
    return f"{event['time'][11:23]}  {machine_of(dict(event)):<9} {kind:<19} {told}".rstrip()


def _state(data: Mapping[str, Any]) -> str:
    before = f" (was {data['prev_state']} for {data['prev_duration_s']:.1f} s)" if "prev_duration_s" in data else ""
    return f"{data['state']}{before}"


def _downtime(data: Mapping[str, Any]) -> str:
    reason = data.get("reason", {})
    words = [data["class"], data["category"], reason.get("text") or reason.get("code")]
    if "duration_s" in data:
        words.append(f"{data['duration_s']:.1f} s")
    return ", ".join(word for word in words if word)


def _counted(data: Mapping[str, Any]) -> str:
    delta = " ".join(f"{part} {count:+d}" for part, count in data["delta"].items())
    totals = " ".join(f"{part} {count}" for part, count in data["totals"].items())
    notes = [data["cause"]] if data["cause"] != "machine" else []
    notes += data.get("flags", [])
    return f"{delta}, now {totals}" + (f" ({', '.join(notes)})" if notes else "")


def _sampled(data: Mapping[str, Any]) -> str:
    units = data.get("uom", {})
    return ", ".join(
        f"{name} {_number(value)} {units.get(name, '')}".rstrip() for name, value in data["values"].items()
    )


def _number(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _gap(data: Mapping[str, Any]) -> str:
    counts = f", counts recovered: {data['count_recovered']}" if "count_recovered" in data else ""
    return f"{data['cause']}, {data['from_at'][11:19]} to {data['to_at'][11:19]}{counts}"


def _connection(data: Mapping[str, Any]) -> str:
    reason = f" ({data['reason']})" if data.get("reason") else ""
    return f"{data['endpoint']} is {data['status']}{reason}"


def _warning(data: Mapping[str, Any]) -> str:
    return f"{data['code']}: {data['text']}"


def _plain(data: Mapping[str, Any]) -> str:
    return ""


_TELL = {
    "state.changed": _state,
    "downtime.started": _downtime,
    "downtime.updated": _downtime,
    "downtime.ended": _downtime,
    "production.counted": _counted,
    "measurement.sampled": _sampled,
    "data.gap": _gap,
    "connection.changed": _connection,
    "agent.warning": _warning,
}
