"""`edge-agent init`: a first configuration that is right, runs, and says what to change.

Tags come from the device itself, from a spreadsheet of registers, or from what `browse` saved; nobody copies a node
id by hand. Which tag counts and which says that the machine runs is suggested by name; a person decides.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from edge_agent.cli.first_tags import Device
    from edge_agent.first_config import Chosen

Opcua = Annotated[str | None, typer.Option("--opcua", metavar="URL", help="An OPC UA server: opc.tcp://HOST:4840")]
Modbus = Annotated[str | None, typer.Option("--modbus", metavar="HOST", help="A Modbus TCP device: HOST or HOST:502")]
Unit = Annotated[int, typer.Option("--unit", min=0, max=255, help="Modbus unit.")]
From = Annotated[
    Path | None,
    typer.Option(
        "--from", "--from-csv", metavar="FILE", help="Tags from a CSV or YAML file: of browse, or registers."
    ),
]
Below = Annotated[str, typer.Option("--below", metavar="PATH", help="Tags from here: Press, holding/0-99.")]
Filter = Annotated[str, typer.Option("--filter", "-f", metavar="TEXT", help="Only what has the text in its path.")]
Machine = Annotated[str | None, typer.Option("--machine", metavar="NAME", help="The machine; default: machine-1.")]
Line = Annotated[str, typer.Option("--line", metavar="NAME", help="The production line.")]
Counter = Annotated[str | None, typer.Option("--counter", metavar="TAG", help="Counts every part.")]
Scrap = Annotated[str | None, typer.Option("--scrap", metavar="TAG", help="Counts parts that were thrown away.")]
Running = Annotated[
    str | None,
    typer.Option(
        "--running", metavar="TAG[=VALUE]", help="Says that the machine runs: Status=2; a bool without value."
    ),
]
SiteOption = Annotated[str, typer.Option("--site", metavar="A/B/C", help="Enterprise, site and area.")]
Broker = Annotated[str | None, typer.Option("--broker", metavar="URL", help="Of the MOM: mqtts://HOST:8883")]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Login at the OPC UA server; its password in OPCUA_PASSWORD."),
]
Unprotected = Annotated[
    bool, typer.Option("--insecure", help="OPC UA without security, though the server offers it.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Ask no device: write a file with examples to fill in.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Target = Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.START,
        examples=[
            "edge-agent init --opcua opc.tcp://10.20.1.11:4840 --running Status=2 --counter Total",
            "edge-agent init --modbus 10.20.1.31 --from registers.csv",
        ],
    )
    def init(
        ui: Ui,
        file: Target = Path("edge-agent.yaml"),
        opcua: Opcua = None,
        modbus: Modbus = None,
        unit: Unit = 1,
        tags: From = None,
        below: Below = "",
        only: Filter = "",
        machine: Machine = None,
        line: Line = "line1",
        counter: Counter = None,
        scrap: Scrap = None,
        running: Running = None,
        site: SiteOption = "acme/site1/area1",
        broker: Broker = None,
        user: User = None,
        insecure: Unprotected = False,
        offline: Offline = False,
        force: Force = False,
    ) -> None:
        """Write a first edge-agent.yaml: a simulated machine, or yours by its address, with the tags that it has.

        On a terminal it asks what the options leave open; otherwise it takes what is likeliest and says so.
        """
        if opcua is not None and modbus is not None:
            raise Stop(
                ExitCode.USAGE, "choose one of --opcua and --modbus", hints=["add the other device to the file"]
            )
        from edge_agent.cli import first_tags

        target = ui.config or file
        if not target.absolute().parent.is_dir():
            raise Stop(ExitCode.USAGE, f"there is no folder {target.parent}")
        if target.exists() and not force:
            hint = "write another file, or replace it with --force"
            raise Stop(ExitCode.WILL_NOT_OVERWRITE, f"{target} exists already", hints=[hint])
        wanted = first_tags.Wanted(opcua, modbus, unit, tags, below, only, insecure, offline, user)
        if tags is None and (offline or opcua is None) and not (modbus is not None and below):
            text, said = first_file(opcua, modbus), dict[str, Any]()
        else:
            from edge_agent.first_config import text as made_of

            device = first_tags.device(ui, target, wanted)
            chosen = choose(ui, device, machine, line, counter, scrap, running)
            text = made_of(device.lines, device.rows, chosen, site=_site(site), broker=broker)
            said = {"device": device.url, "tags": len(device.rows), **_told(chosen)}
            device.check(ui, text, target, chosen.machine)
        _check(text, target)
        with target.open("w" if force else "x", encoding="utf-8", newline="\n") as out:
            out.write(text)
        if ui.json:
            ui.result({"ok": True, "file": str(target), **said})
            return
        ui.result(f"{target} is written" + (f", with {said['tags']} tags" if said else ""))
        if not said and (opcua or modbus):
            better = "leave --offline out" if opcua else "begin with --from LIST or --below holding/0-99"
            ui.note(f"   the device was not asked and the tags are examples: write its own, or {better}")
        named = "" if target == Path("edge-agent.yaml") else f" {target}"
        ui.note(f"   check it:  edge-agent check{named}\n   try it:    edge-agent once{named}")
        ui.note(f"   run it:    edge-agent run{named}")


def choose(
    ui: Ui,
    device: "Device",
    machine: str | None,
    line: str,
    counter: str | None,
    scrap: str | None,
    running: str | None,
) -> "Chosen":
    """What was named, and what is likeliest for the rest; on a terminal the person is asked. Raises `Stop`."""
    from edge_agent.first_config import Chosen, kind, packml, signals

    like, asked = signals(device.rows), ui.asks()
    names = [row.tag for row in device.rows]
    if machine is None:
        machine = ui.ask("Name of the machine", "machine-1") if asked else "machine-1"
    if counter is None:
        counter = _pick(ui, "Which tag counts every part?", like.counters, names, "--counter", asked=asked)
    state, _, value = (running or "").partition("=")
    if not state and running is None:
        picked = _pick(ui, "Which tag says that it runs?", like.states, names, "--running", asked=asked, quiet=True)
        state = picked or ""
    for tag in filter(None, (counter, scrap, state)):
        _known(tag, names)
    if counter is None and not state:
        hints = ["--counter TAG or --running TAG[=VALUE]", f"the tags are {', '.join(names[:12])}"]
        raise Stop(ExitCode.USAGE, "no tag looks like a counter or says that the machine runs: name one", hints=hints)
    values = tuple(value.split(",")) if value else ()
    if state and not values:
        row = next(row for row in device.rows if row.tag == state)
        if kind(row) != "bool" and not packml(state):
            now = device.values.get(state)
            known = f", and it is {now} now" if now is not None else ""
            if asked:
                values = (ui.ask(f"Value of {state} when the machine runs{known}", "" if now is None else str(now)),)
            elif running is None and counter is not None:
                ui.note(f"   {state} may say that it runs{known}: --running {state}=VALUE; until then it runs while "
                        "parts are counted")  # fmt: skip
                state = ""
            else:
                hints = [f"--running {state}={'VALUE' if now is None else now}"]
                raise Stop(ExitCode.USAGE, f"{state} is no bool: say which value means running{known}", hints=hints)
        elif running is None and not asked:
            ui.note(f"   it runs while {state} says so; --running TAG[=VALUE] names another tag")
    if scrap is None and like.scraps and counter is not None:
        scrap = like.scraps[0]
        ui.note(f"   scrap is counted by {scrap}; --scrap names another tag")
    reason = like.reasons[0] if like.reasons and state else None
    return Chosen(machine, line, counter, scrap, state or None, tuple(map(_literal, values)), reason)


def _literal(value: str) -> str:
    """A value as it stands as a key in YAML."""
    from config.errors import Problem
    from config.yaml12 import core
    from edge_agent.tag_table import flow

    try:
        found = core(value)
    except Problem:
        found = value
    return flow(value) if isinstance(found, str) else value


def _pick(
    ui: Ui, question: str, likely: tuple[str, ...], names: list[str], option: str, *, asked: bool, quiet: bool = False
) -> str | None:
    if not asked:
        if likely and not quiet:
            others = f"; also likely: {', '.join(likely[1:4])}" if likely[1:] else ""
            ui.note(f"   {likely[0]} is taken as the counter{others}; {option} names another tag")
        return likely[0] if likely else None
    shown = list(dict.fromkeys([*likely, *names]))[:12]
    for number, name in enumerate(shown, 1):
        ui.note(f"   {number}  {name}{'   (likely)' if name in likely else ''}")
    answer = ui.ask(f"{question} Number, name, or - for none", "1" if likely else "-")
    if answer == "-":
        return None
    return shown[int(answer) - 1] if answer.isdecimal() and 0 < int(answer) <= len(shown) else answer


def _known(tag: str, names: list[str]) -> None:
    from config.errors import did_you_mean

    if tag not in names:
        hint = did_you_mean(tag, names) or f"the tags are {', '.join(names[:12])}"
        raise Stop(ExitCode.USAGE, f"there is no tag {tag!r}", hints=[hint])


def _site(text: str) -> list[str]:
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise Stop(ExitCode.USAGE, f"--site {text!r} needs three names", hints=["--site acme/shenzhen/stamping"])
    return parts


def _told(chosen: "Chosen") -> dict[str, Any]:
    return {"machine": chosen.machine, "counter": chosen.counter, "scrap": chosen.scrap, "state": chosen.state}


def first_file(opcua: str | None, modbus: str | None) -> str:
    """The text of the file."""
    device, mapping = _SIMULATED, _SIMULATED_MAP
    if opcua is not None:
        url = opcua if "://" in opcua else f"opc.tcp://{opcua}"
        device, mapping = _OPCUA.replace("<url>", _quoted(url)), _PLC_MAP
    elif modbus is not None:
        url = modbus if "://" in modbus else f"tcp://{modbus}"
        device, mapping = _MODBUS.replace("<url>", _quoted(url)), _PLC_MAP
    return _HEAD + device + mapping + _TAIL


def _check(text: str, target: Path) -> None:
    """The address may be wrong; say so before a file is written."""
    from config.errors import ConfigFaults
    from config.load import load_source
    from config.source import Source
    from drivers.registry import Drivers
    from edge_agent.machine.expressions import names

    try:
        load_source(Source(str(target), text), target.absolute().parent, Drivers().options(), names)
    except ConfigFaults as broken:
        fault = broken.faults[0]
        raise Stop(ExitCode.USAGE, fault.what, hints=[text for text in (fault.why, fault.fix) if text]) from None


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


_HEAD = """\
# yaml-language-server: $schema=./edge-agent.schema.json
# The schema gives completion in an editor: edge-agent config schema > edge-agent.schema.json
version: 1

