"""The Modbus driver: on each tick, the requests of the tags that are due, and their answers as one batch.

A request that the device refuses for its addresses is halved until the refused tags are alone; those become BAD,
are remembered (`learned`) and asked for again once a minute. Any doubt about an answer loses the unit's connection.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from drivers.base import Batch, Micros, Reading
from drivers.looking import Listing, Looked
from drivers.modbus import looking, ring
from drivers.modbus.addresses import LAST
from drivers.modbus.block import Block
from drivers.modbus.decodings import WIDEST
from drivers.modbus.doubts import implausible, refused
from drivers.modbus.encoding import of_form
from drivers.modbus.exchange import Answer, Closed, NoAnswer, Question, Unfit, question
from drivers.modbus.faults import NOBODY_THERE, WRONG_ADDRESS, detail, not_connected, translate, unit_silent
from drivers.modbus.learned import Learned
from drivers.modbus.line import Line
from drivers.modbus.options import ModbusDevice
from drivers.modbus.plan import Field, Limits, Request, halves, plan
from drivers.ring.reader import ROUNDS
from drivers.ticker import Ticker

_MOST_SCANS = 64
"""Combinations of scan classes whose requests are kept ready."""


class _Turn(NamedTuple):
    """Requests that are sent together."""

    blocks: tuple[Block, ...]
    questions: tuple[Question, ...]


class _Scan:
    """What one combination of scan classes reads."""

    def __init__(self, turns: Sequence[_Turn], refused: Sequence[Field]) -> None:
        self.turns = turns
        self.refused = refused
        self._parts: list[Sequence[Reading]] = []
        self._readings: tuple[Reading, ...] = ()

    def join(self, parts: list[Sequence[Reading]]) -> tuple[Reading, ...]:
        """All readings; the very same tuple as before if no part is new."""
        if len(parts) == 1 and isinstance(parts[0], tuple):
            return parts[0]
        old = self._parts
        if len(old) != len(parts) or any(new is not known for new, known in zip(parts, old, strict=True)):
            self._parts = parts
            self._readings = tuple([reading for part in parts for reading in part])
        return self._readings


class ModbusDriver:
    """One connection to one unit. `line` and `learned` outlive it."""

    def __init__(self, name: str, device: ModbusDevice, line: Line, learned: Learned) -> None:
        self._name = name
        self._device = device
        self._line = line
        self._learned = learned
        self._connected = False
        self._limit = device.timeout / 1_000_000
        self._pause = device.pause / 1_000_000
        self._limits = Limits(device.max_registers, device.max_gap, device.one_tag_per_request)
        self._ring = None if device.ring is None else ring.reader(name, device, device.ring, self._ask)
        ring_period = [device.ring_period] if self._ring is not None else []
        self._ticker = Ticker([*(device.period(tag) for tag in device.polled), *ring_period])
        self._fields = [Field(name, *tag.address, tag.registers) for name, tag in device.polled.items()]
        self._encodings = {
            name: of_form(tag, device.word_order, device.byte_order) for name, tag in device.polled.items()
        }
        self._deadbands = {name: tag.deadband for name, tag in device.polled.items() if tag.deadband}
        self._reported: dict[str, Reading] = {}
        self._scans: dict[tuple[Micros, ...], _Scan] = {}
        self._tick: tuple[tuple[Micros, ...], int] | None = None
        """The scan that is under way while the entries of the ring are read."""
        self._rounds = 0

    def resume(self, position: str) -> None:
        """See `drivers.base.RingReader`."""
        if self._ring is not None:
            self._ring.resume(position)

    async def connect(self) -> None:
        """Join the line and have one answer of the unit: connected means that data will come."""
        try:
            await self._line.join(self, self._limit)
            fields = self._learned.split(self._fields)[0] or self._fields
            for request in plan(fields[:1], self._limits):
                await self._ask([self._block(request).question])
            if not fields and self._ring is not None:
                await self._ring.look()
            self._connected = True
        except (OSError, ImportError) as error:
            raise translate(self._name, self._device, error, ()) from error
        finally:
            if not self._connected:
                self._line.leave(self)

    async def read(self) -> Batch:
        if not self._connected:
            raise not_connected(self._name)
        if self._tick is None:
            self._tick, self._rounds = await self._ticker.tick(), 0
        due, missed = self._tick
        if self._ring is not None and self._device.ring_period in due and self._rounds < ROUNDS:
            self._rounds += 1
            entries = await self._ring.read()
            if entries is not None:
                return entries
        self._tick = None
        if self._learned.has_gaps and self._learned.worth_another_try(_now()):
            self._scans.clear()
        scan = self._scans.get(due) or self._plan(due)
        parts: list[Sequence[Reading]] = []
        for turn in scan.turns:
            answers = await self._ask(turn.questions)
            for block, answer in zip(turn.blocks, answers, strict=True):
                if isinstance(answer, bytes) and block.generation == self._line.generation:
                    parts.append(block.take(answer))
                else:
                    parts.append(await self._take(block, answer))
        if scan.refused:
            parts.append(await self._refused(scan.refused))
        if self._ring is not None:
            parts.append(self._ring.readings)
        return Batch(self._name, scan.join(parts), missed=missed)

    async def close(self) -> None:
        self._connected = False
        self._line.leave(self)

    async def browse(self, path: str) -> Listing:
        """See `drivers.looking.Looker`."""
        if not path.strip("/"):
            return looking.tables()
        table, first, last = looking.span(path)
        longest = self._device.max_registers * (16 if table.bits else 1)
        parts, whole = await looking.survey(self._peek, table, first, last, longest)
        note = "" if whole else f"only {len(parts)} parts were asked for: name a shorter range"
        return Listing(looking.entries(table, parts), note)

    async def look(self, tags: Sequence[str], *, wide: bool = False) -> list[Looked]:
        """See `drivers.looking.Looker`; one request for each tag, past what is learned and dead bands."""
        fields = {field.tag: field for field in self._fields}
        told = {} if self._ring is None else {reading.tag: reading for reading in self._ring.readings}
        return [await self._look(fields[tag], wide) if tag in fields else Looked(told[tag]) for tag in tags]

    async def _look(self, field: Field, wide: bool) -> Looked:
        most = max(field.size, WIDEST) if wide and not field.table.bits else field.size
        answer: Answer = b""
        for size in sorted({field.size, min(most, LAST + 1 - field.start)}, reverse=True):
            answer = await self._peek(Request(field.table, field.start, size, (field,)))
            if isinstance(answer, bytes):
                break
        own = Block(self._device.unit, plan([field], self._limits)[0], self._encodings, {}, {})
        if not isinstance(answer, bytes):
            return Looked(own.refuse(detail(answer))[0], doubt=refused(self._device.tags[field.tag], answer))
        if field.table.bits:
            return Looked(own.take(answer)[0])
        words = looking.registers(answer)
        doubt = implausible(self._encodings[field.tag], words[: field.size])
        return Looked(own.take(answer[: field.size * 2])[0], words, doubt=doubt)

    async def _peek(self, request: Request) -> Answer:
        """One request between those of `read`."""
        if not self._connected:
            raise not_connected(self._name)
        return (await self._ask([question(self._device.unit, request)]))[0]

    def _plan(self, due: tuple[Micros, ...]) -> _Scan:
        fields = [field for field in self._fields if self._device.period(field.tag) in due]
        good, refused = self._learned.split(fields)
        blocks = [self._block(request) for request in plan(good, self._limits, self._learned.cuts)]
        size = self._device.in_flight
        groups = [tuple(blocks[at : at + size]) for at in range(0, len(blocks), size)]
        scan = _Scan([_Turn(group, tuple(block.question for block in group)) for group in groups], refused)
        if len(self._scans) >= _MOST_SCANS:
            self._scans.clear()
        self._scans[due] = scan
        return scan

    def _block(self, request: Request) -> Block:
        return Block(self._device.unit, request, self._encodings, self._deadbands, self._reported)

    async def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        try:
            answers = await self._line.ask(questions, self._limit, self._pause)
        except (NoAnswer, Closed, Unfit, OSError) as error:
            raise translate(self._name, self._device, error, self._line.answered) from error
        for answer in answers:
            if not isinstance(answer, bytes) and answer in NOBODY_THERE:
                raise unit_silent(self._name, self._device, self._line.answered, detail(answer))
        return answers

    async def _take(self, block: Block, answer: Answer) -> Sequence[Reading]:
        if isinstance(answer, bytes) and block.generation != self._line.generation:
            block.generation = self._line.generation
            if not block.request.table.bits and (not answer.strip(b"\0") or not answer.strip(b"\xff")):
                # A PLC that is starting up shows its memory before its program has filled it.
                answer = (await self._ask([block.question]))[0]
        if isinstance(answer, bytes):
            return block.take(answer)
        if answer in WRONG_ADDRESS:
            self._scans.clear()
            return await self._search(block.request, answer)
        return block.refuse(detail(answer))

    async def _search(self, request: Request, code: int) -> list[Reading]:
        """The readings of a refused request, tag by tag where it must be. Notes what was refused."""
        if len(request.fields) == 1:
            return [self._learned.refuse(request.fields[0], detail(code), _now())]
        readings: list[Reading] = []
        refused = False
        parts = halves(request)
        for part in parts:
            block = self._block(part)
            answer = (await self._ask([block.question]))[0]
            if isinstance(answer, bytes):
                readings.extend(block.take(answer))
            elif answer in WRONG_ADDRESS:
                refused = True
                readings.extend(await self._search(part, answer))
            else:
                refused = True
                readings.extend(block.refuse(detail(answer)))
        if not refused:
            self._learned.gap(request.table, parts[1].start, _now())
        return readings

    async def _refused(self, fields: Sequence[Field]) -> list[Reading]:
        """Readings of refused tags, after asking again for one of them whose time has come."""
        readings = [self._learned.reading(field.tag) for field in fields]
        field = self._learned.to_retry(fields, _now())
        if field is not None:
            block = self._block(plan([field], self._limits)[0])
            answer = (await self._ask([block.question]))[0]
            at = fields.index(field)
            if isinstance(answer, bytes):
                self._learned.forget()
                self._scans.clear()
                readings[at] = block.take(answer)[0]
            else:
                readings[at] = self._learned.refuse(field, detail(answer), _now())
        return readings


def _now() -> Micros:
    return int(asyncio.get_running_loop().time() * 1_000_000)
