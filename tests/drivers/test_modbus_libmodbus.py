"""The same driver against a server of another family: libmodbus."""

import pytest

from drivers.base import Quality
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import libmodbus, pty_pair


@pytest.fixture
async def port(tmp_path):
    async with libmodbus(tmp_path) as listening:
        yield listening


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_every_table_is_read_to_its_end_and_what_lies_behind_is_bad(port, in_flight):
    await read_to_the_end(f"tcp://127.0.0.1:{port}", in_flight=in_flight)


async def test_the_same_over_a_serial_line(tmp_path):
    with pty_pair() as (ours, theirs):
        async with libmodbus(tmp_path, theirs.path):
            await read_to_the_end(ours.url(baud=19200, parity="E"))


async def read_to_the_end(url: str, **options: object) -> None:
    tags = {
        f"{table}{n}": {table: n}
        for table in ("coil", "discrete", "holding", "input")
        for n in (0, 1, 2, 60, 61, 120, 150, 198, 199, 200, 230)
    }
    options = ModbusDevice.model_validate({"url": url, "scan": "10ms", "timeout": "5s", "tags": tags, **options})
    driver = Drivers().open("meter-1", options)
    await driver.connect()
    for _ in range(3):
        latest = {reading.tag: reading for reading in (await driver.read()).readings}
        assert latest.keys() == tags.keys()
        for n in (0, 1, 2, 60, 61, 120, 150, 198, 199):
            assert latest[f"coil{n}"].value is (n % 2 == 1)
            assert latest[f"discrete{n}"].value is (n % 2 == 0)
            assert latest[f"holding{n}"].value == 3 * n
            assert latest[f"input{n}"].value == 1000 + n
        for table in ("coil", "discrete", "holding", "input"):
            for n in (200, 230):
                bad = latest[f"{table}{n}"]
                assert (bad.value, bad.quality) == (None, Quality.BAD)
                assert bad.detail == "illegal data address (exception 2)"
    await driver.close()
