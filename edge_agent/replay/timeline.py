"""What a line of a timeline says: the language of `given:` and of recorded samples, checked and typed.

A line has a time, `at`, an offset from the start or an RFC 3339 time. Its other keys are tags (`tag` of the home
device, or `device/tag`) or the special keys `quality` with `tags`, `source_at`, `device`, `plc`, `agent`, `clock`,
`command`, `entries` of a ring buffer and `history`. Everything that is wrong with a timeline is found here, before
anything runs.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from config.errors import did_you_mean
from config.model import DeviceOptions
from config.units import duration
from drivers.base import Quality, Value
from drivers.ring.access import Slot
from drivers.ring.options import kind_of
from drivers.ring.plan import Plan
from edge_agent.clock import SECOND, parse_rfc3339
from edge_agent.commands.envelope import CLASSES
from edge_agent.replay import conditions
from edge_agent.replay import rings as rings_of
from edge_agent.replay.asking import TIMES
from edge_agent.replay.rings import Noted

Key: TypeAlias = tuple[str, str]
"""(device, tag)"""
Micros: TypeAlias = int

SPECIAL = ("at", "quality", "tags", "source_at", "device", "plc", "agent", "clock", "command", "entries", "history")
CONDITIONS = "conditions"
"""Type of a tag that tells of the device's own alarms."""
_QUALITIES = {"good": Quality.GOOD, "uncertain": Quality.UNCERTAIN, "bad": Quality.BAD}
_LATEST = 250_000_000_000 * SECOND
"""In the year 9892."""
_INTEGERS = re.compile(r"(u?)int(\d+)")
_BCD_MOST = {"bcd16": 9_999, "bcd32": 99_999_999}


