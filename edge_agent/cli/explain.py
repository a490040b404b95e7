"""`edge-agent explain`: why a machine is in its state, why a tag has no data, what a code means."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

What = Annotated[
    str, typer.Argument(metavar="MACHINE|TAG|CODE", help="A machine, a tag (device/tag), or a code such as E301.")
]
CODE = re.compile(r"[EWCBSewcbs](?=\w*\d)\w{3}")


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent explain press-1", "edge-agent explain E301"])
    def explain(ui: Ui, what: What) -> None:
        """Why this state, why no data: the chain from the tag to the confirmed event; or what a code means.

        Machines and tags are asked of the running agent. Codes are explained without it and without a network.
        """
        if CODE.fullmatch(what):
            _code(ui, what.upper())
            return
        from edge_agent.attention import stamped
        from edge_agent.cli.running import onlooker, reached

        agent, _ = onlooker(ui, None)
        told: dict[str, Any] = reached(lambda: agent.ask("explain", what=what), invalid=ExitCode.USAGE)
        if ui.json:
            ui.result({**stamped(told), "why": list(reasons(told))})
            return
        ui.result("\n".join(_machine(told) if told["kind"] == "machine" else _tag(told)))
        for reason in reasons(told):
            ui.result(f"{ui.paint('why', 'yellow')}: {reason}")


def _code(ui: Ui, code: str) -> None:
    from textwrap import fill

    from edge_agent.catalogue import page, pages

    found = page(code)
    if found is None:
        from config.errors import did_you_mean

        near = did_you_mean(code, pages())
        raise Stop(
            ExitCode.USAGE,
            f"there is no page for {code!r}",
            hints=[near or f"there are {', '.join(one for one in pages() if one[0] == code[0])}"],
        )
    if ui.json:
        ui.result({"code": code, "title": found.title, "text": found.text})
    else:
        ui.result(f"{ui.paint(code, 'bold')}: {found.title}\n\n{fill(found.text, 78)}")


def reasons(told: Mapping[str, Any]) -> Iterator[str]:
    """What stands between the plant and the MOM, in the order of the way."""
    for name, device in told["devices"].items():
        if device["status"] not in ("UP", "DEGRADED"):
            text = device["message"] or device["reason"] or "no good value has come for too long"
            code = f"{device['code']} " if device["code"] else ""
            yield f"device {name} is {device['status']}: {code}{text}"
    for tag in told.get("inputs", [told] if told["kind"] == "tag" else []):
        if tag["quality"] in ("BAD", "NEVER"):
            detail = tag["detail"] or "nothing has been read of it yet"
            yield f"tag {tag['device']}/{tag['tag']} is {tag['quality']}: {detail}"
    for key, gap in told.get("machine", {}).get("gaps", {}).items():
        yield f"{key} cannot be seen ({gap['cause']}), so what hangs on it is unknown"
    if told["kind"] == "tag" and not told["used_by"]:
        yield "no machine uses this tag, so it makes no event"
    broker, buffer = told["broker"], told["buffer"]
    if broker["status"] != "UP":
        said = f": {broker['code'] or ''} {broker['message']}".replace(":  ", ": ") if broker["message"] else ""
        yield f"the broker is {broker['status']}{said}; {buffer['rows']} events wait"
    if buffer["full"]:
        yield "the buffer is FULL, so collecting waits for room"


def _machine(told: Mapping[str, Any]) -> list[str]:
    from edge_agent.cli.words import ago, pairs, since, table

    machine = told["machine"]
    spell = f" {since(machine['since'])}" if "since" in machine else ""
    lines = [f"machine {told['name']} is {machine.get('state', 'in no state yet')}{spell}"]
    lines += ["decided by"] if told["inputs"] else ["nothing decides its state"]
    rows = [
        [f"{tag['device']}/{tag['tag']}", _value(tag), "" if tag["age_s"] is None else f"read {ago(tag['age_s'])}",
         f"{', '.join(tag['used_for'])}{_place(tag)}"]
        for tag in told["inputs"]
    ]  # fmt: skip
    lines += table(rows)
    for name, values in machine["counters"].items():
        lines.append(f"counter {name}: totals {pairs(values['totals'])}; register {pairs(values['raw'])}")
    if machine.get("downtime"):
        from edge_agent.cli.status import downtime_text

        lines.append(f"{downtime_text(machine['downtime'])}, {machine['downtime']['id']}")
    return [*lines, *_way(told)]


def _tag(told: Mapping[str, Any]) -> list[str]:
    from edge_agent.cli.words import ago

    age = "" if told["age_s"] is None else f", read {ago(told['age_s'])}"
    lines = [f"tag {told['name']} is {_value(told)}{age}{_place(told)}"]
    lines += [f"used by machine {name} for {', '.join(roles)}" for name, roles in told["used_by"].items()]
    return [*lines, *_way(told)]


def _way(told: Mapping[str, Any]) -> list[str]:
    """From the device to the broker."""
    from edge_agent.cli.status import broker_text, device_row
    from edge_agent.cli.tail import event_line
    from edge_agent.cli.words import table

    lines = ["devices", *table([device_row(name, device) for name, device in told["devices"].items()])]
    events = [[f"{item['delivery']}", f"{item['stream']} {item['seq']}", event_line(item["event"])]
              for item in told["events"]]  # fmt: skip
    lines += ["last events", *table(events)] if events else ["no event since the agent started"]
    return [*lines, broker_text(told["broker"]), f"buffer   {told['buffer']['rows']} events waiting"]


def _value(tag: Mapping[str, Any]) -> str:
    from edge_agent.cli.tail import quality_text, value_text

    return f"{value_text(tag)} {quality_text(tag)}"


def _place(tag: Mapping[str, Any]) -> str:
    return f"  # {tag['written']}" if tag["written"] else ""
