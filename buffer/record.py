"""The checksum of what is stored: a row whose bytes have changed on the disk is never sent and never trusted."""

from zlib import crc32

from buffer.outbox import Message


def message_crc(position: int, message: Message, recorded_at: int) -> int:
    """CRC-32 over every field of a stored message."""
    head = (
        f"{position}\0{message.stream}\0{message.epoch}\0{message.seq}\0{int(message.lane)}\0"
        f"{message.type}\0{message.topic}\0{recorded_at}\0"
    )
    return crc32(message.body, crc32(head.encode()))


def fields_crc(*fields: str | int | bytes) -> int:
    """CRC-32 over the fields of a small row (meta, stream, state), each with its length."""
    total = 0
    for field in fields:
        raw = field if isinstance(field, bytes) else str(field).encode()
        total = crc32(raw, crc32(f"{len(raw)}:".encode(), total))
    return total
