"""`edge-agent top`: the status screen, live."""

import sys
from threading import Event
from typing import Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.loading import File
from edge_agent.cli.ui import Ui

Every = Annotated[float, typer.Option("--every", min=0.2, metavar="SECONDS", help="Between two looks.")]
Count = Annotated[int | None, typer.Option("-n", min=1, metavar="N", help="End after so many.")]
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_ASIDE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The screen of its own that a terminal has for programs, and the way back."""


def register(app: typer.Typer) -> None:
    @command(app, section=Section.RUN, examples=["edge-agent top", "edge-agent top --every 5 -n 12"])
    def top(ui: Ui, file: File = None, every: Every = 1.0, count: Count = None) -> None:
        """The status screen, live, until Ctrl-C. Not on a terminal, or with -o json, one status after the other."""
        from edge_agent.attention import stamped, troubles
        from edge_agent.cli.running import onlooker, reached
        from edge_agent.cli.status import screen

        agent, _ = onlooker(ui, file)
        live = not ui.json and ui.draws()
        pause, shown = Event(), 0
        try:
            if live:
                sys.stdout.write(_ASIDE)
            while True:
                told: dict[str, Any] = reached(lambda: agent.ask("status"))
                wrong = troubles(told)
                if ui.json:
                    ui.result({"ok": not wrong, **stamped(told), "needs_a_person": wrong})
                elif live:
                    _draw(screen(ui, told, wrong))
                else:
                    ui.result("\n".join([*screen(ui, told, wrong), ""]))
                ui.flush()
                shown += 1
                if shown == count:
                    return
                pause.wait(every)
        finally:
            if live:
                sys.stdout.write(_BACK)
                ui.flush()


def _draw(lines: list[str]) -> None:
    """Over what stood there: nothing flickers."""
    import shutil

    width, height = shutil.get_terminal_size()
    shown = lines[: height - 1]
    if len(lines) > len(shown):
        shown[-1] = f"… {len(lines) - len(shown) + 1} more lines: edge-agent status"
    cut = [line if len(line) <= width or "\x1b" in line else f"{line[: width - 1]}…" for line in shown]
    sys.stdout.write(_HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in cut) + _REST_OF_SCREEN)
