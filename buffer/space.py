"""How large the database may become: `max_size`, and what the disk has left for it.

The limit follows the free space, so that the database stops before the disk does. Should others fill the disk all the
same, not even a deletion can be committed, since it too goes through the write-ahead log: for that there is the
ballast (`<database>.ballast`), real bytes that are given up then and taken again when there is room. Until then the
database does not grow: what the ballast made free is for the log alone, and for the pages that the log holds for the
end of the file, which are never more than that (see `log_limit`): else the log could not be emptied on a full disk.
"""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from buffer.file import DatabaseFile

RESERVE: Final = 16 << 20
"""Bytes of the disk left for the WAL and for others; at most an eighth of what there is."""
BALLAST: Final = 32 << 20
"""Bytes; at most a sixteenth of `max_size` and an eighth of the free space."""
BALLAST_LEAST: Final = 64 << 10
_BLOCK: Final = bytes(1 << 16)


class Space:
    """Sizes are bytes."""

    def __init__(self, database: Path, max_size: int) -> None:
        self._database = database
        self._folder = database.parent
        self._ballast = database.with_name(database.name + ".ballast")
        self._max_size = max_size
        self._wanted = min(BALLAST, max_size // 16)
        self._held = 0
        """Size of the ballast, or of the one that was given up; 0 where there never could be one."""
        self.limit = 0

    @property
    def by_disk(self) -> bool:
        """The disk, not `max_size`, sets the limit."""
        return self.limit < self._max_size

    @property
    def log_limit(self) -> int:
        """Bytes that may be written to the log before it is moved into the file, as rows take up to twice theirs."""
        return (self._held or BALLAST) // 2

    def fill(self, file: DatabaseFile) -> float:
        """Share of the limit in use."""
        return file.used() / max(self.limit, 1)

    def follow(self, file: DatabaseFile) -> bool:
        """Set the largest size of the file by `max_size` and the free space, and take the ballast if it is missing;
        whether it may be larger than before."""
        self._take_ballast()
        size, free, before = file.size(), self._free(), self.limit
        given_up = not self._ballast_there() and self._held
        growth = 0 if given_up else max(free - self._overhang(size) - _reserve(size + free), 0)
        wanted = min(self._max_size, size + growth)
        if wanted != before:
            self.limit = file.limit(wanted)
        return before < self.limit

    def _overhang(self, size: int) -> int:
        """Pages that the log holds for the end of the file."""
        with suppress(OSError):
            return max(size - self._database.stat().st_size, 0)
        return 0

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            # Without an answer only `max_size` counts; a full disk still shows as SQLITE_FULL.
            return self._max_size

    def _take_ballast(self) -> None:
        if self._ballast_there():
            return
        free = self._free()
        size = min(self._wanted, free // 8)
        # What it made free itself is not room for it, or it would be given up and taken for ever.
        if size < BALLAST_LEAST or free < 2 * self._held:
            return
        try:
            with self._ballast.open("wb") as file:
                _allocate(file.fileno(), size)
            self._held = size
        except OSError:
            with suppress(OSError):
                self._ballast.unlink()

    def give_up_ballast(self) -> bool:
        """Whether there was one and the disk really is full; a database that is as large as it may be needs none."""
        if not self._ballast_there() or self._free() >= self._held:
            return False
        with suppress(OSError):
            self._ballast.unlink()
            return True
        return False

    def _ballast_there(self) -> bool:
        with suppress(OSError):
            self._held = self._ballast.stat().st_size
            return True
        return False


def _reserve(room: int) -> int:
    return min(RESERVE, room // 8)


def _allocate(handle: int, size: int) -> None:
    """Blocks that are really the file's; where the file system cannot give them at once they are written. Raises
    OSError."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    for _ in range(size // len(_BLOCK)):
        os.write(handle, _BLOCK)
