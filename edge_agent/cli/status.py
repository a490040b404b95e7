"""`edge-agent status`: one screen of the running agent."""

from collections.abc import Mapping
from typing import Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File
from edge_agent.cli.ui import Ui

_COLOURS = {"UP": "green", "DEGRADED": "yellow", "STALE": "yellow", "DOWN": "red", "FULL": "red"}


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent status", "edge-agent status -o json"])
    def status(ui: Ui, file: File = None) -> None:
        """Is everything all right? Devices, machines, broker, buffer. Exit code 3 when something needs a person."""
        from edge_agent.attention import stamped, troubles
        from edge_agent.cli.running import onlooker, reached

        agent, loaded = onlooker(ui, file)
        told: dict[str, Any] = reached(lambda: agent.ask("status"))
        wrong = troubles(told)
        changed = loaded is None or told["agent"]["config_hash"] != loaded.hash
        if changed and loaded is not None:
            ui.note("the file was changed since the agent read it: edge-agent config diff, edge-agent reload")
        if ui.json:
            ui.result({"ok": not wrong, **stamped(told), "file_changed": changed, "needs_a_person": wrong})
        else:
            ui.result("\n".join(screen(ui, told, wrong)))
        if wrong:
            raise Stop(ExitCode.PROBLEM)


def screen(ui: Ui, told: Mapping[str, Any], wrong: list[str]) -> list[str]:
    """The lines of the status screen."""
    from edge_agent.cli.words import size, span, table

    agent, broker, buffer = told["agent"], told["broker"], told["buffer"]
    lines = [
        f"agent    {agent['id']}, version {agent['version']}, up {span(agent['uptime_s'])}, "
        f"configuration {agent['config_hash']}",
        "devices",
        *_painted(ui, table([device_row(name, device) for name, device in told["devices"].items()])),
        "machines",
        *table([_machine(name, machine) for name, machine in told["machines"].items()]),
        *_painted(ui, [broker_text(broker)]),
    ]
    oldest = "" if buffer["oldest_s"] is None else f", oldest {span(buffer['oldest_s'])}"
    full = "FULL" if buffer["full"] else f"{buffer['fill']:.0%} full"
    left = "" if buffer["full_in_s"] is None else f", full in {span(buffer['full_in_s'])} if it goes on like this"
    lines.append(f"buffer   {buffer['rows']} events waiting, {size(buffer['bytes'])}{oldest}, {full}{left}")
    lines += [f"{ui.paint('needs a person', 'yellow')}: {text}" for text in wrong]
    return lines


def device_row(name: str, device: Mapping[str, Any]) -> list[str]:
    from edge_agent.cli.words import ago

    age = "no value yet" if device["age_s"] is None else f"last good value {ago(device['age_s'])}"
    trouble = device["message"] or device["reason"] or ""
    if trouble and device["code"]:
        trouble = f"{device['code']} {trouble}"
    tags = f"{device['tags'] - len(device['bad'])}/{device['tags']} tags good"
    if device["missed_scans"]:
        tags += f", {device['missed_scans']} scans skipped"
    if ring := device.get("ring"):
        tags += f", {ring['told']} values told by its ring"
        tags += f", entries lost {ring['losses']} times" if ring["losses"] else ""
    return [device["status"], name, device["endpoint"], age, tags if not trouble else f"{tags}: {trouble}"]


def _machine(name: str, machine: Mapping[str, Any]) -> list[str]:
    from edge_agent.cli.words import pairs, since

    said = []
    if machine.get("downtime"):
        said.append(downtime_text(machine["downtime"]))
    said += [f"{counter} {pairs(values['totals'])}" for counter, values in machine["counters"].items()]
    said += [f"no data {since(gap['since'])}, {gap['cause']}" for gap in machine.get("gaps", {}).values()]
    state = str(machine.get("state", "no state yet"))
    return [name, state, since(machine["since"]) if "since" in machine else "", "; ".join(said)]


def downtime_text(downtime: Mapping[str, Any]) -> str:
    from edge_agent.cli.words import since

    reason = downtime.get("reason") or {}
    said = reason.get("text") or reason.get("code")
    words = f"downtime {downtime['class']} {downtime['category']} {since(downtime['since'])}"
    return f"{words}: {said}" if said else words


def broker_text(broker: Mapping[str, Any]) -> str:
    from edge_agent.cli.words import local

    said = f"broker   {broker['status']} {broker['url']}, {broker['confirmed']} events confirmed"
    if broker["last_confirmed_at"]:
        said += f", the last at {local(broker['last_confirmed_at'])}"
    if broker["message"]:
        said += f": {broker['code']} {broker['message']}" if broker["code"] else f": {broker['message']}"
    return said


def _painted(ui: Ui, lines: list[str]) -> list[str]:
    """The first status word of each line in its colour."""
    out = []
    for line in lines:
        word = next((word for word in line.split() if word in _COLOURS), None)
        out.append(line if word is None else line.replace(word, ui.paint(word, _COLOURS[word]), 1))
    return out
