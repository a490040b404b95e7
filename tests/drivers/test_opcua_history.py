"""What a server recorded itself, against node-opcua with nodes that keep their values."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from drivers.base import Quality, Reading
from drivers.opcua import Opcua
from drivers.opcua.history import MARGIN, History
from drivers.opcua.options import OpcuaDevice
from tests.servers_opcua import NodeOpcua, node_opcua

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs("node")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    async with node_opcua(tmp_path_factory.mktemp("press"), history=True) as running:
        yield running


def device(press: NodeOpcua, **settings: Any) -> OpcuaDevice:
    types = {"Status": "int16", "Total": "uint16", "Nowhere": "uint16"}
    tags = {name: {"node": f"nsu=urn:acme:press;s={name}", "type": kind} for name, kind in types.items()}
    options = {"url": press.url, "security": "none", "insecure": True, "tags": tags}
    return OpcuaDevice.model_validate(options | settings)


async def connected(options: OpcuaDevice) -> Any:
    opened = Opcua().open("press-1", options)
    await opened.connect()
    return opened


async def run_for_a_while(press: NodeOpcua, count: int) -> int:
    """Values after a time at which nothing happened; the time, UTC µs, well after the server's start."""
    before = press.truth()[-1]["at"] + 1000
    at = before // 1000
    for number in range(count):
        node = "Status" if number % 5 == 0 else "Total"
        at += 2
        await press.set(node, number, time=at)
    while (press.truth()[-1]["at"]) < at * 1000 + 1000:  # until the press's clock is past them
        await press.set("Order", "")
    return int(before)


async def test_every_value_comes_once_in_order_with_its_own_time(press: NodeOpcua) -> None:
    since = await run_for_a_while(press, 40)
    opened = await connected(device(press))
    try:
        batch = await opened.recall(since)
        assert batch is not None
        assert batch.recalled is not None
        assert batch.recalled.tags == {"Status", "Total"}  # of a node that is not there nothing is known
        assert not batch.recalled.more
        new = [reading for reading in batch.readings if reading.source_time > since]
        assert [(reading.tag, reading.value) for reading in new] == [
            ("Status" if number % 5 == 0 else "Total", number) for number in range(40)
        ]
        times = [reading.source_time for reading in batch.readings]
        assert times == sorted(times)
        assert {reading.quality for reading in batch.readings} == {Quality.GOOD}
        assert min(times) >= since - MARGIN
    finally:
        await opened.close()


@pytest.mark.parametrize("most", [3, 7, 1000])
async def test_pieces_put_together_are_the_whole(press: NodeOpcua, most: int) -> None:
    since = await run_for_a_while(press, 60)
    opened = await connected(device(press))
    try:
        history = History("press-1", opened._session, opened._wanted, per_call=2, most=most)
        found: list[Reading] = []
        known, more, pieces = since, True, 0
        while more:
            batch = await history.recall(known)
            assert batch is not None
            assert batch.recalled is not None
            assert batch.recalled.until > known
            found += [reading for reading in batch.readings if reading.source_time > known]
            known, more, pieces = batch.recalled.until, batch.recalled.more, pieces + 1
        assert [reading.value for reading in found] == list(range(60))
        assert (pieces > 5) == (most < 10)
    finally:
        await opened.close()


async def test_a_server_may_give_the_history_of_one_node_at_a_time(press: NodeOpcua) -> None:
    since = await run_for_a_while(press, 10)
    await press.tell("limit", history=1)
    opened = await connected(device(press))
    try:
        batch = await opened.recall(since)
        assert batch is not None
        assert [reading.value for reading in batch.readings if reading.source_time > since] == list(range(10))
    finally:
        await opened.close()
        await press.tell("limit", history=0)


async def test_a_tag_with_a_dead_band_is_read_after_its_history_was_told(press: NodeOpcua) -> None:
    since = await run_for_a_while(press, 10)
    node = {"node": "nsu=urn:acme:press;s=Total", "type": "uint16", "deadband": 5}
    opened = await connected(device(press, tags={"Total": node}))
    try:
        told = await opened.recall(since)
        assert told is not None
        assert len(told.readings) > 0
        async with asyncio.timeout(30):
            while not (found := (await opened.read()).readings):
                pass
        assert [(reading.tag, reading.value) for reading in found] == [("Total", 9)]
    finally:
        await opened.close()


async def test_a_server_that_was_started_in_between_tells_nothing_of_before(press: NodeOpcua) -> None:
    opened = await connected(device(press))
    try:
        (started,) = await opened._session.read((2257,))
        assert await opened.recall(int(started.timestamp() * 1e6) - 1000) is None
    finally:
        await opened.close()


async def test_no_history_is_asked_for_where_that_is_not_wished(press: NodeOpcua) -> None:
    opened = await connected(device(press, history=False))
    try:
        assert await opened.recall(press.truth()[-1]["at"]) is None
    finally:
        await opened.close()


async def test_a_server_without_history_is_asked_once(tmp_path: Path) -> None:
    async with node_opcua(tmp_path) as plain:
        since = await run_for_a_while(plain, 3)
        opened = await connected(device(plain))
        try:
            assert await opened.recall(since) is None
            assert not opened._history.offered
            assert (await opened.read()).readings[0].tag == "Nowhere"
        finally:
            await opened.close()
