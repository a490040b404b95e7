"""An event in one line: what a person wants to know of it first."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Wire: TypeAlias = Mapping[str, Any]
"""One event as it goes on the wire."""

_PREFIX = "dev.edgeagent."
_FIELDS = {
    "state.changed": ("prev_state", "state", "trigger", "quality_detail"),
    "downtime.started": ("class", "category"),
    "downtime.updated": ("class", "category", "duration_s"),
    "downtime.ended": ("class", "category", "duration_s"),
    "production.counted": ("counter", "delta", "cause", "flags"),
    "kpi.window": ("rev", "coverage"),
    "data.gap": ("cause", "count_recovered"),
    "data.loss": ("lost_stream", "seq_from", "seq_to", "cause"),
    "measurement.sampled": ("set", "values"),
    "alarm.raised": ("code", "text", "severity"),
    "alarm.cleared": ("code", "text", "duration_s"),
    "alarm.acked": ("code", "text", "acked_by"),
    "order.started": ("order_id", "product", "planned_qty"),
    "order.changed": ("order_id", "change"),
    "order.completed": ("order_id", "end_reason", "totals"),
    "context.changed": ("set", "cleared"),
    "cycle.completed": ("duration_s", "result"),
    "consumption.recorded": ("kind", "resource", "delta", "uom"),
    "genealogy.linked": ("relation",),
    "command.accepted": ("name",),
    "command.done": ("name",),
    "command.rejected": ("name", "code", "detail"),
    "command.failed": ("name", "code", "detail"),
    "command.expired": ("name",),
    "connection.changed": ("endpoint", "status", "reason"),
    "agent.started": ("version",),
    "agent.stopped": ("reason",),
    "agent.clock_adjusted": ("offset_s",),
    "agent.warning": ("code", "text"),
}


def short_type(event: Wire) -> str:
    """`dev.edgeagent.state.changed.v1` → `state.changed`."""
    return str(event["type"]).removeprefix(_PREFIX).rpartition(".")[0]


def summary(event: Wire) -> str:
    """The telling fields, without the type."""
    data = event.get("data", {})
    said = [f"{key}={short(data[key])}" for key in _FIELDS.get(short_type(event), ()) if key in data]
    window, figures = data.get("window"), data.get("kpi", {})
    if isinstance(window, Mapping):
        said.insert(0, f"{window['basis']}={window['id']}")
        said += [f"{key}={figures[key]:.4f}" for key in ("availability", "oee") if key in figures]
    reason = data.get("reason")
    if isinstance(reason, Mapping):
        said.append(f"reason={plain(reason.get('text') or reason.get('code'))}")
    return " ".join(said)


def short(value: Any) -> str:
    """A value for the eye: floats with the digits that a float32 has."""
    return plain(value, digits=8)


def plain(value: Any, *, digits: int | None = None) -> str:
    """A value as it would be written in YAML. `digits`: most digits of a float."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(member, digits=digits)}" for key, member in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(member, digits=digits) for member in value) + "]"
    if isinstance(value, float) and digits is not None and len(str(value)) > digits + 2:
        return f"{value:.{digits}g}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
