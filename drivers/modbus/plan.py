"""Which requests read a set of tags. Pure.

Tags of one table are read together when at most `max_gap` unwanted registers lie between them, as long as the
request stays within `max_registers`. A value is never split over two requests: its halves would be of different
moments. What the device refused is kept in `Cuts`, and no request spans a cut.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from drivers.modbus.addresses import Table

_MOST_BITS = 2000
_BITS_PER_REGISTER = 16


class Field(NamedTuple):
    """Where a tag's value is: `size` addresses from `start`, which are bits in the bit tables."""

    tag: str
    table: Table
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Limits(NamedTuple):
    """What the device takes, in registers; 16 bits count as one."""

    max_registers: int = 125
    max_gap: int = 8
    one_tag_per_request: bool = False


Cuts: TypeAlias = frozenset[tuple[Table, int]]
"""A request may not have addresses on both sides of `n`, i.e. both `n - 1` and `n`."""


class Request(NamedTuple):
    """Read `length` addresses from `start`; it holds every one of its fields completely."""

    table: Table
    start: int
    length: int
    fields: tuple[Field, ...]


def plan(fields: Iterable[Field], limits: Limits, cuts: Cuts = frozenset()) -> tuple[Request, ...]:
    """Requests that cover every field exactly once, ordered by table and address.

    Raises ValueError if a field alone is longer than a request may be.
    """
    ordered = sorted(fields, key=lambda field: (field.table.function, field.start, field.end, field.tag))
    requests: list[Request] = []
    for table, members in groupby(ordered, key=lambda field: field.table):
        edges = sorted(number for where, number in cuts if where is table)
        requests.extend(_join(table, list(members), limits, edges))
    return tuple(requests)


def halves(request: Request) -> tuple[Request, Request]:
    """The request as two, each with about half of its fields. It must have at least two fields.

    Fields that overlap at the middle are read by both; a value is still complete in its own request.
    """
    middle = len(request.fields) // 2
    first, second = request.fields[:middle], request.fields[middle:]
    return _request(request.table, first), _request(request.table, second)


def _join(table: Table, fields: Sequence[Field], limits: Limits, edges: Sequence[int]) -> Iterable[Request]:
    scale = _BITS_PER_REGISTER if table.bits else 1
    longest = min(limits.max_registers * scale, _MOST_BITS) if table.bits else limits.max_registers
    gap = limits.max_gap * scale
    group: list[Field] = []
    start = end = 0
    for field in fields:
        if field.size > longest:
            raise ValueError(f"{field.tag} takes {field.size} addresses, a request at most {longest}")
        joined = max(end, field.end)
        fits = (
            group
            and not limits.one_tag_per_request
            and field.start - end <= gap
            and joined - start <= longest
            and not any(start < edge < joined for edge in edges)
        )
        if group and not fits:
            yield _request(table, group)
            group = []
        if not group:
            start, joined = field.start, field.end
        group.append(field)
        end = joined
    if group:
        yield _request(table, group)


def _request(table: Table, fields: Sequence[Field]) -> Request:
    start = min(field.start for field in fields)
    return Request(table, start, max(field.end for field in fields) - start, tuple(fields))
