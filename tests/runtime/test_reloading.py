"""What a new configuration means for one that runs: decided without an agent."""

from typing import Any

import pytest

from config.model import Buffer, Config, Mqtt
from edge_agent.reloading import Refused, changes
from tests.machine.stories import PRESS, TAGS, config


def plant(**more: Any) -> Config:
    """`press` on its device, `saw` on its own, and `meter`, which no machine uses but `saw`."""
    made = config(PRESS, others={"saw": {"run": "bool"}, "meter": {"kwh": "float32"}})
    saw = made.machines["press"].model_copy(update={"device": "saw", "counters": {}, "downtime": None, "state": None})
    return made.model_copy(
        update={"machines": {**made.machines, "saw": saw}, "buffer": Buffer(), "tests": (), **more}
    )


USES = {"press": ["press"], "saw": ["saw", "meter"]}


def test_nothing_changed_switches_nothing() -> None:
    done = changes(plant(), plant(), USES)
    assert not done
    assert done.told() == "nothing changed"
    assert done.machines.kept == ("press", "saw")


def test_a_changed_device_concerns_those_who_use_its_tags() -> None:
    slow = config(PRESS, TAGS, scan="5s").devices["press"]
    old = plant()
    new = old.model_copy(update={"devices": {**old.devices, "meter": slow}})
    done = changes(old, new, USES)
    assert (done.devices.changed, done.devices.kept) == (("meter",), ("press", "saw"))
    assert (done.machines.changed, done.machines.kept) == (("saw",), ("press",))
    assert not done.broker
    assert done.told() == "1 device changed (meter), 1 machine changed (saw)"


def test_what_comes_and_goes_is_named() -> None:
    old = plant()
    less = old.model_copy(
        update={
            "machines": {"press": old.machines["press"]},
            "devices": {name: device for name, device in old.devices.items() if name == "press"},
        }
    )
    assert changes(old, less, {"press": ["press"]}).machines.removed == ("saw",)
    assert changes(less, old, USES).devices.added == ("saw", "meter")


def test_another_calendar_or_time_zone_concerns_every_machine() -> None:
    old = plant()
    new = old.model_copy(update={"site": old.site.model_copy(update={"timezone": "Asia/Shanghai"})})
    assert changes(old, new, USES).machines.changed == ("press", "saw")


def test_another_broker_is_another_connection_and_nothing_else() -> None:
    done = changes(plant(), plant(mqtt=Mqtt(keepalive="60s")), USES)
    assert done.broker
    assert done.machines.kept == ("press", "saw")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"agent": plant().agent.model_copy(update={"id": "a2"})}, "agent.id"),
        ({"site": plant().site.model_copy(update={"area": "hall"})}, "site.area"),
        ({"mqtt": Mqtt(topic_root="other")}, "mqtt.topic_root"),
        ({"buffer": Buffer(max_size="1GiB")}, "buffer"),
    ],
)
def test_what_names_the_agent_its_streams_and_its_buffer_needs_a_restart(more: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=f"{says}.* cannot change while the agent runs"):
        changes(plant(), plant(**more), USES)
