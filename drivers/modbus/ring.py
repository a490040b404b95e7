"""The ring buffer of a Modbus device: indices and slots as requests, and the tail, the one thing that is written."""

import hashlib
import struct
from collections.abc import Awaitable, Callable, Sequence

from drivers.base import Value
from drivers.modbus.encoding import Encoding, of_form
from drivers.modbus.exchange import Answer, Question, question, writing
from drivers.modbus.faults import detail
from drivers.modbus.options import ModbusDevice
from drivers.modbus.places import Form, Place
from drivers.modbus.plan import Field, Limits, Request, plan
from drivers.modbus.registers import Layout
from drivers.modbus.ring_options import ModbusRing
from drivers.ring import stamps
from drivers.ring.access import Header, Slot, Unreadable
from drivers.ring.options import plan_of
from drivers.ring.reader import Reader

Ask = Callable[[Sequence[Question]], Awaitable[list[Answer]]]
_SIZES = {1: "H", 2: "I"}


def reader(name: str, device: ModbusDevice, ring: ModbusRing, ask: Ask) -> Reader:
    kinds = {tag: options.kind for tag, options in device.tags.items()}
    return Reader(name, plan_of(ring, device.tags, kinds, ring.head.kind), ModbusAccess(device, ring, ask))


class ModbusAccess:
    """See `drivers.ring.access.Access`. `ask` has questions answered, and raises when the connection is lost."""

    def __init__(self, device: ModbusDevice, ring: ModbusRing, ask: Ask) -> None:
        self._unit = device.unit
        self._ring = ring
        self._ask = ask
        self._orders = device.word_order, device.byte_order
        indices: dict[str, tuple[Place, Form]] = {
            word: (place, place)
            for word in ("head", "tail", "overflow")
            if (place := getattr(ring, word)) is not None
        }
        fields = [Field(word, *place.address, form.registers) for word, (place, form) in indices.items()]
        encodings = {word: self._encoding(form) for word, (_, form) in indices.items()}
        if ring.clock is not None and ring.time is not None:
            fields.append(Field("clock", *ring.clock.address, ring.time.value.registers))
            encodings["clock"] = self._encoding(ring.time.value)
        limits = Limits(device.max_registers, device.max_gap, device.one_tag_per_request)
        self._header = [(request, Layout(request, encodings)) for request in plan(fields, limits)]
        self._tail = next((Field(*field) for field in fields if field.tag == "tail"), None)
        self._encodings = encodings
        table, self._start = ring.slots.address
        self._table = table
        parts = {name: Field(name, table, at, form.registers) for name, (at, form) in ring.parts.items()}
        ordered = tuple(parts.values())
        self._slot = Layout(
            Request(table, 0, ring.slots.size, ordered),
            {name: self._encoding(form) for name, (_, form) in ring.parts.items()},
        )
        self._used = [slice(field.start * 2, field.end * 2) for field in ordered]
        self._most = device.max_registers // ring.slots.size
        self._in_flight = device.in_flight

    async def header(self) -> Header:
        found: dict[str, Value | None] = {}
        for request, layout in self._header:
            found.update(await self._values(request, layout))
        head, tail, overflow = (_whole(found.get(word)) for word in ("head", "tail", "overflow"))
        assert head is not None
        return Header(head, tail, overflow, self._micros(found.get("clock")))

    async def slots(self, first: int, count: int) -> Sequence[Slot]:
        size, every = self._ring.slots.size, self._ring.slots.count
        runs = [(first, min(count, every - first)), (0, count - (every - first))]
        requests = [
            Request(self._table, self._start + at * size, min(self._most, begin + length - at) * size, ())
            for begin, length in runs
            if length > 0
            for at in range(begin, begin + length, self._most)
        ]
        data = b""
        for at in range(0, len(requests), self._in_flight):
            asked = [question(self._unit, request) for request in requests[at : at + self._in_flight]]
            for answer in await self._ask(asked):
                data += _bytes(answer, "its slots cannot be read")
        width = size * 2
        return [self._slot_of(data[at : at + width]) for at in range(0, len(data), width)]

    async def move_tail(self, index: int) -> str:
        assert self._tail is not None
        encoding = self._encodings["tail"]
        (answer,) = await self._ask([writing(self._unit, self._tail.start, _registers(index, encoding))])
        if not isinstance(answer, bytes):
            return detail(answer)
        request = Request(self._tail.table, self._tail.start, self._tail.size, (self._tail,))
        now = (await self._values(request, Layout(request, self._encodings)))["tail"]
        return "" if now == index else f"it is {now} after {index} was written"

    async def _values(self, request: Request, layout: Layout) -> dict[str, Value | None]:
        (answer,) = await self._ask([question(self._unit, request)])
        values, bad = layout.values(_bytes(answer, "its indices cannot be read"))
        for at, why in bad.items():
            if layout.tags[at] != "clock":
                raise Unreadable(f"the {layout.tags[at]} of the ring is {why}")
        return dict(zip(layout.tags, values, strict=True))

    def _slot_of(self, data: bytes) -> Slot:
        values = dict(zip(self._slot.tags, self._slot.values(data)[0], strict=True))
        fields = {name.partition("/")[2]: value for name, value in values.items() if "/" in name}
        code = _whole(values["code"])
        return Slot(
            hashlib.blake2b(b"".join(data[part] for part in self._used), digest_size=8).hexdigest(),
            0 if code is None else code,
            self._micros(values.get("time")),
            fields,
            _whole(values.get("sequence")),
        )

    def _micros(self, raw: Value | None) -> int | None:
        time = self._ring.time
        if time is None or raw is None:
            return None
        return stamps.micros(time.form, f"{raw:016x}" if time.form == "bcd" else raw, time.timezone)

    def _encoding(self, form: Form) -> Encoding:
        return of_form(form, *self._orders)


def _bytes(answer: Answer, what: str) -> bytes:
    if isinstance(answer, bytes):
        return answer
    raise Unreadable(f"{what}: {detail(answer)}")


def _whole(value: Value | None) -> int | None:
    return int(value) if isinstance(value, bool | int | float) else None


def _registers(index: int, encoding: Encoding) -> bytes:
    """The number as its registers."""
    size = 2 if encoding.kind in ("uint32", "int32") else 1
    data = struct.pack(f">{_SIZES[size]}", index % (1 << 16 * size))
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if encoding.word_order == "little":
        words.reverse()
    return b"".join(word[::-1] if encoding.byte_order == "little" else word for word in words)
