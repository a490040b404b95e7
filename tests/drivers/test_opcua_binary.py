"""The decoder of notifications against asyncua's encoder, and against bytes that are wrong."""

import struct
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua import binary
from tests.servers_opcua import publish_response as response

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOON_TICKS = (NOON - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10


def only(value: ua.DataValue) -> binary.Item:
    (item,) = binary.publish_response(response(value)).items
    return item


SCALARS = [
    (ua.VariantType.Boolean, st.booleans()),
    (ua.VariantType.SByte, st.integers(-(1 << 7), (1 << 7) - 1)),
    (ua.VariantType.Byte, st.integers(0, (1 << 8) - 1)),
    (ua.VariantType.Int16, st.integers(-(1 << 15), (1 << 15) - 1)),
    (ua.VariantType.UInt16, st.integers(0, (1 << 16) - 1)),
    (ua.VariantType.Int32, st.integers(-(1 << 31), (1 << 31) - 1)),
    (ua.VariantType.UInt32, st.integers(0, (1 << 32) - 1)),
    (ua.VariantType.Int64, st.integers(-(1 << 63), (1 << 63) - 1)),
    (ua.VariantType.UInt64, st.integers(0, (1 << 64) - 1)),
    (ua.VariantType.Float, st.floats(width=32, allow_nan=False)),
    (ua.VariantType.Double, st.floats(allow_nan=False)),
]
OTHERS = [
    ua.Variant("Grüße 你好", ua.VariantType.String),
    ua.Variant(None, ua.VariantType.String),
    ua.Variant(NOON, ua.VariantType.DateTime),
    ua.Variant(uuid.UUID(int=5), ua.VariantType.Guid),
    ua.Variant(b"\x00\x01", ua.VariantType.ByteString),
    ua.Variant(ua.NodeId("x", 2), ua.VariantType.NodeId),
    ua.Variant(ua.NodeId(uuid.UUID(int=1), 2), ua.VariantType.NodeId),
    ua.Variant(ua.NodeId(b"x", 2), ua.VariantType.NodeId),
    ua.Variant(ua.ExpandedNodeId(1, 0, NamespaceUri="urn:x", ServerIndex=3), ua.VariantType.ExpandedNodeId),
    ua.Variant(ua.StatusCode(0x80340000), ua.VariantType.StatusCode),
    ua.Variant(ua.QualifiedName("x", 1), ua.VariantType.QualifiedName),
    ua.Variant(ua.LocalizedText("läuft", "de"), ua.VariantType.LocalizedText),
    ua.Variant(ua.LocalizedText(None, "de"), ua.VariantType.LocalizedText),
    ua.Variant(ua.Range(1, 2), ua.VariantType.ExtensionObject),
    ua.Variant([1.0, 2.0], ua.VariantType.Double),
    ua.Variant(["a", None, "b"], ua.VariantType.String),
    ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int32),
    ua.Variant([ua.Range(1, 2), ua.Range(3, 4)], ua.VariantType.ExtensionObject),
    ua.Variant([ua.Variant(1), ua.Variant("x")], ua.VariantType.Variant),
    ua.Variant(None, ua.VariantType.Null),
]


@st.composite
def data_values(draw: st.DrawFn) -> ua.DataValue:
    kind, values = draw(st.sampled_from(SCALARS))
    variant = draw(st.sampled_from(OTHERS) | values.map(lambda value: ua.Variant(value, kind)))
    return ua.DataValue(
        draw(st.none() | st.just(variant)),
        StatusCode=ua.StatusCode(draw(st.sampled_from((0, 0x40000000, 0x80340000, 0x480)))),
        SourceTimestamp=draw(st.none() | st.just(NOON)),
        ServerTimestamp=draw(st.none() | st.just(NOON)),
        SourcePicoseconds=draw(st.none() | st.just(5)),
        ServerPicoseconds=draw(st.none() | st.just(5)),
    )