# agent: {id: line3-ipc01}           # part of every event's source; default: the host name
site: {enterprise: acme, site: site1, area: area1, timezone: UTC}

mqtt:
  url: mqtt://127.0.0.1:1883         # elsewhere: mqtts://broker.example:8883 with ca_file, username and password
  # username: line3-ipc01
  # password: {env: MQTT_PASSWORD}   # or {file: PATH} or {credential: NAME}; never in plain text

# buffer: {path: data/buffer.db, max_size: 4GiB, keep_sent: 72h}

machines:
  press-1:
    line: line1
"""
_SIMULATED = """\
    device:
      driver: simulated              # no PLC needed; replace it by `driver: modbus` or `driver: opcua`
      scan: 500ms
      tags:
        status: {kind: cycle, values: [2, 2, 2, 8], every: 20s}
        total:  {kind: counter, rate: 1/s}
        temp:   {kind: sine, low: 180, high: 220, every: 60s, unit: CEL}
"""
_MODBUS = """\
    device:
      driver: modbus
      url: <url>
      unit: 1
      scan: 1s                       # how often it is read
      word_order: big                # `little` if 32-bit values make no sense
      tags:                          # change these to the registers of your PLC
        status: {holding: 0, type: uint16}      # holding: counts from 0; `reference: 40001` counts as the manual
        total:  {holding: 1, type: uint16}
        temp:   {holding: 2, type: float32, unit: CEL}
