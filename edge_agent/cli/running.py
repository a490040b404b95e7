"""Reaches the agent that runs with a configuration, through its local socket."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import find, load, read, report
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded
    from edge_agent.control.client import ControlClient

Answer = TypeVar("Answer")


def client(ui: Ui, file: Path | None, *, answer_time: float = 5.0) -> "ControlClient":
    """A client for the agent of this configuration; nothing is connected yet. `answer_time`: seconds."""
    return agent_of(load(ui, file), answer_time=answer_time)


def onlooker(ui: Ui, file: Path | None) -> "tuple[ControlClient, Loaded | None]":
    """A client for a look at the agent, and its configuration: None where the file is broken now. An agent that runs
    goes on with what it has read, and can be looked at all the same."""
    from config.errors import ConfigFaults
    from edge_agent.control.client import ControlClient
    from edge_agent.control.place import socket_path

    path = find(ui, file)
    try:
        loaded = read(path)
    except ConfigFaults as broken:
        place = socket_path(_buffer(path))
        if not place.exists():
            report(ui, path, broken.faults)
            raise Stop(ExitCode.BAD_CONFIG) from None
        ui.note(f"{path} has faults (edge-agent validate); the agent goes on with what it has read")
        return ControlClient(place), None
    return agent_of(loaded), loaded


def _buffer(path: Path) -> Path:
    """The buffer of a file that has faults, as far as it can be read."""
    from config import yaml12
    from config.errors import ConfigFaults
    from config.model import Buffer
    from config.source import read as read_source

    written: object = None
    try:
        section = yaml12.plain(yaml12.parse(read_source(path)).root).get("buffer")
        written = section.get("path") if isinstance(section, dict) else None
    except ConfigFaults:
        pass  # not even YAML: then it is where it is by default
    name = written if isinstance(written, str) else str(Buffer.model_fields["path"].default)
    return path.absolute().parent / name


def beside(ui: Ui) -> "ControlClient | None":
    """A client for the agent of the configuration that is here, sound or not, if there is one."""
    from config.errors import ConfigFaults
    from edge_agent.control.client import ControlClient
    from edge_agent.control.place import socket_path

    try:
        path = find(ui, None)
    except Stop:
        return None
    try:
        return agent_of(read(path))
    except ConfigFaults:
        return ControlClient(socket_path(_buffer(path)))


def agent_of(loaded: "Loaded", *, answer_time: float = 5.0) -> "ControlClient":
    """The same for a configuration that is already here."""
    from edge_agent.control.client import ControlClient
    from edge_agent.control.place import socket_path

    return ControlClient(socket_path(loaded.base_dir / loaded.config.buffer.path), answer_time=answer_time)


def reached(call: Callable[[], Answer], *, invalid: ExitCode = ExitCode.TRY_AGAIN) -> Answer:
    """The answer, or `Stop` with why there is none; `invalid`: for a question that is not right."""
    from edge_agent.control.client import NoAnswer, NotRunning, Refused

    try:
        return call()
    except NotRunning as error:
        raise Stop(
            ExitCode.UNREACHABLE,
            "no agent is running with this configuration",
            hints=["start it with: edge-agent run"],
            native=str(error),
        ) from None
    except NoAnswer as error:
        raise Stop(ExitCode.TRY_AGAIN, str(error)) from None
    except Refused as error:
        if error.code == "invalid":
            raise Stop(invalid, str(error)) from None
        if error.code == "other_version":
            raise Stop(ExitCode.TRY_AGAIN, str(error)) from None
        raise Stop(ExitCode.TRY_AGAIN, f"the agent refused: {error}") from None
