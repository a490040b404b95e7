"""A device that needs no PLC: signals that are functions of time. The template for new drivers."""

from config.model import DeviceOptions
from drivers.base import Driver, DriverSpec


class Simulated:
    """What the registry asks for; see `drivers.base.DriverSpec`."""

    @property
    def options(self) -> type[DeviceOptions]:
        from drivers.simulated.options import SimulatedDevice

        return SimulatedDevice

    def open(self, name: str, options: DeviceOptions) -> Driver:
        from drivers.simulated.driver import SimulatedDriver
        from drivers.simulated.options import SimulatedDevice

        assert isinstance(options, SimulatedDevice)
        return SimulatedDriver(name, options)


SPEC: type[DriverSpec] = Simulated
