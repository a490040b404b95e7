"""`edge-agent init`: a first configuration that is right, runs, and says what to change."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

Opcua = Annotated[str | None, typer.Option("--opcua", metavar="URL", help="An OPC UA server: opc.tcp://HOST:4840")]
Modbus = Annotated[str | None, typer.Option("--modbus", metavar="HOST", help="A Modbus TCP device: HOST or HOST:502")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Target = Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")]


def register(app: typer.Typer) -> None:
    @command(
        app, section=Section.START, examples=["edge-agent init", "edge-agent init --opcua opc.tcp://10.20.1.11:4840"]
    )
    def init(
        ui: Ui,
        file: Target = Path("edge-agent.yaml"),
        opcua: Opcua = None,
        modbus: Modbus = None,
        force: Force = False,
    ) -> None:
        """Write a first edge-agent.yaml: a simulated machine, or yours by its address."""
        if opcua is not None and modbus is not None:
            raise Stop(
                ExitCode.USAGE, "choose one of --opcua and --modbus", hints=["add the other device to the file"]
            )
        target = ui.config or file
        text = first_file(opcua, modbus)
        _check(text, target)
        try:
            with target.open("w" if force else "x", encoding="utf-8", newline="\n") as out:
                out.write(text)
        except FileExistsError:
            hint = "write another file, or replace it with --force"
            raise Stop(ExitCode.WILL_NOT_OVERWRITE, f"{target} exists already", hints=[hint]) from None
        except FileNotFoundError:
            raise Stop(ExitCode.USAGE, f"there is no folder {target.parent}") from None
        if ui.json:
            ui.result({"ok": True, "file": str(target)})
            return
        ui.result(f"{target} is written")
        ui.note(f"   check it:  edge-agent validate {target}\n   try it:    edge-agent once {target}")
        ui.note(f"   run it:    edge-agent run {target}")


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
