"""A first configuration from the tags of a device: which of them say what the machine does, and the text of the file.

Signals are suggested by the words of their names and by their types; a person decides. Pure.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edge_agent.tag_table import Row, flow, yaml_line

_WORDS = re.compile(r"[A-ZÄÖÜ]+(?![a-zäöüß])|[A-ZÄÖÜ]?[a-zäöüß]+|[^\W\d_a-zA-ZäöüßÄÖÜ]+")
_COUNTER = (
    "total", "counter", "count", "cnt", "parts", "pieces", "pcs", "produced", "good", "ok", "qty", "quantity",
    "strokes", "shots", "cycles", "trays", "stück", "stueck", "stückzahl", "stueckzahl", "zähler", "zaehler",
    "teile", "menge",
    "计数", "产量", "总数",
)  # fmt: skip
_SCRAP = ("scrap", "reject", "rejects", "rejected", "nok", "bad", "waste", "defect", "defects", "ausschuss", "废品")
_STATE = (
    "status", "state", "running", "run", "zustand", "betrieb", "läuft", "laeuft", "producing", "active",
    "状态", "运行",
)  # fmt: skip
_REASON = ("fault", "error", "störung", "stoerung", "fehler", "故障")
_PACKML = ("StateCurrent", "Sts.StateCurrent")
_INTEGERS = frozenset(
    ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bcd16", "bcd32", "counter")
)
_FLOATS = frozenset(("float32", "float64"))
_MOST_MEASURED = 10


class Signals(NamedTuple):
    """Names of tags that look like it, the likeliest first."""

    counters: tuple[str, ...]
    scraps: tuple[str, ...]
    states: tuple[str, ...]
    reasons: tuple[str, ...]


class Chosen(NamedTuple):
    """What the file says of the machine. `running`: values of the state tag, as written in YAML; of a bool none."""

    machine: str
    line: str = "line1"
    counter: str | None = None
    scrap: str | None = None
    state: str | None = None
    running: tuple[str, ...] = ()
    reason: str | None = None
    """Tag of the machine's fault code."""


def words(name: str) -> list[str]:
    """`FaultCode`, `fault_code` and `FAULT-CODE` are fault and code."""
    return [word.casefold() for word in _WORDS.findall(name)]


def signals(tags: Iterable[Row]) -> Signals:
    """What the tags look like by their names and types."""
    tags = list(tags)
    integers = [row.tag for row in tags if kind(row) in _INTEGERS]
    told = [row.tag for row in tags if kind(row) in _INTEGERS or kind(row) in ("bool", "string", "cycle")]
    scraps = _like(integers, _SCRAP)
    reasons = tuple(tag for tag in _like(integers, _REASON) if tag not in scraps)
    states = tuple(tag for tag in _like(told, _STATE) if tag not in (*scraps, *reasons))
    counters = tuple(tag for tag in _like(integers, _COUNTER) if tag not in (*scraps, *states, *reasons))
    return Signals(counters, scraps, states, reasons)


