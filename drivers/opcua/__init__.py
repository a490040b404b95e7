"""OPC UA devices: one subscription per device. Importing this package does not import asyncua."""

from collections.abc import Mapping
from datetime import datetime

from config.model import DeviceOptions
from drivers.base import Driver, DriverSpec
from drivers.looking import Answered, Asking


class Opcua:
    """What the registry asks for; see `drivers.base.DriverSpec`.

    `starts` holds the last StartTime that each device's server told: another one after a reconnect means that
    the PLC itself was restarted.
    """

    def __init__(self) -> None:
        self._starts: dict[str, datetime] = {}

    @property
    def options(self) -> type[DeviceOptions]:
        from drivers.opcua.options import OpcuaDevice

        return OpcuaDevice

    @property
    def schemes(self) -> Mapping[str, int]:
        return {"opc.tcp": 4840}

    async def discover(self, url: str, asking: Asking) -> Answered | None:
        from drivers.opcua.discovery import discover

        return await discover(url, asking)

    def open(self, name: str, options: DeviceOptions) -> Driver:
        from drivers.opcua.driver import OpcuaDriver
        from drivers.opcua.options import OpcuaDevice

        assert isinstance(options, OpcuaDevice)
        return OpcuaDriver(name, options, starts=self._starts)


SPEC: type[DriverSpec] = Opcua
