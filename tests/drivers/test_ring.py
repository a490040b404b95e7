"""A ring is read so that every entry is told exactly once, or declared lost."""

from drivers.base import Batch, Quality
from drivers.ring.access import Slot
from drivers.ring.reader import PATIENCE, Reader
from tests.drivers.ring_plc import RingPlc, plan

NEXT = plan("next", 8)


class Session:
    """A reader that is killed and resumed; what it told as far as that was kept, and `lost` for a loss."""

    def __init__(self, plc: RingPlc) -> None:
        self.plc = plc
        self.position = ""
        self.told: list[int | str] = []
        self.parts = 0
        self.connect()

    def connect(self) -> None:
        self.reader = Reader("press", self.plc.plan, self.plc)
        self.reader.resume(self.position)

    async def scan(self, *, kept: bool = True) -> Batch | None:
        """One `read`; what is not kept was never told."""
        batch = await self.reader.read()
        if batch is None or not kept:
            return batch
        assert batch.entries is not None
        self.position = batch.entries.position
        if batch.entries.lost is not None:
            self.told.append(batch.entries.lost)
        for reading in batch.readings:
            assert isinstance(reading.value, int)
            if reading.tag == "parts":
                self.parts = reading.value
            elif reading.source_time is not None:
                self.told.append(reading.value)
        return batch

    async def drain(self) -> None:
        while await self.scan() is not None:
            pass


async def started(plc: RingPlc) -> Session:
    line = Session(plc)
    await line.drain()
    return line


def push(plc: RingPlc, times: int) -> None:
    for _ in range(times):
        plc.push()


async def test_entries_are_told_once_and_in_order() -> None:
    plc = RingPlc(NEXT)
    line = await started(plc)
    push(plc, 5)
    await line.drain()
    push(plc, 1)
    await line.drain()
    assert (line.told, line.parts) == ([1, 2, 3, 4, 5, 6], 6)
    assert plc.writes == []


async def test_what_was_not_kept_is_told_again() -> None:
    plc = RingPlc(NEXT)
    line = await started(plc)
    push(plc, 1)
    await line.scan(kept=False)
    line.connect()
    push(plc, 1)
    await line.drain()
    assert (line.told, line.parts) == ([1, 2], 2)


async def test_the_first_look_tells_what_is_so_and_counts_nothing() -> None:
    plc = RingPlc(NEXT)
    push(plc, 3)
    batch = await Session(plc).scan()
    assert batch is not None
    assert [(one.tag, one.value) for one in batch.readings] == [("parts", 0), ("last", 3)]


async def test_a_ring_that_was_written_over_is_a_loss() -> None:
    plc = RingPlc(NEXT)
    push(plc, 1)
    line = await started(plc)
    push(plc, 20)
    await line.drain()
    assert line.told == ["queue_overflow", 15, 16, 17, 18, 19, 20, 21]


async def test_a_plc_that_began_anew_is_noticed() -> None:
    plc = RingPlc(NEXT)
    line = await started(plc)
    push(plc, 6)
    await line.drain()
    plc.reboot()
    push(plc, 2)
    await line.drain()
    assert (line.told, line.parts) == ([1, 2, 3, 4, 5, 6, "plc_restart", 7, 8], 8)


async def test_after_a_loss_nothing_is_known_but_counts() -> None:
    plc = RingPlc(NEXT)
    line = await started(plc)
    push(plc, 1)
    await line.drain()
    plc.reboot()
    batch = await line.scan()
    assert batch is not None
    assert batch.entries is not None
    assert batch.entries.counting == {"parts"}
    assert [(one.tag, one.value, one.detail) for one in line.reader.readings] == [
        ("parts", 1, ""),
        ("last", None, "entries of the ring were lost"),
    ]


async def test_the_tail_is_moved_when_it_is_allowed_and_only_behind_what_was_kept() -> None:
    plc = RingPlc(plan("next", 8, tail=True))
    line = await started(plc)
    push(plc, 4)
    await line.scan()
    assert plc.writes == []
    await line.scan()
    assert plc.writes == [4]
    await line.drain()
    assert plc.writes == [4]


