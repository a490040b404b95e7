"""Reads a ring: every entry once and in order, or a word that some were lost.

**Consistent.** The head is read first, then the slots up to it, then the head again: an entry below the first head is
complete, and the second head tells whether the PLC may have written over it meanwhile. The slot before the next entry
is the *witness*: it is read along, and if it is not what it was, the PLC has gone round or begun anew. Slots come in
several requests; where the PLC does not count its entries the witness is read once more behind the second head, which
proves that the head has not gone a whole round between them.

**Lost.** More entries than slots, another witness, and an overflow that the PLC tells of are a loss. What can still
be read for certain is told behind it: of a PLC that began anew what it has written since, and where slot numbers
alone cannot say that, the entries that are younger than the last one. Never an entry twice.

**Whole.** Where the PLC writes a `sequence` last into every entry, an entry is told when it follows the one before
it. One that still has the number of the round before is not written yet: what stands before it is told, and it is
waited for. Any other number is a loss.

**Kept.** A batch carries the position behind it, and the next `read` says that it is kept. Only then, and only if the
configuration allows it, the PLC's tail is moved up to it.
"""

from collections.abc import Sequence
from typing import Final

from drivers.base import Batch, Entries, Micros, Reading
from drivers.ring import state as states
from drivers.ring.access import Access, Header, Slot, Unreadable
from drivers.ring.plan import Plan, Strange
from drivers.ring.stamps import unwrapped
from drivers.ring.state import State

ROUNDS: Final = 10
"""Batches of one scan, if the PLC writes faster than they are kept."""
_NOISE = 2_000_000
"""Microseconds by which an entry may seem younger than the clock that is read with it."""
_ROLLED_OVER = 0.9
"""A fall by more of all the numbers that a clock has is a roll-over."""
PATIENCE: Final = 5
"""Looks at an entry that is below the head and not whole, before it counts as lost."""
_MOST_NOTES = 100
"""Of one connection: a slot full of noise has any code."""
_UNREAD = "the ring has not been read yet"
_NOT_KEPT = "the entries of a ring are read by a running agent alone"


