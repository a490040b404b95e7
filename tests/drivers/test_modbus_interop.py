"""The same driver against servers that others wrote, and a client that others wrote against our simulator.

`test_modbus_driver` holds it against modbus-serial.
"""

import asyncio
import re

import pytest

from drivers.base import Quality, Reading
from drivers.modbus.driver import ModbusDriver
from drivers.modbus.learned import Learned
from drivers.modbus.lines import Lines
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from edge_agent.demo.line import OvenRegisters
from edge_agent.demo.oven import BURNER_COIL, TEMP_INPUT, TRAYS_HOLDING, OvenServer
from tests.programs import find_program
from tests.servers_modbus import jsmodbus, libmodbus, pty_pair

TABLES = ("coil", "discrete", "holding", "input")


async def read_three_times(url: str, tags: dict[str, object], **options: object) -> dict[str, Reading]:
    settings = {"url": url, "scan": "10ms", "timeout": "5s", "tags": tags, **options}
    driver = Drivers().open("meter-1", ModbusDevice.model_validate(settings))
    await driver.connect()
    for _ in range(3):
        latest = {reading.tag: reading for reading in (await driver.read()).readings}
        assert latest.keys() == tags.keys()
        for n in (0, 1, 2, 60, 61, 120, 150, 198, 199):
            assert latest[f"coil{n}"].value is (n % 2 == 1)
            assert latest[f"discrete{n}"].value is (n % 2 == 0)
            assert latest[f"holding{n}"].value == 3 * n
            assert latest[f"input{n}"].value == 1000 + n
    await driver.close()
    return latest


def tags_at(*numbers: int) -> dict[str, object]:
    return {f"{table}{n}": {table: n} for table in TABLES for n in (0, 1, 2, 60, 61, 120, 150, 198, 199, *numbers)}


def behind_the_end_is_bad(latest: dict[str, Reading]) -> None:
    for bad in (latest[f"{table}{n}"] for table in TABLES for n in (200, 230)):
        assert (bad.value, bad.quality) == (None, Quality.BAD)
        assert bad.detail == "illegal data address (exception 2): C532, there is no such register"


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_libmodbus_is_read_to_the_end_of_every_table(tmp_path, in_flight):
    async with libmodbus(tmp_path) as port:
        url = f"tcp://127.0.0.1:{port}"
        behind_the_end_is_bad(await read_three_times(url, tags_at(200, 230), in_flight=in_flight))


async def test_libmodbus_is_read_over_a_serial_line(tmp_path):
    with pty_pair() as (ours, theirs):
        async with libmodbus(tmp_path, theirs.path):
            behind_the_end_is_bad(await read_three_times(ours.url(baud=19200, parity="E"), tags_at(200, 230)))


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_jsmodbus_is_read(in_flight):
    async with jsmodbus() as port:
        await read_three_times(f"tcp://127.0.0.1:{port}", tags_at(), in_flight=in_flight)


async def test_jsmodbus_is_read_as_rtu_over_tcp():
    async with jsmodbus("rtu") as port:
        await read_three_times(f"rtu+tcp://127.0.0.1:{port}", tags_at())


@pytest.mark.parametrize(
    ("kind", "reference", "value"),
    [("4", TRAYS_HOLDING, 321), ("0", BURNER_COIL, 1), ("3:float", TEMP_INPUT, 181.5)],
    ids=["holding register", "coil", "float of two input registers"],
)
async def test_mbpoll_reads_the_oven_of_the_demo(kind, reference, value):
    oven = OvenServer(lambda: OvenRegisters(burner=True, temp=181.5, trays=321))
    port = await oven.open()
    try:
        process = await asyncio.create_subprocess_exec(
            *(find_program("mbpoll"), "-1", "-0", "-B", "-t", kind, "-r", str(reference), "-p", str(port)),
            "127.0.0.1",
            stdout=asyncio.subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        assert float(re.search(rf"\[{reference}\]:\s*([\d.]+)", said)[1]) == value
    finally:
        oven.close()


async def confirmed(url: str, **ring: object) -> list[object]:
    """What the entries of a ring in libmodbus' registers counted, and the tail that was written behind them."""
    polled = {"tail": {"holding": 6}, "high": {"holding": 8}, "low": {"holding": 9}}
    tags = {"parts": {"ring": True, "type": "uint32"}, **polled}
    settings = {"url": url, "scan": "10ms", "timeout": "5s", "tags": tags}
    slots = {"holding": 100, "count": 32, "size": 2}
    codes = {3 * register: {"parts": {"add": 1}} for register in range(100, 164, 2)}
    options = {"slots": slots, "code": {"at": 0}, "codes": codes, "write_tail": True, **ring}
    device = ModbusDevice.model_validate({**settings, "ring": options})
    driver = ModbusDriver("meter-1", device, Lines().of(device), Learned())
    driver.resume("")
    await driver.connect()
    latest = {}
    async with asyncio.timeout(20):
        for _ in range(6):
            latest |= {reading.tag: reading.value for reading in (await driver.read()).readings}
    await driver.close()
    return [latest["parts"], latest["tail"], latest["high"], latest["low"]]


async def test_a_tail_is_written_to_libmodbus_over_tcp_and_over_a_serial_line(tmp_path):
    indices = {"head": {"holding": 5}, "tail": {"holding": 6}}
    async with libmodbus(tmp_path) as port:
        assert await confirmed(f"tcp://127.0.0.1:{port}", **indices) == [29, 15, 24, 27]
    with pty_pair() as (ours, theirs):
        async with libmodbus(tmp_path, theirs.path):
            assert await confirmed(ours.url(baud=19200, parity="E"), **indices) == [29, 15, 24, 27]


async def test_a_tail_of_two_registers_is_written_at_once(tmp_path):
    indices = {
        "head": {"holding": 5, "type": "uint32"},
        "tail": {"holding": 8, "type": "uint32"},
        "points_to": "total",
    }
    async with libmodbus(tmp_path) as port:
        assert await confirmed(f"tcp://127.0.0.1:{port}", **indices) == [0, 18, 15, 18]
    with pty_pair() as (ours, theirs):
        async with libmodbus(tmp_path, theirs.path):
            assert await confirmed(ours.url(baud=19200, parity="E"), **indices) == [0, 18, 15, 18]
