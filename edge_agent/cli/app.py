"""The program: all commands together. Nothing but typer is imported before a command runs."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from edge_agent.cli import (
    backup,
    browse,
    buffer,
    cert,
    check,
    completion,
    config,
    dictionary,
    discover,
    doctor,
    explain,
    init,
    once,
    read,
    record,
    reload,
    replay,
    run,
    service,
    status,
    support,
    tags,
    tail,
    test,
    top,
    validate,
    version,
)
from edge_agent.cli.command import Section, epilog, shared_options

_LAZY = {
    "demo": (
        "edge_agent.demo.command",
        TyperCommand(
            "demo",
            help="A simulated line, a broker and the agent on this PC; nothing to install.",
            rich_help_panel=Section.START.value,
        ),
    )
}
"""Commands that live elsewhere: their module, with the typer app `app`, and what the overview says of them."""


class Program(TyperGroup):
    """Loads what lives elsewhere when it is called, and prints the commands by section."""

    def _main_shell_completion(self, *args: Any, **kwargs: Any) -> None:
        """`completion` gives the scripts that ask for this; typer's own options to install them are left out."""
        from typer._completion_classes import completion_init

        completion_init()
        super()._main_shell_completion(*args, **kwargs)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_LAZY, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _LAZY[cmd_name][1] if cmd_name in _LAZY else super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in _LAZY:
            module, _ = _LAZY[args[0]]
            return args[0], typer.main.get_command(import_module(module).app), args[1:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {section.value: [] for section in Section}
        for name in self.list_commands(ctx):
            found = self.get_command(ctx, name)
            section = getattr(found, "rich_help_panel", None) or Section.KEEP.value
            sections[section].append((name, found.get_short_help_str(200)))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


app = typer.Typer(
    name="edge-agent",
    cls=Program,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(epilog=epilog(["edge-agent demo", "edge-agent validate line3.yaml"]))(shared_options)
for part in (
    init,
    discover,
    browse,
    read,
    tags,
    validate,
    check,
    explain,
    test,
    replay,
    record,
    once,
    run,
    reload,
    status,
    top,
    tail,
    service,
    buffer,
    doctor,
    support,
    backup,
    cert,
    dictionary,
    config,
    completion,
    version,
):
    part.register(app)
