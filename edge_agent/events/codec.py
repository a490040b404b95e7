"""Turns an event into the bytes that are stored and sent: CloudEvents 1.0, structured JSON (event model §1).

An event is encoded exactly once; the bytes are stored, sent and re-sent as they are (I4). What is None is
absent, times become RFC 3339 with milliseconds, `…_s` is rounded to the millisecond, integers beyond 2^53
become strings, and a number that JSON does not have (NaN, infinity) is left out, because no data is never
shown as a value (I5); in a measurement set its name then stands in `q` as bad.

How a class of event is encoded is worked out once per class; everything of the envelope that is the same for
all events of a stream and type is put together once per encoder.
"""

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from math import isfinite
from typing import Any, NamedTuple, TypeAlias, cast, get_args, get_type_hints

from buffer.outbox import Lane, Message
from config.model import Config
from edge_agent.clock import rfc3339
from edge_agent.events.topics import AGENT_STREAM, Place, agent_place, machine_place
from edge_agent.events.types import Data, Event, event_id

Convert: TypeAlias = Callable[[Any], Any]

_SAFE_INTEGER = 1 << 53
_SUFFIX = {Lane.PRODUCTION: ".p", Lane.MEASUREMENT: ".m"}
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Encoder:
    """Encodes the events of one machine, or of the agent itself, in one epoch."""

    def __init__(self, place: Place, *, agent_id: str, streams: Mapping[Lane, str], epoch: str) -> None:
        self.place = place
        self.epoch = epoch
        self._agent_id = agent_id
        self._streams = streams
        self._frames: dict[tuple[type[Data], Lane], _Frame] = {}
        self._context: tuple[Mapping[str, Any], str] = ({}, "")

    def encode(self, event: Event) -> Message:
        """The message of an event, ready for the outbox. Raises KeyError for a lane the owner has no stream in."""
        kind = (type(event.data), event.lane)
        frame = self._frames.get(kind)
        if frame is None:
            frame = self._frames[kind] = self._frame(*kind)
        seq = event.seq
        data = data_json(event.data)
        if event.ctx is not None:
            if self._context[0] is not event.ctx:
                self._context = event.ctx, f'{{"ctx":{_to_json(event.ctx)},'
            data = self._context[1] + data[1:]
        story = ""
        if event.correlation_id is not None:
            story = f',"correlationid":{_to_json(event.correlation_id)}'
        if event.causation_id is not None:
            story += f',"causationid":{_to_json(event.causation_id)}'
        text = (
            f"{frame.head}{event_id(self.epoch, seq)}{frame.names}{stamp(event.time)}"
            f'","recordedtime":"{stamp(event.recorded)}{frame.schema}{seq:020d}{frame.epoch}{story}'
            f',"data":{data}}}'
        )
        return Message(frame.stream, self.epoch, seq, event.lane, frame.type, frame.topic, text.encode())

    def _frame(self, data: type[Data], lane: Lane) -> "_Frame":
        type_, stream = data.TYPE, self._streams[lane]
        major = data.VERSION.partition(".")[0]
        source = _to_json(source_of(self._agent_id, stream))
        subject = _to_json(self.place.subject)
        return _Frame(
            stream=stream,
            type=type_,
            topic=self.place.event(type_),
            head='{"specversion":"1.0","id":"',
            names=f'","source":{source},"type":"dev.edgeagent.{type_}.v{major}","subject":{subject},"time":"',
            schema=f'","datacontenttype":"application/json","dataschema":"{schema_id(type_, data.VERSION)}"'
            ',"sequence":"',
            epoch=f'","epoch":"{self.epoch}"',
        )


def machine_encoder(config: Config, machine: str, epoch: str) -> Encoder:
    """Streams `<machine>.p` and `<machine>.m`."""
    streams = {lane: machine + suffix for lane, suffix in _SUFFIX.items()}
    return Encoder(machine_place(config, machine), agent_id=config.agent.id, streams=streams, epoch=epoch)


def agent_encoder(config: Config, epoch: str) -> Encoder:
    """Stream `$agent.h`."""
    return Encoder(agent_place(config), agent_id=config.agent.id, streams={Lane.HEALTH: AGENT_STREAM}, epoch=epoch)


