"""Scans that are skipped are counted, and warned of once per spell, for all devices together."""

from pathlib import Path
from types import SimpleNamespace

from drivers.base import Batch, Reading
from edge_agent.clock import SECOND, Instant, SystemClock
from edge_agent.events.types import AgentWarning
from edge_agent.health import Health
from edge_agent.heartbeat import Heartbeat

CONFIG = SimpleNamespace(
    agent=SimpleNamespace(id="a1"),
    site=SimpleNamespace(enterprise="acme", site="sz1", area="hall"),
    mqtt=SimpleNamespace(topic_root="ea/v1"),
)


class Plant:
    """Devices whose batches come as the test says; `warnings` are those of the next beat."""

    def __init__(self, *names: str) -> None:
        clock = SystemClock()
        self.health = Health.of(names, clock)
        running = SimpleNamespace(config=CONFIG)
        self._heartbeat = Heartbeat(None, None, self.health, clock, disk=Path(), running=running)

    def read(self, name: str, at: float, missed: int) -> None:
        instant = Instant(int(at * SECOND), int(at * SECOND))
        self.health.devices[name].note(Batch(name, [Reading("good", 5)], missed=missed), instant)

    def warnings(self) -> list[AgentWarning]:
        return [each for each in self._heartbeat._news() if isinstance(each, AgentWarning)]


def test_scans_that_are_skipped_again_and_again_are_one_warning():
    plant = Plant("press-1")
    warnings = []
    for at, missed in [(0, 0), (2, 1), (4, 1), (7, 2), (60, 1), (100, 0)]:
        plant.read("press-1", at, missed)
        warnings += plant.warnings()
    assert [(warning.code, warning.count) for warning in warnings] == [("scans_skipped", 2)]
    assert "press-1" in warnings[0].text
    assert warnings[0].subject.endswith("/_agents/a1")
    assert plant.health.devices["press-1"].missed == 5


def test_a_later_spell_is_another_warning():
    plant = Plant("press-1")
    counts = []
    for at, missed in [(2, 1), (4, 1), (80, 0), (200, 3), (201, 1)]:
        plant.read("press-1", at, missed)
        counts += [warning.count for warning in plant.warnings()]
    assert counts == [2, 4]


def test_scans_skipped_once_in_a_while_are_counted_and_no_warning():
    plant = Plant("press-1")
    for at, missed in [(2, 1), (100, 1), (200, 5)]:
        plant.read("press-1", at, missed)
        assert plant.warnings() == []
    assert plant.health.devices["press-1"].missed == 7


def test_a_computer_that_is_too_slow_for_all_its_devices_is_one_warning():
    plant = Plant(*(f"press-{n}" for n in range(100)))
    for name in plant.health.devices:
        plant.read(name, 1, 1)
        plant.read(name, 2, 1)
    (warning,) = plant.warnings()
    assert warning.count == 200
    assert "and 95 more" in warning.text
    assert plant.warnings() == []
