"""`edge-agent demo` and what can be done to a running demo. Nothing heavy is imported before it is needed."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="demo",
    invoke_without_command=True,
    no_args_is_help=False,
    help="A simulated line, a broker and the agent on this PC; nothing to install.",
    epilog="Examples:  edge-agent demo      edge-agent demo --for 1min --save my-line",
)
cut = typer.Typer(
    name="cut", help="Pull a plug of the running demo and put it back after a while.", no_args_is_help=True
)
app.add_typer(cut)

PROBLEM, UNREACHABLE, WOULD_OVERWRITE, TRY_AGAIN, INTERRUPTED = 3, 69, 73, 75, 130

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of the demo; default: one of its own, removed at the end.")
]


def _seconds(text: str) -> float:
    from config.units import duration

    try:
        return duration(text) / 1e6
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Lasts = Annotated[float, typer.Argument(parser=_seconds, metavar="TIME", help="How long, e.g. 30s.")]
Within = Annotated[float | None, typer.Option("--for", parser=_seconds, metavar="TIME", help="End after this time.")]
Save = Annotated[Path | None, typer.Option("--save", help="Also leave the configuration in this folder.")]


@app.callback()
def demo(context: typer.Context, data: Data = None, save: Save = None, within: Within = None) -> None:
    """Run it: events as they are made, what to look at and what to try. Ctrl-C ends it."""
    if context.invoked_subcommand is not None:
        return
    from edge_agent.demo.session import CONFIG_NAME, DemoError, Options, run

    if save is not None and (save / CONFIG_NAME).exists():
        _fail(f"{save / CONFIG_NAME} exists and is not overwritten", WOULD_OVERWRITE)
    options = Options(folder=data, save=save, seconds=within, agent_command=_own_name())
    try:
        agree = asyncio.run(run(options, typer.echo))
    except DemoError as error:
        _fail(str(error), TRY_AGAIN)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not agree:
        raise typer.Exit(PROBLEM)


@app.command(epilog="Examples:  edge-agent demo fault press-1      edge-agent demo fault oven-1 10s")
def fault(
    machine: Annotated[str, typer.Argument(help="press-1 or oven-1")], lasts: Lasts = 6.0, data: Data = None
) -> None:
    """Give a machine of the running demo a fault."""
    _ask(data, "fault", machine=machine, seconds=lasts)
    typer.echo(f"{machine} has a fault for {lasts:g} s")


@cut.command("broker", epilog="Examples:  edge-agent demo cut broker      edge-agent demo cut broker 30s")
def cut_broker(lasts: Lasts = 20.0, data: Data = None) -> None:
    """The broker goes away; the events wait in the agent's buffer and arrive afterwards."""
    _ask(data, "cut", what="broker", seconds=lasts)
    typer.echo(f"the broker is away for {lasts:g} s")


@cut.command("plc", epilog="Examples:  edge-agent demo cut plc oven-1      edge-agent demo cut plc press-1 15s")
def cut_plc(
    machine: Annotated[str, typer.Argument(help="press-1 or oven-1")], lasts: Lasts = 20.0, data: Data = None
) -> None:
    """A PLC cannot be reached; what was made meanwhile is counted when it is back."""
    _ask(data, "cut", what=machine, seconds=lasts)
    typer.echo(f"{machine} is away for {lasts:g} s")


def _ask(data: Path | None, do: str, **parameters: Any) -> None:
    from edge_agent.control.client import ControlClient, NoAnswer, NotRunning, Refused
    from edge_agent.demo.place import default_folder, socket_of

    try:
        ControlClient(socket_of(data or default_folder())).ask(do, **parameters)
    except Refused as error:
        _fail(str(error), 2)
    except (NotRunning, NoAnswer, PermissionError):
        where = f" in {data}" if data else ""
        _fail(f"no demo of yours runs{where}; start one with: {_own_name()} demo", UNREACHABLE)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(code)


def _own_name() -> str:
    """How this program is called from the shell it was started in."""
    if shutil.which("edge-agent"):
        return "edge-agent"
    program = Path(sys.argv[0])
    return f"{sys.executable} -m edge_agent" if program.name == "__main__.py" else str(program)
