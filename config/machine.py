"""What a machine is made of: its state, counters, downtime and measurements, with the template already expanded."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from config.alarms import AlarmOptions, check_codes
from config.calendar import KpiOptions
from config.consumption import MeterOptions
from config.cycles import CycleOptions
from config.errors import Problem, did_you_mean
from config.kinds import Code, Name, Options, TagRef
from config.states import Category, State
from config.units import Duration, Rate, between


def check_rules(rules: Sequence["Rule"]) -> None:
    """Raises Problem unless every rule but the last has a condition."""
    if not rules or rules[-1].when is not None:
        at = ("rules", len(rules) - 1) if rules else ("rules",)
        fix = "add a last rule without when, e.g. - {state: idle}"
        raise Problem("E403", "the last rule must have no 'when'", why="it holds when no other does", fix=fix, at=at)
    for index, rule in enumerate(rules[:-1]):
        if rule.when is None:
            why = "it is always true, so the rules below it are never reached"
            raise Problem("E403", "a rule without 'when' before the last", why=why, at=("rules", index))


def _debounced(word: str) -> str:
    known = ["default", *State]
    if word not in known:
        fix = did_you_mean(word, known)
        raise Problem("E301", f"'{word}' is no state", why=f"allowed: {', '.join(known)}", fix=fix)
    return word


class Rule(Options):
    """First true rule wins; the last has no `when`."""

    state: State
    """The state while this rule is the first true one."""
    when: str | None = None
    """Expression over tags; the last rule has none."""
    reason: str | None = None
    """Text of the downtime that begins with this state."""


class StateOptions(Options):
    """Exactly one of `from` with `map`, or `rules`."""

    source: TagRef | None = Field(default=None, alias="from")
    """Tag that holds the state as a number or a word."""
    map: Mapping[Code, State] | None = None
    """What the tag says → state."""
    default: State = State.UNKNOWN
    """State of a value that is not in `map`."""
    rules: tuple[Rule, ...] | None = None
    """Expressions over tags, tried from the top; instead of `from` and `map`."""
    debounce: Mapping[Annotated[str, AfterValidator(_debounced)], Duration] = {}
    """State or `default` → time; built in: default 1s, fault 0s."""
    min_duration: Duration = 0
    """A state that lasts shorter is counted to the one before; 0s is off."""

    @model_validator(mode="after")
    def _one_form(self) -> "StateOptions":
        if self.rules is not None:
            if self.source is not None or self.map is not None:
                other = "from" if self.source is not None else "map"
                raise Problem("E404", "a state has 'from' with 'map', or 'rules', not both", at=(other,))
            check_rules(self.rules)
        elif self.source is None and self.map is None:
            raise Problem("E404", "a state needs 'from' with 'map', or 'rules'")
        elif self.source is None:
            raise Problem(
                "E404", "'map' needs 'from' beside it", why="from names the tag that is mapped", at=("map",)
            )
        elif not self.map:
            fix = "map: {1: idle, 2: running}"
            raise Problem(
                "E404", "'from' needs 'map' beside it", why="map says what a value means", fix=fix, at=("from",)
            )
        return self


class Counter(Options):
    """Registers of one counter group (event model §4)."""

    total: TagRef | None = None
    """Tag that counts every part."""
    good: TagRef | None = None
    """Tag that counts good parts."""
    scrap: TagRef | None = None
    """Tag that counts parts that were thrown away."""
    rework: TagRef | None = None
    """Tag that counts parts to be mended."""
    wrap: Annotated[int, Field(ge=2, le=1 << 64)] | None = None
    """Values until roll-over; default from the tag's type (2^16, 2^32)."""
    wrap_to: Literal[0, 1] = 0
    """First value after the roll-over."""
    max_rate: Annotated[Rate, Field(gt=0)] = 10.0
    """More than this cannot be produced: a larger step is not believed."""
    resets: Literal["never", "order", "shift", "unknown"] = "unknown"
    """When the machine sets the register to 0."""
    reset_hints: tuple[TagRef, ...] = ()
    """Tags whose change goes with a reset, e.g. the order number."""
    backward: Literal["correction", "ignore", "reset"] = "correction"
    """What a small step back means."""
    correction_max: Annotated[int, Field(ge=0)] = 20
    """Largest step back that is taken for a correction by hand."""
    jumps: Literal["reject", "accept"] = "reject"
    """What happens to a step that is larger than `max_rate` allows."""
    assume_good: bool = False
    """Without a good register: total minus scrap is good."""
    parts_per_count: Annotated[int, Field(ge=1)] = 1
    """Parts made in one count, e.g. cavities of a mould."""

    @model_validator(mode="after")
    def _counts_something(self) -> "Counter":
        if all(register is None for register in (self.total, self.good, self.scrap, self.rework)):
            raise Problem("E405", "a counter needs a tag", why="none of total, good, scrap and rework is set")
        return self


class Reason(Options):
    """What a reason code of the machine means."""

    text: str | None = None
    """What people call it."""
    category: Category | None = None
    """Whose stop it is; default: by the machine's state."""


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
    cycles: CycleOptions | None = None
    """What a cycle of the machine is, and what is noted of it."""
    consumption: Mapping[Name, MeterOptions] = {}
    """Energy, material and media by their meters."""
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
