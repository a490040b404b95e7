"""Units behind one host and port share one connection, and none of them can spoil it for the others."""

import asyncio
import socket
from itertools import pairwise

import pytest

from drivers.errors import ConnectionLost, DriverError
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import Asked, HostilePeer, modbus_serial
from tests.waiting import free_port, until


def device(url: str, unit: int, **options: object) -> ModbusDevice:
    tags = {f"r{n}": {"holding": n} for n in (1, 2, 3)}
    return ModbusDevice.model_validate(
        {"url": url, "unit": unit, "scan": "10ms", "timeout": "100ms", "tags": tags, **options}
    )


async def test_units_of_one_host_share_one_connection():
    drivers = Drivers()
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        units = [drivers.open(f"oven-{n}", device(peer.url, n)) for n in (1, 2, 3)]
        for driver in units:
            await driver.connect()
        for driver in units * 2:
            assert [reading.value for reading in (await driver.read()).readings] == [1, 2, 3]
        assert peer.connections == 1
        assert {asked.unit for asked in peer.asked} == {1, 2, 3}
        for driver in units:
            await driver.close()


async def test_the_connection_is_closed_when_its_last_unit_leaves():
    drivers = Drivers()
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        one, two = (drivers.open(f"oven-{n}", device(peer.url, n)) for n in (1, 2))
        await one.connect()
        await two.connect()
        await one.close()
        await two.read()
        assert len(peer._writers) == 1
        await two.close()
        await until(lambda: not peer._writers, what="the connection is closed")


async def test_two_agents_in_one_process_share_nothing():
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        for drivers in (Drivers(), Drivers()):
            await drivers.open("oven-1", device(peer.url, 1)).connect()
        assert peer.connections == 2


async def test_a_unit_with_many_requests_lets_the_others_have_their_turn():
    drivers = Drivers()
    async with HostilePeer(lambda asked: (0.001, asked.reply())) as peer:
        tags = {f"r{n}": {"holding": n * 50} for n in range(40)}
        many = drivers.open("many", device(peer.url, 1, tags=tags, timeout="5s"))
        few = drivers.open("few", device(peer.url, 2, timeout="5s"))
        await many.connect()
        await few.connect()
        await asyncio.gather(many.read(), few.read())
        units = [asked.unit for asked in peer.asked[2:]]
        assert units.index(2) < 5
        await many.close()
        await few.close()


async def test_units_that_wait_for_a_dead_host_fail_together_and_not_one_after_the_other():
    drivers = Drivers()
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())  # the queue is full: a further connection is not even refused
        url = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        units = [drivers.open(f"oven-{n}", device(url, n)) for n in range(1, 20)]
        started = asyncio.get_running_loop().time()
        results = await asyncio.gather(*(driver.connect() for driver in units), return_exceptions=True)
    assert asyncio.get_running_loop().time() - started < 1
    assert {(type(error), error.code) for error in results} == {(ConnectionLost, "C502")}
    assert all(f"oven-{n} (127.0.0.1:" in str(error) for n, error in enumerate(results, 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_host_where_nothing_listens_is_refused_and_says_what_to_check(host):
    with pytest.raises(DriverError) as raised:
        await Drivers().open("oven-1", device(f"tcp://{host}:{free_port()}", 1)).connect()
    assert (raised.value.code, raised.value.reason) == ("C501", "refused")
    assert str(raised.value).endswith("nothing listens there. Is the Modbus server enabled on the PLC?")


async def test_a_name_that_cannot_be_resolved_is_told_from_a_host_that_is_down():
    with pytest.raises(DriverError) as raised:
        await Drivers().open("oven-1", device("tcp://no-such-host.invalid", 1)).connect()
    assert raised.value.code == "C503"
    assert "no-such-host.invalid" in str(raised.value)


async def test_a_pause_is_kept_between_requests():
    times: list[float] = []

    def behave(asked: Asked) -> bytes:
        times.append(asyncio.get_running_loop().time())
        return asked.reply()

    async with HostilePeer(behave) as peer:
        options = device(peer.url, 1, one_tag_per_request=True, pause="20ms")
        driver = Drivers().open("oven-1", options)
        await driver.connect()
        await driver.read()
        await driver.close()
    assert all(later - earlier > 0.019 for earlier, later in pairwise(times))
    assert len(times) == 4


async def test_a_host_that_comes_back_is_read_again(tmp_path):
    drivers = Drivers()
    async with modbus_serial(tmp_path) as plc:
        await plc.set(holding={1: 11, 2: 12, 3: 13})
        driver = drivers.open("oven-1", device(plc.url, 1, timeout="5s"))
        await driver.connect()
        await plc.stop()
        with pytest.raises(ConnectionLost) as raised:
            await driver.read()
        assert "nothing listens there. Is the Modbus server enabled on the PLC?" in str(raised.value)
        await driver.close()
        await plc.start()
        await plc.set(holding={1: 21, 2: 22, 3: 23})
        driver = drivers.open("oven-1", device(plc.url, 1, timeout="5s"))
        await driver.connect()
        assert [reading.value for reading in (await driver.read()).readings] == [21, 22, 23]
        await driver.close()