@given(st.lists(data_values(), max_size=8))
def test_every_item_is_found_with_its_status_and_time_whatever_stands_before_it(values: list[ua.DataValue]) -> None:
    found = binary.publish_response(response(*values))
    assert (found.subscription, found.sequence, found.ended) == (7, 1, None)
    assert [item[0] for item in found.items] == list(range(1, len(values) + 1))
    for value, (_, kind, got, status, ticks) in zip(values, found.items, strict=True):
        assert status == value.StatusCode.value
        assert ticks == (None if value.SourceTimestamp is None else NOON_TICKS)
        variant = value.Value
        if variant is None:
            assert (kind, got) == (binary.NOTHING, None)
        elif isinstance(variant.Value, list):
            assert (kind, got) == (binary.ARRAY | variant.VariantType.value, variant_to_binary(variant))
        elif variant.VariantType.value <= 11:
            assert (kind, got) == (variant.VariantType.value, variant.Value)


def test_texts_come_as_bytes_and_a_guid_as_sixteen() -> None:
    assert only(ua.DataValue(ua.Variant("ä", ua.VariantType.String)))[1:3] == (binary.STRING, "ä".encode())
    assert only(ua.DataValue(ua.Variant(ua.LocalizedText("ä", "de"))))[1:3] == (binary.LOCALIZED_TEXT, "ä".encode())
    found = uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")
    assert only(ua.DataValue(ua.Variant(found)))[1:3] == (binary.GUID, found.bytes_le)
    assert only(ua.DataValue(ua.Variant(NOON)))[1:3] == (binary.DATE_TIME, NOON_TICKS)


def test_a_keep_alive_has_no_items_and_names_the_next_notification() -> None:
    found = binary.publish_response(response(sequence=9))
    assert (found.sequence, found.items, found.ended) == (9, [], None)


def test_the_end_of_a_subscription_is_found_with_its_reason() -> None:
    assert binary.publish_response(response(status=0x800A0000)).ended == 0x800A0000


def test_bytes_that_end_too_early_are_malformed_wherever_they_end() -> None:
    whole = response(*(ua.DataValue(variant, SourceTimestamp=NOON) for variant in OTHERS))
    items = whole.index(b"\x01\x00\x2b\x03")  # type id of the notification
    for end in range(items + 9):
        with pytest.raises(binary.Malformed):
            binary.publish_response(whole[:end])


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused_and_never_anything_else(place: int, byte: int) -> None:
    data = bytearray(response(*(ua.DataValue(variant, SourceTimestamp=NOON) for variant in OTHERS)))
    data[place % len(data)] = byte
    with suppress(binary.Malformed):
        binary.publish_response(bytes(data))


def test_runs_of_every_length_are_read_as_one_by_one() -> None:
    kinds = (ua.VariantType.Double, ua.VariantType.Int16, ua.VariantType.Boolean)
    values = [
        ua.DataValue(ua.Variant(number % 2, kind), SourceTimestamp=NOON if length % 2 else None)
        for length in (1, 2, 3, 4, 5, 9, 40, 300)
        for kind in kinds
        for number in range(length)
    ]
    found = binary.publish_response(response(*values)).items
    assert [(item[1], item[2]) for item in found] == [
        (value.Value.VariantType.value, value.Value.Value) for value in values if value.Value is not None
    ]
    assert [item[4] for item in found] == [None if value.SourceTimestamp is None else NOON_TICKS for value in values]


def test_a_notification_of_more_values_than_anyone_asked_for_is_refused_before_it_is_read() -> None:
    data = response(ua.DataValue(ua.Variant(1.0)))
    start = data.index(b"\x01\x00\x2b\x03")
    many = struct.pack("<IBB?", 1, 1, 1, True) * (binary.MOST_ITEMS + 1)
    body = struct.pack("<i", binary.MOST_ITEMS + 1) + many + struct.pack("<i", -1)
    with pytest.raises(binary.Malformed, match="a notification of 500001 values"):
        binary.publish_response(data[: start + 5] + struct.pack("<i", len(body)) + body + struct.pack("<ii", -1, -1))


def test_values_that_are_nested_without_end_are_malformed() -> None:
    deep = b"\x18" * 5000 + b"\x00"  # a variant in a variant in …
    data = response(ua.DataValue(ua.Variant(b"", ua.VariantType.ByteString)))
    variant = data.rindex(b"\x0f\x00\x00\x00\x00")
    with pytest.raises(binary.Malformed, match="too deeply"):
        binary.publish_response(data[:variant] + deep + data[variant + 5 :])
