"""How far anything has ever been sent, outside the database: what tells that the database was rolled back.

A side file (`<database>.mark`) holds the epoch and the position up to which messages may have been given out for
sending. It is on the disk before such a message is given out, so a database whose newest position is below it has
forgotten what the consumer may know (a restored copy, an image of the file alone), and its numbers must not be given
again. It is written in place, in two slots in turn, so that a write that is cut short leaves the one before. A file
that is missing or cannot be read proves nothing.
"""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

_SLOT: Final = 512
_RECORD: Final = struct.Struct("<4sQQ64s")
_MAGIC: Final = b"EAOM"


class Mark(NamedTuple):
    epoch: str
    position: int


class MarkFile:
    """`read` it once, then `raise_to` as often as needed."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".mark")
        self._file: int | None = None
        self._turn = 0

    def read(self) -> Mark | None:
        """The newest record that is as it was written."""
        try:
            raw = self._path.read_bytes()
        except OSError:
            return None
        turns = [_read(raw[at : at + _SLOT]) for at in (0, _SLOT)]
        turn, mark = max((found for found in turns if found is not None), default=(0, None))
        self._turn = turn
        return mark

    def raise_to(self, mark: Mark) -> None:
        """On the disk on return. What cannot be written is left as it was: sending is worth more than the mark."""
        with suppress(OSError):
            self._write(mark)

    def _write(self, mark: Mark) -> None:
        self._turn += 1
        record = _RECORD.pack(_MAGIC, self._turn, mark.position, mark.epoch.encode())
        slot = (record + struct.pack("<I", crc32(record))).ljust(_SLOT, b"\0")
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.lseek(self._file, self._turn % 2 * _SLOT, os.SEEK_SET)
        os.write(self._file, slot)
        getattr(os, "fdatasync", os.fsync)(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read(slot: bytes) -> tuple[int, Mark] | None:
    if len(slot) < _RECORD.size + 4:
        return None
    record = slot[: _RECORD.size]
    if struct.unpack_from("<I", slot, _RECORD.size)[0] != crc32(record):
        return None
    magic, turn, position, epoch = _RECORD.unpack(record)
    return (turn, Mark(epoch.rstrip(b"\0").decode(errors="replace"), position)) if magic == _MAGIC else None
