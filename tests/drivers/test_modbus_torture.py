"""Gateways that break every rule now and then: not one value may be wrong, and nobody else may notice.

The short form is part of `make test`; the long form reads a million times, over three kinds of gateways together.
"""

import asyncio
import os
import random
import sys
from collections.abc import Callable

import pytest

from drivers.errors import ConnectionLost
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import CLOSE, SILENCE, Asked, HostilePeer, HostileRtu, frame, rtu

LONG = "EDGE_AGENT_MODBUS_READS" in os.environ
READS = int(os.environ.get("EDGE_AGENT_MODBUS_READS", "4500")) // 3
"""Of each kind of gateway."""
LINES = 8 if LONG else 2
TIMEOUT = 0.03


class Gateway:
    """Units 1 and 2 behind one address. Every answer tells how often the gateway has been asked; `latest` is what the
    right one to the newest question of a unit tells. One answer in 50 is late by up to three time-outs, and one in
    50 is wrong in another way."""

    def __init__(self, kind: str, seed: int) -> None:
        self.latest: dict[int, int] = {}
        self._kind = kind
        self._chance = random.Random(seed)

    def answer(self, asked: Asked, unit: int | None = None, function: int = 3, count: int = 0) -> bytes:
        data = (asked.number + 1).to_bytes(4, "big") + bytes(246)
        data = data[: 2 * (count or asked.count)]
        return self._framed(asked, unit or asked.unit, bytes([function, len(data)]) + data)

    def _framed(self, asked: Asked, unit: int, pdu: bytes) -> bytes:
        tcp = frame(asked.transaction if self._kind == "transaction echoed" else 0, unit, pdu)
        return rtu(tcp) if self._kind == "RTU" else tcp

    def __call__(self, asked: Asked) -> bytes | tuple[float, bytes]:
        self.latest[asked.unit] = asked.number + 1
        fault = self._chance.random()
        if fault < 1 / 50:
            return self._chance.uniform(0, 3 * TIMEOUT), self.answer(asked)
        if fault > 2 / 50:
            return self.answer(asked)
        # On a serial line nothing can tell an answer in a neighbour's name from the neighbour's own.
        foreign = 77 if self._kind == "RTU" else 3 - asked.unit
        wrong: tuple[Callable[[], bytes], ...] = (
            lambda: self.answer(asked, function=4),
            lambda: self.answer(asked, count=asked.count + 1),
            lambda: self.answer(asked, unit=foreign),
            lambda: self.answer(asked, unit=77),
            lambda: self.answer(asked) * 2,
            lambda: self.answer(asked)[:7],
            lambda: self._framed(asked, asked.unit, b"\x83\6"),
            lambda: SILENCE,
            lambda: CLOSE,
        )
        return self._chance.choice(wrong)()


@pytest.mark.torture
@pytest.mark.timeout(7200 if LONG else 120)
@pytest.mark.parametrize("kind", ["transaction echoed", "transaction always 0", "RTU"])
async def test_no_value_of_a_hostile_gateway_is_wrong(kind):
    good, connections = 0, 0

    async def read(drivers: Drivers, gateway: Gateway, unit: int, url: str) -> None:
        nonlocal good
        tags = {"number": {"holding": 10, "type": "uint32"}}
        options = ModbusDevice.model_validate(
            {"url": url, "unit": unit, "scan": "1ms", "timeout": f"{TIMEOUT * 1000:g}ms", "tags": tags}
        )
        while good < READS:
            driver = drivers.open(f"unit-{unit}", options)
            try:
                await driver.connect()
                while good < READS:
                    (reading,) = (await driver.read()).readings
                    if reading.value is not None:
                        assert reading.value == gateway.latest[unit]
                        good += 1
            except ConnectionLost:
                pass
            finally:
                await driver.close()

    async def line(seed: int) -> None:
        nonlocal connections
        gateway, drivers = Gateway(kind, seed), Drivers()
        peer = (HostileRtu if kind == "RTU" else HostilePeer)(gateway)
        async with peer, asyncio.TaskGroup() as group:
            for unit in (1, 2):
                group.create_task(read(drivers, gateway, unit, peer.url))
        connections += peer.connections

    neighbour = asyncio.create_task(lateness_of_a_good_device())
    async with asyncio.TaskGroup() as group:
        for seed in range(LINES):
            group.create_task(line(seed))
    neighbour.cancel()
    late = sorted(await neighbour)
    p99 = late[int(len(late) * 0.99)]
    sys.stdout.write(f"{kind}: {good} right values, 0 wrong, {connections} connections; ")
    sys.stdout.write(f"another device's p99 lateness {p99 * 1000:.1f} ms in {len(late)} scans\n")
    assert good >= READS
    assert p99 < (0.1 if LONG else 1)


async def lateness_of_a_good_device() -> list[float]:
    """Seconds by which the scans of a device with a line of its own came after their time, until cancelled."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    async with HostilePeer(lambda asked: asked.reply()) as peer:
        options = ModbusDevice.model_validate({"url": peer.url, "scan": "20ms", "tags": {"r": {"holding": 7}}})
        driver = Drivers().open("good", options)
        await driver.connect()
        await driver.read()
        first, scans = loop.time(), 0
        try:
            while True:
                batch = await driver.read()
                scans += 1 + batch.missed
                late.append(loop.time() - first - scans * 0.02)
                peer.asked.clear()
        except asyncio.CancelledError:
            return late
        finally:
            await driver.close()
