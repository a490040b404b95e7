"""What a Modbus unit has: its tables, and in them every register that answers, found by asking.

A table is asked in requests as long as the unit allows; a request that it refuses is halved to find where its
registers end, within bounds (`MOST`, `_BUDGET`). Registers that are zero are told as ranges: nobody
can tell an unused one from one whose value is zero.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from drivers.base import Reading
from drivers.looking import Entry, Listing, NoSuchPath
from drivers.modbus.addresses import LAST, Table
from drivers.modbus.faults import WRONG_ADDRESS, detail
from drivers.modbus.plan import Field, Request

FIRST_LOOK = 1000
"""Addresses of a table that are asked for unless a range is named."""
MOST = 200
"""Requests of one listing, about."""
_PATH = re.compile(r"(?P<table>coil|discrete|holding|input)(?:[/:](?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?)?")

_BUDGET, _NEXT = 20, 4
"""Requests for what one long request covers; behind addresses that were refused fewer."""
Ask = Callable[[Request], Awaitable[bytes | int]]
"""The data of an answer, or the exception code of a refusal."""


class Part(NamedTuple):
    """Addresses from `start`, and what they hold; `values` is empty for a part that was refused."""

    start: int
    size: int
    values: tuple[int, ...]
    refused: str = ""


def tables() -> Listing:
    """The top: four tables, which every unit may have or not."""
    return Listing(
        tuple(Entry(table.word, table.word, table.word, branch=True, note=_HEADINGS[table]) for table in Table),
        "a Modbus device cannot tell what it has: name a table, and addresses if you know them, e.g. holding/200-260",
    )


_HEADINGS = {
    Table.COIL: "bits that can be written, references 00001…",
    Table.DISCRETE: "bits that can only be read, references 10001…",
    Table.HOLDING: "registers that can be written, references 40001…",
    Table.INPUT: "registers that can only be read, references 30001…",
}


def span(path: str) -> tuple[Table, int, int]:
    """Table, first and last address of a path such as `holding`, `input/100`, `coil/0-63`. Raises `NoSuchPath`."""
    match = _PATH.fullmatch(path.strip("/"))
    if match is None:
        raise NoSuchPath(f"{path!r} is no place in a Modbus device: write coil, discrete, holding or input, and the "
                         "addresses as on the wire, e.g. holding/200-260")  # fmt: skip
    table = next(table for table in Table if table.word == match["table"])
    first = int(match["first"] or 0)
    last = int(match["last"]) if match["last"] else first if match["first"] else first + FIRST_LOOK - 1
    if not first <= last <= LAST:
        raise NoSuchPath(f"{path!r}: addresses go from 0 to {LAST}, the smaller one first")
    return table, first, last


async def survey(ask: Ask, table: Table, first: int, last: int, longest: int) -> tuple[list[Part], bool]:
    """(the parts from `first` to `last`, whether all of it was asked). `longest`: addresses of one request."""
    parts: list[Part] = []
    asked = 0
    for at in range(first, last + 1, longest):
        if asked >= MOST:
            return parts, False
        emptied = bool(parts) and bool(parts[-1].refused)
        found, cost = await _block(ask, table, at, min(longest, last + 1 - at), _NEXT if emptied else _BUDGET)
        parts += found
        asked += cost
    return parts, True


async def _block(ask: Ask, table: Table, start: int, size: int, budget: int) -> tuple[list[Part], int]:
    """(the parts of what one long request covers, requests that it took). A refused request is halved as long as the
    budget lasts: enough to find where a unit's registers end, too little to ask for each register that it has not."""
    waiting, parts, asked = [(start, size)], [], 0
    while waiting:
        start, size = waiting.pop()
        answer = await ask(_request(table, start, size))
        asked += 1
        if isinstance(answer, bytes):
            parts.append(Part(start, size, _values(table, size, answer)))
        elif size == 1 or answer not in WRONG_ADDRESS or asked + len(waiting) >= budget:
            parts.append(Part(start, size, (), detail(answer)))
        else:
            waiting += [(start + size // 2, size - size // 2), (start, size // 2)]
    return parts, asked


def entries(table: Table, parts: Sequence[Part]) -> tuple[Entry, ...]:
    """Registers that hold something by themselves; zeros and what was refused as ranges."""
    return tuple(_told(table, parts))


def _told(table: Table, parts: Sequence[Part]) -> Iterator[Entry]:
    run: tuple[int, int, str] | None = None
    for part in parts:
        cells = [(part.start, part.size, part.refused)] if part.refused else [
            (part.start + n, 1, "" if value else "all zero") for n, value in enumerate(part.values)
        ]  # fmt: skip
        for at, size, word in cells:
            if run is not None and (run[2] != word or run[1] != at):
                yield _range(table, *run)
                run = None
            if not word:
                yield _single(table, at, part.values[at - part.start])
            else:
                run = (run[0] if run is not None else at, at + size, word)
    if run is not None:
        yield _range(table, *run)


def _range(table: Table, start: int, end: int, word: str) -> Entry:
    name = f"{start}" if end == start + 1 else f"{start}-{end - 1}"
    note = word if end > start + 1 else word.removeprefix("all ")
    return Entry(name, f"{table.word}/{name}", f"{table.word}/{start}", branch=False, note=note)


def _single(table: Table, at: int, value: int) -> Entry:
    path = f"{table.word}/{at}"
    reading = Reading(f"{table.word}_{at}", bool(value) if table.bits else value)
    kind = "bool" if table.bits else "uint16"
    return Entry(str(at), path, path, branch=False, reading=reading, tag={table.word: at, "type": kind}, note=kind)


def _request(table: Table, start: int, size: int) -> Request:
    return Request(table, start, size, (Field("", table, start, size),))


def _values(table: Table, size: int, data: bytes) -> tuple[int, ...]:
    if table.bits:
        return tuple(data[n // 8] >> n % 8 & 1 for n in range(size))
    return registers(data)


def registers(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))
