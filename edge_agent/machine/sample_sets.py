"""Sample sets as configured, worked out once: their tags, units, dead bands and limits, and how large they get."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from config.model import Config, Measurement
from edge_agent.events.types import Judged

MAX_BYTES: Final = 60 * 1024
"""Of `values`, `uom`, `q` and `at_ms` of one event; the rest of the envelope is below 4 KiB."""
NUMBER_BYTES: Final = 25


class Limits(NamedTuple):
    """What a value should be."""

    target: float | None
    lo: float | None
    hi: float | None

    def judge(self, value: float) -> Judged:
        ok = (self.lo is None or value >= self.lo) and (self.hi is None or value <= self.hi)
        return Judged(target=self.target, lo=self.lo, hi=self.hi, ok=ok)


class SetPlan(NamedTuple):
    """`tags`: device → tag → the name it has in the set. `deadband`: name → least change worth an event.
    `size`: number of names. `large`: some event of the set may exceed `MAX_BYTES`.
    `limits`: of the names that are judged."""

    name: str
    options: Measurement
    tags: Mapping[str, Mapping[str, str]]
    units: Mapping[str, str]
    deadband: Mapping[str, float]
    uncertainty: float
    size: int
    large: bool
    limits: Mapping[str, Limits]
    tags_rev: int | None


def prepare(config: Config, machine: str, tags_rev: int) -> tuple[SetPlan, ...]:
    """The sample sets of a machine; `tags_rev`: of the dictionary that has the units where events do not."""
    options = config.machines[machine]
    plans = []
    for name, measured in options.measurements.items():
        tags: dict[str, dict[str, str]] = {}
        units: dict[str, str] = {}
        deadband: dict[str, float] = {}
        limits: dict[str, Limits] = {}
        size, period = 0, 0
        for ref in measured.tags:
            device, tag = config.resolve(machine, ref)
            tags.setdefault(device, {})[tag] = ref
            described = config.devices[device].tags[tag]
            unit = getattr(described, "unit", None)
            if unit is not None and options.inline_units:
                units[ref] = unit
                size += len(ref) + len(unit) + 6
            band = measured.deadband if measured.deadband is not None else getattr(described, "deadband", None)
            if band:
                deadband[ref] = band
            judged = Limits(*(getattr(described, word, None) for word in ("target", "lo", "hi")))
            if judged.lo is not None or judged.hi is not None:
                limits[ref] = judged
                size += len(ref) + 2 * NUMBER_BYTES
            numeric = config.devices[device].value_type(tag) != "string"
            size += 2 * len(ref) + 26 + (NUMBER_BYTES if numeric else MAX_BYTES)
            period = max(period, config.devices[device].period(tag))
        plans.append(
            SetPlan(
                name,
                measured,
                tags,
                units,
                deadband,
                period / 1_000_000,
                len(measured.tags),
                size > MAX_BYTES,
                limits,
                None if options.inline_units else tags_rev,
            )
        )
    return tuple(plans)
