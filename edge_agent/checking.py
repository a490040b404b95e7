"""Does the plant fit the configuration? Every device, tag, certificate and the broker, looked at and nothing changed.

While an agent runs, its connections are used and what it says of a device is believed: no second connection is ever
made to a place that it holds. Every fault has its place in the files, like those of `validate`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from config.errors import Fault, Problem
from config.load import Loaded
from config.model import DeviceOptions
from config.report import Place, at
from config.secrets import resolve
from config.source import TOP
from edge_agent.clock import SECOND, SystemClock
from edge_agent.delivery.login import login
from edge_agent.delivery.publisher import PublishError
from edge_agent.delivery.trial import try_login
from edge_agent.downlink import topics
from edge_agent.looking import Failed, Way

NOT_KNOWN = "C540"
CONNECTING = "CONNECTING"
SETTLING = 10.0
"""Seconds that a running agent has to find out about what it has just begun to connect to."""
_ASKED_AGAIN = 0.25
AT_ONCE = 8
"""Devices that are looked at side by side."""
PIECE = 100
"""Tags of one look."""
_ADDRESSES = ("node", "reference", "holding", "input", "coil", "discrete")
_LATER = "check again in a moment; edge-agent status shows how it goes on"
_RELOAD = "edge-agent reload takes the file over; then check again"


class Checked(NamedTuple):
    """A device, or the broker. `status`: UP, DOWN, CONNECTING where the running agent does not know yet, or UNKNOWN
    where it could not be asked."""

    name: str
    endpoint: str
    status: str
    faults: tuple[Fault, ...] = ()
    tags: int = 0
    good: int = 0
    native: str = ""


async def devices(loaded: Loaded, ways: Callable[[str], Way], told: Callable[[str, int], None]) -> list[Checked]:
    """All devices, in their order. `ways`: how to reach a device by its name. `told`: device, and how many of its
    tags have been looked at just now."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, options: DeviceOptions) -> Checked:
        async with free:
            return await device(loaded, name, options, ways(name), told)

    return list(await asyncio.gather(*(one(name, options) for name, options in loaded.config.devices.items())))


async def device(
    loaded: Loaded, name: str, options: DeviceOptions, way: Way, told: Callable[[str, int], None]
) -> Checked:
    """One device and its tags."""
    tags = [tag for tag in options.tags if options.value_type(tag) != "conditions"]
    seen: list[dict[str, Any]] = []
    strange: dict[str, ValueError] = {}
    try:
        for start in range(0, max(len(tags), 1), PIECE):
            piece = tags[start : start + PIECE]
            try:
                seen += await way.look(name, piece, wide=False)
            except ValueError:
                if not piece:
                    raise
                for tag in piece:
                    try:
                        seen += await way.look(name, [tag], wide=False)
                    except ValueError as error:
                        strange[tag] = error
            told(name, len(piece))
        if strange and not seen:
            raise next(iter(strange.values()))
    except Connecting as error:
        fault = fault_of(loaded, ("devices", name), ("url",), NOT_KNOWN, str(error), _LATER)
        return Checked(name, options.endpoint, CONNECTING, (fault,), len(tags))
    except Failed as error:
        fault = fault_of(loaded, ("devices", name), ("url",), error.code, str(error))
        return Checked(name, options.endpoint, "DOWN", (fault,), len(tags), native=error.native)
    except ValueError as error:
        fault = fault_of(loaded, ("devices", name), ("url",), NOT_KNOWN, f"{name} is not checked: {error}", _RELOAD)
        return Checked(name, options.endpoint, "UNKNOWN", (fault,), len(tags))
    faults = tuple(of_tag(loaded, name, one) for one in seen if one["code"] or one["quality"] == "BAD")
    faults += tuple(
        fault_of(loaded, ("devices", name), ("tags", tag), NOT_KNOWN, f"{name}/{tag} is not checked: {why}", _RELOAD)
        for tag, why in strange.items()
    )
    good = sum(one["quality"] == "GOOD" and not one["code"] for one in seen)
    return Checked(name, options.endpoint, "UP", faults, len(tags), good)


def of_tag(loaded: Loaded, device: str, one: Mapping[str, Any]) -> Fault:
    """The fault of a tag that was looked at, at its address in the file."""
    what = f"{device}/{one['tag']}: {one['problem'] or one['detail']}"
    return fault_of(loaded, ("devices", device), ("tags", one["tag"]), one["code"] or "C523", what, one["fix"])


