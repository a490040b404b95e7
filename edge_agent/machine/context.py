"""What is made, by whom and with what: the words of the context, and what tags mean in it.

Every change makes a new revision: one immutable mapping that all its events share.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from drivers.base import Value
from edge_agent.machine.out import Ctx

Word: TypeAlias = str | tuple[str, ...]

KEYS: Final = (
    "order_id",
    "operation",
    "product",
    "batch",
    "serial",
    "operators",
    "shift",
    "tool",
    "recipe",
    "order_run_id",
)
_SPLIT: Final = re.compile(r"[,;|\s]+")


class Change(NamedTuple):
    """The mapping after a change, and what of it is new in the words of `context.changed`."""

    ctx: Ctx
    rev: int
    set: Mapping[str, Word]
    cleared: tuple[str, ...]


def change(ctx: Ctx | None, values: Mapping[str, Word | None]) -> Change | None:
    """Give keys a new value, or take it away (None). None if nothing differs from what was."""
    old: Ctx = ctx or {}
    new = {key: value or None for key, value in values.items() if (value or None) != old.get(key)}
    if not new:
        return None
    rev = revision(ctx) + 1
    known: dict[str, str | int | tuple[str, ...]] = {}
    for key in KEYS:
        value = new[key] if key in new else old.get(key)
        if value is not None:
            known[key] = value
    known["rev"] = rev
    told = {"order" if key == "order_id" else key: value for key, value in new.items() if key != "order_run_id"}
    return Change(
        known,
        rev,
        {key: value for key, value in told.items() if value is not None},
        tuple(key for key, value in told.items() if value is None),
    )


def revision(ctx: Ctx | None) -> int:
    rev = (ctx or {}).get("rev", 0)
    return rev if isinstance(rev, int) else 0


def text(ctx: Ctx | None, key: str) -> str | None:
    """The value of a key that is no list."""
    value = (ctx or {}).get(key)
    return value if isinstance(value, str) else None


def said(value: Value, codes: Mapping[int | str, str] | None) -> tuple[str | None, bool]:
    """What a tag says as a word of the MOM, and whether `codes` knows it. None for 0, an empty text and, with codes,
    for a number that they do not name: it is not guessed."""
    word = plain(value)
    if codes is None or not word:
        return word, True
    for code, meaning in codes.items():
        if str(code) == word:
            return meaning, True
    return None, False


def plain(value: Value) -> str | None:
    """A tag's value as text; None for 0, false and an empty text."""
    if isinstance(value, str):
        return value.strip(" \t\r\n\0") or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(int(value) if isinstance(value, bool) else value) if value else None


def people(value: str) -> tuple[str, ...]:
    """Operators as one tag names them: separated by commas, semicolons, bars or blanks; each once."""
    return tuple(dict.fromkeys(word for word in _SPLIT.split(value) if word))
