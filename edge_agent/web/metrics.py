"""The status of an agent as metrics, in the text format 0.0.4 of Prometheus.

Names end in their unit; counters end in `_total` and begin at zero with the process.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Read = Callable[[Mapping[str, Any]], float | None]


class _Metric:
    """One family. `read` takes what it is about (agent, device, broker or buffer) and gives a number or None."""

    def __init__(self, name: str, kind: str, text: str, read: _Read) -> None:
        self.name, self.kind, self.text, self.read = f"edge_agent_{name}", kind, text, read


def _gauge(name: str, text: str, read: _Read) -> _Metric:
    return _Metric(name, "gauge", text, read)


def _counter(name: str, text: str, key: str) -> _Metric:
    return _Metric(f"{name}_total", "counter", text, lambda one: one[key])


def _ring(name: str, text: str, key: str) -> _Metric:
    """Of devices that have a ring."""
    return _Metric(f"device_ring_{name}_total", "counter", text, lambda one: (one.get("ring") or {}).get(key))


_AGENT = (_gauge("uptime_seconds", "Time since the start.", lambda agent: agent["uptime_s"]),)
_DEVICE = (
    _gauge("device_up", "1 while the device gives fresh and good values.", lambda one: one["status"] == "UP"),
    _gauge("device_age_seconds", "Age of the newest good value.", lambda one: one["age_s"]),
    _gauge("device_tags", "Tags that are read.", lambda one: one["tags"]),
    _gauge("device_bad_tags", "Tags of bad quality.", lambda one: len(one["bad"])),
    _counter("device_connects", "Connections that were made.", "connects"),
    _counter("device_failures", "Connections that failed or were lost.", "failures"),
    _counter("device_readings", "Values that were read.", "readings"),
    _counter("device_missed_scans", "Scans skipped because reading took longer.", "missed_scans"),
    _ring("told", "Values told by the entries of the ring.", "told"),
    _ring("losses", "How often entries of the ring were lost.", "losses"),
)
_BROKER = (
    _gauge("broker_up", "1 while the broker is connected.", lambda one: one["status"] == "UP"),
    _counter("events_confirmed", "Messages confirmed.", "confirmed"),
    _counter("events_rejected", "Messages that the broker refused for ever.", "rejected"),
)
_BUFFER = (
    _gauge("buffer_events", "Events that wait.", lambda one: one["rows"]),
    _gauge("buffer_bytes", "Bytes of the events that wait.", lambda one: one["bytes"]),
    _gauge("buffer_oldest_seconds", "Age of the oldest event that waits.", lambda one: one["oldest_s"] or 0),
    _gauge("buffer_fill_ratio", "How full the buffer is, 0 to 1.", lambda one: one["fill"]),
    _gauge(
        "buffer_silent_seconds",
        "For how long its disk has not answered, 0 while it does.",
        lambda one: one["silent_s"] or 0,
    ),
    _gauge("buffer_full", "1 while the buffer takes no more.", lambda one: one["full"]),
    _counter("buffer_stored", "Events stored.", "stored"),
    _counter("buffer_written_bytes", "Bytes sent to the disk for them and for states (Linux).", "written_bytes"),
    _gauge("buffer_dead_letters", "Messages kept aside because the broker refused them.", lambda one: one["dead"]),
)


def exposition(status: Mapping[str, Any]) -> str:
    """All metrics of the answer to `status`."""
    agent = status["agent"]
    lines = [
        "# HELP edge_agent_info The agent that answers.",
        "# TYPE edge_agent_info gauge",
        _sample("edge_agent_info", {key: agent[key] for key in ("id", "version", "config_hash", "epoch")}, 1),
    ]
    for metrics, ones in (
        (_AGENT, [({}, agent)]),
        (_DEVICE, [({"device": name}, device) for name, device in status["devices"].items()]),
        (_BROKER, [({}, status["broker"])]),
        (_BUFFER, [({}, status["buffer"])]),
    ):
        for metric in metrics:
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}"]
            for labels, one in ones:
                value = metric.read(one)
                if value is not None:
                    lines.append(_sample(metric.name, labels, value))
    return "\n".join((*lines, *_machines(status["machines"]))) + "\n"


def _machines(machines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "# HELP edge_agent_machine_state 1 for the state that the machine is in."
    yield "# TYPE edge_agent_machine_state gauge"
    for name, machine in machines.items():
        if "state" in machine:
            yield _sample("edge_agent_machine_state", {"machine": name, "state": machine["state"]}, 1)
    yield "# HELP edge_agent_machine_count_total Parts and amounts counted since the agent knows the machine."
    yield "# TYPE edge_agent_machine_count_total counter"
    for name, machine in machines.items():
        for counter, values in machine["counters"].items():
            for role, value in values["totals"].items():
                labels = {"machine": name, "counter": counter, "role": role}
                yield _sample("edge_agent_machine_count_total", labels, value)


def _sample(name: str, labels: Mapping[str, object], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value + 0}" if told else f"{name} {value + 0}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
