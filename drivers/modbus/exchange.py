"""Question and answer, however they are framed: what is asked, what must come back, and who carries it.

A *medium* opens connections to one line (TCP, TLS, RTU over TCP, a serial port); a *connection* carries questions and
gives back exactly their answers. Everything above them is the same for all.

The requests are encoded by pymodbus; the transactions are ours (see `mbap`).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from drivers.modbus.addresses import Table
from drivers.modbus.plan import Request

_REQUESTS: dict[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}
_WRITE_ONE, _WRITE_SEVERAL = 6, 16
EXCEPTION = 0x80
"""Bit of the function code that marks a refusal."""


ANY = -1
"""Data bytes of an answer whose length only the device knows; where the frame tells it (TCP)."""


class Question(NamedTuple):
    """A request as it is sent: unit and PDU, and what the answer must look like."""

    unit: int
    pdu: bytes
    size: int
    """Data bytes of the answer, or `ANY`."""
    echo: bytes = b""
    """What is answered to a question that writes."""


Answer: TypeAlias = bytes | int
"""The data bytes, or the exception code with which the device refused."""


class NoAnswer(Exception):
    """Nothing came in time."""


class Closed(Exception):
    """The device closed the connection."""


class Disturbed(Closed):
    """The connection had to be closed for what happened to another question; this one may be asked again."""


class Unfit(Exception):
    """An answer came that does not belong to the question; the text says in what."""


class Connection(Protocol):
    """One open connection of a line."""

    @property
    def is_open(self) -> bool: ...

    @property
    def tells_answers_apart(self) -> bool:
        """Whether it is proven that a late answer cannot be taken for another one: then a second question may be
        asked while the first one waits, and silence is no reason to close."""

    def close(self) -> None:
        """Close at once, dropping what is under way. Safe twice."""

    async def ask(self, questions: Sequence[Question], limit: float) -> list[Answer]:
        """Send the questions and wait for their answers, at most `limit` seconds for each next one.

        The answers are in the order of the questions. Raises NoAnswer, Closed or Unfit. After these and after
        cancellation no answer that is still under way can become the answer to another question: the connection is
        closed, or knows better.
        """


class Medium(Protocol):
    """Opens the connections of one line."""

    async def open(self) -> Connection:
        """Raises OSError; `TimeoutError` is the caller's business."""

    def rest(self, unit: int) -> float:
        """Seconds for which the unit must be left alone: an answer of it may still be under way."""


def question(unit: int, request: Request) -> Question:
    """The request as bytes, with the length of its answer."""
    message = _REQUESTS[request.table](dev_id=unit, address=request.start, count=request.length)
    size = (request.length + 7) // 8 if request.table.bits else request.length * 2
    return Question(unit, bytes([message.function_code]) + message.encode(), size)


def writing(unit: int, start: int, registers: bytes) -> Question:
    """Holding registers become these, one or several at once. Nothing else of this driver writes."""
    place = start.to_bytes(2, "big")
    if len(registers) == 2:
        pdu = bytes([_WRITE_ONE]) + place + registers
        return Question(unit, pdu, 0, pdu)
    count = (len(registers) // 2).to_bytes(2, "big")
    head = bytes([_WRITE_SEVERAL]) + place + count
    return Question(unit, head + bytes([len(registers)]) + registers, 0, head)


def answer_of(pdu: bytes, asked: Question) -> Answer:
    """What a complete PDU says. Raises Unfit."""
    function = asked.pdu[0]
    if pdu[0] == function | EXCEPTION and len(pdu) == 2:
        return pdu[1]
    if pdu[0] != function:
        raise Unfit(f"it answers function {pdu[0]} instead of {function}")
    if asked.size == ANY:
        return pdu[1:]
    if asked.echo:
        if pdu != asked.echo:
            raise Unfit("it does not repeat what was written")
        return b""
    if pdu[1] != asked.size or len(pdu) != asked.size + 2:
        raise Unfit(f"it has {len(pdu) - 2} bytes of data instead of {asked.size}")
    return pdu[2:]