async def test_a_full_ring_that_waits_loses_what_had_no_room_and_says_so() -> None:
    plc = RingPlc(plan("next", 8, tail=True))
    line = await started(plc)
    push(plc, 10)
    batch = await line.scan()
    assert batch is not None
    assert batch.entries is not None
    assert batch.entries.more
    await line.drain()
    push(plc, 1)
    await line.drain()
    assert line.told == [1, 2, 3, 4, 5, 6, 7, "queue_overflow", 11]


async def test_unread_entries_of_a_plc_that_waits_are_told_at_the_first_look() -> None:
    plc = RingPlc(plan("total", 8, tail=True))
    push(plc, 3)
    line = await started(plc)
    assert (line.told, line.parts) == ([1, 2, 3], 3)


async def test_a_tail_that_was_refused_is_tried_again_and_said() -> None:
    plc = RingPlc(plan("next", 8, tail=True))
    line = await started(plc)
    plc.refuses = True
    push(plc, 2)
    batches = [await line.scan() for _ in range(4)]
    notes = [note for batch in batches if batch is not None and batch.entries for note in batch.entries.notes]
    assert [code for code, _ in notes] == ["tail_not_moved"]
    plc.refuses = False
    await line.drain()
    assert plc.tail == 2
    assert line.told == [1, 2]


async def test_an_entry_that_is_not_configured_is_said() -> None:
    plc = RingPlc(NEXT._replace(codes={2: NEXT.codes[1]}))
    line = await started(plc)
    push(plc, 2)
    batch = await line.scan()
    assert batch is not None
    assert batch.entries is not None
    assert [code for code, _ in batch.entries.notes] == ["unmapped_entry"]
    assert batch.readings == ()


async def test_nothing_is_read_where_nothing_is_kept() -> None:
    plc = RingPlc(plan("next", 8, tail=True))
    push(plc, 1)
    reader = Reader("press", plc.plan, plc)
    assert await reader.read() is None
    assert {one.quality for one in reader.readings} == {Quality.BAD}
    assert plc.writes == []


async def test_a_ring_that_is_laid_out_anew_goes_on_counting_and_says_what_is_not_known() -> None:
    line = await started(RingPlc(NEXT))
    push(line.plc, 3)
    await line.drain()
    line.plc = RingPlc(plan("total", 16)._replace(layout="another"))
    push(line.plc, 2)
    line.connect()
    await line.drain()
    push(line.plc, 1)
    await line.drain()
    assert (line.told, line.parts) == ([1, 2, 3, "config_change", 3], 4)


async def test_an_entry_below_the_head_that_is_empty_is_a_loss() -> None:
    plc = RingPlc(plan("total", 8))
    line = await started(plc)
    push(plc, 2)
    plc.slot[1] = plc.slot[7]  # a PLC that moves its head first
    await line.drain()
    assert line.told[0] == "plc_restart"
    assert 2 not in line.told


async def test_a_plc_that_resets_its_indices_and_keeps_its_slots_tells_nothing_twice() -> None:
    plc = RingPlc(plan("next", 8, tail=True))
    line = await started(plc)
    for _ in range(4):
        push(plc, 3)
        await line.drain()
    plc.reboot(slots=True)
    push(plc, 2)
    await line.drain()
    assert line.told == [*range(1, 13), "plc_restart", 13, 14]


async def test_of_slots_that_were_kept_over_a_restart_only_younger_entries_are_told() -> None:
    plc = RingPlc(NEXT)
    line = await started(plc)
    for _ in range(7):
        push(plc, 2)
        await line.drain()
    plc.reboot(slots=True)
    push(plc, 6)
    await line.drain()
    assert line.told == [*range(1, 15), "queue_overflow", *range(15, 21)]


async def test_a_clock_that_fell_back_tells_of_a_restart_that_the_head_does_not_show() -> None:
    plc = RingPlc(plan("total", 8, boot=True))
    line = await started(plc)
    plc.now += 60_000_000
    push(plc, 5)
    await line.drain()
    plc.reboot()
    push(plc, 5)
    await line.drain()
    assert line.told == [1, 2, 3, 4, 5, "plc_restart", 6, 7, 8, 9, 10]