class TimelineFault(ValueError):
    """A line that cannot be played. `line` counts from 0; `key` is the key at fault, if one is."""

    def __init__(self, what: str, *, key: str | None = None, line: int = 0) -> None:
        super().__init__(what)
        self.key = key
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What happens at one moment. Times are µs from the start; `clock` is a jump of the wall clock in µs."""

    at: Micros
    values: Mapping[Key, Value]
    quality: Quality | None = None
    tags: frozenset[Key] = frozenset()
    source_at: Micros | None = None
    lost: str | None = None
    back: str | None = None
    restarted: str | None = None
    agent: Literal["killed", "started"] | None = None
    clock: Micros = 0
    command: Mapping[str, Any] | None = None
    """As `asking.cloud_event` takes it."""
    noted: Mapping[str, tuple[Noted, ...]] = field(default_factory=dict)
    """Device → what it wrote into its ring."""
    history: bool = False
    """What was not seen is told by the device's history."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns lines as written into `Line`s. `home` is the device of bare tag names, if there is one."""

    devices: Mapping[str, DeviceOptions]
    home: str | None
    start: Micros
    """UTC µs of offset 0."""
    subject: str | None = None
    """The asset that commands are for which name none."""
    _plans: dict[str, Plan | None] = field(default_factory=dict)
    """Of the rings that were named so far."""

    def read(self, lines: Iterable[Mapping[str, Any]]) -> list[Line]:
        """All lines, in order. Raises `TimelineFault` for the first that is wrong."""
        done: list[Line] = []
        jumped = 0
        for index, raw in enumerate(lines):
            try:
                line = self.line(raw)
                if done and line.at < done[-1].at:
                    raise TimelineFault("the line is earlier than the one before it", key="at")
                jumped += line.clock
                if not 0 <= self.start + jumped + line.at <= _LATEST:
                    raise TimelineFault("the clock cannot show this time", key="clock" if line.clock else "at")
            except TimelineFault as fault:
                fault.line = index
                raise
            done.append(line)
        self._told_by_rings(done)
        return done

    def line(self, raw: Mapping[str, Any]) -> Line:
        """One line. Raises `TimelineFault`."""
        if "at" not in raw:
            raise TimelineFault("the line has no time: write `at: 10s`")
        at = self.moment(raw["at"], "at")
        if at < 0:
            raise TimelineFault(f"{raw['at']!r} is before the start", key="at")
        values = dict(self._value(name, value) for name, value in raw.items() if name not in SPECIAL)
        quality, tags = self._quality(raw, values)
        source_at = self.moment(raw["source_at"], "source_at") if "source_at" in raw else None
        if source_at is not None and not values:
            raise TimelineFault("`source_at` belongs to values, but the line names no tag", key="source_at")
        word, device = self._about(raw, "device", ("lost", "back"))
        _, restarted = self._about(raw, "plc", ("restarted",))
        agent = raw.get("agent")
        if agent not in (None, "killed", "started"):
            raise TimelineFault(f"`agent` is killed or started, not {agent!r}", key="agent")
        if not isinstance(raw.get("history", False), bool):
            raise TimelineFault(
                "`history` is true or false; a tag of this name is written DEVICE/history", key="history"
            )
        if raw.get("history") and word != "back" and agent != "started":
            raise TimelineFault("`history` belongs to `device: back` or `agent: started`", key="history")
        return Line(
            at=at,
            values=values,
            quality=quality,
            tags=tags,
            source_at=source_at,
            lost=device if word == "lost" else None,
            back=device if word == "back" else None,
            restarted=restarted,
            agent=agent,
            clock=span(raw["clock"], "clock") if "clock" in raw else 0,
            command=self._command(raw["command"]) if "command" in raw else None,
            noted=self._noted(raw["entries"], at) if "entries" in raw else {},
            history=bool(raw.get("history")),
        )

    def moment(self, text: object, key: str) -> Micros:
        """`12.5s` or an RFC 3339 time as µs from the start. Raises `TimelineFault`."""
        if isinstance(text, str) and re.match(r"\d{4}-", text):
            try:
                return parse_rfc3339(text) - self.start
            except ValueError as error:
                raise TimelineFault(f"{text!r} is not a time: {error}", key=key) from error
        return span(text, key)

    def key(self, name: str, where: str) -> Key:
        """The device and tag of a reference. Raises `TimelineFault`."""
        device, _, tag = name.rpartition("/")
        device = device or self.home or ""
        if not device:
            raise TimelineFault(f"which device does {name!r} belong to? write device/{name}", key=where)
        if device not in self.devices:
            raise TimelineFault(f"there is no device {device!r}{_hint(device, self.devices)}", key=where)
        if tag not in self.devices[device].tags:
            known = [*self.devices[device].tags, *SPECIAL]
            raise TimelineFault(f"device {device!r} has no tag {tag!r}{_hint(tag, known)}", key=where)
        return device, tag

    def _value(self, name: str, value: object) -> tuple[Key, Value]:
        device, tag = self.key(name, name)
        options = self.devices[device]
        try:
            if (kind := options.value_type(tag)) == CONDITIONS:
                return (device, tag), conditions.written(value)
            return (device, tag), as_type(value, kind, scaled=is_scaled(options.tags[tag]))
        except ValueError as error:
            raise TimelineFault(f"{name}: {error}", key=name) from error

    def _quality(self, raw: Mapping[str, Any], values: Mapping[Key, Value]) -> tuple[Quality | None, frozenset[Key]]:
        if "quality" not in raw:
            if "tags" in raw:
                raise TimelineFault("`tags` belongs to `quality`, which is not here", key="tags")
            return None, frozenset()
        word = raw["quality"]
        if word not in _QUALITIES:
            raise TimelineFault(f"`quality` is good, uncertain or bad, not {word!r}", key="quality")
        names = raw.get("tags")
        if names is None:
            if not values:
                raise TimelineFault("which tags? write `tags: […]` beside `quality`", key="quality")
            return _QUALITIES[word], frozenset(values)
        if isinstance(names, str):
            names = [names]
        if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
            raise TimelineFault("`tags` is a list of tag names", key="tags")
        return _QUALITIES[word], frozenset(self.key(name, "tags") for name in names)

    def _command(self, said: object) -> Mapping[str, Any]:
        if not isinstance(said, Mapping) or not isinstance(said.get("name"), str):
            raise TimelineFault("a command is written like {name: order.start, order_id: WO-1}", key="command")
        if said["name"] not in CLASSES and "." not in said["name"]:
            raise TimelineFault(f"there is no command {said['name']!r}{_hint(said['name'], CLASSES)}", key="command")
        if not isinstance(said.get("retained", False), bool):
            raise TimelineFault("`retained` is true or false", key="command")
        made = {key: self.moment(value, "command") if key in TIMES else value for key, value in said.items()}
        if "subject" not in made and self.subject is None:
            raise TimelineFault("which machine is the command for? write `subject: …` in it", key="command")
        return made if "subject" in made else {**made, "subject": self.subject}

    def _noted(self, said: object, at: Micros) -> Mapping[str, tuple[Noted, ...]]:
        """`entries: [{code: 2}]`, or `entries: {DEVICE: [{code: 2}]}`."""
        if isinstance(said, Mapping):
            named = {str(name): entries for name, entries in said.items()}
        else:
            rings = [name for name, device in self.devices.items() if getattr(device, "ring", None) is not None]
            home = self.home if self.home in rings or len(rings) != 1 else rings[0]
            if home is None:
                raise TimelineFault("which device? write `entries: {NAME: […]}`", key="entries")
            named = {home: said}
        made: dict[str, tuple[Noted, ...]] = {}
        for name, entries in named.items():
            device = self.devices.get(name)
            plan = None if device is None else self._plan(name, device)
            if device is None or plan is None:
                raise TimelineFault(f"there is no device {name!r} with a ring", key="entries")
            if not isinstance(entries, Sequence) or isinstance(entries, str):
                raise TimelineFault("`entries` is a list: [{code: 2, time: 9.2s}]", key="entries")
            made[name] = tuple(self._entry(device, plan, entry, at) for entry in entries)
        return made

    def _plan(self, name: str, device: DeviceOptions) -> Plan | None:
        if name not in self._plans:
            self._plans[name] = rings_of.plan_of(device)
        return self._plans[name]

    def _entry(self, device: DeviceOptions, plan: Plan, said: object, at: Micros) -> Noted:
        if isinstance(said, str):
            if said not in rings_of.LOSSES:
                raise TimelineFault(
                    f"entries are lost by {' or '.join(rings_of.LOSSES)}, not {said!r}", key="entries"
                )
            return Noted(lost=said)
        code = said.get("code") if isinstance(said, Mapping) else None
        if not isinstance(said, Mapping) or not isinstance(code, int) or isinstance(code, bool) or code == 0:
            raise TimelineFault(
                "an entry is written {code: 2, time: 9.2s} with the fields of the ring", key="entries"
            )
        if "time" in said and not plan.timed:
            raise TimelineFault("the entries of this ring have no time", key="entries")
        fields = rings_of.fields_of(device)
        values: dict[str, Value | None] = dict.fromkeys(fields)
        for name, value in said.items():
            if name in ("code", "time"):
                continue
            if name not in fields:
                raise TimelineFault(
                    f"an entry has no {name!r}{_hint(name, ['code', 'time', *fields])}", key="entries"
                )
            try:
                values[name] = as_type(value, kind_of(fields[name]), scaled=is_scaled(fields[name]))
            except ValueError as error:
                raise TimelineFault(f"{name}: {error}", key="entries") from error
        needed = {change.field for change in plan.codes.get(code, ()) if change.field is not None}
        if missing := sorted(name for name in needed if values.get(name) is None):
            raise TimelineFault(
                f"code {code} takes {', '.join(missing)}, which the entry does not have", key="entries"
            )
        stamp = self.moment(said["time"], "entries") if "time" in said else at if plan.timed else None
        return Noted(Slot("", code, stamp, values))

    def _told_by_rings(self, lines: Sequence[Line]) -> None:
        """A tag is told by lines or by entries, not by both."""
        told = {(name, tag) for name, plan in self._plans.items() if plan is not None for tag in plan.tags}
        for index, line in enumerate(lines):
            for device, tag in line.values:
                if (device, tag) in told:
                    raise TimelineFault(
                        f"{tag!r} is told by the `entries` of the ring here; write no value of it",
                        key=tag,
                        line=index,
                    )

    def _about(self, raw: Mapping[str, Any], key: str, words: Collection[str]) -> tuple[str | None, str | None]:
        """(word, device) of `device: lost` or `device: {lost: NAME}`."""
        if key not in raw:
            return None, None
        said = raw[key]
        word, device = next(iter(said.items())) if isinstance(said, Mapping) and len(said) == 1 else (said, self.home)
        if word not in words:
            raise TimelineFault(f"`{key}` is {' or '.join(words)}, not {word!r}", key=key)
        if device is None:
            raise TimelineFault(f"which device? write `{key}: {{{word}: NAME}}`", key=key)
        if device not in self.devices:
            raise TimelineFault(f"there is no device {device!r}{_hint(device, self.devices)}", key=key)
        return word, device