class Reader:
    """One ring over one connection. Without `resume` nothing is read."""

    def __init__(self, device: str, plan: Plan, access: Access) -> None:
        self.device = device
        self._plan = plan
        self._access = access
        self._state: State | None = None
        self._before: State | None = None
        """What was kept of a ring that was laid out in another way."""
        self._resumed = False
        self._first = True
        """Nothing was told on this connection yet, or since the ring could not be read."""
        self._unconfirmed = False
        self._waited = 0
        """Looks in which the next entry was not whole yet."""
        self._notes: dict[tuple[str, str], bool] = {}
        """What somebody should look at → whether it was told."""
        self.readings = self._none(_NOT_KEPT)
        """The tags as they are now, for the other batches of the device; the same object while nothing changes."""

    def resume(self, position: str) -> None:
        """See `drivers.base.RingReader`."""
        self._resumed = True
        self.readings = self._none(_UNREAD)
        known = states.load(position)
        if known is not None and known.layout == self._plan.layout:
            self._state = known
        else:
            self._before = known

    async def look(self) -> None:
        """Ask the device for the indices, whatever it answers."""
        try:
            await self._access.header()
        except Unreadable:
            return

    async def read(self) -> Batch | None:
        """The next entries; None if there are none. What the last call brought has been kept."""
        if not self._resumed:
            return None
        try:
            return await self._read()
        except (Unreadable, Strange) as why:
            none = self._none(str(why))
            self.readings = self.readings if none == self.readings else none
            self._first = True
            return None

    async def _read(self) -> Batch | None:
        header = await self._access.header()
        numbering, known = self._plan.numbering, self._state
        head = numbering.number(header.head)
        if known is None:
            return await self._begin(header, head)
        if self._reset(header, head, known):
            return await self._lost(known)
        ahead = (head - known.next) % numbering.modulo
        if ahead > numbering.most:
            return await self._lost(known)
        state = self._noted(header, head, known)
        lost = "queue_overflow" if state.dropped[:1] == (known.next,) else None
        if lost is not None:
            state = states.forgotten(state._replace(dropped=state.dropped[1:]), self._plan)
        slots: Sequence[Slot] = ()
        if ahead or self._unconfirmed or numbering.points_to != "total" or self._began_anew(header, known):
            marks = [ahead, *((mark - known.next) % numbering.modulo for mark in state.dropped)]
            witness, *slots = await self._slots(header, known.next - 1, min(marks) + 1)
            header = await self._access.header()
            again = (numbering.number(header.head) - known.next) % numbering.modulo
            whole = self._complete(known, slots)
            if slots and numbering.points_to != "total":
                (witness,) = await self._slots(header, known.next - 1, 1)
            if whole is None or not ahead <= again <= numbering.most or self._other(witness, known, again):
                return await self._lost(known)
            slots = whole
        if self._unconfirmed:
            await self._confirm(header, known)
            state = state._replace(tails=(*state.tails, numbering.tail_for(known.next)))
        if slots or lost or self._first or not all(self._notes.values()):
            return self._batch(state, slots, header, lost)
        self._state = state
        return None

    def _noted(self, header: Header, head: int, known: State) -> State:
        """With where the PLC had no room for an entry, if it tells of another one: a ring's length behind its tail as
        it is, or as it was since the last look."""
        here = () if header.tail is None else (header.tail,)
        now = known._replace(overflow=header.overflow, tails=here)
        if not header.overflow or header.overflow == known.overflow:
            return now
        numbering = self._plan.numbering
        tails = [numbering.number(tail) for tail in (*known.tails, *here)] or [known.next]
        full = [(tail + numbering.most) % numbering.modulo for tail in tails]
        ahead = (head - known.next) % numbering.modulo
        marks = [mark for mark in full if (mark - known.next) % numbering.modulo <= ahead] or [known.next]
        return now._replace(dropped=tuple(dict.fromkeys((*known.dropped, *marks))))

    def _reset(self, header: Header, head: int, known: State) -> bool:
        """Whether the PLC itself moved the tail that only this agent may move."""
        if not self._plan.confirms or header.tail is None:
            return False
        numbering = self._plan.numbering
        tail = numbering.number(header.tail)
        return (known.next - tail) % numbering.modulo > (head - tail) % numbering.modulo

    def _began_anew(self, header: Header, known: State) -> bool:
        """Whether the PLC's time since its start has fallen, and not because it rolled over."""
        if not self._plan.since_boot or header.clock is None or known.stamp is None:
            return False
        return _NOISE < known.stamp - header.clock < _ROLLED_OVER * self._plan.since_boot * 1000

    def _other(self, witness: Slot, known: State, again: int) -> bool:
        """Whether the slot before the next entry is not what it was, and should be."""
        numbering = self._plan.numbering
        if again >= numbering.slots or (self._plan.erases and not witness.code):
            return False  # a full ring has written over it, or the PLC has emptied what was confirmed
        return witness.digest != known.witness

    def _complete(self, known: State, slots: Sequence[Slot]) -> Sequence[Slot] | None:
        """The entries up to the first that is not whole yet; None for a loss."""
        modulo = self._plan.sequences
        if not modulo:
            return slots if all(slot.code for slot in slots) else None
        after = known.sequence
        for number, slot in enumerate(slots):
            early = None if after is None or slot.sequence is None else (after + 1 - slot.sequence) % modulo
            if slot.code and early in (0, None):
                after = slot.sequence
                continue
            if slot.code and early != self._plan.numbering.slots:
                return None
            self._waited = 0 if number else self._waited + 1
            return slots[:number] if self._waited < PATIENCE else None
        self._waited = 0
        return slots

    async def _begin(self, header: Header, head: int) -> Batch:
        """The first look at a ring: behind what is confirmed if the PLC waits for that, else at its head. The entries
        before tell what is so now, and count nothing."""
        numbering = self._plan.numbering
        start = head
        if self._plan.confirms and header.tail is not None:
            tail = numbering.number(header.tail)
            start = tail if (head - tail) % numbering.modulo <= numbering.most else head
        unread = (head - start) % numbering.modulo
        old = await self._slots(header, start - numbering.slots, numbering.slots)
        if not unread and (late := self._late(old, header, head)):
            start, old = (start - late) % numbering.modulo, old[:-late]
        counted = {} if self._before is None else self._before.values
        state = State(
            self._plan.layout,
            start,
            old[-1].digest,
            {tag: _whole(counted.get(tag)) if tag in self._plan.wraps else None for tag in self._plan.tags},
            overflow=header.overflow,
            tails=() if header.tail is None else (header.tail,),
            sequence=old[-1].sequence if old[-1].code else None,
        )
        certain = old[unread + 1 :]
        state = states.told(state, [slot for slot in certain if slot.code], self._plan, counts=False)[0]
        so = [reading for reading in states.current(state, self._plan.tags) if reading.value is not None]
        return self._batch(state, (), header, None if self._before is None else "config_change", so)

    async def _lost(self, known: State) -> Batch:
        """Take up what can be read for certain of a ring in which entries were lost."""
        numbering = self._plan.numbering
        header = await self._access.header()
        head = numbering.number(header.head)
        slots = await self._slots(header, head - numbering.slots, numbering.slots)
        moved = (numbering.number((await self._access.header()).head) - head) % numbering.modulo
        if self._waited >= PATIENCE:
            end, new, cause, sequence = head, 0, "queue_overflow", known.sequence
            if sequence is not None:
                sequence = (sequence + (head - known.next) % numbering.modulo) % self._plan.sequences
        else:
            late = self._late(slots, header, head)
            end, slots = (head - late) % numbering.modulo, slots[: len(slots) - late]
            new, cause = self._survivors(known, slots, header, end)
            new = max(0, min(new, len(slots) - moved - 1))
            sequence = slots[-1].sequence if slots[-1].code else None
        self._waited = 0
        state = states.forgotten(known, self._plan)._replace(
            next=(end - new) % numbering.modulo,
            witness=slots[-1].digest,
            overflow=None,
            tails=(),
            dropped=(),
            sequence=sequence,
        )
        state = self._noted(header, head, state)
        if cause == "plc_restart" and self._plan.since_boot:
            state = state._replace(stamp=header.clock)
        return self._batch(state, slots[len(slots) - new :], header, cause)

    def _late(self, slots: Sequence[Slot], header: Header, head: int) -> int:
        """`_late` of the whole ring up to `head`; what is below the tail was whole when it was confirmed."""
        numbering, late = self._plan.numbering, _late(slots, self._plan.sequences)
        if not self._plan.confirms or header.tail is None:
            return late
        unread = (head - numbering.number(header.tail)) % numbering.modulo
        return min(late, unread) if unread <= numbering.most else late

    def _survivors(self, known: State, slots: Sequence[Slot], header: Header, head: int) -> tuple[int, str]:
        """(how many of the newest slots hold entries that were not told, the cause of the loss)"""
        anew = self._began_anew(header, known)
        run = _run(slots, self._plan.sequences)
        if self._plan.sequences and not anew and known.sequence is not None and run:
            ahead = ((slots[-1].sequence or 0) - known.sequence) % self._plan.sequences
            if 0 < ahead <= self._plan.sequences // 2:
                return min(run, ahead), "queue_overflow"
        new, cause = self._survivors_by_number(known, slots, header, head, anew=anew)
        return min(new, run), cause

    def _survivors_by_number(
        self, known: State, slots: Sequence[Slot], header: Header, head: int, *, anew: bool
    ) -> tuple[int, str]:
        """The same, by what the PLC's indices and times say."""
        numbering = self._plan.numbering
        since = None if anew or not self._plan.timed else known.stamp
        young = _young(slots, since)
        if self._plan.confirms and header.tail is not None:
            unread = (head - numbering.number(header.tail)) % numbering.modulo
            return (min(unread, young) if unread <= numbering.most else 0), "plc_restart"
        ahead = (head - known.next) % numbering.modulo
        if numbering.points_to == "total":
            gone_round = numbering.most < ahead <= numbering.modulo // 2
            return (young, "queue_overflow") if gone_round else (min(head, young), "plc_restart")
        if anew:
            return min(head, young), "plc_restart"
        if not self._plan.timed:
            return 0, "plc_restart"
        began_anew = any(not slot.code for slot in slots)
        return young, "plc_restart" if began_anew or not young else "queue_overflow"

    async def _confirm(self, header: Header, known: State) -> None:
        """Move the PLC's tail behind what has been kept."""
        index = self._plan.numbering.tail_for(known.next)
        refused = "" if header.tail == index else await self._access.move_tail(index)
        if refused:
            self._note("tail_not_moved", f"{self.device}: the tail of its ring cannot be moved: {refused}.")
        self._unconfirmed = bool(refused)

    async def _slots(self, header: Header, first: int, count: int) -> list[Slot]:
        """`count` slots from that of the entry `first` on, with their times beside the PLC's clock."""
        found = await self._access.slots(first % self._plan.numbering.slots, count)
        if not self._plan.since_boot:
            return list(found)
        return [
            slot
            if slot.stamp is None
            else slot._replace(
                stamp=None if header.clock is None else unwrapped(slot.stamp, header.clock, self._plan.since_boot)
            )
            for slot in found
        ]

    def _batch(
        self,
        state: State,
        slots: Sequence[Slot],
        header: Header,
        lost: str | None = None,
        leading: Sequence[Reading] = (),
    ) -> Batch:
        state, readings, unknown = states.told(state, slots, self._plan)
        if slots:
            after = (state.next + len(slots)) % self._plan.numbering.modulo
            state = state._replace(next=after, witness=slots[-1].digest, sequence=slots[-1].sequence)
        for code in unknown:
            self._note(*states.unmapped(self.device, code))
        self._state, self._first, self._unconfirmed = state, False, self._plan.confirms
        self.readings = states.current(state, self._plan.tags, states.LOST if lost else states.NOTHING_YET)
        entries = Entries(
            states.dump(state),
            frozenset(self._plan.tags),
            header.clock,
            lost,
            frozenset(self._plan.wraps),
            tuple(note for note, is_told in self._notes.items() if not is_told),
            state.dropped[:1] == (state.next,),
        )
        self._notes = dict.fromkeys(self._notes, True)
        return Batch(self.device, (*leading, *readings), entries=entries)

    def _note(self, code: str, text: str) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes.setdefault((code, text), False)

    def _none(self, why: str) -> tuple[Reading, ...]:
        return tuple(states.reading(tag, None, why=why) for tag in self._plan.tags)


