"""The simulated stations behind their servers, read by clients that are not ours."""

import asyncio
import struct

import pytest
from asyncua.client.client import Client
from pymodbus.client import AsyncModbusTcpClient

from edge_agent.clock import Instant
from edge_agent.demo.cable import LOOPBACK
from edge_agent.demo.line import advance, oven_registers, press_registers
from edge_agent.demo.plant import OVEN, PRESS, Plant, held_port
from tests.waiting import free_port

START = 1_772_000_000_000_000


class StandingClock:
    """A clock that stands still, and a sleep that lasts until the test lets it end."""

    def __init__(self):
        self.go_on = asyncio.Event()

    def now(self):
        return Instant(START, 0)

    async def sleep(self, seconds):
        await self.go_on.wait()


@pytest.fixture
async def plant():
    clock = StandingClock()
    plant = Plant(clock)
    plant.clock = clock
    await plant.open()
    yield plant
    await plant.close()


async def test_both_servers_show_what_the_stations_do(plant):
    plant.stations = {name: advance(station, 20_000_000) for name, station in plant.stations.items()}
    await plant.show()

    oven = AsyncModbusTcpClient("127.0.0.1", port=plant.cables[OVEN].port)
    await oven.connect()
    burner = (await oven.read_coils(0, count=1, device_id=1)).bits[0]
    trays = (await oven.read_holding_registers(200, count=1, device_id=1)).registers[0]
    words = (await oven.read_input_registers(100, count=2, device_id=1)).registers
    oven.close()
    expected = oven_registers(plant.stations[OVEN])
    assert (burner, trays) == (expected.burner, expected.trays)
    assert struct.unpack(">f", struct.pack(">2H", *words))[0] == pytest.approx(expected.temp)

    async with Client(f"opc.tcp://127.0.0.1:{plant.cables[PRESS].port}/") as press:
        index = await press.get_namespace_index("urn:edge-agent:demo:press")
        names = ("Status", "FaultCode", "Total", "Rejects", "Tonnage")
        shown = [await press.get_node(f"ns={index};s={name}").read_data_value() for name in names]
    assert [value.Value.Value for value in shown] == list(press_registers(plant.stations[PRESS]))
    assert shown[2].SourceTimestamp.timestamp() * 1e6 == START


async def test_a_cut_plc_comes_back_by_itself(plant):
    await plant.cut(OVEN, 30)
    port = plant.cables[OVEN].port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    plant.clock.go_on.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*plant.mending)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


async def test_the_oven_does_not_let_itself_be_written(plant):
    oven = AsyncModbusTcpClient("127.0.0.1", port=plant.cables[OVEN].port)
    await oven.connect()
    answer = await oven.write_register(200, 7, device_id=1)
    oven.close()
    assert answer.isError()


async def test_two_demos_never_take_one_port_for_their_pages() -> None:
    with held_port(free_port()) as first, held_port(first) as second:
        assert second != first
        for port in (first, second):
            server = await asyncio.start_server(lambda _, writer: writer.close(), LOOPBACK, port)
            server.close()
            await server.wait_closed()