def span(text: object, key: str) -> Micros:
    """A duration with an optional sign, `+3600s`, in µs. Raises `TimelineFault`."""
    sign, rest = (-1, text[1:]) if isinstance(text, str) and text.startswith("-") else (1, text)
    if isinstance(rest, str):
        rest = rest.removeprefix("+")
    try:
        return sign * duration(rest)
    except ValueError as error:
        raise TimelineFault(f"{text!r} is not a time: write it like 10s, 250ms or 5min", key=key) from error


def is_scaled(options: object) -> bool:
    """Of a tag or a field of a ring."""
    return any(getattr(options, word, None) is not None for word in ("scale", "offset"))


def as_type(value: object, type_: str, *, scaled: bool = False) -> Value:
    """The value as the driver would give it. Raises ValueError when the tag's type cannot hold it."""
    if type_ == "string":
        if isinstance(value, str):
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                raise ValueError(f"{value!r} holds half of a character")
            return value
        raise ValueError(f"the tag is a string, {value!r} is not: put it in quotes")
    if type_ == "bool":
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise ValueError(f"the tag is true or false, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the tag is a number ({type_}), not {value!r}")
    if type_.startswith("float") or scaled:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("the tag is a number of 64 bits, which this is too large for") from None
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            raise ValueError(f"the tag is a whole number ({type_}), not {value!r}")
        value = int(value)
    least, most = _range(type_)
    if not least <= value <= most:
        raise ValueError(f"{value} does not fit into {type_} ({least} to {most})")
    return value


def _range(type_: str) -> tuple[float, float]:
    if type_ in _BCD_MOST:
        return 0, _BCD_MOST[type_]
    match = _INTEGERS.fullmatch(type_)
    if match is None:
        return -math.inf, math.inf
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _hint(word: str, known: Collection[str]) -> str:
    near = did_you_mean(word, known)
    return f"; {near}" if near else ""
