"""For every driver a real device to run the contract suite against. A new driver adds its line to `PEERS`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from config.model import DeviceOptions
from tests.waiting import free_port


@dataclass(frozen=True)
class Peer:
    """A device that runs, and how to disturb it."""

    options: DeviceOptions
    """Two tags, `good` and `bad`; a scan of at most 100 ms; a time-out of at most 2 s."""
    nowhere: DeviceOptions | None = None
    """The same device at an address where nothing listens; None if there is no connection to fail."""
    stop: Callable[[], Awaitable[None]] | None = None
    """End the server at once, connections and all."""
    silence: Callable[[], Awaitable[None]] | None = None
    """Go on being connected but send nothing more."""


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[Peer]:
    from drivers.simulated.options import SimulatedDevice

    yield Peer(
        SimulatedDevice.model_validate(
            {"scan": "50ms", "tags": {"good": {"kind": "constant", "value": 5}, "bad": {"kind": "broken"}}}
        )
    )


@asynccontextmanager
async def modbus(folder: Path) -> AsyncIterator[Peer]:
    from drivers.modbus.options import ModbusDevice
    from tests.servers_modbus import modbus_serial

    def options(url: str) -> ModbusDevice:
        tags = {"good": {"holding": 10}, "bad": {"holding": 11}}
        return ModbusDevice.model_validate({"url": url, "scan": "50ms", "timeout": "1s", "tags": tags})

    async with modbus_serial(folder) as plc:
        await plc.set(holding={10: 5})
        await plc.refuse("holding", 11)
        yield Peer(
            options=options(plc.url),
            nowhere=options(f"tcp://127.0.0.1:{free_port()}"),
            stop=plc.stop,
            silence=lambda: plc.delay(1, -1),
        )


@asynccontextmanager
async def opcua(folder: Path) -> AsyncIterator[Peer]:
    from asyncua import ua

    from drivers.opcua.options import OpcuaDevice
    from tests.servers_opcua import Elsewhere, asyncua_press, cable

    def options(url: str) -> OpcuaDevice:
        tags = {
            "good": {"node": "nsu=urn:acme:press;s=Good", "type": "uint16"},
            "bad": {"node": "nsu=urn:acme:press;s=Bad", "type": "uint16"},
        }
        settings = {"security": "none", "insecure": True, "publishing": "50ms", "timeout": "1s"}
        return OpcuaDevice.model_validate({"url": url, "tags": tags} | settings)

    async def stalled() -> None:
        relay.stall()

    with Elsewhere() as there:
        async with (
            there.enter(asyncua_press()) as press,
            there.enter(cable(int(press.url.rpartition(":")[2]))) as relay,
        ):
            await there.run(press.add("Good", 5, ua.VariantType.UInt16))
            yield Peer(
                options=options(relay.url),
                nowhere=options(f"opc.tcp://127.0.0.1:{free_port()}"),
                stop=lambda: there.run(relay.cut()),
                silence=lambda: there.run(stalled()),
            )


PEERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Peer]]] = {
    "modbus": modbus,
    "opcua": opcua,
    "simulated": simulated,
}
