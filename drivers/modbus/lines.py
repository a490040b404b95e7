"""The lines of one agent: devices with the same place share one."""

from drivers.modbus.endpoint import Host, Port
from drivers.modbus.exchange import Medium
from drivers.modbus.line import Line
from drivers.modbus.options import ModbusDevice
from drivers.modbus.rtu import RtuTcpMedium
from drivers.modbus.serial_port import SerialMedium
from drivers.modbus.tcp import TcpMedium
from drivers.modbus.tls import Tls


class Lines:
    """A line lives as long as this object; its connection as long as it has users."""

    def __init__(self) -> None:
        self._lines: dict[tuple[Host | Port, Tls | None], Line] = {}

    def of(self, device: ModbusDevice) -> Line:
        key = device.place, device.tls
        if key not in self._lines:
            self._lines[key] = Line(medium(*key))
        return self._lines[key]


def medium(place: Host | Port, tls: Tls | None) -> Medium:
    """What opens the connections to a place."""
    if isinstance(place, Port):
        return SerialMedium(place)
    if place.scheme == "rtu+tcp":
        return RtuTcpMedium(place.name, place.port)
    return TcpMedium(place.name, place.port, None if tls is None else tls.context)
