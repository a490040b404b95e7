"""The rows of a configuration: its tags and units, what the numbers of its PLCs mean, what its machines publish.

Scopes (see `Entry`): a raw value has one meaning for one tag and use, whichever machine reads it. The codes that
leave the agent as causes (reasons and alarms) and resources have one meaning in the whole configuration, because the
MOM files them by code.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from config.model import Config, DeviceOptions, MachineOptions, TagOptions
from config.units import as_written
from edge_agent.dictionary.entry import Entry

UNITS: Mapping[str, str] = {
    "H87": "piece",
    "KGM": "kilogram",
    "GRM": "gram",
    "TNE": "tonne",
    "KWH": "kilowatt hour",
    "KWT": "kilowatt",
    "WTT": "watt",
    "CEL": "degree Celsius",
    "BAR": "bar",
    "MBR": "millibar",
    "PAL": "pascal",
    "MPA": "megapascal",
    "LTR": "litre",
    "MTQ": "cubic metre",
    "MQH": "cubic metre per hour",
    "SEC": "second",
    "C26": "millisecond",
    "MIN": "minute",
    "HUR": "hour",
    "MTR": "metre",
    "MMT": "millimetre",
    "C16": "millimetre per second",
    "RPM": "revolutions per minute",
    "P1": "percent",
    "AMP": "ampere",
    "VLT": "volt",
    "HTZ": "hertz",
    "B47": "kilonewton",
    "NEW": "newton",
}
"""UN/ECE Recommendation 20, the common ones: code → name."""
_NO_ADDRESS = frozenset({*TagOptions.model_fields, "type", "sampling"})
_REGISTERS = ("total", "good", "scrap", "rework")


def entries(config: Config) -> Iterator[Entry]:
    """Every row but those of event fields."""
    yield from _units(config)
    for name, device in config.devices.items():
        yield from _tags(name, device)
    for name, machine in config.machines.items():
        yield from _Machine(config, name, machine).entries()


def _units(config: Config) -> Iterator[Entry]:
    used = {
        unit: f"devices.{name}.tags.{tag}.unit"
        for name, device in reversed(list(config.devices.items()))
        for tag, options in reversed(list(device.tags.items()))
        if (unit := getattr(options, "unit", None)) is not None
    }
    if any(machine.counters for machine in config.machines.values()):
        used.setdefault("H87", "")
    for unit in sorted(used):
        yield Entry("unit", "", code=unit, text=UNITS.get(unit, ""), place=used[unit])


def _tags(name: str, device: DeviceOptions) -> Iterator[Entry]:
    for tag, options in device.tags.items():
        yield Entry(
            "tag",
            name,
            name=tag,
            text=_conversion(options),
            unit=getattr(options, "unit", None) or "",
            type=device.value_type(tag),
            source=_address(options),
            place=f"devices.{name}.tags.{tag}",
        )


def _address(options: Any) -> str:
    """What the driver's own model says of the tag: `holding 200, word_order big`."""
    fields = type(options).model_fields
    said = {key: as_written(fields[key], getattr(options, key)) for key in fields if key not in _NO_ADDRESS}
    written = {key: value for key, value in said.items() if key in options.model_fields_set and value is not None}
    return ", ".join(f"{key} {value}" for key, value in written.items())


def _conversion(options: Any) -> str:
    said = [f"× {options.scale:g}"] if getattr(options, "scale", None) is not None else []
    if getattr(options, "offset", None) is not None:
        said.append(f"{options.offset:+g}")
    return " ".join(said)


