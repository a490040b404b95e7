"""`edge-agent config`: what a configuration may say."""

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.ui import Ui


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        name="config", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.KEEP.value
    )

    @group.callback()
    def about() -> None:
        """About the configuration."""

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent config schema", "edge-agent config schema > edge-agent.schema.json"],
    )
    def schema(ui: Ui) -> None:
        """The JSON Schema of the configuration, for completion and hover texts in an editor."""
        import json

        from config.schema import schema as schema_of
        from drivers.registry import Drivers

        ui.result(json.dumps(schema_of(Drivers().options()), indent=2, ensure_ascii=False))

    app.add_typer(group)
