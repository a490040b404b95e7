"""What a machine is made of: its state, counters, downtime and measurements, with the template already expanded."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.alarms import AlarmOptions, ConditionOptions, check_codes
from config.calendar import KpiOptions
from config.consumption import MeterOptions
from config.counters import Counter
from config.cycles import CycleOptions
from config.errors import Problem, did_you_mean
from config.kinds import Code, Name, Options, TagRef
from config.mapping import ModeOptions, StateOptions
from config.orders import Coded, CodeTable, ContextOptions, GenealogyOptions, OrderOptions
from config.states import Category
from config.units import Duration, between


class Reason(Options):
    """What a reason code of the machine means."""

    text: str | None = None
    """What people call it."""
    category: Category | None = None
    """Whose stop it is; default: by the machine's state."""
    code: Annotated[str, Field(min_length=1)] | None = None
    """What the MOM calls it; default: the machine's own code."""


class DowntimeOptions(Options):
    """How stops are told apart and named."""

    microstop: Duration = 300_000_000
    """A stop that is shorter is a micro-stop."""
    reason: TagRef | None = None
    """Tag that holds the machine's reason code; 0 or empty is no reason."""
    reasons: Mapping[Code, Reason] = {}
    """The machine's reason code → text and category."""
    merge_gap: Duration = 0
    """A run shorter than this between two stops does not end the downtime."""
    planned_when: str | None = None
    """Expression over tags; while it is true a stop is planned."""


class Measurement(Options):
    """A sample set: `every: 1s` (interval) or `on: change`."""

    tags: Annotated[tuple[TagRef, ...], Field(min_length=1)]
    """Values that are sent together."""
    every: Annotated[Duration, between("1ms", "1d")] | None = None
    """Sent at this interval."""
    on: Literal["change", "cycle", "batch"] | None = None
    """Sent when a value changes, when a cycle ends, when the batch changes."""
    deadband: Annotated[float, Field(ge=0)] | None = None
    """With `on: change`: smaller changes are not reported."""
    statistics: bool = False
    """Instead of single values: number, least, greatest, mean and spread of all since the event before."""

    @model_validator(mode="after")
    def _one_trigger(self) -> "Measurement":
        if (self.every is None) == (self.on is None):
            raise Problem(
                "E302", "a measurement needs exactly one of 'every' and 'on'", fix="every: 1s, or on: change"
            )
        if self.statistics and self.on == "change":
            why = "they stand for many values, so they need an end: 'every', or on: cycle or batch"
            raise Problem("E303", "'statistics' does not go with on: change", why=why, at=("statistics",))
        return self


class MachineOptions(Options):
    """One machine (ISA-95 work unit), its template already expanded."""

    line: Name
    """The production line; the level above the machine in the asset path."""
    device: Name
    """Name of the device that bare tag names belong to."""
    state: StateOptions | None = None
    """Where the machine's state comes from."""
    mode: ModeOptions | None = None
    """What people want of the machine (production, setup, maintenance …), apart from what it does."""
    activity_watchdog: Literal["report", "enforce"] = "report"
    """Running without a count for 3 × `ideal_cycle`, at least 10s: it is said, or it counts as stopped."""
    counters: Mapping[Name, Counter] = {}
    """Groups of production counters; most machines have one, called main."""
    downtime: DowntimeOptions | None = None
    """How stops are told apart and named; without it with the defaults."""
    ideal_cycle: Annotated[Duration, between("1ms", "30d")] | None = None
    """Time for one part at full speed."""
    measurements: Mapping[Name, Measurement] = {}
    """Sets of values that are sent as they are."""
    alarms: tuple[AlarmOptions, ...] = ()
    """Limits, bits and words of bits that are published as alarms."""
    conditions: tuple[ConditionOptions, ...] = ()
    """Alarms that the device keeps itself, with its acknowledgement (OPC UA alarms and conditions)."""
    cycles: CycleOptions | None = None
    """What a cycle of the machine is, and what is noted of it."""
    consumption: Mapping[Name, MeterOptions] = {}
    """Energy, material and media by their meters."""
    orders: OrderOptions | None = None
    """Who says what is made; without it the machine knows no orders."""
    context: ContextOptions | None = None
    """Tags that say what is made, by whom and with what."""
    codes: Mapping[Coded, CodeTable] = {}
    """What the PLC's numbers mean for the MOM: `product: {12: BRKT-4411}`."""
    genealogy: tuple[GenealogyOptions, ...] = ()
    """Scanners whose readings link materials, lots and pieces."""
    comms_timeout: Annotated[Duration, between("100ms", "1d")] | Literal["auto"] = "auto"
    """Without a good sample for so long the state is unknown; auto is max(3 × scan, 10 s)."""
    settle: Duration = 5_000_000
    """After a PLC restart, before its values are believed."""
    flush: Annotated[Duration, between("1s", "10s")] = 2_000_000
    """How long counts are gathered into one event; 1 s to 10 s."""
    kpi: KpiOptions | None = None
    """Which key figures are made; default: of each shift, where the calendar has shifts."""
    inline_units: bool = True
    """Samples carry their unit."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "MachineOptions":
        if self.state is not None and self.state.activity is not None:
            name = self.state.activity.counter
            if name not in self.counters:
                fix = did_you_mean(name, self.counters) or "write it under counters:"
                raise Problem("E302", f"no counter '{name}'", fix=fix, at=("state", "activity", "counter"))
        check_codes(self.alarms)
        per_cycle = [name for name, measured in self.measurements.items() if measured.on == "cycle"]
        counted = "main" in self.counters
        if self.cycles is not None and not self.cycles.by_tags and not counted:
            why = "without 'start' and 'end' each advance of counter main is a cycle"
            raise Problem("E302", "'cycles' needs 'start' or 'end', or a counter main", why=why, at=("cycles",))
        if per_cycle and self.cycles is None and not counted:
            why = "there is neither 'cycles' nor a counter main, so nothing tells when a cycle ends"
            raise Problem("E302", "on: cycle needs cycles", why=why, at=("measurements", per_cycle[0], "on"))
        return self
