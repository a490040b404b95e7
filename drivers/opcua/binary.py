"""Reads a PublishResponse from the wire's bytes (OPC UA Part 6, 5.2), without an object per field.

A notification of plain values is one `struct` call per value. Everything else is walked over, so that a value of
any type, also one this agent cannot use, costs only itself. What is read is bounded by the bytes that are there;
bytes that do not fit together are `Malformed`.
"""

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

Item: TypeAlias = tuple[int, int, Any, int, int | None]
"""(client handle, built-in type, value, status code, source time in 100 ns since 1601 or None).

The value is bool, int or float for the plain types, bytes (UTF-8) or None for texts, 16 bytes for a Guid, and None
for everything else. The type of an array is `ARRAY` plus that of its elements."""

ARRAY = 0x80
NOTHING, BOOLEAN, DATE_TIME, STATUS_CODE = 0, 1, 13, 19
STRING, GUID, BYTE_STRING, XML, LOCALIZED_TEXT, STRUCTURE = 12, 14, 15, 16, 21, 22

_PUBLISH_RESPONSE, _DATA_CHANGE, _STATUS_CHANGE = 829, 811, 820
_PLAIN = dict(zip((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 19), "?bBhHiIqQfdqI", strict=True))
_DEPTH = 32
"""Variants may nest; no real value does so deeper."""

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_MESSAGE_HEAD = struct.Struct("<?Iq")


class Malformed(ValueError):
    """The bytes are not what the protocol says."""


class Published(NamedTuple):
    """One PublishResponse. A keep-alive has no items and no `ended`."""

    result: int
    """Status code of the service."""
    subscription: int
    sequence: int
    """Number of this notification; of a keep-alive, of the next one."""
    items: list[Item]
    ended: int | None
    """Status code with which the server ended the subscription."""


def publish_response(data: bytes) -> Published:
    """Decode the body of a PublishResponse, from its type id on. Raises `Malformed`."""
    try:
        return _response(data)
    except (struct.error, IndexError) as error:
        raise Malformed(f"a notification ends too early or is broken: {error}") from None


def _response(data: bytes) -> Published:
    kind, pos = _node_id(data, 0)
    if kind != _PUBLISH_RESPONSE:
        raise Malformed(f"a publish request was answered with type {kind}")
    (result,) = _U32.unpack_from(data, pos + 12)
    pos = _diagnostic(data, pos + 16, 0)
    count, pos = _count(data, pos)
    for _ in range(count):
        _, pos = _bytes(data, pos)
    pos = _extension(data, pos)[2]
    (subscription,) = _U32.unpack_from(data, pos)
    available, pos = _count(data, pos + 4)
    pos += 4 * available
    _, sequence, _ = _MESSAGE_HEAD.unpack_from(data, pos)
    parts, pos = _count(data, pos + _MESSAGE_HEAD.size)
    items: list[Item] = []
    ended: int | None = None
    for _ in range(parts):
        kind, start, pos = _extension(data, pos)
        if kind == _DATA_CHANGE:
            count, start = _count(data, start)
            _items(data, start, count, items)
        elif kind == _STATUS_CHANGE:
            (ended,) = _U32.unpack_from(data, start)
    return Published(result, subscription, sequence, items, ended)


@cache
def _layout(flags: int, kind: int) -> tuple[Callable[[bytes, int], tuple[Any, ...]], int, int, int]:
    """(reader, size, index of the status or 0, index of the source time or 0) of an item with a plain value."""
    form, status_at, source_at = "<IBB" + _PLAIN[kind], 0, 0
    if flags & 0x02:
        form, status_at = form + "I", 4
    if flags & 0x04:
        source_at = 4 + (status_at > 0)
        form += "q"
    form += ("H" if flags & 0x10 else "") + ("q" if flags & 0x08 else "") + ("H" if flags & 0x20 else "")
    layout = struct.Struct(form)
    return layout.unpack_from, layout.size, status_at, source_at


def _items(data: bytes, pos: int, count: int, items: list[Item]) -> None:
    for _ in range(count):
        flags, kind = data[pos + 4], data[pos + 5]
        if flags & 0x01 and kind in _PLAIN:
            read, size, status_at, source_at = _layout(flags & 0x3F, kind)
            fields = read(data, pos)
            items.append(
                (
                    fields[0],
                    kind,
                    fields[3],
                    fields[status_at] if status_at else 0,
                    fields[source_at] if source_at else None,
                )
            )
            pos += size
        else:
            (handle,) = _U32.unpack_from(data, pos)
            kind, value, status, source, pos = _data_value(data, pos + 4, 0)
            items.append((handle, kind, value, status, source))