def _young(slots: Sequence[Slot], stamp: Micros | None) -> int:
    """How many slots at the end hold entries, in the order of their times, that are younger than `stamp`; None is
    older than all."""
    young, after = 0, None
    for slot in reversed(slots):
        if not slot.code or (stamp is not None and (slot.stamp is None or slot.stamp <= stamp)):
            break
        if slot.stamp is not None and after is not None and slot.stamp > after:
            break  # it was written over after the head was read
        young, after = young + 1, slot.stamp if slot.stamp is not None else after
    return young


def _run(slots: Sequence[Slot], modulo: int) -> int:
    """How many slots at the end hold entries whose sequence goes up by one; all where there is none."""
    if not modulo:
        return len(slots)
    run = 0
    for slot in reversed(slots):
        if not slot.code or (run and (slot.sequence or 0) != ((slots[-run].sequence or 0) - 1) % modulo):
            break
        run += 1
    return run


def _late(slots: Sequence[Slot], modulo: int) -> int:
    """How many slots at the end of a whole ring are below its head and not written yet: the sequence of the round
    before begins there, or they are empty. 0 where there is no sequence."""
    if not modulo:
        return 0
    count = len(slots)
    for at in range(count - 1, 0, -1):
        before, slot = slots[at - 1], slots[at]
        if before.code and (
            not slot.code or ((before.sequence or 0) + 1 - (slot.sequence or 0)) % modulo == count % modulo
        ):
            return count - at
        if before.code and slot.code and (slot.sequence or 0) != ((before.sequence or 0) + 1) % modulo:
            break
    return 0


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
