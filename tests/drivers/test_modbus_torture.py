"""Two units behind a gateway that breaks every rule now and then: not one value may be wrong."""

import asyncio
import os
import random

import pytest

from drivers.errors import ConnectionLost
from drivers.modbus.options import ModbusDevice
from drivers.registry import Drivers
from tests.servers_modbus import CLOSE, SILENCE, Asked, HostilePeer, frame

READS = 20_000 if os.environ.get("EDGE_AGENT_TORTURE") else 600
TIMEOUT = 0.03


@pytest.mark.torture
@pytest.mark.parametrize("echoes", [True, False], ids=["transaction echoed", "transaction always 0"])
async def test_no_value_of_a_hostile_gateway_is_wrong(echoes):
    chance = random.Random(1)
    latest: dict[int, int] = {}

    def answer(asked: Asked, unit: int | None = None, function: int = 3, size: int = 4) -> bytes:
        data = (asked.number + 1).to_bytes(4, "big")[:size]
        pdu = bytes([function, len(data)]) + data
        return frame(asked.transaction if echoes else 0, asked.unit if unit is None else unit, pdu)

    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        latest[asked.unit] = asked.number + 1
        if chance.random() > 1 / 15:
            return answer(asked)
        faults = (
            (chance.uniform(0, 3 * TIMEOUT), answer(asked)),
            answer(asked, function=4),
            answer(asked, size=2),
            answer(asked, unit=3 - asked.unit),
            answer(asked, unit=77),
            answer(asked) * 2,
            answer(asked)[:7],
            asked.exception(6) if echoes else asked._replace(transaction=0).exception(6),
            SILENCE,
            CLOSE,
        )
        return chance.choice(faults)

    good = 0

    async def read(drivers: Drivers, unit: int, url: str) -> None:
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
                        assert reading.value == latest[unit]
                        good += 1
            except ConnectionLost:
                pass
            finally:
                await driver.close()

    async with HostilePeer(behave) as peer, asyncio.TaskGroup() as group:
        drivers = Drivers()
        for unit in (1, 2):
            group.create_task(read(drivers, unit, peer.url))
    assert peer.connections > READS / 50
