"""From a file to a `Config`: every fault of the file in one report, or a configuration that is sound.

The order: YAML with positions, included files, lists of machines, templates, each device and each machine against
its model, then what they say about each other. A part with faults does not stop the others from being checked.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from config import references, words, yaml12
from config.errors import ConfigFaults, Fault, Problem, did_you_mean, listed
from config.fit import Fitted, Fitting
from config.include import included
from config.machine_list import listed_machines
from config.model import Config, DeviceOptions, MachineOptions, Options, Warned
from config.references import CheckExpression, Device, References
from config.report import Place, Report, at
from config.secrets import masked
from config.source import TOP, Source, read
from config.templates import Templates, check_outside
from config.yaml12 import Document, Map, Node, Scalar, Seq

_PARTS = ("devices", "machines", "templates")


class Origin(NamedTuple):
    """Where a value was written; `template` is empty for values that no template gave."""

    file: str
    line: int
    template: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"template {self.template}, {place}" if self.template else place


@dataclass(frozen=True)
class Loaded:
    """A configuration that can be used. `origins` is dotted path → place, for values that were written. `file` is the
    name that the user gave, `sources` all that it was read from, `parts` what was written, templates expanded."""

    config: Config
    warnings: tuple[Fault, ...]
    origins: Mapping[str, Origin]
    base_dir: FilePath
    file: str
    sources: tuple[Source, ...]
    parts: Mapping[tuple[str, ...], Node] = field(repr=False)

    @functools.cached_property
    def hash(self) -> str:
        """Sixteen hex digits, equal for files that mean the same; tests and secrets do not count."""
        return digest(self.config, self.base_dir)

    def running(self) -> "Loaded":
        """What an agent keeps for as long as it runs: not the text, which with thousands of devices is a tenth of
        its memory."""
        return replace(self, sources=(), parts={})


def load(
    path: str | FilePath,
    drivers: Mapping[str, type[DeviceOptions]],
    *,
    check_expression: CheckExpression | None = None,
    host_name: str | None = None,
) -> Loaded:
    """Read and check the file. `drivers` is the options model for every `driver:` value.

    `check_expression` gives the tag names of an expression, or raises ValueError (with `offset`); without it
    expressions are not looked into. Raises ConfigFaults with every error and warning of the file.
    """
    return load_source(read(path), FilePath(path).absolute().parent, drivers, check_expression, host_name)


def load_source(
    source: Source,
    base_dir: FilePath,
    drivers: Mapping[str, type[DeviceOptions]],
    check_expression: CheckExpression | None = None,
    host_name: str | None = None,
) -> Loaded:
    """The same for a text that is already here."""
    document = yaml12.parse(source)
    return _Loading(document, base_dir, drivers, check_expression).finish(host_name)


class _Loading:
    def __init__(
        self,
        document: Document,
        base_dir: FilePath,
        drivers: Mapping[str, type[DeviceOptions]],
        check_expression: CheckExpression | None,
    ) -> None:
        self.report = Report(document.source, document.faults)
        self.root = listed_machines(included(document.root, self.report, base_dir), self.report, base_dir)
        self._file = document.source.file
        self.base_dir = base_dir
        self.drivers = drivers
        self.check_expression = check_expression
        self.devices: dict[str, Fitted[DeviceOptions] | None] = {}
        self.machines: dict[str, Fitted[MachineOptions]] = {}
        self.nodes: dict[str, Map] = {}

    def finish(self, host_name: str | None) -> Loaded:
        """Check everything, in the order in which things depend on each other."""
        check_outside(self.root, self.report)
        head = self._head(host_name)
        templates = Templates(self._section("templates"), self.report)
        expanded = [
            (name, key, machine)
            for name, key, node in self._named("machines")
            if (machine := templates.expand(name, node)) is not None
        ]
        templates.warn_unused()
        for name, key, node in self._named("devices"):
            self._device(name, node, ("devices", name), Place(key.span, ""))
        for name, key, node in expanded:
            self.machines[name] = self._machine(name, key, node)
        self._refer(head)
        if head.value is None or self.report.failed:
            raise ConfigFaults(self.report.faults)
        return self._loaded(head.value)

    def _head(self, host_name: str | None) -> Fitted[Config]:
        """All but devices and machines."""
        items = {key: entry for key, entry in self.root.items.items() if key not in _PARTS}
        given: dict[str, Any] = {"devices": {}, "machines": {}}
        key, agent = items.get("agent", (Scalar("agent", "agent", TOP), Map({}, TOP)))
        if isinstance(agent, Map) and "id" not in agent.items:
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", host_name or _host_name()).strip("-") or "edge-agent"
            named = (Scalar("id", "id", key.span), Scalar(name, name, key.span))
            items["agent"] = (key, Map({**agent.items, "id": named}, agent.span))
        if self.root.get("buffer") is None:  # its default path counts from the file's folder too
            items["buffer"] = (Scalar("buffer", "buffer", TOP), Map({}, TOP))
        node = Map(items, self.root.span)
        site = {"enterprise": "enterprise", "site": "site", "area": "area"}
        fitted = Fitting(self.report, (), self.base_dir).fit(Config, node, given, spare={"version": 1, "site": site})
        for name in ("mqtt", "http", "devices", "machines", "templates"):
            references.secrets_in_plain_text(self.report, self.root.get(name) or node, (name,))
        if fitted.value is not None:
            references.missing_files(self.report, fitted.value.mqtt, fitted.node)
            references.open_page(self.report, fitted.value.http, fitted.node)
        return fitted

    def _section(self, name: str) -> Node | None:
        """A section of names; a fault and None if it is something else."""
        node = self.root.get(name)
        if node is None or isinstance(node, Map) or (isinstance(node, Scalar) and node.value is None):
            return node if isinstance(node, Map) else None
        place = at(self.root, (name,), key=True)
        self.report.add(place, Problem("E307", f"'{name}' needs a mapping (name: …)"), (name,))
        return None

    def _named(self, section: str) -> list[tuple[str, Scalar, Map]]:
        """Name, key and value of the mappings in a section."""
        found = []
        node = self._section(section)
        for key, value in node if isinstance(node, Map) else ():
            path, place = (section, key.value), Place(key.span, "")
            if not isinstance(key.value, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", key.value):
                self.report.add(place, words.bad_name(key.value, key.raw), path)
            if not isinstance(value, Map):
                self.report.add(place, Problem("E307", f"'{key.value}' needs a mapping (name: value)"), path)
            else:
                found.append((str(key.value), key, value))
        return found

    def _machine(self, name: str, own: Scalar, node: Map) -> Fitted[MachineOptions]:
        device = node.get("device")
        if isinstance(device, Map):
            key = node.items["device"][0]
            if name in self.devices:
                what = f"machine '{name}' has a device of its own, and there is a device '{name}'"
                problem = Problem("E311", what, fix="rename one of the two")
                self.report.add(Place(key.span, key.template), problem, ("machines", name, "device"), machine=name)
            else:
                home = Place(key.span, key.template)
                self._device(name, device, ("machines", name, "device"), home, name)
            alias = Scalar(name, name, own.span)
            node = Map({**node.items, "device": (key, alias)}, node.span, node.template)
        home = Place(own.span, "")
        fitting = Fitting(self.report, ("machines", name), self.base_dir, machine=name, home=home)
        return fitting.fit(MachineOptions, node, spare={"line": "line", "device": name})

    def _device(self, name: str, node: Map, path: tuple[str, ...], home: Place, machine: str = "") -> None:
        self.devices[name] = None
        self.nodes[name] = node
        driver = node.get("driver")
        word = driver.value if isinstance(driver, Scalar) else None
        if not isinstance(word, str) or word not in self.drivers:
            known = sorted(self.drivers)
            what = f"there is no driver '{word}'" if isinstance(word, str) else f"device '{name}' needs a 'driver'"
            problem = Problem(
                "E312", what, why=f"known: {listed(known)}", fix=did_you_mean(word, known) if word else ""
            )
            self.report.add(at(node, ("driver",), home=home), problem, (*path, "driver"), machine=machine)
            return
        fitting = Fitting(self.report, path, self.base_dir, machine, word, self.drivers, home)
        fitted = fitting.fit(self.drivers[word], node)
        self.devices[name] = fitted
        if fitted.value is not None:
            for warning in fitted.value.warnings():
                self._warn(fitted, warning, path, machine)

    def _warn(self, fitted: Fitted[DeviceOptions], warning: Warned, path: tuple[str, ...], machine: str) -> None:
        problem = Problem(warning.code, warning.message, fix=warning.fix)
        self.report.add(at(fitted.node, warning.path), problem, (*path, *warning.path), machine=machine)

    def _refer(self, head: Fitted[Config]) -> None:
        """What the parts say about each other."""
        devices = {name: Device(_tags(node), _value(self.devices[name])) for name, node in self.nodes.items()}
        machines = self._section("machines")
        names = [str(key.value) for key, _ in machines] if isinstance(machines, Map) else []
        promised = {name: Device(None) for name in names if name not in self.machines}
        check = References(self.report, {**promised, **devices}, names, self.check_expression)
        for name, fitted in self.machines.items():
            check.machine(name, fitted)
        own = {name: fitted.value.device for name, fitted in self.machines.items() if fitted.value is not None}
        if head.value is not None:
            if head.value.calendar is not None:
                check.calendar(head.value.calendar, head.node)
            if head.value.calendar is None or not head.value.calendar.shifts:
                check.no_shifts(self.machines)
            for index, test in enumerate(head.value.tests):
                check.test(index, test, head.node, own)
        if not names and not self.report.failed:
            place = at(self.root, ("machines",), key=True)
            self.report.add(place, Problem("W407", "there is no machine: nothing will be sent"), ("machines",))

    def _loaded(self, head: Config) -> Loaded:
        devices = {name: fitted.value for name, fitted in self.devices.items() if fitted and fitted.value}
        machines = {name: fitted.value for name, fitted in self.machines.items() if fitted.value}
        config = head.model_copy(update={"devices": devices, "machines": machines})
        warnings = tuple(self.report.faults)
        parts = dict(self._parts())
        return Loaded(
            config,
            warnings,
            self._origins(parts),
            self.base_dir,
            self._file,
            tuple(self.report.sources.values()),
            parts,
        )

    def _parts(self) -> Iterator[tuple[tuple[str, ...], Node]]:
        yield from (((str(key.value),), node) for key, node in self.root if key.value not in _PARTS)
        yield from ((("devices", name), fitted.node) for name, fitted in self.devices.items() if fitted)
        yield from ((("machines", name), fitted.node) for name, fitted in self.machines.items())

    def _origins(self, parts: Mapping[tuple[str, ...], Node]) -> dict[str, Origin]:
        found: dict[str, Origin] = {}
        for prefix, part in parts.items():
            for path, node in yaml12.walk(part):
                if isinstance(node, Scalar | Seq):
                    dotted = ".".join(map(str, (*prefix, *path)))
                    found[dotted] = Origin(node.span.file or self._file, node.span.line, node.template)
        return found


def digest(config: Config, base_dir: FilePath) -> str:
    """Sixteen hex digits for what the configuration means; paths below `base_dir` count without it."""
    import hashlib  # not every command asks for the hash
    import json

    data = {name: value for name, value in dumped(config).items() if name != "tests"}
    text = json.dumps(masked(data), sort_keys=True, ensure_ascii=False)
    text = text.replace(json.dumps(f"{base_dir}/", ensure_ascii=False)[1:-1], "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dumped(value: Any) -> Any:
    """A configuration as plain data. pydantic's own dump would first build a serializer for every model."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Options):
        fields = type(value).model_fields
        return {field.alias or name: dumped(getattr(value, name)) for name, field in fields.items()}
    if isinstance(value, Mapping):
        return {str(key): dumped(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [dumped(inner) for inner in value]
    return value


def _host_name() -> str:
    import platform

    return platform.node()


def _tags(node: Map) -> list[str]:
    tags = node.get("tags")
    return [str(key.value) for key, _ in tags] if isinstance(tags, Map) else []


def _value(fitted: Fitted[DeviceOptions] | None) -> DeviceOptions | None:
    return None if fitted is None else fitted.value
