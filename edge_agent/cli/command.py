"""Registers a command: gives it the options that every command has, its two examples, and a guarded end.

The command's own function takes a `Ui` first and its own arguments after it.
"""

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand

from edge_agent.cli.exits import guard
from edge_agent.cli.ui import Ui


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


class Section(StrEnum):
    """Headings of the overview, in its order."""

    START = "Start"
    LOOK = "Look at devices"
    CHECK = "Check"
    RUN = "Run"
    KEEP = "Keep"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="EDGE_AGENT_CONFIG",
        show_envvar=False,
        metavar="FILE",
        help="The configuration; default: ./edge-agent.yaml, then /etc/edge-agent/edge-agent.yaml.",
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", envvar="EDGE_AGENT_OUTPUT", show_envvar=False, help="Form of the result."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", envvar="EDGE_AGENT_QUIET", show_envvar=False, help="Only results and errors.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", envvar="EDGE_AGENT_VERBOSE", show_envvar=False, help="Details, and libraries' own words."
    ),
]
NoColor = Annotated[
    bool,
    typer.Option(
        "--no-color",
        envvar="EDGE_AGENT_NO_COLOR",
        show_envvar=False,
        help="No colour; also NO_COLOR and TERM=dumb.",
    ),
]
_SHARED: dict[str, tuple[Any, Any]] = {
    "config": (Config, None),
    "output": (OutputOption, None),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
    "no_color": (NoColor, False),
}

Run = TypeVar("Run", bound=Callable[..., None])


class _Command(TyperCommand):
    """Its usage line names arguments as they are named to typer: `TAG…`, and `[FILE]` where it may be left out."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [param for param in self.get_params(ctx) if isinstance(param, TyperArgument)]
        return ["[OPTIONS]", *map(_usage, arguments)]


def _usage(argument: TyperArgument) -> str:
    name = str(argument.name).upper()
    return argument.metavar or (name if argument.required else f"[{name}]")


def command(
    app: typer.Typer, *, section: Section, examples: Sequence[str], name: str | None = None
) -> Callable[[Run], Run]:
    """Decorator; the docstring is the help text. Shared options may stand before or after the command's name."""

    def register(run: Run) -> Run:
        own = list(inspect.signature(run).parameters.values())[1:]

        def call(context: typer.Context, **given: Any) -> None:
            shared = {key: given.pop(key) for key in _SHARED}
            ui = _ui(context.obj or {}, shared)
            guard(ui, lambda: run(ui, **given))

        parameters = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
            *(
                inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for key, (annotation, default) in _SHARED.items()
            ),
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it from here
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        call.__doc__ = run.__doc__
        call.__name__ = run.__name__
        app.command(name, cls=_Command, epilog=epilog(examples), rich_help_panel=section.value)(call)
        return run

    return register


def epilog(examples: Sequence[str]) -> str:
    """The end of a help text."""
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def shared_options(
    context: typer.Context,
    config: Config = None,
    output: OutputOption = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """An edge agent: PLC tags in, production and downtime events out, nothing lost and nothing twice.

    The options below may also follow the command, and may be set as EDGE_AGENT_CONFIG, EDGE_AGENT_OUTPUT,
    EDGE_AGENT_QUIET, EDGE_AGENT_VERBOSE and EDGE_AGENT_NO_COLOR.
    """
    context.obj = {"config": config, "output": output, "quiet": quiet, "verbose": verbose, "no_color": no_color}


def _ui(before: dict[str, Any], after: dict[str, Any]) -> Ui:
    chosen = {key: after[key] or before.get(key) for key in _SHARED}
    return Ui(
        config=chosen["config"],
        json=chosen["output"] is Output.JSON,
        quiet=bool(chosen["quiet"]),
        verbose=bool(chosen["verbose"]),
        colour=not chosen["no_color"],
    )
