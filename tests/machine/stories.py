"""A machine played over a timeline: configuration as in YAML, lines as in `given:`, events as flat dictionaries."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from config.calendar import CalendarOptions
from config.model import AgentOptions, Config, DeviceOptions, MachineOptions, Mqtt, Site, TagOptions
from edge_agent.clock import SECOND
from edge_agent.machine.machine import Machine
from edge_agent.replay.drive import Drive, Made
from edge_agent.replay.timeline import Reader

START = 1_772_409_600 * SECOND
"""2026-03-02T00:00:00Z"""
EPOCH = "mlu4idc09c7x"


class PlcTag(TagOptions):
    type: str = "uint16"


class Plc(DeviceOptions):
    driver: str = "plain"
    protocol: ClassVar[str] = "modbus_tcp"
    tags: Mapping[str, PlcTag]

    def value_type(self, tag: str) -> str:
        return self.tags[tag].type


class OpcPlc(Plc):
    protocol: ClassVar[str] = "opcua"


PRESS = {
    "state": {"from": "status", "map": {1: "idle", 2: "running", 3: "setup", 8: "fault", 9: "unknown"}},
    "counters": {"main": {"total": "total", "max_rate": "2/s"}},
    "downtime": {"reason": "fault", "reasons": {12: {"text": "Guard open", "category": "operator"}}},
}
TAGS = {"status": "int16", "fault": "uint16", "total": "uint16", "reject": "uint16"}


def config(
    machine: Mapping[str, Any] = PRESS,
    tags: Mapping[str, Any] = TAGS,
    *,
    scan: str = "1s",
    kind: type[Plc] = Plc,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    calendar: Mapping[str, Any] | None = None,
    zone: str = "UTC",
    **more: Any,
) -> Config:
    """One machine `press` on the device `press`; `others` are further devices by name, as tag → type."""

    def device(known: Mapping[str, Any]) -> Plc:
        typed = {name: {"type": tag} if isinstance(tag, str) else tag for name, tag in known.items()}
        return kind.model_validate({"driver": "plain", "scan": scan, "tags": typed})

    devices = {"press": device(tags), **{name: device(known) for name, known in (others or {}).items()}}
    options = MachineOptions.model_validate({"line": "line3", "device": "press", **machine, **more})
    return Config.model_construct(
        version=1,
        agent=AgentOptions(id="a1"),
        site=Site(enterprise="acme", site="sz1", area="stamping", timezone=zone),
        calendar=None if calendar is None else CalendarOptions.model_validate(calendar),
        devices=devices,
        machines={"press": options},
        mqtt=Mqtt(),
    )


def machine(made: Config) -> Machine:
    return Machine(made, "press", epoch=EPOCH)


def drive(made: Config) -> Drive:
    return Drive([machine(made)], made.devices, start=START)


def lines(made: Config, given: Sequence[Mapping[str, Any]]) -> list[Any]:
    return Reader(made.devices, "press", START, made.subject("press")).read(given)


def story(made: Config, given: Sequence[Mapping[str, Any]], until: float, *families: str) -> list[dict[str, Any]]:
    """The machine's events (of the families named, or all), with times in seconds from the start."""
    played = drive(made).play(lines(made, given), round(until * SECOND))
    return [flat(one) for one in played if _wanted(one, families)]


def warnings(made: Config, given: Sequence[Mapping[str, Any]], until: float) -> list[str]:
    played = drive(made).play(lines(made, given), round(until * SECOND))
    return [one.event.data.code for one in played if one.event.data.TYPE == "agent.warning"]


def _wanted(one: Made, families: Sequence[str]) -> bool:
    kind = one.event.data.TYPE
    return one.machine is not None and (not families or kind.split(".")[0] in families or kind in families)


def flat(made: Made) -> dict[str, Any]:
    event = made.event
    known = {"type": event.data.TYPE, "time": offset(event.time), "seq": event.seq, "story": event.correlation_id}
    if event.ctx is not None:
        known["ctx"] = dict(event.ctx)
    if event.causation_id is not None:
        known["cause_id"] = event.causation_id
    for field in dataclasses.fields(event.data):
        value = getattr(event.data, field.name)
        if value is None:
            continue
        if field.name.endswith("_at"):
            value = offset(value)
        known[field.name.rstrip("_")] = value
    return known


def offset(wall: int) -> float:
    return round((wall - START) / SECOND, 3)


def some(events: Sequence[Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """The fields named of each event; a missing one is None."""
    return [tuple(event.get(name) for name in names) for event in events]
