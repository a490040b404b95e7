"""What a machine needs of each tag, worked out once from the configuration.

A tag is known inside the machine by its key `device/tag`. A tag is *essential* when it decides something that
must be right after a restart: the state, a counter, a reason. The others only feed sample sets.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from config.model import Config, Counter, DowntimeOptions, MachineOptions
from edge_agent.clock import SECOND
from edge_agent.machine import expressions
from edge_agent.machine.calendar import Calendar, calendar_of, calendar_set
from edge_agent.machine.expressions import Expression
from edge_agent.machine.mapping import StateMapping, mapping

MEMBERS: Final = ("total", "good", "scrap", "rework")
AFFECTS: Final = ("state", "count", "alarm", "measurement", "consumption")
"""Words of `data.gap`, in its order."""
_MIN_TIMEOUT: Final = 10 * SECOND
_BITS: Final = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
_DIGITS: Final = {"bcd16": 4, "bcd32": 8}


class RegisterPlan(NamedTuple):
    """One register of a counter group. `wrap` is the number of values until it rolls over, None if it never does;
    `mask` folds a negative reading of a signed register; `period` is µs between samples; `part` is what one part adds
    to the register; `bit`: it is a bool, whose edges count."""

    key: str
    tag: str
    wrap: int | None
    mask: bool
    float32: bool
    period: int
    part: float = 1.0
    bit: bool = False


class DevicePlan(NamedTuple):
    """What one device's batch may concern. `essential`: tag → key; `used`: also the tags of sample sets.
    `timeout`: µs without a good sample until the device counts as lost. `conditions`: tag of conditions → key."""

    name: str
    used: frozenset[str]
    essential: Mapping[str, str]
    state: frozenset[str]
    counters: frozenset[str]
    affects: tuple[str, ...]
    timeout: int
    conditions: Mapping[str, str] = {}


class Plan(NamedTuple):
    """The machine, worked out. `roles`: key → the (group, member) it counts for; `hint_roles`: key → groups whose
    reset it announces; `checked`: groups whose members must add up; `fed`: word in `affects` of `data.gap` → the
    essential tags behind it; `eager`: samples that change nothing matter too; `factors`: key → counter
    groups whose parts per count it holds; `defects`: counter group → key of its defect code; `patience`: the longest
    that a state waits to be accepted, µs; `fingerprints`: what must not have changed for stored state to be
    believed."""

    name: str
    options: MachineOptions
    subject: str
    devices: Mapping[str, DevicePlan]
    periods: Mapping[str, int]
    state_keys: frozenset[str]
    mapping: StateMapping | None
    eager: bool
    windows: Mapping[str, int]
    counters: Mapping[str, Mapping[str, RegisterPlan]]
    roles: Mapping[str, tuple[tuple[str, str], ...]]
    hint_roles: Mapping[str, tuple[str, ...]]
    checked: frozenset[str]
    factors: Mapping[str, tuple[str, ...]]
    defects: Mapping[str, str]
    downtime: DowntimeOptions
    reason_key: str | None
    calendar: Calendar
    configured: Calendar
    planned_when: Expression | None
    settle: int
    fed: Mapping[str, frozenset[str]]
    patience: int
    fingerprints: Mapping[str, str]

    def uncertainty(self, key: str | None) -> float:
        """± seconds of a time stamp that comes from the tag."""
        return self.periods.get(key or "", 0) / SECOND

    def timeout(self, key: str) -> int:
        return self.devices[key.partition("/")[0]].timeout

    def label(self, key: str) -> str:
        """The tag as events name it: `device.tag`."""
        return key.replace("/", ".", 1)


def with_calendar(known: Plan, calendar: str | None) -> Plan:
    """The plan with a calendar of the MOM (JSON of `MomCalendar`), or with the configured one again."""
    if calendar is None:
        return known._replace(calendar=known.configured)
    return known._replace(calendar=calendar_set(calendar, known.name, known.configured.tz))


def plan(
    config: Config,
    name: str,
    parts: Mapping[str, frozenset[str]],
    past: Mapping[str, int],
    conditions: frozenset[str] = frozenset(),
) -> Plan:
    """`parts`: word in `affects` → tags that parts hear; `past`: those of which they need the past, µs; `conditions`:
    tags of conditions that they hear.

    Raises ValueError for an expression that does not parse; a checked configuration has none."""
    options = config.machines[name]

    def key(ref: str) -> str:
        return "/".join(config.resolve(name, ref))

    state = options.state
    windows = dict(past)
    downtime = options.downtime or DowntimeOptions()
    planned_when = None if downtime.planned_when is None else expressions.parse(downtime.planned_when, key)
    reason_key = key(downtime.reason) if downtime.reason is not None else None
    counters = {group: _registers(config, key, counter) for group, counter in options.counters.items()}
    registers = {group: frozenset(one.key for one in found.values()) for group, found in counters.items()}
    mapped = mapping(options, key, registers)
    state_keys = mapped.keys if mapped is not None else frozenset()
    spans = {} if planned_when is None else {tag: round(span * SECOND) for tag, span in planned_when.windows.items()}
    for needed in (spans, mapped.windows if mapped is not None else {}):
        windows |= {tag: max(windows.get(tag, 0), span) for tag, span in needed.items()}
    hints = {group: tuple(key(ref) for ref in counter.reset_hints) for group, counter in options.counters.items()}
    counter_keys = {register.key for group in counters.values() for register in group.values()}
    factors = {
        group: key(counter.parts_per_count)
        for group, counter in options.counters.items()
        if isinstance(counter.parts_per_count, str)
    }
    defects = {
        group: key(counter.scrap_reason)
        for group, counter in options.counters.items()
        if counter.scrap_reason is not None
    }
    essential = {*state_keys, *counter_keys, *factors.values(), *defects.values()}
    essential |= {tag for tags in hints.values() for tag in tags}
    if reason_key is not None:
        essential.add(reason_key)
    if planned_when is not None:
        essential |= planned_when.tags
    sampled = {key(ref) for measured in options.measurements.values() for ref in measured.tags}
    fed = {"state": state_keys, "count": frozenset(counter_keys), **parts}
    core, essential = frozenset(essential), essential.union(*parts.values())
    devices = {
        device: _device(config, options, device, core, essential, sampled, fed, conditions)
        for device in sorted({tag.partition("/")[0] for tag in essential | sampled | conditions} | {options.device})
    }
    return Plan(
        name,
        options,
        config.subject(name),
        devices,
        {tag: _period(config, tag) for tag in essential | sampled},
        state_keys,
        mapped,
        mapped is not None and mapped.timed,
        windows,
        counters,
        {
            tag: tuple(
                (group, part) for group, found in counters.items() for part, at in found.items() if at.key == tag
            )
            for tag in counter_keys
        },
        {
            tag: tuple(group for group, tags in hints.items() if tag in tags)
            for tags in hints.values()
            for tag in tags
        },
        frozenset(group for group, found in counters.items() if {"total", "good", "scrap"} <= set(found)),
        {tag: tuple(group for group, found in factors.items() if found == tag) for tag in factors.values()},
        defects,
        downtime,
        reason_key,
        calendar_of(config, name),
        calendar_of(config, name),
        planned_when,
        options.settle,
        {word: fed[word] for word in AFFECTS if word in fed},
        0 if state is None else max((SECOND, state.min_duration, *state.debounce.values())),
        {
            "state": digest("" if state is None else f"{state!r} {options.mode!r}"),
            **{
                f"counter {group} {member}": digest(
                    json.dumps([register._replace(period=0), counter.wrap_to, counter.parts_per_count])
                )
                for group, counter in options.counters.items()
                for member, register in counters[group].items()
            },
            **{f"tag {tag}": digest(_meaning(config, tag))[:8] for tag in essential},
        },
    )


def digest(text: str) -> str:
    """Fingerprint of a configuration."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _meaning(config: Config, key: str) -> str:
    device, _, tag = key.partition("/")
    return config.devices[device].meaning(tag)


