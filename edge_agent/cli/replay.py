"""`edge-agent replay`: a recorded timeline through the rules."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import load, sorted_out
from edge_agent.cli.ui import Ui
from edge_agent.cli.words import counted

if TYPE_CHECKING:
    from config.model import Config
    from edge_agent.replay.samples import Sample

DEFAULT_START = "2026-03-02T00:00:00Z"

Samples = Annotated[
    list[Path],
    typer.Argument(
        metavar="[FILE] SAMPLES",
        help="The configuration, also as -c; CSV at,tag,value[,quality[,source_at]] or JSON Lines, - for stdin.",
    ),
]
Machine = Annotated[str | None, typer.Option("--machine", "-m", help="Only this machine; bare tags are its own.")]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="Time of offset 0; default: the first sample's time.")
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="End of the timeline; default: the last sample.")
]


def register(app: typer.Typer) -> None:
    @command(
        app,
        section=Section.CHECK,
        examples=["edge-agent replay shift.csv", "edge-agent replay line3.yaml fault.jsonl -m press-1"],
    )
    def replay(
        ui: Ui,
        samples: Samples,
        machine: Machine = None,
        start: Start = None,
        until: Until = None,
    ) -> None:
        """Feed recorded samples through the rules and print the events as JSON Lines (CloudEvents)."""
        file, path = sorted_out(samples)
        config = load(ui, file).config
        _play(ui, config, path, machine, start, until)


def _play(ui: Ui, config: "Config", path: Path, machine: str | None, start: str | None, until: str | None) -> None:
    from edge_agent.clock import parse_rfc3339
    from edge_agent.replay.samples import SampleFault, read_samples
    from edge_agent.replay.suite import Script, drive_for
    from edge_agent.replay.timeline import Reader, TimelineFault

    if machine is not None and machine not in config.machines:
        raise Stop(
            ExitCode.USAGE, f"there is no machine {machine!r}", hints=[f"there are {', '.join(config.machines)}"]
        )
    names = [machine] if machine is not None else list(config.machines)
    homes = {config.machines[name].device for name in names}
    home = homes.pop() if len(homes) == 1 else None
    reader = Reader(config.devices, home, 0)

    def type_of(tag: str) -> str:
        device, name = reader.key(tag, tag)
        return config.devices[device].value_type(name)

    try:
        read = read_samples(path, type_of)
    except FileNotFoundError:
        raise Stop(ExitCode.USAGE, f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise Stop(ExitCode.PROBLEM, f"{path} is not UTF-8 text") from None
    except SampleFault as fault:
        raise Stop(ExitCode.PROBLEM, f"{path}:{fault.number}: {fault}") from None
    try:
        began = parse_rfc3339(start) if start is not None else _first(read)
    except ValueError as error:
        raise Stop(ExitCode.USAGE, f"--start: {error}") from None
    reader = Reader(config.devices, home, began, config.subject(names[0]) if len(names) == 1 else None)
    try:
        lines = reader.read(sample.line for sample in read)
    except TimelineFault as fault:
        raise Stop(ExitCode.PROBLEM, f"{path}:{read[fault.line].number}: {fault}") from None
    try:
        end = reader.moment(until, "until") if until is not None else (lines[-1].at if lines else 0)
    except TimelineFault as fault:
        raise Stop(ExitCode.USAGE, f"--until: {fault}") from None
    script = Script(config, began)
    count = 0
    for made in drive_for(config, names, began).play(lines, end):
        ui.result(script.encode(made).decode())
        count += 1
    ui.note(f"{counted(len(lines), 'line')}, {counted(count, 'event')}")


def _first(samples: "list[Sample]") -> int:
    """UTC µs of offset 0: the first sample's own time if it has one."""
    from edge_agent.clock import parse_rfc3339

    try:
        return parse_rfc3339(str(samples[0].line.get("at"))) if samples else parse_rfc3339(DEFAULT_START)
    except ValueError:
        return parse_rfc3339(DEFAULT_START)
