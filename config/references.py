"""Do the parts of a configuration fit each other: tags, devices, machines, expressions, files.

Runs over the parts that are sound, so that one misspelt word does not hide the others.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

from config.calendar import CalendarOptions
from config.errors import Problem, did_you_mean, listed
from config.fit import Fitted
from config.model import DeviceOptions, Http, MachineOptions, Mqtt, Test
from config.report import Path, Place, Report, at
from config.sampling import too_slow
from config.source import Span, is_secret
from config.yaml12 import Map, Node, Scalar

CheckExpression = Callable[[str], Collection[str]]
"""Names of the tags in an expression. Raises ValueError, with `offset` where it knows it, if it cannot be read."""

_TEST_WORDS = frozenset(
    ("at", "source_at", "quality", "tags", "device", "lost", "agent", "plc", "clock", "command", "downtime_id",
     "alarm_id", "order_run_id", "entries", "history")
)  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A device as far as it is known: `tags` are those that were written, None if that cannot be told because its
    machine's template failed; `options` is what was sound of it."""

    tags: Collection[str] | None
    options: DeviceOptions | None = None


@dataclass(frozen=True)
class References:
    """Checks against the devices and machines of one file."""

    report: Report
    devices: Mapping[str, Device]
    machines: Collection[str]
    check_expression: CheckExpression | None

    def machine(self, name: str, fitted: Fitted[MachineOptions]) -> None:
        """Every tag that the machine names, and what its counters and rules are made of."""
        machine = fitted.value
        if machine is None:
            return
        if not fitted.is_whole(("device",)) or not self._device(name, machine, fitted):
            return
        for path, ref in _references(machine):
            self._tag(name, machine.device, fitted.node, path, ref)
            if self._type(machine.device, ref) == "conditions":
                problem = Problem("E410", f"'{ref}' holds conditions, not a value", fix="conditions: [{from: TAG}]")
                self._add(name, fitted.node, path, problem)
        for index, wanted in enumerate(machine.conditions):
            spot: Path = ("conditions", index, "from")
            self._tag(name, machine.device, fitted.node, spot, wanted.source)
            if (kind := self._type(machine.device, wanted.source)) not in (None, "conditions"):
                problem = Problem("E410", f"'{wanted.source}' is {kind}, and must be of type conditions")
                self._add(name, fitted.node, spot, problem)
        for counter, registers in machine.counters.items():
            for register in ("total", "good", "scrap", "rework"):
                ref = getattr(registers, register)
                if ref is not None and self._type(machine.device, ref) == "string":
                    problem = Problem(
                        "E406", f"'{ref}' is text and cannot be counted", fix="choose a tag with a number"
                    )
                    self._add(name, fitted.node, ("counters", counter, register), problem)
        self._parts(name, machine, fitted.node)
        if machine.downtime is not None and machine.downtime.planned_when is not None:
            text = machine.downtime.planned_when
            self._expression(name, machine.device, fitted.node, ("downtime", "planned_when"), text)
        for path, text in _conditions(machine):
            self._expression(name, machine.device, fitted.node, path, text)
        for path, problem in too_slow(machine, lambda ref: self._find(machine.device, ref)):
            self._add(name, fitted.node, path, problem)

    def _parts(self, name: str, machine: MachineOptions, node: Map) -> None:
        """The expressions of cycles, and what tags of alarms and meters must hold."""
        for role in ("start", "end"):
            text = getattr(machine.cycles, role) if machine.cycles is not None else None
            if text is not None:
                self._expression(name, machine.device, node, ("cycles", role), text)
        for colour, lamp in machine.state.lamps.items() if machine.state is not None else ():
            if (kind := self._type(machine.device, lamp)) not in (None, "bool"):
                problem = Problem("E410", f"'{lamp}' is {kind}, and must be true or false", why="a lamp is on or off")
                self._add(name, node, ("state", "lamps", colour), problem)
        for index, alarm in enumerate(machine.alarms):
            kind, word = self._type(machine.device, alarm.source), "tag" if alarm.tag is not None else "word"
            whole = kind is not None and kind not in ("bool", "string") and not kind.startswith("float")
            if kind is None or (whole if word == "word" else kind != "string" if alarm.limited else kind == "bool"):
                continue
            needs = (
                ("a whole number", "bits: are those of an integer") if word == "word"
                else ("a number", "a limit is compared with one") if alarm.limited
                else ("true or false", "without 'high' or 'low' the tag itself is the alarm")
            )  # fmt: skip
            problem = Problem("E410", f"'{alarm.source}' is {kind}, and must be {needs[0]}", why=needs[1])
            self._add(name, node, ("alarms", index, word), problem)
        planned = machine.orders.quantity if machine.orders is not None else None
        if planned is not None and (kind := self._type(machine.device, planned)) in ("string", "bool"):
            problem = Problem("E410", f"'{planned}' is {kind}, and must be a number", why="it is a planned quantity")
            self._add(name, node, ("orders", "quantity"), problem)
        for meter, options in machine.consumption.items():
            path: Path = ("consumption", meter, "tag")
            kind = self._type(machine.device, options.tag)
            if kind in ("string", "bool"):
                self._add(name, node, path, Problem("E410", f"'{options.tag}' is {kind}, and must be a number"))
            elif kind is not None and self._unit(machine.device, options.tag) is None:
                why = "an amount without a unit means nothing to those who receive it"
                problem = Problem("E411", f"'{options.tag}' has no unit", why=why, fix="unit: KWH at the tag")
                self._add(name, node, path, problem)

    def calendar(self, calendar: CalendarOptions, node: Map) -> None:
        """The machines that planned maintenance names."""
        for index, planned in enumerate(calendar.maintenance):
            for place, machine in enumerate(planned.machines or ()):
                if machine not in self.machines:
                    spot: Path = ("calendar", "maintenance", index, "machines", place)
                    self.report.add(at(node, spot), self._no_machine(machine), spot)

    def no_shifts(self, machines: Mapping[str, Fitted[MachineOptions]]) -> None:
        """A warning for every machine that is asked for the figures of shifts where none are configured."""
        for name, fitted in machines.items():
            asked = fitted.value.kpi if fitted.value is not None else None
            if asked is not None and "windows" in asked.model_fields_set and "shift" in asked.windows:
                problem = Problem(
                    "W416",
                    "there are no shifts, so there are no key figures of shifts",
                    why="until the MOM sends a calendar with calendar.set",
                    fix="calendar: {shifts: [{name: A, start: 06:00, end: 14:00}]}, or leave shift out",
                )
                self._add(name, fitted.node, ("kpi", "windows"), problem)

    def _no_machine(self, name: str) -> Problem:
        fix = did_you_mean(name, self.machines)
        return Problem("E407", f"no machine '{name}'", why=f"known: {listed(self.machines)}", fix=fix)

    def test(self, index: int, test: Test, node: Map, own: Mapping[str, str]) -> None:
        """The machine and the tags that a test names; `own` is machine → device."""
        path: Path = ("tests", index)
        if test.machine not in self.machines:
            self.report.add(at(node, (*path, "machine")), self._no_machine(test.machine), (*path, "machine"))
            return
        device = own.get(test.machine)
        if device is None:
            return
        for line, entries in enumerate(test.given):
            for word in entries:
                if word not in _TEST_WORDS and (unknown := self._unknown_tag(device, str(word))):
                    spot = (*path, "given", line, word)
                    self.report.add(at(node, spot, key=True), unknown, spot)

    def _device(self, name: str, machine: MachineOptions, fitted: Fitted[MachineOptions]) -> bool:
        if machine.device in self.devices:
            return True
        near = did_you_mean(machine.device, self.devices)
        there = f"known: {listed(self.devices)}" if self.devices else "there are none"
        problem = Problem("E408", f"no device '{machine.device}'", why=there, fix=near or "write it under devices:")
        self._add(name, fitted.node, ("device",), problem)
        return False

    def _add(self, machine: str, node: Map, path: Path, problem: Problem) -> None:
        self.report.add(at(node, path), problem, ("machines", machine, *path), machine=machine)

    def _tag(self, name: str, device: str, node: Map, path: Path, ref: str) -> None:
        if problem := self._unknown_tag(device, ref):
            self._add(name, node, path, problem)

    def _unknown_tag(self, own: str, ref: str) -> Problem | None:
        """Why the reference leads nowhere; None if it leads to a tag."""
        device, _, tag = ref.rpartition("/")
        known = self.devices.get(device or own)
        if known is None:
            near = did_you_mean(device, self.devices)
            return Problem("E408", f"no device '{device}'", why=f"'{ref}' means tag '{tag}' of it", fix=near)
        if known.tags is None or tag in known.tags:
            return None
        elsewhere = [f"{name}/{tag}" for name, other in self.devices.items() if tag in (other.tags or ())]
        near = did_you_mean(tag, known.tags)
        fix = near or (f"did you mean '{elsewhere[0]}'?" if elsewhere else "")
        why = f"the tags of device '{device or own}' are {listed(known.tags)}" if known.tags else "it has no tags"
        return Problem("E401", f"no tag '{tag}'", why=why, fix=fix)

    def _find(self, own: str, ref: str) -> tuple[DeviceOptions, str] | None:
        device, _, tag = ref.rpartition("/")
        known = self.devices.get(device or own)
        if known is None or known.options is None or tag not in known.options.tags:
            return None
        return known.options, tag

    def _type(self, own: str, ref: str) -> str | None:
        found = self._find(own, ref)
        return None if found is None else found[0].value_type(found[1])

    def _unit(self, own: str, ref: str) -> str | None:
        device, _, tag = ref.rpartition("/")
        options = self.devices[device or own].options
        unit: str | None = None if options is None else options.tags[tag].unit
        return unit

    def _expression(self, machine: str, device: str, node: Map, path: Path, text: str) -> None:
        if self.check_expression is None:
            return
        place, scalar = at(node, path), _scalar(node, path)
        try:
            names = self.check_expression(text)
        except ValueError as error:
            offset = getattr(error, "offset", None)
            spot = self._inside(place, scalar, offset if isinstance(offset, int) else 0)
            problem = error if isinstance(error, Problem) else _unreadable(error, text, offset)
            self.report.add(spot, problem, ("machines", machine, *path), machine=machine)
            return
        for name in sorted(names):
            if unknown := self._unknown_tag(device, name):
                found = re.search(rf"(?<![\w/-]){re.escape(name)}(?![\w/])", text)
                spot = self._inside(place, scalar, found.start() if found else 0)
                self.report.add(spot, unknown, ("machines", machine, *path), machine=machine)

    def _inside(self, place: Place, scalar: Scalar | None, offset: int) -> Place:
        """The place of a character of a scalar, if the scalar stands in the file as it is."""
        if scalar is None or not isinstance(scalar.value, str):
            return place
        start = self.report.slice(place.span).find(scalar.value)
        if start < 0 or not 0 <= offset <= len(scalar.value):
            return place
        column = place.span.column + start + offset
        return Place(Span(place.span.line, column, place.span.line, column + 1, place.span.file), place.template)


