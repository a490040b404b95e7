"""How much is waiting, without reading it all at the start: what was there is counted in slices, in idle time."""

import sqlite3
from collections.abc import Mapping

from buffer.outbox import Lane

COUNT_ROWS = 2_000
"""Rows of `pending` counted in one slice: about a millisecond."""
COUNT_AT_ONCE = 20_000
"""Up to so many are counted at the opening."""


class Tally:
    """Rows and bytes of `pending`. Rows up to position `old` are counted by `count`, lane by lane; until that is
    done `rows` and `bytes` are those counted so far. What is added and removed meanwhile is right at any time."""

    def __init__(self, connection: sqlite3.Connection, old: int) -> None:
        self._connection = connection
        self._old = old
        self._at = (0, 0)
        """(lane, position) up to which the old rows have been counted."""
        self.rows = 0
        self.bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Messages were stored, behind `old`."""
        self.rows += rows
        self.bytes += size

    def remove(self, position: int, lane: int, size: int) -> None:
        """A message was confirmed or set aside."""
        if position > self._old or (lane, position) <= self._at:
            self.rows -= 1
            self.bytes -= size

    def count(self, removed: Mapping[int, tuple[int, int]]) -> bool:
        """Count one slice; True while more is left. `removed`: position → (lane, bytes) of rows that are still in
        the table though `remove` was called for them."""
        lane, after = self._at
        if lane > Lane.MEASUREMENT:
            return False
        count, size, last = self._connection.execute(
            """SELECT count(*), coalesce(sum(bytes), 0), max(position) FROM (SELECT position, bytes FROM pending
            WHERE lane = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?)""",
            (lane, after, self._old, COUNT_ROWS),
        ).fetchone()
        self.add(count, size)
        for position, (of, bytes_removed) in removed.items():
            if of == lane and after < position <= (last or 0):
                self.add(-1, -bytes_removed)
        self._at = (lane, last) if count == COUNT_ROWS else (lane + 1, 0)
        return self._at[0] <= Lane.MEASUREMENT
