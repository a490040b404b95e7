"""How a ring is numbered, and what its entries mean for tags: worked out once from a device's options. Pure.

Entries are numbered in the order they were written, modulo `Numbering.modulo`; entry `n` is in slot `n % slots`.
A PLC that counts its entries (`points_to: total`) has numbers that last; one that only has slot numbers has as many
numbers as slots.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from drivers.base import Value

MOST: Final = 4096
"""Slots of the largest ring: what happened in it can be told as a whole."""
Points: TypeAlias = Literal["next", "last", "total"]


class Strange(ValueError):
    """An index that leads into no slot. Says which."""


class Numbering(NamedTuple):
    """`first`: number of the first slot in the PLC. `keeps`: the PLC writes over no entry that was not confirmed."""

    slots: int
    first: int
    points_to: Points
    modulo: int
    keeps: bool

    @property
    def most(self) -> int:
        """Entries that can be read for certain: the oldest of a full ring may be written over this very moment."""
        return self.slots if self.keeps and self.points_to == "total" else self.slots - 1

    def number(self, index: int) -> int:
        """The number of the next entry, from the head; likewise from the tail. Raises Strange."""
        if self.points_to == "total":
            return index % self.modulo
        number = index - self.first + (self.points_to == "last")
        if not 0 <= number <= self.slots:
            last = self.first + self.slots - 1
            raise Strange(f"it points to slot {index}, and there are {self.first} to {last}")
        return number % self.slots

    def tail_for(self, number: int) -> int:
        """What the tail must be for `number` to be the next entry."""
        if self.points_to == "total":
            return number
        return (number - (self.points_to == "last")) % self.slots + self.first


class Change(NamedTuple):
    """What an entry does to a tag: it sets it to `value` or to what the field says, or adds that to it."""

    tag: str
    adds: bool
    value: Value | None = None
    field: str | None = None


class Plan(NamedTuple):
    """`codes`: code of an entry → changes. `tags`: all of the ring. `wraps`: tags that count → how many numbers they
    have. `timed`: entries have a time. `since_boot`: times count from when the PLC started and have so many numbers;
    0 for times of day. `confirms`: the PLC's tail may be written. `erases`: the
    PLC empties what was confirmed. `layout`: what must be unchanged for a stored
    position to mean the same. `sequences`: how many numbers the PLC has for its
    entries; 0 if it writes none into them."""

    numbering: Numbering
    codes: Mapping[int, tuple[Change, ...]]
    tags: tuple[str, ...]
    wraps: Mapping[str, int]
    timed: bool
    since_boot: int
    confirms: bool
    erases: bool
    layout: str
    sequences: int = 0
