"""One row of the dictionary, and when two rows contradict each other."""

from collections.abc import Iterable
from typing import NamedTuple

COLUMNS = ("kind", "asset", "name", "code", "text", "unit", "type", "source", "place")


class Entry(NamedTuple):
    """Empty text is nothing. `asset` is the device, machine or event type it belongs to; `code` what is sent or read,
    `text` what that means; `source` the tag or address it comes from; `place` where the configuration says so.

    Entries with one `scope` share their codes: there a code may have one `meaning` only. An empty meaning says
    nothing and contradicts nothing.
    """

    kind: str
    asset: str
    name: str = ""
    code: str = ""
    text: str = ""
    unit: str = ""
    type: str = ""
    source: str = ""
    place: str = ""
    scope: str = ""
    meaning: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns."""
        return self[: len(COLUMNS)]


class Conflict(NamedTuple):
    """One code that means two things."""

    one: Entry
    other: Entry

    @property
    def what(self) -> str:
        one, other = self.one, self.other
        return f"the code {one.code!r} means {one.meaning!r} in {one.place}, but {other.meaning!r} in {other.place}"


def conflicts(entries: Iterable[Entry]) -> list[Conflict]:
    """Each further meaning of a code, with the first one."""
    first: dict[tuple[str, str], Entry] = {}
    seen: set[tuple[str, str, str]] = set()
    found = []
    for entry in entries:
        if not entry.scope or not entry.meaning:
            continue
        known = first.setdefault((entry.scope, entry.code), entry)
        if known.meaning != entry.meaning and (entry.scope, entry.code, entry.meaning) not in seen:
            seen.add((entry.scope, entry.code, entry.meaning))
            found.append(Conflict(known, entry))
    return found
