"""`edge-agent dict`: what the names and codes of a configuration mean."""

from enum import StrEnum
from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui


class Form(StrEnum):
    CSV = "csv"
    MARKDOWN = "markdown"
    JSON = "json"


FormOption = Annotated[Form, typer.Option("--format", "-f", help="Form of the table; -o json is JSON too.")]
Delimiter = Annotated[str, typer.Option("--delimiter", metavar="CHAR", help="Between the cells of CSV, e.g. ';'.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(name="dict", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.KEEP.value)

    @group.callback()
    def about() -> None:
        """What the names and codes of a configuration mean."""

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent dict export line3.yaml > dictionary.csv", "edge-agent dict export -f markdown"],
    )
    def export(ui: Ui, file: File = None, format: FormOption = Form.CSV, delimiter: Delimiter = ",") -> None:
        """Tags, units, states, reasons, alarms, codes and event fields as one table, on stdout.

        Exit code 3 if one code means two things; both places are named.
        """
        from edge_agent.dictionary.codes import entries
        from edge_agent.dictionary.entry import conflicts
        from edge_agent.dictionary.fields import fields
        from edge_agent.dictionary.tables import as_csv, as_json, as_markdown

        if len(delimiter) != 1:
            raise Stop(ExitCode.USAGE, f"--delimiter is one character, not {delimiter!r}")
        config = load(ui, file).config
        rows = [*entries(config), *fields()]
        found = conflicts(rows)
        if ui.json or format is Form.JSON:
            ui.result(as_json(rows, found))
        else:
            text = as_csv(rows, delimiter) if format is Form.CSV else as_markdown(rows)
            ui.result(text.removesuffix("\n"))
        for conflict in found:
            ui.error(conflict.what, "give both one meaning, or each a code of its own")
        if found:
            raise Stop(ExitCode.PROBLEM)

    app.add_typer(group)
