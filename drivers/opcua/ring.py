"""The ring buffer of an OPC UA server: indices that are nodes, slots that are arrays or an array of structures, and
the tail, the one thing that is written."""

import hashlib
from collections.abc import Sequence
from typing import Any

from asyncua import ua

from drivers.base import Micros, Quality, Value
from drivers.opcua import binary
from drivers.opcua.addresses import parse_node
from drivers.opcua.layouts import Layouts
from drivers.opcua.options import OpcuaDevice, OpcuaTag
from drivers.opcua.parts import Layout, NoPart, Step, pick
from drivers.opcua.ring_options import OpcuaRing, OpcuaRingNode
from drivers.opcua.session import Session, node_id
from drivers.opcua.values import TagValues, micros, status_name, type_name
from drivers.ring import stamps
from drivers.ring.access import Header, Slot, Unreadable
from drivers.ring.options import plan_of
from drivers.ring.reader import Reader

_HEADER = ("head", "tail", "overflow", "clock")


def reader(name: str, device: OpcuaDevice, ring: OpcuaRing, access: "OpcuaAccess") -> Reader:
    kinds: dict[str, str] = {tag: options.type for tag, options in device.tags.items()}
    return Reader(name, plan_of(ring, device.tags, kinds, ring.head.type), access)


class OpcuaAccess:
    """See `drivers.ring.access.Access`."""

    def __init__(self, ring: OpcuaRing, session: Session, namespaces: Sequence[str], per_call: int) -> None:
        self._ring = ring
        self._session = session
        self._namespaces = namespaces
        self._per_call = per_call
        self._layouts: dict[str, Layout | None] = {}
        self._tail_kind = 0
        places: dict[str, OpcuaRingNode | None] = {word: getattr(ring, word) for word in (*_HEADER, "code", "time")}
        self._places = {word: place for word, place in places.items() if place is not None}
        self._places |= {f"field {name}": field for name, field in ring.fields.items()}
        self._values = {
            word: TagValues(word, OpcuaTag.model_construct(node=place.node, type=kind, scale=scale, offset=offset))
            for word, place in self._places.items()
            if (kind := getattr(place, "type", None)) is not None
            for scale, offset in [(getattr(place, "scale", None), getattr(place, "offset", None))]
        }

    async def header(self) -> Header:
        words = [word for word in _HEADER if word in self._places]
        items = await self._read(words)
        raw = {word: self._raw(word, items[word]) for word in words}
        head, tail, overflow = (self._index(word, raw) for word in _HEADER[:3])
        assert head is not None
        if "tail" in raw:
            self._tail_kind = raw["tail"][0]
        return Header(head, tail, overflow, self._micros(raw["clock"]) if "clock" in raw else None)

    async def slots(self, first: int, count: int) -> Sequence[Slot]:
        items = await self._read([word for word in self._places if word not in _HEADER])
        every = self._ring.slots.count
        return [self._slot(items, (first + at) % every) for at in range(count)]

    async def move_tail(self, index: int) -> str:
        assert self._ring.tail is not None
        status = await self._session.write(self._node(self._ring.tail.node), index, self._tail_kind)
        if status >> 30:
            return status_name(status)
        raw = {"tail": self._raw("tail", (await self._read(["tail"]))["tail"])}
        now = self._index("tail", raw)
        return "" if now == index else f"it is {now} after {index} was written"

    async def _read(self, words: Sequence[str]) -> dict[str, binary.Item]:
        """What the server says of these nodes, in as few requests as it takes."""
        nodes = list(dict.fromkeys(self._places[word].node for word in words))
        found: dict[str, binary.Item] = {}
        for at in range(0, len(nodes), self._per_call):
            part = nodes[at : at + self._per_call]
            result, items = binary.read_response(await self._session.values([self._node(node) for node in part]))
            ua.StatusCode(ua.UInt32(result)).check()
            if len(items) != len(part):
                raise binary.Malformed(f"{len(items)} values for {len(part)} nodes")
            found.update(zip(part, items, strict=True))
        for word in words:
            place = self._places[word]
            if place.field is not None and place.node not in self._layouts:
                self._layouts[place.node] = await Layouts(self._session).of_node(self._node(place.node))
        return {word: found[self._places[word].node] for word in words}

    def _node(self, text: str) -> ua.NodeId:
        node = parse_node(text)
        if node.uri is not None and node.uri not in self._namespaces:
            raise Unreadable(f"the server has no namespace {node.uri}")
        index = node.namespace if node.uri is None else self._namespaces.index(node.uri)
        return node_id(node.identifier, index)

    def _raw(
        self, word: str, item: binary.Item, way: tuple[Step, ...] = (), *, needed: bool = True
    ) -> tuple[int, Any]:
        """(built-in type, value) of a part of what the server sent; nothing if there is none and none is needed."""
        _, kind, value, status, _ = item
        if status >> 30 > 1:
            raise Unreadable(f"the {word} of the ring: {status_name(status)}")
        place = self._places[word]
        way = (*way, *place.way)
        if not way:
            return kind, value
        if not kind & binary.ARRAY and kind != binary.STRUCTURE:
            raise Unreadable(f"the {word} of the ring is one {type_name(kind)}, and should be an array")
        try:
            return pick(value, way, self._layouts.get(place.node))
        except (NoPart, binary.Malformed) as why:
            if isinstance(why, NoPart) and not needed:
                return binary.NOTHING, None
            raise Unreadable(f"the {word} of the ring: {why}") from None

    def _slot(self, items: dict[str, binary.Item], number: int) -> Slot:
        raw = {word: self._raw(word, item, ((number,),), needed=word == "code") for word, item in items.items()}
        code = self._index("code", raw)
        return Slot(
            hashlib.blake2b(repr(raw).encode(), digest_size=8).hexdigest(),
            0 if code is None else code,
            self._micros(raw["time"]) if "time" in raw else None,
            {name: self._value(f"field {name}", raw[f"field {name}"])[0] for name in self._ring.fields},
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