async def test_a_plc_that_restarted_and_kept_its_ring_has_lost_nothing() -> None:
    plc = RingPlc(plan("total", 8, boot=True))
    line = await started(plc)
    push(plc, 5)
    await line.drain()
    plc.booted = plc.now
    push(plc, 1)
    await line.drain()
    assert line.told == [1, 2, 3, 4, 5, 6]


async def test_what_the_plc_changes_in_entries_that_were_told_is_not_told_again() -> None:
    plc = RingPlc(plan("total", 8))
    line = await started(plc)
    push(plc, 5)
    await line.drain()
    plc.slot[4] = plc.slot[4]._replace(digest="marked as read")
    await line.drain()
    push(plc, 1)
    await line.drain()
    assert [one for one in line.told if isinstance(one, int)] == [1, 2, 3, 4, 5, 6]


async def test_a_plc_may_empty_what_was_confirmed_if_that_is_said() -> None:
    plc = RingPlc(plan("next", 8, tail=True)._replace(erases=True))
    line = await started(plc)
    for _ in range(5):
        push(plc, 2)
        await line.drain()
        plc.slot = [Slot("empty", 0)] * 8
    assert line.told == list(range(1, 11))


async def test_a_ring_that_cannot_be_read_says_why_with_the_same_readings_as_long_as_that_lasts() -> None:
    for tags in (("parts", "last"), ()):
        plc = RingPlc(NEXT._replace(tags=tags))
        line = await started(plc)
        plc.numbering = plc.numbering._replace(first=100)
        assert await line.scan() is None
        readings = line.reader.readings
        assert await line.scan() is None
        assert line.reader.readings is readings
        assert {one.detail for one in readings} <= {"it points to slot 100, and there are 0 to 7"}
        plc.numbering = NEXT.numbering
        push(plc, 1)
        await line.drain()
        assert line.told == [1]


SEQUENCE = plan("next", 8, sequences=64)


async def test_an_entry_that_is_not_whole_is_waited_for() -> None:
    plc = RingPlc(SEQUENCE, tardy=True)
    line = await started(plc)
    for _ in range(5):
        push(plc, 3)
        for _ in range(2):
            await line.drain()
    assert line.told == list(range(1, 16))


async def test_an_entry_that_never_becomes_whole_is_a_loss_and_nothing_is_told_twice() -> None:
    plc = RingPlc(SEQUENCE)
    line = await started(plc)
    push(plc, 9)
    await line.drain()
    told = list(line.told)
    torn = plc.slot[1]
    push(plc, 1)
    plc.slot[1] = torn
    for _ in range(2 * PATIENCE):
        await line.drain()
    push(plc, 2)
    await line.drain()
    assert line.told == [*told, "queue_overflow", 11, 12]


async def test_a_sequence_tells_how_far_a_ring_was_written_over_without_any_time() -> None:
    plc = RingPlc(SEQUENCE._replace(timed=False))
    line = await started(plc)
    push(plc, 1)
    await line.drain()
    push(plc, 20)
    await line.drain()
    assert line.told == [1, "queue_overflow", *range(15, 22)]


async def test_a_restart_that_the_sequence_shows_tells_what_was_written_since() -> None:
    plc = RingPlc(SEQUENCE)
    line = await started(plc)
    push(plc, 30)
    await line.drain()
    plc.reboot()
    push(plc, 3)
    await line.drain()
    assert line.told[-4:] == ["plc_restart", 31, 32, 33]


async def test_what_a_plc_emptied_below_its_tail_is_not_waited_for() -> None:
    plc = RingPlc(plan("next", 8, tail=True, sequences=65536)._replace(erases=True))
    line = await started(plc)
    push(plc, 3)
    await line.drain()
    plc.slot[2] = Slot("empty", 0, None, {"number": None}, 0)
    anew = await started(plc)
    push(plc, 1)
    await anew.drain()
    await anew.drain()
    assert anew.told == [4]
