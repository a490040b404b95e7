"""The database file as a size: how large it is, may become, and how it gives room back."""

import sqlite3


class DatabaseFile:
    """Sizes are bytes unless they are called pages."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._page_size = self._ask("page_size")

    def _ask(self, pragma: str) -> int:
        (answer,) = self._connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(answer)

    def size(self) -> int:
        return self._ask("page_count") * self._page_size

    def free(self) -> int:
        """Room inside the file that new messages take first."""
        return self._ask("freelist_count") * self._page_size

    def used(self) -> int:
        return self.size() - self.free()

    def limit(self, size: int) -> int:
        """Let the file grow to `size` and no further; returns the limit now in force."""
        return self._ask(f"max_page_count = {max(size // self._page_size, 1)}") * self._page_size

    def give_back(self, size: int) -> None:
        """Give up to so much of the free room back to the file system."""
        # `execute` would free one page only.
        self._connection.executescript(f"PRAGMA incremental_vacuum({size // self._page_size})")

    def checkpoint(self) -> None:
        """Move the WAL into the file."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
