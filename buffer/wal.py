"""Whether a write-ahead log holds committed data that SQLite will not read: a damaged frame ends the log for it.

A power cut may leave a torn end: frames of the last transaction, never synced, never promised. Damage is told from
it by what comes behind: every transaction is synced before the next one is written, so a frame that belongs to the
running log and stands behind the commit of an unreadable transaction proves that something promised is gone.
Damage in the very last transaction looks like a torn end and is not seen here.
(https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
"""

import struct
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">4I")
_FRAME_HEADER_SIZE: Final = 24
_MAGIC: Final = 0x377F0682


def read_wal(path: Path) -> bytes:
    """Header and frame headers of a WAL as `lost_commits` wants them: without the pages. Empty if there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return b""
            parts = [head]
            page_size = _page_size(head)
            while len(frame := file.read(_FRAME_HEADER_SIZE)) == _FRAME_HEADER_SIZE:
                parts.append(frame)
                file.seek(page_size, 1)
            return b"".join(parts)
    except OSError:
        # There is none, or SQLite will say better what is wrong with it.
        return b""


def lost_commits(heads: bytes, valid_frames: int) -> bool:
    """Whether committed frames stand behind the `valid_frames` that SQLite accepted. `heads`: see `read_wal`."""
    if not heads:
        return False
    salts = _salts(heads)
    if salts is None:
        return len(heads) > _HEADER.size
    commits = 0
    for at in range(_HEADER.size + valid_frames * _FRAME_HEADER_SIZE, len(heads), _FRAME_HEADER_SIZE):
        _, size_after_commit, *frame_salts = _FRAME.unpack_from(heads, at)
        if tuple(frame_salts) != salts:
            continue
        if commits:
            return True
        commits += size_after_commit != 0
    return False


def _page_size(head: bytes) -> int:
    size: int = _HEADER.unpack(head)[2]
    # A damaged header may say anything; without pages to skip the frames are not found, which is no worse.
    return size if 512 <= size <= 65536 else 4096


def _salts(heads: bytes) -> tuple[int, int] | None:
    """The salts of the running log; None if the header is not as it was written."""
    magic, _, _, _, salt_1, salt_2, check_1, check_2 = _HEADER.unpack_from(heads)
    if magic & ~1 != _MAGIC:
        return None
    words = struct.unpack_from(">6I" if magic & 1 else "<6I", heads)
    a = b = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return (salt_1, salt_2) if (a, b) == (check_1, check_2) else None