def _like(tags: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The tags with a wanted word, by the place of the word in the list."""
    ranked = [(min(map(wanted.index, found)), tag) for tag in tags if (found := set(words(tag)) & set(wanted))]
    return tuple(tag for _, tag in sorted(ranked, key=lambda one: one[0]))


def kind(row: Row) -> str:
    """The type of a tag; Modbus has one that need not be written."""
    written = row.settings.get("type") or row.settings.get("kind")
    if written is not None:
        return str(written)
    one_bit = str(row.settings.get("reference", "")).startswith(("0", "1"))
    return "bool" if one_bit or {"coil", "discrete", "bit"} & row.settings.keys() else "uint16"


def packml(tag: str) -> bool:
    """Whether the tag holds a PackML state by its standard name."""
    return tag in _PACKML


def text(
    device: Sequence[str], tags: Sequence[Row], chosen: Chosen, *, site: Sequence[str], broker: str | None
) -> str:
    """The whole file. `device`: the lines of the device but its tags; `site`: enterprise, site, area."""
    reason = f", reason: {flow(chosen.reason)}" if chosen.reason is not None else ""
    measured = [row.tag for row in tags if kind(row) in _FLOATS][:_MOST_MEASURED]
    lines = [
        "# yaml-language-server: $schema=./edge-agent.schema.json",
        "# The schema gives completion in an editor: edge-agent config schema > edge-agent.schema.json",
        "version: 1",
        "",
        f"site: {{enterprise: {site[0]}, site: {site[1]}, area: {site[2]}, timezone: UTC}}",
        "",
        *_mqtt(broker),
        "",
        "machines:",
        f"  {chosen.machine}:",
        f"    line: {chosen.line}",
        "    device:",
        *(f"      {line}" for line in device),
        "      tags:",
        *(f"        {yaml_line(row.tag, row.settings)}" for row in tags),
        *_state(chosen, next((row for row in tags if row.tag == chosen.state), None)),
        *_counters(chosen),
        f"    downtime: {{microstop: 300s{reason}}}      # shorter stops are micro-stops",
    ]
    if measured:
        lines += ["    measurements:", f"      process: {{tags: [{', '.join(map(flow, measured))}], every: 10s}}"]
    return "\n".join(lines) + "\n"


def _mqtt(broker: str | None) -> Iterator[str]:
    yield "mqtt:"
    if broker is None:
        yield "  url: mqtt://127.0.0.1:1883         # elsewhere: mqtts://broker.example:8883 with ca_file"
    else:
        yield f"  url: {json.dumps(broker)}"
    yield "  # username: line3-ipc01"
    yield "  # password: {env: MQTT_PASSWORD}   # or {file: PATH} or {credential: NAME}; never in plain text"


def _state(chosen: Chosen, row: Row | None) -> Iterator[str]:
    yield "    state:"
    if row is None:
        yield "      activity: {counter: main, timeout: 60s}      # it runs while parts are counted"
        return
    yield f"      from: {flow(row.tag)}"
    if packml(row.tag) and not chosen.running:
        yield "      preset: packml_tr88"
    elif kind(row) == "bool":
        yield "      map: {true: running, false: stopped}"
    else:
        values = ", ".join(f"{value}: running" for value in chosen.running)
        yield f"      map: {{{values}}}      # add the others: 1: idle, 3: setup, 8: fault, …"
        yield "      default: stopped"


def _counters(chosen: Chosen) -> Iterator[str]:
    if chosen.counter is None and chosen.scrap is None:
        return
    parts = [] if chosen.counter is None else [f"total: {flow(chosen.counter)}"]
    parts += [] if chosen.scrap is None else [f"scrap: {flow(chosen.scrap)}"]
    yield "    counters:"
    yield f"      main: {{{', '.join(parts)}, max_rate: 5/s}}      # more parts than this are not believed"


def opcua(url: str, security: Mapping[str, Any] | None, identity: Mapping[str, Any] | None = None) -> list[str]:
    """The lines of a device. `security`: policy and mode; None for a connection without. `identity`: who logs in,
    None for anybody."""
    lines = ["driver: opcua", f"url: {json.dumps(url, ensure_ascii=False)}"]
    if identity is not None:
        lines.append(f"identity: {flow(identity)}")
    if security is None:
        return [
            *lines,
            "security: none                 # everyone on the network can read and forge",
            "insecure: true",
        ]
    if security == {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}:
        return lines
    return [*lines, f"security: {flow(security)}"]


def modbus(url: str, unit: int) -> list[str]:
    """The lines of a device."""
    return [
        "driver: modbus",
        f"url: {json.dumps(url, ensure_ascii=False)}",
        f"unit: {unit}",
        "scan: 1s",
        "word_order: big                # little if 32-bit values make no sense: edge-agent read --all-decodings",
    ]
