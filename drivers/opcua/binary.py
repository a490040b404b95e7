"""Reads what a server answers with values from the wire's bytes (OPC UA Part 6, 5.2), without an object per field.

A run of plain values that are encoded alike is one `struct` call. Everything else is walked over, so that a value of
any type, also one this agent cannot use, costs only itself. What is read is bounded by the bytes that are there;
bytes that do not fit together are `Malformed`.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

Item: TypeAlias = tuple[int, int, Any, int, int | None]
"""(client handle, built-in type, value, status code, source time in 100 ns since 1601 or None).

The value is bool, int or float for the plain types, bytes (UTF-8) or None for texts, 16 bytes for a Guid, and the
encoded bytes for a NodeId. An array, whose type is `ARRAY` plus that of its elements, and a structure are the bytes
of their Variant (see `parts`). It is None for everything else."""
Field: TypeAlias = tuple[int, Any]
"""(built-in type, value) of one field of an event, as in an `Item`."""

ARRAY = 0x80
NOTHING, BOOLEAN, DATE_TIME, STATUS_CODE = 0, 1, 13, 19
STRING, GUID, BYTE_STRING, XML, LOCALIZED_TEXT, STRUCTURE = 12, 14, 15, 16, 21, 22

_PUBLISH_RESPONSE, _REPUBLISH_RESPONSE, _READ_RESPONSE, _HISTORY_RESPONSE = 829, 835, 634, 667
_HISTORY_DATA = (658, 11227)
_DATA_CHANGE, _EVENTS, _STATUS_CHANGE = 811, 916, 820
_PLAIN = dict(zip((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 19), "?bBhHiIqQfdqI", strict=True))
MOST_ITEMS = 500_000
"""Values of one notification; ten times what is asked for at most."""
_SHORTEST_RUN, _LONGEST_RUN = 4, 4096
"""Items that are looked at together: few after a change of the encoding, then more and more, so that a message in
which no two items are encoded alike costs little more than its items."""
_DEPTH = 32
"""Variants may nest; no real value does so deeper."""

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


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
    events: list[tuple[int, list[Field]]]
    """(client handle, fields in the order of the filter) of each event."""
    ended: int | None
    """Status code with which the server ended the subscription."""


def publish_response(data: bytes) -> Published:
    """Decode the body of a PublishResponse, from its type id on. Raises `Malformed`."""
    with _whole("a notification"):
        result, pos = _response_head(data, _PUBLISH_RESPONSE)
        (subscription,) = _U32.unpack_from(data, pos)
        available, pos = length(data, pos + 4)
        return _message(data, pos + 4 * available + 1, result, subscription)  # after MoreNotifications


def republish_response(data: bytes, subscription: int) -> Published:
    """Decode the body of a RepublishResponse. Raises `Malformed`."""
    with _whole("a notification"):
        result, pos = _response_head(data, _REPUBLISH_RESPONSE)
        return _message(data, pos, result, subscription)


def read_response(data: bytes) -> tuple[int, list[Item]]:
    """(status of the service, values) of the body of a ReadResponse; the handles count from 0. Raises `Malformed`."""
    with _whole("a value"):
        result, pos = _response_head(data, _READ_RESPONSE)
        count, pos = length(data, pos)
        items: list[Item] = []
        for handle in range(count):
            kind, value, status, source, pos = _data_value(data, pos, 0)
            items.append((handle, kind, value, status, source))
        return result, items


def history_response(data: bytes) -> tuple[int, list[tuple[int, bytes | None, list[Item]]]]:
    """(status of the service, (status, continuation point, values) of each node) of the body of a
    HistoryReadResponse. Raises `Malformed`."""
    with _whole("a history"):
        result, pos = _response_head(data, _HISTORY_RESPONSE)
        nodes, pos = length(data, pos)
        found: list[tuple[int, bytes | None, list[Item]]] = []
        for handle in range(nodes):
            (status,) = _U32.unpack_from(data, pos)
            point, pos = _bytes(data, pos + 4)
            kind, start, pos = extension_at(data, pos)
            items: list[Item] = []
            if kind in _HISTORY_DATA:
                count, start = length(data, start)
                for _ in range(count):
                    one, value, bad, source, start = _data_value(data, start, 0)
                    items.append((handle, one, value, bad, source))
            found.append((status, point, items))
        return result, found


@contextmanager
def _whole(what: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError) as error:
        raise Malformed(f"{what} ends too early or is broken: {error}") from None


def _response_head(data: bytes, expected: int) -> tuple[int, int]:
    """(status of the service, position after the response header)"""
    kind, pos = _node_id(data, 0)
    if kind != expected:
        raise Malformed(f"a request was answered with type {kind} in place of {expected}")
    (result,) = _U32.unpack_from(data, pos + 12)
    pos = _diagnostic(data, pos + 16, 0)
    count, pos = length(data, pos)
    for _ in range(count):
        _, pos = _bytes(data, pos)
    return result, extension_at(data, pos)[2]


def _message(data: bytes, pos: int, result: int, subscription: int) -> Published:
    (sequence,) = _U32.unpack_from(data, pos)
    parts, pos = length(data, pos + 12)
    items: list[Item] = []
    events: list[tuple[int, list[Field]]] = []
    ended: int | None = None
    for _ in range(parts):
        kind, start, pos = extension_at(data, pos)
        if kind == _DATA_CHANGE:
            count, start = length(data, start)
            _items(data, start, count, items)
        elif kind == _EVENTS:
            count, start = length(data, start)
            _events(data, start, count, events)
        elif kind == _STATUS_CHANGE:
            (ended,) = _U32.unpack_from(data, start)
    return Published(result, subscription, sequence, items, events, ended)


@cache
def _layout(flags: int, kind: int) -> tuple[struct.Struct, bool, bool]:
    """(fields, whether a status is among them, whether a source time is) of an item with a plain value. The fields
    are handle, type, value, status, source time."""
    form = "<IxB" + _PLAIN[kind] + ("I" if flags & 0x02 else "") + ("q" if flags & 0x04 else "")
    form += ("2x" if flags & 0x10 else "") + ("8x" if flags & 0x08 else "") + ("2x" if flags & 0x20 else "")
    return struct.Struct(form), bool(flags & 0x02), bool(flags & 0x04)


def _items(data: bytes, pos: int, count: int, items: list[Item]) -> None:
    if count > MOST_ITEMS:
        raise Malformed(f"a notification of {count} values")
    view, ahead = memoryview(data), _SHORTEST_RUN
    while count:
        flags, kind = data[pos + 4], data[pos + 5]
        if not flags & 0x01 or kind not in _PLAIN:
            (handle,) = _U32.unpack_from(data, pos)
            kind, value, status, source, pos = _data_value(data, pos + 4, 0)
            items.append((handle, kind, value, status, source))
            count -= 1
            continue
        layout, has_status, has_source = _layout(flags & 0x3F, kind)
        size = layout.size
        most = pos + min(count, ahead) * size
        run = min(_run(data[pos + 4 : most : size]), _run(data[pos + 5 : most : size]))
        end = pos + run * size
        if has_status and has_source:
            items += layout.iter_unpack(view[pos:end])  # the layout makes an Item
        elif has_source:
            items += [(handle, kind, value, 0, at) for handle, _, value, at in layout.iter_unpack(view[pos:end])]
        elif has_status:
            items += [
                (handle, kind, value, code, None) for handle, _, value, code in layout.iter_unpack(view[pos:end])
            ]
        else:
            items += [(handle, kind, value, 0, None) for handle, _, value in layout.iter_unpack(view[pos:end])]
        ahead = min(2 * ahead, _LONGEST_RUN) if run == ahead else _SHORTEST_RUN
        count -= run
        pos = end


def _run(column: bytes) -> int:
    """How many bytes at its beginning are the same."""
    return len(column) - len(column.lstrip(column[:1]))


def _events(data: bytes, pos: int, count: int, events: list[tuple[int, list[Field]]]) -> None:
    for _ in range(count):
        (handle,) = _U32.unpack_from(data, pos)
        size, pos = length(data, pos + 4)
        fields: list[Field] = []
        for _ in range(size):
            kind, value, pos = variant_at(data, pos, 0)
            fields.append((kind, value))
        events.append((handle, fields))


def _data_value(data: bytes, pos: int, depth: int) -> tuple[int, Any, int, int | None, int]:
    """(type, value, status, source time, position after it)."""
    flags = data[pos]
    pos += 1
    kind, value, status, source = NOTHING, None, 0, None
    if flags & 0x01:
        kind, value, pos = variant_at(data, pos, depth)
    if flags & 0x02:
        (status,) = _U32.unpack_from(data, pos)
        pos += 4
    if flags & 0x04:
        (source,) = struct.unpack_from("<q", data, pos)
        pos += 8
    pos += (2 if flags & 0x10 else 0) + (8 if flags & 0x08 else 0) + (2 if flags & 0x20 else 0)
    return kind, value, status, source, pos


def variant_at(data: bytes, pos: int, depth: int) -> tuple[int, Any, int]:
    if depth > _DEPTH:
        raise Malformed("a value is nested too deeply")
    start, encoding = pos, data[pos]
    kind = encoding & 0x3F
    pos += 1
    if not encoding & 0x80:
        value, pos = value_at(data, pos, kind, depth)
        return kind, data[start:pos] if kind == STRUCTURE else value, pos
    count, pos = length(data, pos)
    pos = skip(data, pos, kind, count, depth)
    if encoding & 0x40:
        dimensions, pos = length(data, pos)
        pos += 4 * dimensions
    if pos > len(data):
        raise Malformed("an array ends too early")
    return ARRAY | kind, data[start:pos], pos


def skip(data: bytes, pos: int, kind: int, count: int, depth: int = 0) -> int:
    """The position after `count` values of a built-in type. Raises `Malformed`, struct.error, IndexError."""
    if kind in _PLAIN:
        return pos + count * struct.calcsize("<" + _PLAIN[kind])
    for _ in range(count):
        _, pos = value_at(data, pos, kind, depth)
    return pos


def value_at(data: bytes, pos: int, kind: int, depth: int = 0) -> tuple[Any, int]:
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
        start, pos = pos, _node_id(data, pos)[1]
        return data[start:pos], pos
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
        return None, extension_at(data, pos)[2]
    if kind == 23:
        return None, _data_value(data, pos, depth + 1)[-1]
    if kind == 24:
        return None, variant_at(data, pos, depth + 1)[-1]
    return None, _diagnostic(data, pos, depth)


def length(data: bytes, pos: int) -> tuple[int, int]:
    """(length, position after it) of an array; 0 for a null array. No element is smaller than a byte but the null
    variant."""
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


def node_id_of(data: bytes, pos: int) -> tuple[int, Any]:
    """(namespace, identifier) of a node id: int, str, bytes or UUID."""
    form = data[pos] & 0x3F
    if form == 0:
        return 0, data[pos + 1]
    if form == 1:
        return data[pos + 1], _U16.unpack_from(data, pos + 2)[0]
    (namespace,) = _U16.unpack_from(data, pos + 1)
    if form == 2:
        return namespace, _U32.unpack_from(data, pos + 3)[0]
    if form == 4:
        return namespace, UUID(bytes_le=data[pos + 3 : pos + 19])
    found = _bytes(data, pos + 3)[0] or b""
    return namespace, found if form == 5 else found.decode("utf-8", "replace")


def extension_at(data: bytes, pos: int) -> tuple[int | None, int, int]:
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
