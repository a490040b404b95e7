"""What a command says: the result on stdout, everything else on stderr, colour only where it is welcome.

Words carry the meaning; colour repeats it. With `-o json` the result is one JSON object (or one for each line).
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


@dataclass(frozen=True, slots=True)
class Ui:
    """The options that every command has, and the ways to say something."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    colour: bool = True

    def result(self, said: Any) -> None:
        """Text as it is, anything else as JSON, on stdout."""
        if not isinstance(said, str):
            import json

            said = json.dumps(said, ensure_ascii=False, separators=(", ", ": "))
        sys.stdout.write(f"{said}\n")

    def flush(self) -> None:
        """After a line that somebody waits for."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Progress and hints, on stderr; not with -q."""
        if not self.quiet:
            _beside(text)

    def error(self, message: str, *hints: str, code: str = "") -> None:
        """What went wrong, on stderr; with -q too."""
        word = self.paint("error", "red", sys.stderr)
        _beside(f"{word}{f' {code}' if code else ''}: {message}", *(f"   {hint}" for hint in hints))

    def fault(self, text: str) -> None:
        """A fault of the configuration as it is rendered, on stderr; its severity word coloured."""
        for word, colour in ((": error ", "red"), (": warning ", "yellow")):
            text = text.replace(word, f": {self.paint(word[2:-1], colour, sys.stderr)} ", 1)
        _beside(text)

    def warn(self, message: str) -> None:
        if not self.quiet:
            _beside(f"{self.paint('warning', 'yellow', sys.stderr)}: {message}")

    def asks(self) -> bool:
        """Whether a person can be asked something."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.json and not self.quiet

    def ask(self, question: str, default: str) -> str:
        """The person's answer; Enter is the default. Ctrl-C and the end of the input end the command."""
        while True:
            sys.stderr.write(f"{question}{f' [{default}]' if default else ''}: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise KeyboardInterrupt
            if answer := line.strip() or default:
                return answer

    def draws(self) -> bool:
        """Whether stdout is a terminal that can be drawn on."""
        return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def paint(self, text: str, colour: str, stream: TextIO | None = None) -> str:
        """The text, coloured if the stream shows colours."""
        if not self.colour or not _shows_colours(stream or sys.stdout):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def _beside(*lines: str) -> None:
    """On stderr, after what stdout has: where both go to one place they are read in the order they were said."""
    with suppress(OSError):  # of stdout: its reader has gone, or its disk is full; the end of the program sees it too
        sys.stdout.flush()
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _shows_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
