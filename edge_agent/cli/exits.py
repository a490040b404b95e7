"""How a command ends: the exit codes, which are a contract, and the one place that turns a failure into one.

A command returns for 0 or raises `Stop`. Everything else that leaves a command is a bug: its traceback goes to a
file, its user gets one sentence and the path. Nobody gets a traceback on the screen.
"""

import codecs
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from edge_agent.cli.ui import Ui


class ExitCode(IntEnum):
    """Part of the contract; the values of sysexits.h where there is one."""

    FINE = 0
    BUG = 1
    USAGE = 2
    PROBLEM = 3
    """It worked and found a problem."""
    UNREACHABLE = 69
    WILL_NOT_OVERWRITE = 73
    TRY_AGAIN = 75
    NO_PERMISSION = 77
    BAD_CONFIG = 78
    INTERRUPTED = 130


class Stop(Exception):
    """The command ends here, with this code. `message` is empty when everything has been said already.

    `fault` is the catalogue's code, `native` a library's own text that is shown under `-v` alone.
    """

    def __init__(
        self, code: ExitCode, message: str = "", *, hints: Sequence[str] = (), fault: str = "", native: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hints = tuple(hints)
        self.fault = fault
        self.native = native


def guard(ui: "Ui", command: Callable[[], None]) -> None:
    """Run the command; leaves by `typer.Exit` unless all is fine."""
    try:
        command()
        ui.flush()
    except Stop as stop:
        _tell(ui, stop)
        raise typer.Exit(stop.code) from None
    except BrokenPipeError:
        _silence()
        raise typer.Exit(ExitCode.FINE) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except OSError as error:
        known = _of_system(error)
        _tell(ui, known)
        raise typer.Exit(known.code) from None
    except Exception as error:  # the last line of defence: a bug is kept for us and said in one sentence
        _tell(ui, Stop(ExitCode.BUG, f"this is a bug in edge-agent: {type(error).__name__}", hints=[_keep(error)]))
        raise typer.Exit(ExitCode.BUG) from None


def leave(app: Callable[[], Any]) -> None:
    """Run the whole program: UTF-8 on any locale, but plain signs on a terminal that does not know it; quiet when the
    reader of a pipe has gone, and in a sentence when the disk behind stdout is full."""
    codecs.register_error(_PLAIN, _plain)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the program
    for stream in (sys.stdout, sys.stderr):
        if not hasattr(stream, "reconfigure"):
            continue
        if stream.isatty() and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=_PLAIN)
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    code: int | str | None = ExitCode.FINE
    try:
        app()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # before a command could begin
        sys.stderr.write(f"error: this is a bug in edge-agent: {type(error).__name__}\n   {_keep(error)}\n")
        code = ExitCode.BUG
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
    except OSError as error:
        _silence()
        if code == ExitCode.FINE:
            sys.stderr.write(f"error: {error.strerror}\n")
            code = ExitCode.TRY_AGAIN
    sys.exit(code)


_PLAIN = "edge_agent_plain"
_SIGNS = {"…": "...", "→": "->", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "×": "x", "±": "+-", "µ": "u", "Σ": "sum"}


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Our own signs by their like in ASCII; what others wrote is escaped."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_SIGNS.get(sign) or ascii(sign)[1:-1] for sign in text), error.end


def _of_system(error: OSError) -> Stop:
    where = f"{error.filename}: " if error.filename else ""
    said = f"{where}{error.strerror or error}"
    if isinstance(error, PermissionError):
        return Stop(ExitCode.NO_PERMISSION, said, hints=["run it as the user that owns the file"])
    if isinstance(error, FileNotFoundError) and error.filename:
        return Stop(ExitCode.USAGE, said, hints=["is the folder there?"])
    if isinstance(error, FileExistsError):
        return Stop(
            ExitCode.WILL_NOT_OVERWRITE, f"{error.filename} exists already", hints=["another name, or --force"]
        )
    return Stop(ExitCode.TRY_AGAIN, said)


def _tell(ui: "Ui", stop: Stop) -> None:
    if not stop.message:
        return
    if ui.json:
        said = {
            "ok": False,
            "exit": int(stop.code),
            "code": stop.fault,
            "error": stop.message,
            "hints": list(stop.hints),
        }
        with suppress(OSError):  # stdout may be what has failed
            ui.result(said)
    ui.error(stop.message, *stop.hints, code=stop.fault)
    if stop.native and ui.verbose:
        ui.error(stop.native)


def _without_secrets(text: str) -> str:
    """The text without the secrets of the environment; those of the configuration have no text of their own."""
    from config.source import is_secret, mask

    for name, value in os.environ.items():
        if is_secret(name) and value:
            text = text.replace(value, "***")
    return mask(text)


def _silence() -> None:
    """Nothing takes what we write: let the interpreter's last flush go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _keep(error: Exception) -> str:
    """Save the traceback; a sentence that says where."""
    import platform
    import tempfile
    import traceback
    from importlib.metadata import version

    lines = (
        f"edge-agent {version('edge-agent')}, Python {platform.python_version()}, {platform.platform()}\n",
        f"command: {' '.join(sys.argv[1:2])}\n\n",
        *map(_without_secrets, traceback.format_exception(error)),
    )
    try:
        handle, path = tempfile.mkstemp(prefix="edge-agent-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
            out.writelines(lines)
    except OSError as full:
        return f"the traceback could not be saved: {full}"
    return f"please send the file {path} with a report of what you did"
