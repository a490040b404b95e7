"""Whether a write-ahead log holds committed data that SQLite will not read: a damaged frame ends the log for it.

A kill or a power cut may leave a torn end: frames of the last transaction, never synced, never promised, and behind
them what an earlier torn end has left, since the log goes on from its last commit. Damage is told from it by what
comes behind: every transaction is synced before the next one is written, so a frame that was written behind the
commit of an unreadable transaction proves that something promised is gone. That it was written behind it, and not
before over the same place, is told by its checksum, which goes on from that of the commit.
Damage in the very last transaction, or in the header of a commit, looks like a torn end and is not seen here.
(https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
"""

import struct
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682


def read_wal(path: Path) -> bytes:
    """The whole log, empty if there is none."""
    try:
        return path.read_bytes()
    except OSError:
        # There is none, or SQLite will say better what is wrong with it.
        return b""


def lost_commits(wal: bytes, valid_frames: int) -> bool:
    """Whether committed frames stand behind the `valid_frames` that SQLite accepted."""
    if len(wal) < _HEADER.size:
        return False
    salts = _salts(wal)
    if salts is None:
        return len(wal) > _HEADER.size
    size = _FRAME.size + _page_size(wal)
    for at in range(_HEADER.size + valid_frames * size, len(wal) - 2 * size + 1, size):
        _, size_after_commit, *frame_salts, _, _ = _FRAME.unpack_from(wal, at)
        if size_after_commit and tuple(frame_salts) == salts and _goes_on(wal, at, at + size, size):
            return True
    return False


def _goes_on(wal: bytes, before: int, at: int, size: int) -> bool:
    """Whether the frame at `at` was written behind the one at `before`."""
    order = ">" if wal[3] & 1 else "<"
    check = _FRAME.unpack_from(wal, before)[4:]
    check = _checksum(order, wal[at : at + 8], *check)
    check = _checksum(order, wal[at + _FRAME.size : at + size], *check)
    return check == _FRAME.unpack_from(wal, at)[4:]


def _page_size(head: bytes) -> int:
    size: int = _HEADER.unpack_from(head)[2]
    # A damaged header may say anything; without pages to skip the frames are not found, which is no worse.
    return size if 512 <= size <= 65536 else 4096


def _salts(head: bytes) -> tuple[int, int] | None:
    """The salts of the running log; None if the header is not as it was written."""
    magic, _, _, _, salt_1, salt_2, check_1, check_2 = _HEADER.unpack_from(head)
    if magic & ~1 != _MAGIC:
        return None
    check = _checksum(">" if magic & 1 else "<", head[:24], 0, 0)
    return (salt_1, salt_2) if check == (check_1, check_2) else None


def _checksum(order: str, data: bytes, a: int, b: int) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return a, b
