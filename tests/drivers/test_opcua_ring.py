"""The ring buffer of an OPC UA server, on node-opcua."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from drivers.base import Batch, Quality, Reading
from drivers.opcua import Opcua
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.ring import OpcuaAccess
from drivers.ring.access import Unreadable
from tests.servers_opcua import NodeOpcua, node_opcua

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs("node")]

TAGS = {
    "status": {"node": "nsu=urn:acme:press;s=Status", "type": "int16"},
    "run": {"ring": True, "type": "bool"},
    "parts": {"ring": True, "type": "uint32"},
    "cause": {"ring": True, "type": "uint16"},
}


def node(name: str, **more: Any) -> dict[str, Any]:
    return {"node": f"nsu=urn:acme:press;s={name}", **more}


RING = {
    "head": node("Head", type="uint16"),
    "slots": {"count": 16},
    "code": node("Codes"),
    "time": node("Stamps", form="datetime"),
    "fields": {"cause": node("Causes")},
    "codes": {
        1: {"run": True, "cause": 0},
        2: {"run": False, "cause": {"field": "cause"}},
        10: {"parts": {"add": 1}},
    },
}
CODES = {1: {"run": True, "cause": 1, "parts": {"add": 1}}}
TAIL = {"tail": node("Tail", type="uint16"), "overflow": node("Overflow", type="uint16")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def press(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeOpcua]:
    async with node_opcua(tmp_path_factory.mktemp("press")) as running:
        yield running


def options(press: NodeOpcua, *, polling: bool = False, **ring: Any) -> OpcuaDevice:
    settings = {"url": press.url, "security": "none", "insecure": True, "publishing": "50ms", "polling": polling}
    return OpcuaDevice.model_validate({**settings, "tags": TAGS, "ring": {**RING, **ring}})


async def begun(device: OpcuaDevice, position: str | None = "") -> Any:
    driver: Any = Opcua().open("press-1", device)
    if position is not None:
        driver.resume(position)
    await driver.connect()
    return driver


async def entries(driver: Any, number: int) -> list[Reading]:
    found: list[Reading] = []
    async with asyncio.timeout(30):
        while len(found) < number:
            batch = await driver.read()
            if batch.entries is not None:
                found += [reading for reading in batch.readings if reading.source_time is not None]
    return found


async def polled(driver: Any, **wanted: object) -> Batch:
    """Read until a batch without entries says so."""
    async with asyncio.timeout(30):
        while True:
            batch: Batch = await driver.read()
            said = {reading.tag: reading.value for reading in batch.readings}
            if batch.entries is None and said.items() >= wanted.items():
                return batch


async def writes(press: NodeOpcua) -> list[Any]:
    asked: list[Any] = (await press.tell("writes"))["writes"]
    return asked


@pytest.mark.parametrize("polling", [False, True])
async def test_entries_come_in_order_with_their_own_times(press: NodeOpcua, polling: bool) -> None:
    await press.tell("ring", slots=16, tail=False)
    driver = await begun(options(press, polling=polling))
    try:
        first = await driver.read()
        assert [(reading.tag, reading.value) for reading in first.readings] == [("parts", 0)]
        await press.tell("push", entries=[[1, 0], [10, 0], [10, 0], [2, 17]])
        found = await entries(driver, 6)
        assert [(reading.tag, reading.value) for reading in found] == [
            ("run", True),
            ("cause", 0),
            ("parts", 1),
            ("parts", 2),
            ("run", False),
            ("cause", 17),
        ]
        written = [line["stamp"] for line in press.truth() if "entry" in line][-4:]
        assert [reading.source_time for reading in found] == [written[number] for number in (0, 0, 1, 2, 3, 3)]
        await polled(driver, run=False, parts=2, cause=17)
        await press.set("Status", 5)
        await polled(driver, status=5)
    finally:
        await driver.close()
    assert await writes(press) == []


async def test_the_tail_is_written_only_where_it_is_allowed_and_behind_what_was_kept(press: NodeOpcua) -> None:
    await press.tell("ring", slots=16, tail=True)
    forbidden = await begun(options(press, **TAIL))
    try:
        await forbidden.read()
        await press.tell("push", entries=[[10, 0]] * 3)
        assert len(await entries(forbidden, 3)) == 3
        await polled(forbidden, parts=3)
    finally:
        await forbidden.close()
    assert await writes(press) == []
    allowed = await begun(options(press, **TAIL, write_tail=True))
    try:
        await allowed.read()  # behind the tail three entries wait
        assert len(await entries(allowed, 3)) == 3
        assert await writes(press) == []
        await polled(allowed, parts=3)
    finally:
        await allowed.close()
    assert [(name.partition(";")[2], value) for name, value in await writes(press)] == [("s=Tail", 3)]


async def test_a_kill_goes_on_behind_what_was_kept(press: NodeOpcua) -> None:
    await press.tell("ring", slots=16, tail=False)
    driver = await begun(options(press))
    first = await driver.read()
    await press.tell("push", entries=[[10, 0]] * 2)
    await entries(driver, 2)  # not kept
    await driver.close()
    again = await begun(options(press), first.entries.position)
    try:
        assert [reading.value for reading in await entries(again, 2)] == [1, 2]
    finally:
        await again.close()


async def test_a_ring_without_its_nodes_makes_its_tags_bad_until_they_are_there(press: NodeOpcua) -> None:
    await press.tell("ring", slots=0)
    driver = await begun(options(press))
    try:
        async with asyncio.timeout(30):
            while True:
                batch = await driver.read()
                bad = {one.tag: one.detail for one in batch.readings if one.quality is Quality.BAD}
                if "parts" in bad:
                    break
        assert bad["parts"] == "the head of the ring: BadNodeIdUnknown"
        await press.tell("ring", slots=16, tail=False)
        await polled(driver, parts=0)
        await press.tell("push", entries=[[10, 0]])
        assert [reading.value for reading in await entries(driver, 1)] == [1]
    finally:
        await driver.close()


async def test_a_recording_neither_reads_nor_confirms_entries(press: NodeOpcua) -> None:
    await press.tell("ring", slots=16, tail=True)
    await press.tell("push", entries=[[10, 0]])
    driver = await begun(options(press, **TAIL, write_tail=True), None)
    try:
        await polled(driver, parts=None)
        looked = await driver.look(["status", "parts"])
        assert [one.reading.quality for one in looked] == [Quality.GOOD, Quality.BAD]
    finally:
        await driver.close()
    assert await writes(press) == []


def counting(readings: list[Reading]) -> list[object]:
    return [reading.value for reading in readings if reading.tag == "parts"]


async def test_a_ring_that_is_too_large_for_the_server_is_read_in_pieces(press: NodeOpcua) -> None:
    await press.tell("ring", slots=300, tail=False, most=50)
    driver = await begun(options(press, slots={"count": 300}))
    try:
        await driver.read()
        for first in (1, 251):  # the second time over the end of the arrays
            await press.tell("push", entries=[[10, 0]] * 250)
            assert counting(await entries(driver, 250)) == list(range(first, first + 250))
    finally:
        await driver.close()


async def test_slots_may_be_nodes_of_their_own_with_a_sequence_and_no_time(press: NodeOpcua) -> None:
    await press.tell("ring", slots=8, tail=False, each=True)
    how = {
        "slots": {"count": 8},
        "code": node("Slot[{slot}].Code"),
        "sequence": node("Slot[{slot}].Number"),
        "fields": {"number": node("Slot[{slot}].Number")},
        "codes": {1: {"run": True}, 2: {"cause": {"field": "number"}}, 10: {"parts": {"add": 1}}},
        "time": None,
    }
    driver = await begun(options(press, **how))
    told: list[object] = []
    try:
        await driver.read()
        for pushed, last in ((5, 5), (5, 10), (20, 30)):
            await press.tell("push", entries=[[2, 0]] * pushed)
            async with asyncio.timeout(30):
                while told[-1:] != [last]:
                    batch = await driver.read()
                    if batch.entries is not None:
                        told += [batch.entries.lost] if batch.entries.lost else []
                        told += [one.value for one in batch.readings if one.tag == "cause"]
    finally:
        await driver.close()
    assert [one for one in told if one] == [*range(1, 11), "queue_overflow", *range(24, 31)]


class Answering:
    """A server that has 1 everywhere."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    async def values(self, wanted: list[tuple[ua.NodeId, str | None]]) -> bytes:
        self.asked += [(str(node.Identifier), elements) for node, elements in wanted]
        answer = ua.ReadResponse()
        one = ua.Variant(1, ua.VariantType.UInt16)
        answer.Results = [ua.DataValue(one) for _ in wanted]
        return struct_to_binary(answer)


