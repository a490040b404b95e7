"""A PLC with a ring buffer, in memory: what it writes, and what happens to that while it is being read."""

from collections.abc import Callable, Sequence

from drivers.ring.access import Header, Slot
from drivers.ring.plan import Change, Numbering, Plan, Points


def plan(
    points_to: Points,
    slots: int,
    *,
    first: int = 0,
    tail: bool = False,
    modulo: int = 65536,
    boot: bool = False,
    sequences: int = 0,
) -> Plan:
    """A ring whose entries count `parts` (code 1) and say in `last` which one they are."""
    return Plan(
        Numbering(slots, first, points_to, modulo if points_to == "total" else slots, tail),
        {1: (Change("parts", True, 1), Change("last", False, field="number"))},
        ("parts", "last"),
        {"parts": 1 << 32},
        True,
        1 << 32 if boot else 0,
        tail,
        False,
        "one",
        sequences,
    )


EVERY = 3_000_000
"""µs between two entries."""


class RingPlc:
    """`meanwhile` is called before every request is answered, and between the `pieces` in which slots are read.
    `written`: numbers of all entries, from 1 on. A `tardy` PLC moves its head first and writes the slot after it was
    looked at."""

    def __init__(self, plan: Plan, *, overflow: bool = True, pieces: int = 4096, tardy: bool = False) -> None:
        self.plan = plan
        self.pieces = pieces
        self.tardy = tardy
        self.unwritten: dict[int, Slot] = {}
        self.numbering = plan.numbering
        self.overflow: int | None = 0 if overflow else None
        self.written: list[int] = []
        self.writes: list[int] = []
        self.refuses = False
        self.meanwhile: Callable[[], None] = lambda: None
        self.slot: list[Slot] = []
        self.now = self.booted = 1_000_000
        self.reboot()

    def reboot(self, *, slots: bool = False) -> None:
        """Everything is forgotten, but for what is in the `slots`, and time goes on."""
        self.unwritten.clear()
        self.noted = 0
        kept = self.slot if slots else [Slot("empty", 0)] * self.numbering.slots
        if self.overflow is not None:
            self.overflow = 0
        self.total = 0
        self.booted = self.now
        self.slot = kept
        self.tail = self.numbering.tail_for(0)

    @property
    def clock(self) -> int:
        return self.now - self.booted + 1000 if self.plan.since_boot else self.now

    def push(self) -> None:
        """Something happens. A PLC that waits for its tail has no room for it in a full ring."""
        self.now += EVERY
        self.written.append(len(self.written) + 1)
        if self.numbering.keeps:
            waiting = (self.total - self.numbering.number(self.tail)) % self.numbering.modulo
            if waiting >= self.numbering.most:
                self.overflow = (self.overflow or 0) + 1
                return
        number = self.written[-1]
        self.noted += 1
        sequence = self.noted % self.plan.sequences if self.plan.sequences else None
        self._finish()
        self.unwritten[self.total % self.numbering.slots] = Slot(
            f"{number}", 1, self.clock, {"number": number}, sequence
        )
        if not self.tardy:
            self._finish()
        self.total += 1

    def _finish(self) -> None:
        for at, slot in self.unwritten.items():
            self.slot[at] = slot
        self.unwritten.clear()

    @property
    def head(self) -> int:
        if self.numbering.points_to == "total":
            return self.total % self.numbering.modulo
        return self.numbering.tail_for(self.total % self.numbering.slots)

    async def header(self) -> Header:
        self.meanwhile()
        return Header(self.head, self.tail, self.overflow, self.clock if self.plan.since_boot else None)

    async def slots(self, first: int, count: int) -> Sequence[Slot]:
        found: list[Slot] = []
        while len(found) < count:
            self.meanwhile()
            piece = range(len(found), min(count, len(found) + self.pieces))
            found += [self.slot[(first + at) % self.numbering.slots] for at in piece]
        self._finish()
        return found

    async def move_tail(self, index: int) -> str:
        self.meanwhile()
        self.writes.append(index)
        if self.refuses:
            return "illegal function (exception 1)"
        self.tail = index
        return ""
