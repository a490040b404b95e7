"""The demo's plant: the simulated stations behind real servers, and the cables between them and the agent."""

import asyncio
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from edge_agent.clock import SECOND, Clock
from edge_agent.demo.cable import LOOPBACK, Cable
from edge_agent.demo.line import Station, advance, oven, oven_registers, press, press_registers, trip
from edge_agent.demo.oven import OvenServer
from edge_agent.demo.press import PressServer

PRESS, OVEN = "press-1", "oven-1"
PRESS_PORT, OVEN_PORT = 4840, 5020
_TICK = 0.05
"""Seconds between two looks at the stations."""


class Plant:
    """Open it, `run` it as a task, close it. Until `run` the machines stand still at the start of their plan."""

    def __init__(self, clock: Clock) -> None:
        self.stations: dict[str, Station] = {PRESS: press(), OVEN: oven()}
        self.cables: dict[str, Cable] = {}
        self._clock = clock
        self._press = PressServer()
        self._oven = OvenServer(lambda: oven_registers(self.stations[OVEN]))
        self._mending: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Start both servers and plug the cables in, at the usual ports where they are free."""
        self.cables[OVEN] = await plug(await self._oven.open(), OVEN_PORT)
        port = await self._press.open(press_registers(self.stations[PRESS]), self._clock.now().wall)
        self.cables[PRESS] = await plug(port, PRESS_PORT)

    async def run(self) -> None:
        """Let the machines work until cancelled."""
        last = self._clock.now().mono
        while True:
            await self._clock.sleep(_TICK)
            now = self._clock.now()
            for name, station in self.stations.items():
                self.stations[name] = advance(station, now.mono - last)
            last = now.mono
            await self._press.show(press_registers(self.stations[PRESS]), now.wall)

    async def show(self) -> None:
        """Let the servers show the stations as they are."""
        await self._press.show(press_registers(self.stations[PRESS]), self._clock.now().wall)

    def trip(self, name: str, seconds: float) -> None:
        """A fault of the machine. Raises KeyError."""
        self.stations[name] = trip(self.stations[name], round(seconds * SECOND))

    async def cut(self, name: str, seconds: float) -> None:
        """Cut a cable and mend it after a time; a second cut begins the time again. Raises KeyError."""
        cable = self.cables[name]
        if name in self._mending:
            self._mending[name].cancel()
        await cable.cut()
        self._mending[name] = asyncio.create_task(self._mend(cable, seconds), name=f"mend {name}")

    async def _mend(self, cable: Cable, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await cable.mend()

    @property
    def mending(self) -> Collection["asyncio.Task[None]"]:
        """What waits to plug a cable in again."""
        return self._mending.values()

    async def close(self) -> None:
        """Unplug and stop everything. Safe before `open`."""
        for mending in self._mending.values():
            mending.cancel()
        await asyncio.gather(*self._mending.values(), return_exceptions=True)
        for cable in self.cables.values():
            await cable.close()
        await self._press.close()
        self._oven.close()

    @property
    def truth(self) -> Mapping[str, Mapping[str, int]]:
        """Machine → part → how many were made since the start."""
        stamped, baked = self.stations[PRESS], self.stations[OVEN]
        return {PRESS: {"total": stamped.made, "scrap": stamped.scrapped}, OVEN: {"good": baked.made}}


@contextmanager
def held_port(port: int) -> Iterator[int]:
    """This port of loopback, or a free one where that is taken, kept from other programs until it is left. A server
    of this process may listen there meanwhile: both sockets then say that the address may be used again, which is
    enough on Linux."""
    with socket.socket() as held:
        try:
            held.bind((LOOPBACK, port))
        except OSError:
            held.bind((LOOPBACK, 0))
        found = int(held.getsockname()[1])
        if sys.platform == "linux":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:  # elsewhere nobody may listen beside it, so it is only looked for
            held.close()
        yield found


async def plug(target: int, port: int) -> Cable:
    """A cable from `port` on loopback, or a free one where that is taken, to the server at `target`."""
    cable = Cable(target, port)
    with suppress(OSError):
        await cable.mend()
        return cable
    cable = Cable(target)
    await cable.mend()
    return cable