class _Machine:
    def __init__(self, config: Config, name: str, options: MachineOptions) -> None:
        self._config = config
        self._name = name
        self._options: Any = options
        self._place = f"machines.{name}"

    def entries(self) -> Iterator[Entry]:
        yield from self._state()
        yield from self._mode()
        yield from self._counters()
        yield from self._reasons()
        yield from self._alarms()
        yield from self._measurements()
        yield from self._cycles()
        yield from self._consumption()
        yield from self._context()

    def _source(self, ref: str | None) -> str:
        return "/".join(self._config.resolve(self._name, ref)) if ref else ""

    def _unit(self, ref: str) -> str:
        device, tag = self._config.resolve(self._name, ref)
        return getattr(self._config.devices[device].tags[tag], "unit", None) or ""

    def _type(self, ref: str) -> str:
        device, tag = self._config.resolve(self._name, ref)
        return self._config.devices[device].value_type(tag)

    def _values(self, kind: str, ref: str | None, values: Mapping[Any, Any], place: str) -> Iterator[Entry]:
        """What the raw values of a tag mean."""
        source = self._source(ref)
        for raw, meaning in values.items():
            text = str(meaning)
            yield Entry(
                kind,
                self._name,
                name=ref or "",
                code=str(raw),
                text=text,
                source=source,
                place=f"{self._place}.{place}.{raw}",
                scope=f"{kind} {source or self._name}",
                meaning=text,
            )

    def _state(self) -> Iterator[Entry]:
        state = self._options.state
        if state is None:
            return
        where = "state.map" if state.preset is None else "state.preset"
        yield from self._values("state", state.source, state.states, where)
        for said, when in state.signals.items():
            place = f"{self._place}.state.signals.{said}"
            yield Entry("state", self._name, code=str(said), text=when, place=place)
        for index, rule in enumerate(state.rules or ()):
            yield Entry(
                "state",
                self._name,
                code=str(rule.state),
                text=rule.when or "else",
                place=f"{self._place}.state.rules.{index}",
            )
            if rule.reason is not None:
                place = f"{self._place}.state.rules.{index}.reason"
                yield self._cause("reason", rule.reason, rule.reason, "", place)

    def _mode(self) -> Iterator[Entry]:
        mode = self._options.mode
        if mode is not None:
            where = "mode.map" if mode.preset is None else "mode.preset"
            yield from self._values("mode", mode.source, mode.modes, where)

    def _counters(self) -> Iterator[Entry]:
        for name, counter in self._options.counters.items():
            for register in _REGISTERS:
                if (ref := getattr(counter, register)) is not None:
                    place = f"{self._place}.counters.{name}.{register}"
                    yield Entry(
                        "counter",
                        self._name,
                        name=name,
                        code=register,
                        unit="H87",
                        type=self._type(ref),
                        source=self._source(ref),
                        place=place,
                    )

    def _cause(self, kind: str, code: str, text: str, category: str, place: str, ref: str | None = None) -> Entry:
        meaning = f"{text} ({category})" if text and category else text or category
        return Entry(
            kind,
            self._name,
            name=ref or "",
            code=code,
            text=text,
            type=category,
            source=self._source(ref),
            place=place,
            scope="cause",
            meaning=meaning,
        )

    def _reasons(self) -> Iterator[Entry]:
        downtime = self._options.downtime
        if downtime is None:
            return
        for raw, reason in downtime.reasons.items():
            place = f"{self._place}.downtime.reasons.{raw}"
            if reason.code is not None:
                scope = f"reason {self._source(downtime.reason) or self._name}"
                entry = self._cause("reason", str(raw), reason.code, "", place, downtime.reason)
                yield entry._replace(scope=scope, meaning=reason.code)
            code = reason.code or str(raw)
            yield self._cause("reason", code, reason.text or "", reason.category or "", place, downtime.reason)

    def _alarms(self) -> Iterator[Entry]:
        for index, alarm in enumerate(self._options.alarms):
            place = f"{self._place}.alarms.{index}"
            if alarm.word is None:
                yield self._alarm(alarm, place, alarm.source)
            for bit, one in alarm.bits.items():
                entry = self._alarm(one, f"{place}.bits.{bit}", alarm.source)
                yield entry._replace(source=f"{entry.source} bit {bit}")

    def _alarm(self, alarm: Any, place: str, ref: str) -> Entry:
        entry = self._cause("alarm", str(alarm.code), alarm.text or "", alarm.category or "", place, ref)
        said = [entry.type, f"severity {alarm.severity}", "stops the machine" if alarm.stops_machine else ""]
        return entry._replace(type=", ".join(filter(None, said)))

    def _measurements(self) -> Iterator[Entry]:
        for name, measured in self._options.measurements.items():
            for ref in measured.tags:
                place = f"{self._place}.measurements.{name}"
                yield Entry(
                    "measurement",
                    self._name,
                    name=name,
                    code=ref,
                    unit=self._unit(ref),
                    type=self._type(ref),
                    source=self._source(ref),
                    place=place,
                )

    def _cycles(self) -> Iterator[Entry]:
        cycles = self._options.cycles
        if cycles is None:
            return
        yield from self._values("result", cycles.result, cycles.results, "cycles.results")
        for ref in cycles.params:
            place = f"{self._place}.cycles.params"
            yield Entry(
                "param",
                self._name,
                code=ref,
                unit=self._unit(ref),
                type=self._type(ref),
                source=self._source(ref),
                place=place,
            )

    def _consumption(self) -> Iterator[Entry]:
        for name, meter in self._options.consumption.items():
            source = self._source(meter.tag)
            yield Entry(
                "resource",
                self._name,
                name=name,
                code=meter.resource or name,
                text=meter.kind,
                unit=self._unit(meter.tag),
                source=source,
                place=f"{self._place}.consumption.{name}",
                scope="resource",
                meaning=f"{meter.kind} of {source}",
            )

    def _context(self) -> Iterator[Entry]:
        """Tags of the context, and the PLC's numbers that stand for codes of the MOM."""
        refs: dict[str, str] = {}
        orders, context = getattr(self._options, "orders", None), getattr(self._options, "context", None)
        for options, keys in ((orders, {"tag": "order", "operation": "operation"}), (context, None)):
            for key in type(options).model_fields if options is not None else ():
                ref = getattr(options, key)
                if isinstance(ref, str) and (keys is None or key in keys):
                    refs[key if keys is None else keys[key]] = ref
        for key, ref in refs.items():
            yield Entry("context", self._name, name=key, type=self._type(ref), source=self._source(ref))
        for key, values in (getattr(self._options, "codes", None) or {}).items():
            yield from self._values(key, refs.get(key), values, f"codes.{key}")
