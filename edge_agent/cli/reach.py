"""How a command reaches devices: through the agent that runs with this configuration, otherwise by itself.

Never both: while an agent holds the connection to a device, a second one could throw production off the wire.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded
    from config.model import DeviceOptions
    from edge_agent.looking import Way

Answer = TypeVar("Answer")


class Target(NamedTuple):
    """A device to look at: its name, and the configuration that has it (or one made up for an address)."""

    device: str
    devices: "Mapping[str, DeviceOptions]"
    loaded: "Loaded | None"


def look(ui: Ui, task: "Callable[[], Awaitable[Answer]]") -> Answer:
    """Run it; what cannot be reached or is not there ends the command in words."""
    from edge_agent.cli.run import log_to_stderr, runner
    from edge_agent.cli.running import reached
    from edge_agent.looking import Failed

    log_to_stderr(Ui(quiet=not ui.verbose, verbose=ui.verbose))

    async def run() -> Answer:
        return await task()

    def call() -> Answer:
        with runner() as loop:
            return loop.run(run())

    try:
        return reached(call, invalid=ExitCode.USAGE)
    except Failed as error:
        raise Stop(ExitCode.UNREACHABLE, str(error), fault=error.code, native=error.native) from None
    except ValueError as error:
        raise Stop(ExitCode.USAGE, str(error)) from None


@asynccontextmanager
async def way(devices: "Mapping[str, DeviceOptions]", loaded: "Loaded | None") -> "AsyncIterator[Way]":
    """Through the running agent if there is one."""
    from drivers.registry import Drivers
    from edge_agent.cli.running import agent_of
    from edge_agent.clock import SystemClock
    from edge_agent.control.client import NotRunning
    from edge_agent.looking import LOOK_TIME, Direct, ThroughAgent

    if loaded is not None:
        agent = agent_of(loaded, answer_time=LOOK_TIME)
        try:
            await asyncio.to_thread(agent.ask, "status")
        except NotRunning:
            pass
        else:
            yield ThroughAgent(agent)
            return
    async with Direct(devices, Drivers().open, SystemClock()) as direct:
        yield direct


def status_here(ui: Ui) -> dict[str, Any] | None:
    """The status of the agent that runs with the configuration that is here; None if none runs. Raises `Stop`."""
    from edge_agent.cli.running import beside, reached
    from edge_agent.control.client import NotRunning

    agent = beside(ui)
    if agent is None:
        return None

    def ask() -> dict[str, Any] | None:
        try:
            status: dict[str, Any] = agent.ask("status")
        except NotRunning:
            return None
        return status

    return reached(ask)


def held_by(status: Mapping[str, Any] | None, url: str) -> list[str]:
    """The devices of a running agent that are connected to this place now."""
    place = _place(url)
    return [
        name
        for name, device in (status["devices"] if status is not None else {}).items()
        if device["status"] != "DOWN" and any(_same(place, _place(end)) for end in device["endpoint"].split(", "))
    ]


def _place(url: str) -> tuple[str, int]:
    """Host and port, or the name of a serial port and 0, of a URL or of a device's endpoint."""
    from urllib.parse import urlsplit

    scheme, _, rest = url.rpartition("://")
    if scheme == "serial" or rest.startswith("/"):
        return rest.partition("?")[0], 0
    try:
        parts = urlsplit(f"//{rest}")
        return parts.hostname or rest, parts.port or {"opc.tcp": 4840, "tls": 802}.get(scheme, 502)
    except ValueError:
        return rest, 0


def _same(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two places are one, by name or by any address of the names."""
    import socket

    if one == other or one[1] != other[1] or not one[1]:
        return one == other
    try:
        addresses = [
            {found[4][0] for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}
            for name, port in (one, other)
        ]
    except (OSError, UnicodeError):
        return False
    return bool(addresses[0] & addresses[1])


def target(ui: Ui, device: str, *, unit: int | None = None) -> Target:
    """A device by its name in the configuration, or by its address (`opc.tcp://…`, `tcp://…`).

    An address of a device of the configuration means that device, so that a running agent is asked for it.
    """
    from edge_agent.cli.loading import find, load

    if "://" not in device:
        loaded = load(ui, None)
        devices = loaded.config.devices
        if device not in devices:
            from config.errors import did_you_mean

            hint = did_you_mean(device, devices) or f"there is {', '.join(devices) or 'none'}"
            raise Stop(ExitCode.USAGE, f"the configuration has no device {device!r}", hints=[hint])
        return Target(device, devices, loaded)
    options = of_address(device, unit)
    try:
        find(ui, None)
    except Stop:
        return Target(device, {device: options}, None)
    loaded = load(Ui(config=ui.config, quiet=True), None)
    for name, known in loaded.config.devices.items():
        same_unit = unit is None or getattr(known, "unit", unit) == unit
        if known.driver == options.driver and _same(_place(known.endpoint), _place(device)) and same_unit:
            return Target(name, loaded.config.devices, loaded)
    not_held(ui, device)
    return Target(device, {device: options}, None)


def not_held(ui: Ui, address: str) -> None:
    """Raises `Stop` if a running agent is connected to the address."""
    if holders := held_by(status_here(ui), address):
        raise Stop(
            ExitCode.TRY_AGAIN,
            f"the running agent holds the connection to {address}, for {', '.join(holders)}",
            hints=["a second one could throw it off: add what is missing to its configuration, or stop the agent"],
        )


def of_address(address: str, unit: int | None = None, **more: Any) -> "DeviceOptions":
    """A device without tags at an address that is not in a configuration. Raises `Stop`."""
    from pydantic import ValidationError

    from drivers.registry import Drivers

    driver = "opcua" if address.startswith("opc.tcp://") else "modbus"
    given: dict[str, Any] = {"driver": driver, "url": address, "tags": {}, **more}
    if driver == "opcua":
        given |= {"security": "none", "insecure": True} if "security" not in more else {}
    elif unit is not None:
        given["unit"] = unit
    try:
        return Drivers().options()[driver].model_validate(given, context={"base_dir": Path()})
    except ValidationError as error:
        hint = "opc.tcp://HOST:4840 for OPC UA, tcp://HOST:502 for Modbus"
        raise Stop(ExitCode.USAGE, error.errors()[0]["msg"], hints=[hint]) from None
