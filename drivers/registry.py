"""Which drivers there are, found by name and loaded only when used.

A driver is a folder of `drivers/` with a `SPEC` (see `base.DriverSpec`), or an entry point of another package in
the group `edge_agent.drivers` that names such a class. The folder's or the entry point's name is the `driver:`
value in YAML. Asking for options imports the options models alone; a protocol's library is imported by `open`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points

import drivers
from config.model import DeviceOptions
from drivers.base import Driver, DriverSpec
from drivers.looking import Discoverer

GROUP = "edge_agent.drivers"


class Drivers:
    """The drivers of one agent, each made once; what devices of a driver share lives as long as this object."""

    def __init__(self) -> None:
        self._finders: dict[str, Callable[[], DriverSpec | None]] = {}
        self._specs: dict[str, DriverSpec] = {}
        for point in entry_points(group=GROUP):
            self._finders[point.name] = partial(_from_entry_point, point)
        for module in pkgutil.iter_modules(drivers.__path__):
            if module.ispkg:  # ours win: no package takes a shipped driver's place
                self._finders[module.name] = partial(_from_folder, module.name)

    def options(self) -> dict[str, type[DeviceOptions]]:
        """The model of a device for every `driver:` value, in the order of the names.

        Raises ImportError, naming the package, when a driver of another package cannot be imported.
        """
        return {name: spec.options for name in sorted(self._finders) if (spec := self._find(name)) is not None}

    def open(self, name: str, options: DeviceOptions) -> Driver:
        """A new driver for one connection to the device `name`, of the driver that `options` are of.

        Raises KeyError if there is no such driver: the configuration did not come through the loader.
        """
        spec = self._find(options.driver)
        if spec is None:
            raise KeyError(options.driver)
        return spec.open(name, options)

    def discoverers(self) -> dict[str, Discoverer]:
        """The drivers that can find out what answers at an address, by name."""
        found: dict[str, Discoverer] = {}
        for name in sorted(self._finders):
            spec: object = self._find(name)
            if isinstance(spec, Discoverer):
                found[name] = spec
        return found

    def _find(self, driver: str) -> DriverSpec | None:
        if driver not in self._specs:
            spec = self._finders[driver]()
            if spec is None:
                return None
            self._specs[driver] = spec
        return self._specs[driver]


def _from_folder(name: str) -> DriverSpec | None:
    spec: type[DriverSpec] | None = getattr(importlib.import_module(f"drivers.{name}"), "SPEC", None)
    return None if spec is None else spec()


def _from_entry_point(point: EntryPoint) -> DriverSpec:
    try:
        spec: type[DriverSpec] = point.load()
    except ImportError as error:
        error.add_note(f"the driver {point.name!r} comes from {point.value!r} in the entry-point group {GROUP}")
        raise
    return spec()
