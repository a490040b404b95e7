"""`edge-agent tail`: what the running agent makes, as it makes it."""

from collections.abc import Iterator, Mapping
from threading import Event
from typing import Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.loading import File
from edge_agent.cli.ui import Ui

POLL = 0.5
"""Seconds between two looks at the values."""

Values = Annotated[bool, typer.Option("--values", help="Values of tags as they change instead of events.")]
Count = Annotated[int | None, typer.Option("-n", min=1, metavar="N", help="End after so many.")]


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent tail", "edge-agent tail --values -n 20"])
    def tail(ui: Ui, file: File = None, values: Values = False, count: Count = None) -> None:
        """Events as they are made (or values as they change), one a line, until Ctrl-C."""
        from itertools import islice

        from edge_agent.cli.running import onlooker, reached

        agent, _ = onlooker(ui, file)
        lines = _values(ui, agent) if values else _events(ui, agent)
        limited = islice(lines, count)

        def follow() -> None:
            for line in limited:
                ui.result(line)
                ui.flush()

        reached(follow)


def _events(ui: Ui, agent: Any) -> Iterator[Any]:
    for message in agent.stream("tail"):
        if "dropped" in message:
            ui.warn(f"{message['dropped']} events are not shown: they came faster than they could be read here")
        else:
            yield message["item"] if ui.json else event_line(message["item"])
    ui.note("the agent has stopped")


def _values(ui: Ui, agent: Any) -> Iterator[Any]:
    """Every tag once, then those that changed."""
    seen: dict[tuple[str, str], tuple[Any, ...]] = {}
    pause = Event()
    while True:
        for reading in agent.ask("values"):
            key = reading["device"], reading["tag"]
            now = reading["value"], reading["quality"], reading["detail"]
            if seen.get(key) != now:
                seen[key] = now
                yield reading if ui.json else value_line(reading)
        pause.wait(POLL)


def event_line(event: Mapping[str, Any]) -> str:
    """`09:14:07.250 +08:00  press-1  state.changed  prev_state=running state=fault`."""
    from edge_agent.cli.words import clock
    from edge_agent.replay.summary import short_type, summary

    name = str(event["subject"]).rpartition("/")[2]
    return f"{clock(event['time'])}  {name:<12} {short_type(event):<20} {summary(event)}".rstrip()


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
