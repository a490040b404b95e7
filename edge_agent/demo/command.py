"""`edge-agent demo` and what can be done to a running demo. Nothing heavy is imported before it is needed."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.cli.command import Section, command, epilog
from edge_agent.cli.exits import ExitCode, Stop, guard
from edge_agent.cli.ui import Ui

app = typer.Typer(
    name="demo",
    invoke_without_command=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog(["edge-agent demo", "edge-agent demo --for 1min --save my-line"]),
)
cut = typer.Typer(no_args_is_help=True, rich_markup_mode=None, epilog=epilog(["edge-agent demo cut broker 30s"]))
app.add_typer(cut, name="cut", help="Pull a plug of the running demo and put it back after a while.")


def _seconds(text: str) -> float:
    from config.units import duration

    try:
        return duration(text) / 1e6
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Data = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder of the demo; default: its own, removed at the end.")
]
Save = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Leave the configuration in this folder.")]
Within = Annotated[float | None, typer.Option("--for", parser=_seconds, metavar="TIME", help="End after this time.")]
Lasts = Annotated[str, typer.Argument(metavar="[TIME]", help="How long, e.g. 30s.")]
Machine = Annotated[str, typer.Argument(help="press-1 or oven-1")]


@app.callback()
def demo(context: typer.Context, data: Data = None, save: Save = None, within: Within = None) -> None:
    """A simulated line, a broker and the agent on this PC; nothing to install. Ctrl-C ends it."""
    if context.invoked_subcommand is None:
        ui = Ui(**{key: value for key, value in (context.obj or {}).items() if key in ("quiet", "verbose")})
        guard(ui, lambda: _run(ui, data, save, within))


def _run(ui: Ui, data: Path | None, save: Path | None, within: float | None) -> None:
    import asyncio
    import logging

    from edge_agent.demo.session import CONFIG_NAME, DemoError, Options, run

    if save is not None and (save / CONFIG_NAME).exists():
        raise Stop(ExitCode.WILL_NOT_OVERWRITE, f"{save / CONFIG_NAME} is there already and is not overwritten")
    logging.basicConfig(level=logging.INFO if ui.verbose else logging.ERROR, format="%(levelname)s %(message)s")

    def say(text: str) -> None:
        ui.result(text)
        ui.flush()

    options = Options(folder=data, save=save, seconds=within, agent_command=_own_name())
    try:
        agree = asyncio.run(run(options, say))
    except DemoError as error:
        raise Stop(ExitCode.TRY_AGAIN, str(error)) from None
    if not agree:
        raise Stop(ExitCode.PROBLEM, "not every part has been reported")


@command(app, section=Section.START, examples=["edge-agent demo fault press-1", "edge-agent demo fault oven-1 10s"])
def fault(ui: Ui, machine: Machine, lasts: Lasts = "6s", data: Data = None) -> None:
    """Give a machine of the running demo a fault."""
    _ask(data, "fault", machine=machine, seconds=_seconds(lasts))
    ui.result(f"{machine} has a fault for {lasts}")


@command(
    cut,
    name="broker",
    section=Section.START,
    examples=["edge-agent demo cut broker", "edge-agent demo cut broker 30s"],
)
def cut_broker(ui: Ui, lasts: Lasts = "20s", data: Data = None) -> None:
    """The broker goes away; the events wait in the agent's buffer and arrive afterwards."""
    _ask(data, "cut", what="broker", seconds=_seconds(lasts))
    ui.result(f"the broker is away for {lasts}")


@command(
    cut,
    name="plc",
    section=Section.START,
    examples=["edge-agent demo cut plc oven-1", "edge-agent demo cut plc press-1 15s"],
)
def cut_plc(ui: Ui, machine: Machine, lasts: Lasts = "20s", data: Data = None) -> None:
    """A PLC cannot be reached; what it makes meanwhile is counted when it is back."""
    _ask(data, "cut", what=machine, seconds=_seconds(lasts))
    ui.result(f"{machine} is away for {lasts}")


def _ask(data: Path | None, do: str, **parameters: Any) -> None:
    """Tell the running demo. Raises `Stop`."""
    from edge_agent.control.client import ControlClient, NoAnswer, NotRunning, Refused
    from edge_agent.demo.place import default_folder, socket_of

    try:
        ControlClient(socket_of(data or default_folder())).ask(do, **parameters)
    except Refused as error:
        raise Stop(ExitCode.USAGE, str(error)) from None
    except (NotRunning, NoAnswer):
        where = f" in {data}" if data else ""
        raise Stop(ExitCode.UNREACHABLE, f"no demo runs{where}", hints=[f"start one: {_own_name()} demo"]) from None


def _own_name() -> str:
    """How this program is called from the shell it was started in."""
    if shutil.which("edge-agent"):
        return "edge-agent"
    program = Path(sys.argv[0])
    return f"{sys.executable} -m edge_agent" if program.name == "__main__.py" else str(program)