async def test_of_slots_with_nodes_of_their_own_only_those_that_are_needed_are_read(press: NodeOpcua) -> None:
    each = {"code": {"node": "s=S{slot}.Code"}, "sequence": {"node": "s=S{slot}.Number"}}
    device = options(
        press,
        **each,
        slots={"count": 64, "first": 1},
        time=None,
        fields={},
        codes={1: {"run": True, "cause": 1, "parts": {"add": 1}}},
    )
    assert device.ring is not None
    server: Any = Answering()
    slots = await OpcuaAccess(device.ring, server, [], 100).slots(63, 2)
    assert [(slot.code, slot.sequence) for slot in slots] == [(1, 1), (1, 1)]
    assert [node for node, _ in server.asked] == ["S64.Number", "S64.Code", "S1.Number", "S1.Code"]


class Whole(Answering):
    """A server that gives an array of 300 as a whole only: it refuses ranges, or takes no notice of them. `most`: of
    larger arrays it says nothing at all."""

    def __init__(self, refusal: int, most: int = 1000) -> None:
        super().__init__()
        self.refusal = refusal
        self.most = most

    async def values(self, wanted: list[tuple[ua.NodeId, str | None]]) -> bytes:
        self.asked += [(str(node.Identifier), elements) for node, elements in wanted]
        answer = ua.ReadResponse()
        whole = ua.DataValue(ua.Variant(list(range(1, 301)), ua.VariantType.UInt16))
        refused = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(self.refusal)))
        too_large = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadResponseTooLarge)))
        answer.Results = [
            refused if elements and self.refusal else whole if self.most >= 300 else too_large
            for _, elements in wanted
        ]
        return struct_to_binary(answer)


def large(press: NodeOpcua) -> Any:
    ring = options(press, code={"node": "s=Codes"}, slots={"count": 300}, fields={}, codes=CODES).ring
    return ring.model_copy(update={"time": None}) if ring is not None else None


@pytest.mark.parametrize("refusal", [0, ua.StatusCodes.BadIndexRangeInvalid, ua.StatusCodes.BadNotSupported])
async def test_a_server_that_knows_no_ranges_is_read_all_the_same(press: NodeOpcua, refusal: int) -> None:
    server: Any = Whole(refusal)
    access = OpcuaAccess(large(press), server, [], 100)
    assert [slot.code for slot in await access.slots(298, 4)] == [299, 300, 1, 2]
    assert [slot.code for slot in await access.slots(150, 2)] == [151, 152]
    assert len(server.asked) <= 4


async def test_a_server_that_gives_neither_the_whole_nor_a_part_is_told_what_helps(press: NodeOpcua) -> None:
    server: Any = Whole(ua.StatusCodes.BadIndexRangeInvalid, most=50)
    with pytest.raises(Unreadable, match=r"BadResponseTooLarge.*\{slot\}"):
        await OpcuaAccess(large(press), server, [], 100).slots(0, 300)
