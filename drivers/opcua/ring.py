"""The ring buffer of an OPC UA server: indices that are nodes, slots that are arrays or an array of structures, and
the tail, the one thing that is written."""

import hashlib
from collections.abc import Sequence
from typing import Any

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Micros, Quality, Value
from drivers.opcua import binary
from drivers.opcua.addresses import parse_node
from drivers.opcua.layouts import Layouts
from drivers.opcua.options import OpcuaDevice, OpcuaTag
from drivers.opcua.parts import Layout, NoPart, elements, pick
from drivers.opcua.reads import Part, Reads
from drivers.opcua.ring_options import SLOT, OpcuaRing, OpcuaRingNode
from drivers.opcua.session import Session, node_id
from drivers.opcua.values import TagValues, micros, status_name, type_name
from drivers.ring import stamps
from drivers.ring.access import Header, Slot, Unreadable
from drivers.ring.options import plan_of
from drivers.ring.reader import Reader

_HEADER = ("head", "tail", "overflow", "clock")
_NEEDED = (*_HEADER, "code", "sequence")
_PIECE = 128
"""Slots that are asked for at once."""
_TOO_LARGE = frozenset(
    (
        StatusCodes.BadEncodingLimitsExceeded,
        StatusCodes.BadResponseTooLarge,
        StatusCodes.BadTcpMessageTooLarge,
        StatusCodes.BadOutOfMemory,
    )
)
_NO_PIECES = frozenset(
    (
        StatusCodes.BadIndexRangeInvalid,
        StatusCodes.BadNotSupported,
        StatusCodes.BadNotImplemented,
        StatusCodes.BadServiceUnsupported,
    )
)


def reader(name: str, device: OpcuaDevice, ring: OpcuaRing, access: "OpcuaAccess") -> Reader:
    kinds: dict[str, str] = {tag: options.type for tag, options in device.tags.items()}
    return Reader(name, plan_of(ring, device.tags, kinds, ring.head.type), access)


