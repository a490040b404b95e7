import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from config.model import DeviceOptions
from drivers import registry
from drivers.registry import Drivers
from drivers.simulated.options import SimulatedDevice


def test_every_folder_with_a_spec_is_a_driver_named_like_the_folder():
    options = Drivers().options()
    assert options["simulated"] is SimulatedDevice
    assert all(issubclass(model, DeviceOptions) for model in options.values())


def test_a_driver_is_opened_by_the_driver_of_the_options():
    driver = Drivers().open("press-1", SimulatedDevice(tags={}))
    assert type(driver).__name__ == "SimulatedDriver"


def test_asking_for_options_imports_no_protocol_library():
    code = "import sys; from drivers.registry import Drivers; Drivers().options(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "drivers.simulated.options" in loaded
    assert {"pymodbus", "asyncua"}.isdisjoint(loaded)


@pytest.fixture
def other_package(monkeypatch):
    def offer(value: str) -> None:
        points = EntryPoints([EntryPoint(name="other", value=value, group=registry.GROUP)])
        monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))

    return offer


def test_another_package_adds_a_driver_by_an_entry_point(other_package):
    other_package("drivers.simulated:Simulated")
    assert Drivers().options()["other"] is SimulatedDevice


def test_a_driver_of_another_package_that_cannot_be_imported_is_named(other_package):
    other_package("no_such_package:Spec")
    with pytest.raises(ImportError) as raised:
        Drivers().options()
    assert "no_such_package:Spec" in raised.value.__notes__[0]