def _period(config: Config, key: str) -> int:
    device, _, tag = key.partition("/")
    return config.devices[device].period(tag)


def _device(
    config: Config,
    options: MachineOptions,
    device: str,
    core: frozenset[str],
    essential: set[str],
    sampled: set[str],
    fed: Mapping[str, frozenset[str]],
    conditions: frozenset[str],
) -> DevicePlan:
    def own(keys: Collection[str]) -> dict[str, str]:
        return {key.partition("/")[2]: key for key in sorted(keys) if key.partition("/")[0] == device}

    needed = own(essential)
    paced = own(core) or needed
    scan = max((_period(config, key) for key in paced.values()), default=config.devices[device].scan)
    auto = max(3 * scan, _MIN_TIMEOUT)
    feeding = {**fed, "measurement": fed.get("measurement", frozenset()) | sampled}
    return DevicePlan(
        device,
        frozenset(needed) | frozenset(own(sampled)),
        needed,
        frozenset(own(fed["state"]).values()),
        frozenset(own(fed["count"]).values()),
        tuple(word for word in AFFECTS if own(feeding.get(word, ()))),
        auto if options.comms_timeout == "auto" else options.comms_timeout,
        own(conditions),
    )


def _registers(config: Config, key: Callable[[str], str], counter: Counter) -> Mapping[str, RegisterPlan]:
    found: dict[str, RegisterPlan] = {}
    for member in MEMBERS:
        ref = getattr(counter, member)
        if ref is None:
            continue
        name = key(ref)
        device, _, tag = name.partition("/")
        kind = config.devices[device].value_type(tag)
        options = config.devices[device].tags[tag]
        scaled = getattr(options, "scale", None) not in (None, 1) or bool(getattr(options, "offset", None))
        wrap = counter.wrap
        if wrap is None and not scaled:
            wrap = 1 << _BITS[kind] if kind in _BITS else 10 ** _DIGITS[kind] if kind in _DIGITS else None
        mask = wrap is not None and (kind == "int16" or counter.wrap is not None) and wrap == 1 << _BITS.get(kind, 0)
        part = counter.resolution
        if wrap is not None and part != 1:
            wrap = round(wrap / part)
        found[member] = RegisterPlan(
            name, tag, wrap, mask, kind == "float32", _period(config, name), part, kind == "bool"
        )
    return found
