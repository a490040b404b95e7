"""Answers damaged in every way, in time that does not pass: no crash, no value of another shape, nothing left behind.

On RTU the checksum finds every burst of up to 16 bits, so such an answer is never a value.
"""

import asyncio
import os
import random
import resource
import selectors
import sys

import pytest

from drivers.modbus.addresses import Table
from drivers.modbus.exchange import Closed, Connection, NoAnswer, Question, Unfit, question
from drivers.modbus.mbap import MbapConnection
from drivers.modbus.plan import Request
from drivers.modbus.rtu import Doubts, RtuConnection
from tests.servers_modbus import frame, rtu

LONG = "EDGE_AGENT_FRAMES" in os.environ
FRAMES = int(os.environ.get("EDGE_AGENT_FRAMES", "6000"))
DATA = bytes(range(10, 20))
ASKED = question(1, Request(Table.HOLDING, 100, 5, ()))
RIGHT = b"\3\x0a" + DATA


class Timeless(selectors.DefaultSelector):
    """Waits for nothing: the time that should pass is added to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class TimelessLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._timeless = Timeless()
        super().__init__(self._timeless)

    def time(self) -> float:
        return self._timeless.now


class Wire(asyncio.Transport):
    """Answers a question with pieces that come one after the other."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        loop = asyncio.get_running_loop()
        for at, piece in enumerate(self.pieces):
            loop.call_later(0.001 * at, self._protocol.data_received, piece)
        self.pieces = []

    def abort(self) -> None: ...


def mutated(chance: random.Random, good: bytes) -> tuple[bytes, bool]:
    """(the answer with some damage, whether it is one burst of up to 16 bits)"""
    data = bytearray(good)
    kind = chance.randrange(7)
    if kind < 3:
        start, burst = chance.randrange(len(data) * 8 - 16), chance.randrange(1, 1 << 16)
        whole = int.from_bytes(data, "big") ^ burst << start
        return whole.to_bytes(len(data), "big"), True
    if kind == 3:
        return bytes(data[: chance.randrange(len(data))]), False
    if kind == 4:
        at = chance.randrange(len(data))
        return bytes(data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at:]), False
    if kind == 5:
        return chance.randbytes(chance.randrange(600)), False
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data), False


def pieces_of(chance: random.Random, data: bytes) -> list[bytes]:
    edges = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(3)))
    return [data[start:end] for start, end in zip([0, *edges], [*edges, len(data)], strict=True)]


async def fuzz(framing: str) -> int:
    """How many of the damaged answers were taken for one."""
    chance = random.Random(11)
    taken = 0
    connection: Connection | None = None
    peak = 0
    for number in range(FRAMES):
        if connection is None or not connection.is_open:
            protocol = MbapConnection() if framing == "MBAP" else RtuConnection(Doubts())
            wire, transaction, connection = Wire(protocol), 0, protocol
            protocol.connection_made(wire)
        transaction += 1
        good = rtu(frame(0, 1, RIGHT)) if framing == "RTU" else frame(transaction, 1, RIGHT)
        damaged, burst = mutated(chance, good)
        wire.pieces = pieces_of(chance, damaged)
        answer = await outcome(connection, ASKED)
        if isinstance(answer, bytes):
            assert len(answer) == 10
            assert framing == "MBAP" or not burst or (answer == DATA and damaged == good)
            taken += answer != DATA
        if number == FRAMES // 10:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    sys.stdout.write(f"{framing}: {FRAMES} damaged answers, {taken} taken for one, memory grew by {grown} KiB\n")
    assert grown < 16 * 1024
    return taken


async def outcome(connection: Connection, asked: Question) -> object:
    try:
        return (await connection.ask([asked], 0.05))[0]
    except (NoAnswer, Unfit, Closed) as error:
        return error


@pytest.mark.torture
@pytest.mark.timeout(7200 if LONG else 120)
@pytest.mark.parametrize("framing", ["MBAP", "RTU"])
def test_damaged_answers_crash_nothing_and_are_no_value_of_another_shape(framing):
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        taken = runner.run(fuzz(framing))
    if framing == "RTU":
        assert taken <= FRAMES / 10_000  # one in 65,536 of those with a right head has a right checksum by chance
