"""Alarms and conditions of node-opcua, through the driver into the machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua

from config.alarms import ConditionOptions
from drivers.base import Batch, Reading
from drivers.opcua import Opcua
from drivers.opcua.options import OpcuaDevice
from edge_agent.clock import SystemClock
from edge_agent.machine.machine import Machine
from tests.machine.stories import EPOCH, OpcPlc, config
from tests.servers_opcua import NodeOpcua, node_opcua

module_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    async with node_opcua(tmp_path_factory.mktemp("press"), conditions=True) as running:
        yield running


def device(press: NodeOpcua) -> OpcuaDevice:
    tags = {
        "faults": {"node": "i=2253", "type": "conditions"},
        "tonnage": {"node": "nsu=urn:acme:press;s=Tonnage", "type": "float32"},
    }
    return OpcuaDevice.model_validate(
        {"url": press.url, "security": "none", "insecure": True, "publishing": "50ms", "tags": tags}
    )


class Line:
    """A machine behind one connection after another."""

    def __init__(self, press: NodeOpcua) -> None:
        made = config({"conditions": [{"from": "faults", "stops_from": 1}]}, {"faults": "conditions"}, kind=OpcPlc)
        self.machine = Machine(made, "press", epoch=EPOCH)
        self.state = self.machine.initial(SystemClock().now()).state
        self.events: list[Any] = []
        self._options, self._spec = device(press), Opcua()
        self._driver: Any = None

    async def connect(self) -> None:
        self._driver = self._spec.open("press", self._options)
        await self._driver.connect()

    async def close(self) -> None:
        await self._driver.close()

    async def until(self, enough: Callable[[list[Any]], object]) -> list[Any]:
        """Read until the events of alarms are enough; gives those that came since the last call."""
        async with asyncio.timeout(20):
            while not enough(self.events):
                batch: Batch = await self._driver.read()
                outcome = self.machine.step(self.state, batch, SystemClock().now())
                self.state = outcome.state
                self.events += [event for event in outcome.events if event.data.TYPE.startswith("alarm.")]
        found, self.events = self.events, []
        return found

    async def calm(self) -> list[Any]:
        """What comes in some signs of life."""
        for _ in range(3):
            await self.until(lambda _: True)
            batch = await self._driver.read()
            outcome = self.machine.step(self.state, batch, SystemClock().now())
            self.state = outcome.state
            self.events += [event for event in outcome.events if event.data.TYPE.startswith("alarm.")]
        found, self.events = self.events, []
        return found


async def acknowledge(press: NodeOpcua, condition: str, event: str, comment: str) -> None:
    async with Client(press.url) as client:
        index = await client.get_namespace_index("urn:acme:press")
        node = client.get_node(ua.NodeId(condition.partition(";s=")[2], index))
        await node.call_method(
            ua.NodeId(9111), ua.Variant(bytes.fromhex(event), ua.VariantType.ByteString), ua.LocalizedText(comment)
        )


@module_loop
@pytest.mark.needs("node")
async def test_an_alarm_of_the_server_is_raised_acknowledged_and_cleared(press: NodeOpcua) -> None:
    line = Line(press)
    await line.connect()
    try:
        await press.set("Tonnage", 150.5)
        (raised,) = await line.until(bool)
        assert raised.data.TYPE == "alarm.raised"
        assert (raised.data.code, raised.data.origin) == ("Ram.Overload", "opcua_ac")
        assert (raised.data.active, raised.data.acked) == (True, False)
        assert raised.data.alarm_id == "al-press-Ram.Overload-1"
        assert 1 <= raised.data.severity <= 1000
        assert raised.data.snapshot is None
        native = raised.data.native
        assert native.condition_id == "nsu=urn:acme:press;s=Overload"
        await acknowledge(press, native.condition_id, native.event_id, "seen")
        acked = (await line.until(bool))[-1]
        assert (acked.data.TYPE, acked.data.acked, acked.data.active) == ("alarm.acked", True, True)
        assert acked.data.alarm_id == raised.data.alarm_id
        await press.set("Tonnage", 1.0)
        cleared = (await line.until(bool))[-1]
        assert (cleared.data.TYPE, cleared.data.alarm_id) == ("alarm.cleared", raised.data.alarm_id)
        assert cleared.data.cleared_at >= raised.data.raised_at
        await press.set("Tonnage", 200.0)
        assert (await line.until(bool))[-1].data.alarm_id == "al-press-Ram.Overload-2"
        await press.set("Tonnage", 1.0)
        await line.until(bool)
    finally:
        await line.close()


@module_loop
@pytest.mark.needs("node")
async def test_what_is_active_at_the_connection_is_told_once_and_what_ended_meanwhile_is_cleared(
    press: NodeOpcua,
) -> None:
    line = Line(press)
    await press.set("Tonnage", 500.0)
    await line.connect()
    (raised,) = await line.until(bool)
    assert raised.data.snapshot
    await line.close()
    await line.connect()
    assert await line.calm() == []
    await line.close()
    await press.set("Tonnage", 2.0)
    await line.connect()
    try:
        told = await line.until(lambda events: any(event.data.TYPE == "alarm.cleared" for event in events))
        (cleared,) = [event for event in told if event.data.TYPE == "alarm.cleared"]
        assert cleared.data.alarm_id == raised.data.alarm_id
        assert cleared.data.quality == "uncertain"
        assert line.machine.describe(line.state)["conditions"] == []
    finally:
        await line.close()


def test_options_of_conditions_are_checked() -> None:
    assert ConditionOptions.model_validate({"from": "faults"}).severity == 1
    with pytest.raises(ValueError, match="conditions have no 'sampling'"):
        OpcuaDevice.model_validate(
            {
                "url": "opc.tcp://x",
                "tags": {"faults": {"node": "i=2253", "type": "conditions", "sampling": "1s"}},
            }
        )


def test_a_text_that_is_no_condition_says_nothing(tmp_path: Path) -> None:
    made = config({"conditions": [{"from": "faults"}]}, {"faults": "conditions"}, kind=OpcPlc)
    machine = Machine(made, "press", epoch=EPOCH)
    now = SystemClock().now()
    state = machine.initial(now).state
    for said in ("", "[]", "{}", '{"condition": 5}', json.dumps({"condition": "a", "active": True})):
        outcome = machine.step(state, Batch("press", [Reading("faults", said)]), now)
        state = outcome.state
    assert [event.data.code for event in outcome.events] == ["a"]


@pytest.mark.parametrize("refreshing", [True, False])
def test_a_clock_back_in_2000_dates_no_alarm(refreshing: bool) -> None:
    made = config({"conditions": [{"from": "faults"}]}, {"faults": "conditions"}, kind=OpcPlc)
    machine = Machine(made, "press", epoch=EPOCH)
    now, then = SystemClock().now(), 946_684_800_000_000
    alarm = json.dumps({"condition": "a", "active": True, "since": then})
    said = ['{"refresh":"start"}', alarm, '{"refresh":"end"}'] if refreshing else [alarm]
    told = [Reading("faults", one, source_time=then) for one in said]
    outcome = machine.step(machine.initial(now).state, Batch("press", told), now)
    (raised,) = outcome.events
    assert (raised.time, raised.data.raised_at, raised.data.time_basis) == (now.wall, now.wall, "agent")


def test_an_old_alarm_of_a_right_clock_keeps_its_time() -> None:
    made = config({"conditions": [{"from": "faults"}]}, {"faults": "conditions"}, kind=OpcPlc)
    machine = Machine(made, "press", epoch=EPOCH)
    now = SystemClock().now()
    hour_ago = now.wall - 3_600_000_000
    alarm = json.dumps({"condition": "a", "active": True, "since": hour_ago})
    told = [
        Reading("faults", '{"refresh":"start"}', source_time=now.wall),
        Reading("faults", alarm, source_time=hour_ago),
    ]
    (raised,) = machine.step(machine.initial(now).state, Batch("press", told), now).events
    assert (raised.data.raised_at, raised.data.snapshot, raised.data.start_uncertain) == (hour_ago, True, None)


def test_a_condition_that_the_device_does_not_hold_any_more_is_over_also_after_a_restart_of_the_agent() -> None:
    made = config({"conditions": [{"from": "faults"}]}, {"faults": "conditions"}, kind=OpcPlc)
    machine = Machine(made, "press", epoch=EPOCH)
    now = SystemClock().now()
    alarm = json.dumps({"condition": "a", "name": "High", "source": "Tank", "active": True, "severity": 300})
    start, end = '{"refresh":"start"}', '{"refresh":"end"}'
    told = [Reading("faults", said) for said in (start, alarm, end)]
    outcome = machine.step(machine.initial(now).state, Batch("press", told), now)
    assert [(one.data.TYPE, one.data.snapshot) for one in outcome.events] == [("alarm.raised", True)]
    outcome = machine.restore(machine.dump(outcome.state), now)
    outcome = machine.step(outcome.state, Batch("press", told), now)
    assert outcome.events == []
    outcome = machine.step(outcome.state, Batch("press", [told[0], told[2]]), now)
    assert [(one.data.TYPE, one.data.quality, one.data.alarm_id) for one in outcome.events] == [
        ("alarm.cleared", "uncertain", "al-press-Tank.High-1")
    ]