def _unreadable(error: ValueError, text: str, offset: object) -> Problem:
    found = Problem.of(error, "E402")
    near = f"near '{text[offset : offset + 20].strip()}'" if isinstance(offset, int) and text[offset:].strip() else ""
    what = "this rule cannot be read" + (f", {near}" if near else "")
    return Problem(found.code, what, why=found.why or found.what, fix=found.fix)


def _scalar(node: Node, path: Path) -> Scalar | None:
    for step in path:
        if isinstance(node, Map) and step in node.items:
            node = node.items[step][1]
        elif not isinstance(node, Map | Scalar) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node if isinstance(node, Scalar) else None


def _conditions(machine: MachineOptions) -> Iterator[tuple[Path, str]]:
    """The expressions that make the state, with their paths."""
    if machine.state is None:
        return
    for index, rule in enumerate(machine.state.rules or ()):
        if rule.when is not None:
            yield ("state", "rules", index, "when"), rule.when
    for state, text in machine.state.signals.items():
        yield ("state", "signals", state.value), text


def _references(machine: MachineOptions) -> Iterator[tuple[Path, str]]:
    """Every tag reference of a machine with its path."""
    if machine.state is not None and machine.state.source is not None:
        yield ("state", "from"), machine.state.source
    if machine.state is not None:
        for colour, lamp in machine.state.lamps.items():
            yield ("state", "lamps", colour), lamp
    if machine.mode is not None:
        yield ("mode", "from"), machine.mode.source
    for name, counter in machine.counters.items():
        for register in ("total", "good", "scrap", "rework"):
            ref = getattr(counter, register)
            if ref is not None:
                yield ("counters", name, register), ref
        yield from _each(("counters", name, "reset_hints"), counter.reset_hints)
        if isinstance(counter.parts_per_count, str):
            yield ("counters", name, "parts_per_count"), counter.parts_per_count
        if counter.scrap_reason is not None:
            yield ("counters", name, "scrap_reason"), counter.scrap_reason
    if machine.downtime is not None and machine.downtime.reason is not None:
        yield ("downtime", "reason"), machine.downtime.reason
    for index, alarm in enumerate(machine.alarms):
        yield ("alarms", index, "tag" if alarm.tag is not None else "word"), alarm.source
    if machine.cycles is not None:
        for role in ("result", "program"):
            ref = getattr(machine.cycles, role)
            if ref is not None:
                yield ("cycles", role), ref
        yield from _each(("cycles", "params"), machine.cycles.params)
    if machine.orders is not None:
        yield from _named(("orders",), machine.orders, "tag", "operation", "quantity")
    if machine.context is not None:
        yield from _named(("context",), machine.context, *type(machine.context).model_fields)
    for index, scanner in enumerate(machine.genealogy):
        yield from _named(("genealogy", index), scanner, "read", "strobe", "grade")
    for name, meter in machine.consumption.items():
        yield ("consumption", name, "tag"), meter.tag
    for name, measurement in machine.measurements.items():
        yield from _each(("measurements", name, "tags"), measurement.tags)