def source_of(agent_id: str, stream: str) -> str:
    return f"urn:edgeagent:{agent_id}:{stream}"


def schema_id(type_: str, version: str) -> str:
    return f"urn:edgeagent:schema:{type_}:{version}"


def stamp(wall: int) -> str:
    """UTC microseconds as RFC 3339; events come in bursts, so the second is worked out once."""
    second, rest = divmod(wall, 1_000_000)
    return f"{_second(second)}{rest // 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return rfc3339(second * 1_000_000)[:-4]


class _Frame(NamedTuple):
    """What is the same for all events of one stream and type."""

    stream: str
    type: str
    topic: str
    head: str
    names: str
    schema: str
    epoch: str


def data_json(data: Data) -> str:
    """The `data` member as JSON text."""
    record = as_wire(data)
    try:
        return _to_json(record)
    except ValueError:
        return _to_json(_finite_only(record))


def as_wire(record: object) -> dict[str, Any]:
    """A record with the names and values of the wire; None is left out."""
    out = {}
    for attribute, name, convert in _plan(cast(Hashable, type(record))):
        value = getattr(record, attribute)
        if value is not None:
            out[name] = value if convert is None else convert(value)
    return out


@cache
def _plan(record: Any) -> tuple[tuple[str, str, Convert | None], ...]:
    """(attribute, name on the wire, conversion) for each field of a record class."""
    hints = get_type_hints(record)
    return tuple((f.name, f.name.rstrip("_"), _conversion(f.name, hints[f.name])) for f in fields(record))


def _conversion(name: str, hint: Any) -> Convert | None:
    if name.endswith("_at") or name == "since":
        return stamp
    if name.endswith("_s"):
        return _seconds
    alternatives = [hint, *get_args(hint)]
    if any(is_dataclass(kind) for kind in alternatives):
        return as_wire
    mappings = [kind for kind in alternatives if getattr(kind, "__origin__", None) is Mapping]
    if any(is_dataclass(get_args(kind)[1]) for kind in mappings):
        return _named_records
    inner = [argument for kind in alternatives for argument in get_args(kind)]
    if any(is_dataclass(kind) for kind in inner):
        return _records
    if mappings:
        return _mapping
    return _scalar if int in alternatives else None


def _records(records: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [as_wire(record) for record in records]


def _named_records(records: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: as_wire(record) for name, record in records.items()}


def _seconds(value: float) -> float:
    """Rounded to the millisecond; whole seconds without a fraction."""
    if not isfinite(value):
        return value
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _scalar(value: Any) -> Any:
    if type(value) is int and not -_SAFE_INTEGER <= value <= _SAFE_INTEGER:
        return str(value)
    return value


def _mapping(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping as JSON can write it. The common case, all small numbers, costs no loop in Python."""
    plain = values if type(values) is dict else dict(values)
    if not plain:
        return plain
    try:
        numbers = plain.values()
        if max(numbers) <= _SAFE_INTEGER and min(numbers) >= -_SAFE_INTEGER:
            return plain
    except TypeError:
        pass  # text or nested values: look at each
    return {name: _wire(value) for name, value in plain.items()}


def _wire(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _wire(member) for name, member in value.items()}
    if isinstance(value, tuple | list):
        return [_wire(member) for member in value]
    return _scalar(value)


def _finite_only(record: dict[str, Any]) -> dict[str, Any]:
    """Without numbers that JSON does not have; such a measured value is named as bad."""
    values = record.get("values")
    out = {name: kept for name, value in record.items() if (kept := _finite(value)) is not None}
    if isinstance(values, Mapping):
        bad = {name: "bad" for name, value in values.items() if _finite(value) is None}
        out["q"] = {**out.get("q", {}), **bad}
    return out


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        # the big integers were already turned into text
        return {name: kept for name, member in value.items() if (kept := _finite(member)) is not None}
    if isinstance(value, tuple | list):
        return [kept for member in value if (kept := _finite(member)) is not None]
    return value
