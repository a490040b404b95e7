"""Modbus over TCP, TLS and serial lines: all four tables, coalesced requests, one line shared by its units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.model import DeviceOptions
from drivers.base import Driver, DriverSpec
from drivers.looking import Answered, Asking

if TYPE_CHECKING:
    from drivers.modbus.learned import Learned
    from drivers.modbus.lines import Lines


class Modbus:
    """What the registry asks for; see `drivers.base.DriverSpec`. Owns the lines and what devices refused."""

    def __init__(self) -> None:
        self._lines: Lines | None = None
        self._learned: dict[str, Learned] = {}

    @property
    def options(self) -> type[DeviceOptions]:
        from drivers.modbus.options import ModbusDevice

        return ModbusDevice

    @property
    def schemes(self) -> Mapping[str, int]:
        return {"tcp": 502, "rtu+tcp": 502, "tls": 802, "serial": 0}

    async def discover(self, url: str, asking: Asking) -> Answered | None:
        from drivers.modbus.discovery import discover

        return await discover(url, asking)

    def open(self, name: str, options: DeviceOptions) -> Driver:
        from drivers.modbus.driver import ModbusDriver
        from drivers.modbus.learned import Learned
        from drivers.modbus.lines import Lines
        from drivers.modbus.options import ModbusDevice

        assert isinstance(options, ModbusDevice)
        if self._lines is None:
            self._lines = Lines()
        learned = self._learned.setdefault(name, Learned())
        return ModbusDriver(name, options, self._lines.of(options), learned)


SPEC: type[DriverSpec] = Modbus
