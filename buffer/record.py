"""The checksum of what is stored: a row whose bytes have changed on the disk is never sent and never trusted."""

from zlib import crc32

from buffer.outbox import Lane, Message, Stored

LANES = tuple(Lane)


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


def as_written(row: tuple[object, ...]) -> Stored | None:
    """The message in a row, None if it does not give the checksum stored with it.

    Columns: position, stream, epoch, seq, lane, type, topic, recorded_at, crc, body; of any type, as damage may
    have changed that too.
    """
    position, stream, epoch, seq, lane, kind, topic, recorded_at, crc, body = row
    if not (isinstance(position, int) and isinstance(seq, int) and isinstance(recorded_at, int)):
        return None
    if not (isinstance(stream, str) and isinstance(epoch, str) and isinstance(kind, str) and isinstance(topic, str)):
        return None
    if not isinstance(body, bytes) or not isinstance(lane, int) or not 0 <= lane <= Lane.MEASUREMENT:
        return None
    message = Message(stream, epoch, seq, LANES[lane], kind, topic, body)
    return Stored(position, message) if message_crc(position, message, recorded_at) == crc else None
