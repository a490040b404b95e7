"""`edge-agent tail`: what the running agent makes, as it makes it."""

from collections.abc import Collection, Iterator, Mapping
from threading import Event
from typing import Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File
from edge_agent.cli.ui import Ui

POLL = 0.5
"""Seconds between two looks at the values."""

Values = Annotated[bool, typer.Option("--values", help="Values of tags as they change instead of events.")]
Names = Annotated[
    list[str] | None,
    typer.Option("--machine", "-m", metavar="NAME", help="Only this machine, with --values this device; also twice."),
]
Count = Annotated[int | None, typer.Option("-n", min=1, metavar="N", help="End after so many.")]


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent tail -m press-1", "edge-agent tail --values -n 20"])
    def tail(ui: Ui, file: File = None, values: Values = False, machine: Names = None, count: Count = None) -> None:
        """Events as they are made (or values as they change), one a line, until Ctrl-C."""
        from itertools import islice

        from edge_agent.cli.running import onlooker, reached

        agent, _ = onlooker(ui, file)
        wanted = frozenset(machine or ())
        if wanted:
            known = reached(lambda: agent.ask("status"))["devices" if values else "machines"]
            if unknown := wanted - known.keys():
                what = f"there is no {'device' if values else 'machine'} {min(unknown)!r}"
                raise Stop(ExitCode.USAGE, what, hints=[f"there is {', '.join(known) or 'none'}"])
        lines = _values(ui, agent, wanted) if values else _events(ui, agent, wanted)
        limited = islice(lines, count)

        def follow() -> None:
            for line in limited:
                ui.result(line)
                ui.flush()

        reached(follow)


def _events(ui: Ui, agent: Any, wanted: Collection[str]) -> Iterator[Any]:
    """Those of the wanted machines; of all, and the agent, if none is named."""
    for message in agent.stream("tail"):
        if "dropped" in message:
            ui.warn(f"{message['dropped']} events are not shown: they came faster than they could be read here")
        elif not wanted or _machine(message["item"]) in wanted:
            yield message["item"] if ui.json else event_line(message["item"])
    ui.note("the agent has stopped")


def _values(ui: Ui, agent: Any, wanted: Collection[str]) -> Iterator[Any]:
    """Every tag once, then those that changed; of the wanted devices, of all if none is named."""
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    pause = Event()
    while True:
        for reading in agent.ask("values"):
            key = reading["device"], reading["tag"]
            now = reading["value"], reading["quality"], reading["detail"]
            if seen.get(key) != now and (not wanted or key[0] in wanted):
                seen[key] = now
                yield reading if ui.json else value_line(reading)
        pause.wait(POLL)


def event_line(event: Mapping[str, Any]) -> str:
    """`09:14:07.250 +08:00  press-1  state.changed  prev_state=running state=fault`."""
    from edge_agent.cli.words import clock
    from edge_agent.replay.summary import short_type, summary

    return f"{clock(event['time'])}  {_machine(event):<12} {short_type(event):<20} {summary(event)}".rstrip()


def _machine(event: Mapping[str, Any]) -> str:
    """The last part of where an event comes from: the machine, or the agent."""
    return str(event["subject"]).rpartition("/")[2]


def value_line(reading: Mapping[str, Any]) -> str:
    """`09:14:07.250 +08:00  press-1/total  100  GOOD`."""
    from edge_agent.cli.words import clock

    name = f"{reading['device']}/{reading['tag']}"
    return f"{clock(reading['read_at'])}  {name:<24} {value_text(reading):<16} {quality_text(reading)}"


def value_text(reading: Mapping[str, Any]) -> str:
    """With its unit where it is known. An error never becomes a value."""
    from edge_agent.replay.summary import short

    value, unit = reading["value"], reading.get("unit")
    if value is None or value == "":
        return "-" if value is None else "''"
    return f"{short(value)} {unit}" if unit else short(value)


def quality_text(reading: Mapping[str, Any]) -> str:
    """`GOOD`, `UNCERTAIN(detail)`, `BAD(detail)`."""
    return f"{reading['quality']}({reading['detail']})" if reading["detail"] else str(reading["quality"])
