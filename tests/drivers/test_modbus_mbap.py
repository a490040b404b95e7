"""The frames of Modbus TCP, whatever arrives in whatever pieces."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from drivers.modbus.addresses import Table
from drivers.modbus.exchange import Closed, NoAnswer, Unfit, question
from drivers.modbus.mbap import MbapConnection
from drivers.modbus.plan import Request

DATA = bytes(range(10, 20))
RIGHT = b"\0\1\0\0\0\x0d\1\3\x0a" + DATA
ASKED = question(1, Request(Table.HOLDING, 100, 5, ()))


class Wire(asyncio.Transport):
    """A transport that answers each write with prepared pieces."""

    def __init__(self, connection: MbapConnection, pieces: list[bytes]) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self._connection = connection
        self._pieces = pieces

    def write(self, data: bytes) -> None:
        self.written += data
        for piece in self._pieces:
            asyncio.get_running_loop().call_soon(self._connection.data_received, piece)

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as running:
        yield running


async def ask(pieces: list[bytes]) -> tuple[object, Wire]:
    """(data, exception code or the failure; the wire)"""
    connection = MbapConnection()
    wire = Wire(connection, pieces)
    connection.connection_made(wire)
    try:
        (answer,) = await connection.ask([ASKED], 0.001)
    except (NoAnswer, Unfit, Closed) as error:
        assert wire.aborted
        assert not connection.is_open
        return error, wire
    return answer, wire


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, 100), max_size=5))
def test_an_answer_in_any_pieces_is_the_answer(runner, places):
    answer, wire = runner.run(ask(cut(RIGHT, places)))
    assert answer == DATA
    assert wire.written == b"\0\1\0\0\0\6\1\3\0\x64\0\5"


@given(st.integers(0, 8), st.integers(0, 255), st.lists(st.integers(0, 100), max_size=3))
@example(1, 0, [])
@example(7, 0x83, [])
def test_an_answer_with_a_wrong_byte_in_its_head_is_never_another_value(runner, place, byte, places):
    mutated = RIGHT[:place] + bytes([byte]) + RIGHT[place + 1 :]
    answer, _ = runner.run(ask(cut(mutated, places)))
    assert isinstance(answer, Exception) or answer == DATA


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_anything_at_all_is_an_answer_or_refused(runner, noise, places):
    answer, _ = runner.run(ask(cut(noise, places)))
    assert isinstance(answer, Exception) or len(answer) == 10 or isinstance(answer, int)


@given(st.sampled_from(list(Table)), st.integers(0, 65000), st.integers(1, 125), st.integers(0, 255))
def test_a_question_is_what_pymodbus_reads_on_the_other_side(table, start, length, unit):
    asked = question(unit, Request(table, start, length, ()))
    frame = b"\0\1\0\0" + (len(asked.pdu) + 1).to_bytes(2, "big") + bytes([unit]) + asked.pdu
    used, message = FramerSocket(DecodePDU(True)).handleFrame(frame, 0, 0)
    assert used == len(frame)
    assert (message.function_code, message.address, message.count, message.dev_id) == (
        table.function,
        start,
        length,
        unit,
    )


async def test_a_device_that_answers_one_byte_at_a_time_for_ever_ends_at_the_limit():
    connection = MbapConnection()
    connection.connection_made(Wire(connection, [b"\0"] * 6))
    with pytest.raises((NoAnswer, Unfit)):
        await connection.ask([ASKED], 0.01)