def fault_of(
    loaded: Loaded, part: tuple[str, ...], path: Sequence[str], code: str, what: str, fix: str = ""
) -> Fault:
    """A fault at a place of the configuration; at the top of the file if nothing is written there."""
    node = loaded.parts.get(part)
    place = Place(TOP, "")
    if node is not None:
        addresses = [(*path, word) for word in _ADDRESSES] if path[0] == "tags" else [tuple(path)]
        spots = [at(node, address) for address in addresses if _there(node, address)]
        place = spots[0] if spots else at(node, path, key=True)
    source = next((one for one in loaded.sources if one.file == place.span.file), loaded.sources[0])
    return source.fault(place.span, Problem(code, what.rstrip("."), fix=fix), (*part, *path))


def _there(node: Any, path: Sequence[str]) -> bool:
    for step in path:
        node = node.get(step) if hasattr(node, "get") else None
    return node is not None


async def broker(loaded: Loaded) -> Checked:
    """A login of its own, which publishes nothing."""
    mqtt = loaded.config.mqtt
    client_id = f"{mqtt.client_id or f'edge-agent-{loaded.config.agent.id}'}-check"
    try:
        password = None if mqtt.password is None else resolve(mqtt.password, base_dir=loaded.base_dir)
        as_whom = login(mqtt, client_id=client_id, password=password, home=loaded.base_dir)
    except Problem as problem:
        fault = fault_of(loaded, ("mqtt",), ("password",), problem.code, problem.what, problem.fix)
        return Checked("broker", mqtt.url, "UNKNOWN", (fault,))
    except PublishError as error:
        return _refused(loaded, error, "UNKNOWN")
    refusal = await try_login(as_whom, topics(loaded.config))
    if refusal is None:
        return Checked("broker", mqtt.url, "UP")
    return _refused(loaded, refusal, "UP" if refusal.code == "B608" else "DOWN")


_PLACES = {"B601": "username", "B602": "ca_file", "B604": "client_id", "B608": "commands"}


def _refused(loaded: Loaded, error: PublishError, status: str) -> Checked:
    path = (_PLACES.get(error.code, "url"),)
    fault = fault_of(loaded, ("mqtt",), path, error.code, str(error))
    return Checked("broker", loaded.config.mqtt.url, status, (fault,), native=error.native)


def broker_of(loaded: Loaded, told: Mapping[str, Any]) -> Checked:
    """The broker as the running agent knows it; `told`: that part of its status."""
    code, what, fix = told["code"], told["message"], ""
    if told["status"] == CONNECTING:
        code, what, fix = NOT_KNOWN, "the running agent is not connected to the broker yet", _LATER
    elif told["status"] == "UP":
        why = told.get("no_commands") or {"code": "", "message": ""}
        code, what = why["code"], why["message"]
    faults = (fault_of(loaded, ("mqtt",), (_PLACES.get(code, "url"),), code, what, fix),) if code else ()
    return Checked("broker", told["url"], told["status"], faults)


async def settled(ask: Callable[[], dict[str, Any]], told: Callable[[str], None]) -> dict[str, Any]:
    """The status of a running agent, as soon as it knows of every device and the broker whether it is there; after
    `SETTLING` what it knows then. `told`: what is waited for."""
    clock = SystemClock()
    until = clock.now().mono + SETTLING * SECOND
    while True:
        status = await asyncio.to_thread(ask)
        known = {**status["devices"], "broker": status["broker"]}
        waiting = [name for name, one in known.items() if one["status"] == CONNECTING]
        if not waiting or clock.now().mono > until:
            return status
        told(f"the agent to connect to {', '.join(waiting)}")
        await clock.sleep(_ASKED_AGAIN)


class Connecting(Failed):
    """The running agent does not know yet whether the device is there."""


class Told:
    """The way to a device that the running agent cannot reach: what the agent says of it."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    async def browse(self, device: str, path: str) -> dict[str, Any]:
        raise self._failed(device)

    async def look(self, device: str, tags: Sequence[str], *, wide: bool) -> list[dict[str, Any]]:
        raise self._failed(device)

    def _failed(self, device: str) -> Failed:
        if self._told["status"] == CONNECTING:
            return Connecting(f"{device} is not checked: the running agent is still connecting to it", code=NOT_KNOWN)
        return Failed(self._told["message"] or self._told["reason"] or "", code=self._told["code"] or "C502")


class Elsewhere:
    """The way to a device that the running agent does not know, at a place that it holds."""

    def __init__(self, holders: Sequence[str]) -> None:
        self._holders = holders

    async def browse(self, device: str, path: str) -> dict[str, Any]:
        raise self._refused()

    async def look(self, device: str, tags: Sequence[str], *, wide: bool) -> list[dict[str, Any]]:
        raise self._refused()

    def _refused(self) -> ValueError:
        return ValueError(f"the running agent holds the connection for {', '.join(self._holders)}")
