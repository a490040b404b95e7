"""What a strict MOM has stored: each event once, in SQLite, and nothing that is not as it must be.

The same (source, id) may come again with the same bytes and is dropped (I4). It must not come with other bytes, nor
may two events of a stream and epoch have one number; the database itself refuses both.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.schema_check import check_message

CHECKED: Final = 200
"""So many events of a type are held against their schema, then one in as many."""


class MomDatabase:
    """In memory, or in the file `path`, which may be there already. `at` of a row is the order of arrival."""

    def __init__(self, path: Path | None = None) -> None:
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            """PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS event (at INTEGER PRIMARY KEY, source TEXT NOT NULL, id TEXT NOT NULL,
                stream TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL,
                unit TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (source, id), UNIQUE (source, epoch, seq));
            CREATE INDEX IF NOT EXISTS of_type ON event (type, unit)"""
        )
        self._seen: Counter[str] = Counter()
        self.duplicates = 0
        """Events that came again."""

    def close(self) -> None:
        self._connection.close()

    def take(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Store what came, (topic, body) in the order of arrival; what is no event is passed over."""
        self._connection.execute("BEGIN")
        for topic, body in messages:
            if "/evt/" in topic or topic.endswith("/ack"):
                self._take(topic, body)
        self._connection.execute("COMMIT")

    def _take(self, topic: str, body: bytes) -> None:
        event = json.loads(body)
        source, id_, type_ = event["source"], event["id"], event["type"]
        self._seen[type_] += 1
        if self._seen[type_] <= CHECKED or self._seen[type_] % CHECKED == 0:
            check_message(topic, body)
        row = (source, id_, source.rpartition(":")[2], event["epoch"], int(event["sequence"]),
               type_.removeprefix("dev.edgeagent.").rpartition(".v")[0], event["subject"].rpartition("/")[2],
               body)  # fmt: skip
        new = self._connection.execute(
            """INSERT INTO event (source, id, stream, epoch, seq, type, unit, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source, id) DO NOTHING""",
            row,
        ).rowcount
        if not new:
            (known,) = self.ask("SELECT body FROM event WHERE source = ? AND id = ?", source, id_)[0]
            assert known == body, f"{source} {id_} came with other bytes"
            self.duplicates += 1

    def ask(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    @property
    def count(self) -> int:
        return int(self.ask("SELECT count(*) FROM event")[0][0])

    def count_of(self, type_: str) -> int:
        return int(self.ask("SELECT count(*) FROM event WHERE type = ?", type_)[0][0])

    def streams(self) -> list[tuple[str, str]]:
        """(source, epoch) of all it holds."""
        return [tuple(row) for row in self.ask("SELECT source, epoch FROM event GROUP BY source, epoch")]

    def has(self, source: str, epoch: str) -> int:
        """The number up to which it has every event."""
        query = """SELECT coalesce(max(seq), 0) FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS rank FROM event
            WHERE source = ? AND epoch = ?) WHERE seq = rank"""
        return int(self.ask(query, source, epoch)[0][0])

    def events(self, type_: str, unit: str | None = None) -> list[dict[str, Any]]:
        """Events of a short type, e.g. `data.loss`, by epoch and number; optionally of one machine."""
        more = "" if unit is None else "AND unit = ?"
        rows = self.ask(
            f"SELECT body FROM event WHERE type = ? {more} ORDER BY source, epoch, seq",
            *([type_] if unit is None else [type_, unit]),
        )
        return [json.loads(body) for (body,) in rows]