"""
_OPCUA = """\
    device:
      driver: opcua
      url: <url>
      # The connection is signed and encrypted with the agent's own certificate, which the server must trust.
      # For a server without security write: security: none and, below it, insecure: true
      tags:                          # change these to the nodes of your PLC
        status: {node: 'nsu=urn:acme:press;s=Status', type: int16}
        total:  {node: 'nsu=urn:acme:press;s=Total', type: uint16}
        temp:   {node: 'nsu=urn:acme:press;s=Temperature', type: float32, unit: CEL}
"""
_SIMULATED_MAP = """\
    state:
      from: status                   # the tag that says what the machine does
      map: {2: running, 8: fault}    # its numbers, as states
"""
_PLC_MAP = """\
    state:
      from: status                   # the tag that says what the machine does
      map: {1: idle, 2: running, 8: fault}      # its numbers, as states
"""
_TAIL = """\
    counters:
      main: {total: total, max_rate: 5/s}       # max_rate: more pieces than this are a fault of the counter
    downtime: {microstop: 300s}      # shorter stops are micro-stops
    measurements:
      process: {tags: [temp], every: 10s}

tests:                               # edge-agent test proves the rules without a PLC
  - name: a fault is a downtime
    machine: press-1
    given:
      - {at: 0s, status: 2, total: 100}
      - {at: 10s, status: 8}
      - {at: 40s, status: 2, total: 101}
    until: 60s
    expect:
      - {type: downtime.started, started_at: 10s, category: breakdown}
      - {type: downtime.ended, started_at: 10s, duration_s: 30, class: microstop}
      - {type: production.counted, delta: {total: 1}}
"""