def _data_value(data: bytes, pos: int, depth: int) -> tuple[int, Any, int, int | None, int]:
    """(type, value, status, source time, position after it)."""
    flags = data[pos]
    pos += 1
    kind, value, status, source = NOTHING, None, 0, None
    if flags & 0x01:
        kind, value, pos = _variant(data, pos, depth)
    if flags & 0x02:
        (status,) = _U32.unpack_from(data, pos)
        pos += 4
    if flags & 0x04:
        (source,) = struct.unpack_from("<q", data, pos)
        pos += 8
    pos += (2 if flags & 0x10 else 0) + (8 if flags & 0x08 else 0) + (2 if flags & 0x20 else 0)
    return kind, value, status, source, pos


def _variant(data: bytes, pos: int, depth: int) -> tuple[int, Any, int]:
    if depth > _DEPTH:
        raise Malformed("a value is nested too deeply")
    encoding = data[pos]
    kind = encoding & 0x3F
    pos += 1
    if not encoding & 0x80:
        value, pos = _value(data, pos, kind, depth)
        return kind, value, pos
    count, pos = _count(data, pos)
    if kind in _PLAIN:
        pos += count * struct.calcsize("<" + _PLAIN[kind])
    else:
        for _ in range(count):
            _, pos = _value(data, pos, kind, depth)
    if encoding & 0x40:
        dimensions, pos = _count(data, pos)
        pos += 4 * dimensions
    return ARRAY | kind, None, pos


def _value(data: bytes, pos: int, kind: int, depth: int) -> tuple[Any, int]:
    """A value of a built-in type and the position after it; None for a type the agent has no use for."""
    if kind in _PLAIN:
        form = struct.Struct("<" + _PLAIN[kind])
        return form.unpack_from(data, pos)[0], pos + form.size
    if kind in (STRING, BYTE_STRING, XML) or kind > 25:  # unknown types are sent as byte strings
        return _bytes(data, pos)
    if kind == NOTHING:
        return None, pos
    if kind == GUID:
        return data[pos : pos + 16], pos + 16
    if kind in (17, 18):
        return None, _node_id(data, pos)[1]
    if kind == 20:
        return None, _bytes(data, pos + 2)[1]
    if kind == LOCALIZED_TEXT:
        mask, pos = data[pos], pos + 1
        text = None
        if mask & 0x01:
            _, pos = _bytes(data, pos)
        if mask & 0x02:
            text, pos = _bytes(data, pos)
        return text, pos
    if kind == STRUCTURE:
        return None, _extension(data, pos)[2]
    if kind == 23:
        return None, _data_value(data, pos, depth + 1)[-1]
    if kind == 24:
        return None, _variant(data, pos, depth + 1)[-1]
    return None, _diagnostic(data, pos, depth)


def _count(data: bytes, pos: int) -> tuple[int, int]:
    """Length of an array; that of a null array is 0. No element is smaller than a byte but the null variant."""
    (count,) = _I32.unpack_from(data, pos)
    if count > len(data):
        raise Malformed(f"an array of {count} in a message of {len(data)} bytes")
    return max(count, 0), pos + 4


def _bytes(data: bytes, pos: int) -> tuple[bytes | None, int]:
    (length,) = _I32.unpack_from(data, pos)
    pos += 4
    if length < 0:
        return None, pos
    if pos + length > len(data):
        raise Malformed(f"a text of {length} bytes in a message of {len(data)}")
    return data[pos : pos + length], pos + length


def _node_id(data: bytes, pos: int) -> tuple[int | None, int]:
    """(numeric identifier in namespace 0 or None, position after it), also of an ExpandedNodeId."""
    flags = data[pos]
    form = flags & 0x3F
    identifier: int | None = None
    pos += 1
    if form == 0:
        identifier, pos = data[pos], pos + 1
    elif form == 1:
        identifier = _U16.unpack_from(data, pos + 1)[0] if data[pos] == 0 else None
        pos += 3
    elif form == 2:
        identifier = _U32.unpack_from(data, pos + 2)[0] if _U16.unpack_from(data, pos)[0] == 0 else None
        pos += 6
    elif form in (3, 5):
        pos = _bytes(data, pos + 2)[1]
    elif form == 4:
        pos += 18
    else:
        raise Malformed(f"a node id of form {form}")
    if flags & 0x80:
        pos = _bytes(data, pos)[1]
    if flags & 0x40:
        pos += 4
    return identifier, pos


def _extension(data: bytes, pos: int) -> tuple[int | None, int, int]:
    """(type, start of the body, position after it) of an ExtensionObject."""
    kind, pos = _node_id(data, pos)
    has_body, pos = data[pos], pos + 1
    if not has_body:
        return None, pos, pos
    start = pos + 4
    return kind, start, _bytes(data, pos)[1]


def _diagnostic(data: bytes, pos: int, depth: int) -> int:
    """The position after a DiagnosticInfo."""
    if depth > _DEPTH:
        raise Malformed("diagnostics are nested too deeply")
    mask = data[pos]
    pos += 1 + 4 * ((mask & 0x0F).bit_count())
    if mask & 0x10:
        pos = _bytes(data, pos)[1]
    if mask & 0x20:
        pos += 4
    if mask & 0x40:
        pos = _diagnostic(data, pos, depth + 1)
    return pos