def _named(path: Path, options: object, *names: str) -> Iterator[tuple[Path, str]]:
    for name in names:
        ref = getattr(options, name)
        if ref is not None:
            yield (*path, name), ref


def _each(path: Path, refs: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for index, ref in enumerate(refs):
        yield (*path, index), ref


def secrets_in_plain_text(report: Report, node: Node, path: Sequence[Any]) -> None:
    """A warning for every secret that stands in the file."""
    if not isinstance(node, Map):
        return
    for key, value in node:
        if key.value == "tags":
            continue
        spot = (*path, key.value)
        if isinstance(value, Scalar):
            if is_secret(key.value) and value.value is not None and "${" not in value.raw:
                problem = Problem(
                    "W110",
                    "a secret in plain text",
                    why="everyone who can read the file knows it",
                    fix=f"{key.value}: {{credential: NAME}}, {{file: PATH}} or {{env: NAME}}",
                )
                report.add(Place(value.span, value.template), problem, spot)
        else:
            secrets_in_plain_text(report, value, spot)


def missing_files(report: Report, mqtt: Mqtt, node: Map) -> None:
    """A warning for every certificate and key of the broker that is not there: it may come with the installation."""
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(mqtt, name)
        if path is not None and not FilePath(path).is_file():
            problem = Problem("W112", f"there is no file {path}", why="paths count from the folder of this file")
            report.add(at(node, ("mqtt", name)), problem, ("mqtt", name))


def open_page(report: Report, http: Http | Literal[False], node: Map) -> None:
    """A warning where other computers can read the page without a token."""
    if http and http.is_open:
        problem = Problem(
            "W120",
            f"the page listens on {http.listen} without a token",
            why="everyone on the network can read machines, counts and addresses",
            fix="token: {file: PATH} beside it, or listen: 127.0.0.1:8686",
        )
        report.add(at(node, ("http", "listen")), problem, ("http", "listen"))
