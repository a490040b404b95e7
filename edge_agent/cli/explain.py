"""`edge-agent explain`: what a fault's code means, without a network."""

from typing import Annotated

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

Code = Annotated[str, typer.Argument(metavar="CODE", help="As in a message, e.g. E301.")]


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent explain E301", "edge-agent explain W304 -o json"])
    def explain(ui: Ui, code: Code) -> None:
        """What a fault of a configuration means, why it is one, and what to do."""
        from textwrap import fill

        from config.catalogue import PAGES
        from config.errors import did_you_mean

        page = PAGES.get(code.upper())
        if page is None:
            near = did_you_mean(code.upper(), PAGES)
            raise Stop(
                ExitCode.USAGE, f"there is no page for {code!r}", hints=[near or f"there are {', '.join(PAGES)}"]
            )
        if ui.json:
            ui.result({"code": code.upper(), "title": page.title, "text": page.text})
        else:
            ui.result(f"{ui.paint(code.upper(), 'bold')}: {page.title}\n\n{fill(page.text, 78)}")