class OpcuaAccess:
    """See `drivers.ring.access.Access`.

    Arrays of up to `_PIECE` slots are read as a whole in one request. Larger ones, or such as are too large for the
    server, are read in pieces (IndexRange); a server that knows no pieces gives all of them."""

    def __init__(self, ring: OpcuaRing, session: Session, namespaces: Sequence[str], per_call: int) -> None:
        self._ring = ring
        self._session = session
        self._reads = Reads(session, per_call)
        self._namespaces = namespaces
        self._piece = _PIECE
        self._pieces = True
        """As far as is known the server gives parts of an array."""
        self._layouts: dict[str, Layout | None] = {}
        self._tail_kind = 0
        words = (*_HEADER, "sequence", "code", "time")  # of a slot the sequence is asked for first
        places: dict[str, OpcuaRingNode | None] = {word: getattr(ring, word) for word in words}
        self._places = {word: place for word, place in places.items() if place is not None}
        self._places |= {f"field {name}": field for name, field in ring.fields.items()}
        self._of_slot = [word for word in self._places if word not in _HEADER]
        self._each = all(self._places[word].of_slot for word in self._of_slot)
        """Every slot has nodes of its own."""
        self._values = {
            word: TagValues(word, OpcuaTag.model_construct(node=place.node, type=kind, scale=scale, offset=offset))
            for word, place in self._places.items()
            if (kind := getattr(place, "type", None)) is not None
            for scale, offset in [(getattr(place, "scale", None), getattr(place, "offset", None))]
        }

    async def header(self) -> Header:
        raw = await self._indices([word for word in _HEADER if word in self._places])
        head, tail, overflow = (self._index(word, raw) for word in _HEADER[:3])
        assert head is not None
        if "tail" in raw:
            self._tail_kind = raw["tail"][0]
        return Header(head, tail, overflow, self._micros(raw["clock"]) if "clock" in raw else None)

    async def slots(self, first: int, count: int) -> Sequence[Slot]:
        every = self._ring.slots.count
        found: dict[int, Slot] = {}
        while len(found) < count:
            start = (first + len(found)) % every
            length = min(count - len(found), every - start, self._piece)
            if not self._each and (every <= self._piece or not self._pieces):
                start, length = 0, every
            for at, slot in enumerate(await self._piece_of(start, length), start):
                found[at] = slot
        return [found[(first + at) % every] for at in range(count)]

    async def move_tail(self, index: int) -> str:
        assert self._ring.tail is not None
        status = await self._session.write(self._node(self._ring.tail.node), index, self._tail_kind)
        if status >> 30:
            return status_name(status)
        now = self._index("tail", await self._indices(["tail"]))
        return "" if now == index else f"it is {now} after {index} was written"

    async def _indices(self, words: Sequence[str]) -> dict[str, tuple[int, Any]]:
        """(built-in type, value) of places that are in no slot."""
        nodes = list(dict.fromkeys(self._node(self._places[word].node) for word in words))
        items = dict(zip(nodes, await self._reads.of(nodes), strict=True))
        await self._look_at_structures(words)
        return {word: self._one(word, items[self._node(self._places[word].node)]) for word in words}

    async def _piece_of(self, start: int, length: int) -> Sequence[Slot]:
        """These slots; none if they must be asked for in another way, which is known now."""
        whole = length == self._ring.slots.count
        wanted = {word: self._parts(word, start, length, whole=whole) for word in self._of_slot}
        distinct = list(dict.fromkeys(part for parts in wanted.values() for part in parts))
        try:
            found = await self._reads.parts(distinct)
        except UaStatusCodeError as error:
            if error.code not in _TOO_LARGE:
                raise
            self._smaller(length, error.code)
            return ()
        items = dict(zip(distinct, found, strict=True))
        for part, item in items.items():
            status = item[3] & 0xFFFF0000
            if status in _TOO_LARGE:
                self._smaller(length, status)
                return ()
            if status in _NO_PIECES and part.index_range is not None:
                self._pieces = False
                return ()
        await self._look_at_structures(self._of_slot)
        columns = {
            word: self._column(word, [items[part] for part in parts], start, length) for word, parts in wanted.items()
        }
        return [self._slot({word: column[at] for word, column in columns.items()}) for at in range(length)]

    def _smaller(self, length: int, status: int) -> None:
        """Ask for smaller pieces."""
        if length == 1 or not self._pieces:
            raise Unreadable(
                f"the server gives its slots neither as a whole nor in parts ({status_name(status)}); "
                f"where each slot has a node of its own, write {SLOT} in place of its number"
            )
        self._piece = length // 2

    def _parts(self, word: str, start: int, length: int, *, whole: bool) -> list[Part]:
        """What is read of a place for these slots."""
        place = self._places[word]
        if place.of_slot:
            first = self._ring.slots.first
            return [Part(self._node(place.of(first + at))) for at in range(start, start + length)]
        last = start + length - 1
        return [Part(self._node(place.node), None if whole else f"{start}:{last}" if length > 1 else str(start))]

    async def _look_at_structures(self, words: Sequence[str]) -> None:
        for word in words:
            place = self._places[word]
            if place.field is not None and place.node not in self._layouts:
                node = self._node(place.of(self._ring.slots.first))
                self._layouts[place.node] = await Layouts(self._session).of_node(node)

    def _node(self, text: str) -> ua.NodeId:
        node = parse_node(text)
        if node.uri is not None and node.uri not in self._namespaces:
            raise Unreadable(f"the server has no namespace {node.uri}")
        index = node.namespace if node.uri is None else self._namespaces.index(node.uri)
        return node_id(node.identifier, index)

    def _good(self, word: str, item: binary.Item) -> tuple[int, Any]:
        """(built-in type, value)"""
        _, kind, value, status, _ = item
        if status >> 30 > 1:
            raise Unreadable(f"the {word} of the ring: {status_name(status)}")
        return kind, value

    def _one(self, word: str, item: binary.Item) -> tuple[int, Any]:
        """The same, of a place that has one value."""
        kind, value = self._good(word, item)
        if not self._places[word].way:
            return kind, value
        if not kind & binary.ARRAY and kind != binary.STRUCTURE:
            raise Unreadable(f"the {word} of the ring is one {type_name(kind)}, and should be a structure")
        return self._picked(word, value)

    def _column(self, word: str, items: Sequence[binary.Item], start: int, length: int) -> list[tuple[int, Any]]:
        """The same, of slots one after the other."""
        if self._places[word].of_slot:
            return [self._one(word, item) for item in items]
        kind, value = self._good(word, items[0])
        if not kind & binary.ARRAY:
            raise Unreadable(f"the {word} of the ring is one {type_name(kind)}, and should be an array")
        try:
            found = elements(value)
        except (NoPart, binary.Malformed) as why:
            raise Unreadable(f"the {word} of the ring: {why}") from None
        if len(found) > length:
            found = found[start : start + length]  # of a server that takes no notice of the range
        if len(found) < length and word in _NEEDED:
            raise Unreadable(f"the {word} of the ring: there is no element {start + len(found)}")
        column = [self._picked(word, element) for element in found]
        return column + [(binary.NOTHING, None)] * (length - len(column))

    def _picked(self, word: str, value: bytes) -> tuple[int, Any]:
        """The part that the place means; nothing if there is none and none is needed."""
        place = self._places[word]
        try:
            return pick(value, place.way, self._layouts.get(place.node))
        except (NoPart, binary.Malformed) as why:
            if isinstance(why, NoPart) and word not in _NEEDED:
                return binary.NOTHING, None
            raise Unreadable(f"the {word} of the ring: {why}") from None

    def _slot(self, raw: dict[str, tuple[int, Any]]) -> Slot:
        code = self._index("code", raw)
        return Slot(
            hashlib.blake2b(repr(raw).encode(), digest_size=8).hexdigest(),
            0 if code is None else code,
            self._micros(raw["time"]) if "time" in raw else None,
            {name: self._value(f"field {name}", raw[f"field {name}"])[0] for name in self._ring.fields},
            self._index("sequence", raw),
        )

    def _value(self, word: str, raw: tuple[int, Any]) -> tuple[Value | None, str]:
        """(the value as it is configured, or why there is none)"""
        reading = self._values[word].read((0, *raw, 0, None))
        if reading is None or reading.quality is Quality.BAD:
            return None, "" if reading is None else reading.detail
        return reading.value, ""

    def _index(self, word: str, raw: dict[str, tuple[int, Any]]) -> int | None:
        if word not in raw:
            return None
        value, why = self._value(word, raw[word])
        if value is None:
            raise Unreadable(f"the {word} of the ring: {why}")
        return int(value)

    def _micros(self, raw: tuple[int, Any]) -> Micros | None:
        assert self._ring.time is not None
        kind, value = raw
        form, zone = self._ring.time.form, self._ring.time.timezone
        if (kind == binary.DATE_TIME) is not (form == "datetime"):
            return None
        if form == "datetime":
            value = micros(value)
        return stamps.micros(form, value, zone) if isinstance(value, int | float) else None
