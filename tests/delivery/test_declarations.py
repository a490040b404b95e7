"""However long a buffer is full, what is declared takes little of it, and still names every hole."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from buffer.outbox import Lane, Message, Oldest, Span
from edge_agent.delivery.bounds import SHED_ABOVE
from edge_agent.delivery.declarations import folded
from edge_agent.events.types import AgentStarted, DataLoss
from tests.delivery.test_bounds import all_of, filling

MACHINES = 60


def declaration(seq: int, data: dict[str, object]) -> bytes:
    return json.dumps({"sequence": f"{seq:020d}", "epoch": "e2", "data": {"quality": "good", **data}}).encode()


def lost(first: int, last: int, **data: object) -> dict[str, object]:
    return {
        "lost_stream": "saw2.p", "lost_epoch": "e1", "seq_from": first, "seq_to": last, "extent": "exact",
        "count_by_type": {"production.counted": last - first + 1}, "cause": "buffer_full", "policy": "drop_oldest",
        **data,
    }  # fmt: skip


def waiting(*data: dict[str, object], first: int = 1) -> Oldest:
    bodies = [declaration(first + index, one) for index, one in enumerate(data)]
    types = {DataLoss.TYPE: len(data)}
    return Oldest(Span("$agent.h", "e2", first, first + len(data) - 1), types, 1, bodies)


def test_declarations_of_numbers_that_follow_each_other_become_one_with_the_last_totals() -> None:
    totals = {"main": {"total": 7}}, {"main": {"total": 9}, "second": {"total": 1}}
    rows = waiting(
        lost(1, 4, totals_after=totals[0]), lost(5, 9, totals_after=totals[1]), *(lost(n, n) for n in range(12, 20))
    )
    folding = folded([rows])
    assert folding is not None
    assert [span.first for span in folding.gone] == list(range(1, 11))
    own, first, second = folding.said
    assert (own.lost_stream, own.lost_epoch, own.seq_from, own.seq_to) == ("$agent.h", "e2", 1, 10)
    assert own.count_by_type == {DataLoss.TYPE: 10}
    assert (first.seq_from, first.seq_to, first.count_by_type) == (1, 9, {"production.counted": 9})
    assert first.totals_after == totals[1]
    assert (second.seq_from, second.seq_to, second.count_by_type) == (12, 19, {"production.counted": 8})


def test_where_nothing_else_may_go_a_declaration_is_an_upper_bound_with_the_right_count() -> None:
    rows = waiting(*(lost(n, n) for n in range(1, 40, 3)))
    assert folded([rows]) is None
    folding = folded([rows], widely=True)
    assert folding is not None
    _, one = folding.said
    assert (one.seq_from, one.seq_to, one.count_by_type) == (1, 37, {"production.counted": 13})


def test_what_damage_has_taken_is_never_told_as_a_count_of_none_nor_as_more_than_it_was() -> None:
    damaged = {"cause": "db_corrupt", "count_by_type": None}
    rows = waiting(*(lost(n, n, **damaged) for n in (*range(1, 9), 20, 30)))
    for widely in (False, True):
        folding = folded([rows], widely=widely)
        assert folding is not None
        _, *said = folding.said
        assert [(one.seq_from, one.seq_to, one.count_by_type) for one in said] == [
            (1, 8, None), (20, 20, None), (30, 30, None)
        ]  # fmt: skip


def test_what_nobody_knows_the_extent_of_and_the_first_word_of_an_epoch_stay_as_they_are() -> None:
    unknown = {"lost_stream": "saw2.p", "lost_epoch": "e1", "extent": "unknown", "cause": "rollback"}
    first, later = {"version": "1", "prev_epoch": "e0"}, {"version": "1"}
    folding = folded([waiting(later, unknown, first, *[later] * 5)])
    assert folding is not None
    assert [span.first for span in folding.gone] == [4, 5, 6, 7, 8]
    assert [one.count_by_type for one in folding.said] == [{AgentStarted.TYPE: 5}]


def test_few_declarations_and_those_with_a_damaged_one_among_them_are_left_alone() -> None:
    assert folded([waiting(lost(1, 4), lost(5, 9))]) is None
    rows = waiting(*(lost(n, n) for n in range(1, 20)))
    assert folded([rows._replace(bodies=rows.bodies[1:])]) is None
    assert folded([]) is None


async def test_what_could_not_be_folded_is_not_looked_at_again_before_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filling(tmp_path, when_full="stop_reading") as filled:
        of_many = [
            DataLoss(
                lost_stream=f"press-{number}.m", lost_epoch="e1", seq_from=1, seq_to=2, extent="exact",
                count_by_type={"sample.set": 2}, cause="buffer_full", policy="shed_measurements",
            )
            for number in range(MACHINES)
        ]  # fmt: skip
        await filled.floor.give_up([], of_many)
        while await filled.fill() <= SHED_ABOVE:
            await filled.append(Lane.PRODUCTION, 5)
        looks, oldest = [], filled.outbox.oldest

        async def counted(lane: Lane, size: int, **how: Any) -> Sequence[Oldest]:
            looks.extend([lane] if "only" in how else [])
            return await oldest(lane, size, **how)

        monkeypatch.setattr(filled.outbox, "oldest", counted)
        for _ in range(3):
            await filled.bounds.make_room()
        assert looks == [Lane.HEALTH]
        await filled.append(Lane.MEASUREMENT, 2)
        for _ in range(3):
            await filled.bounds.make_room()
        assert looks == [Lane.HEALTH] * 2


async def test_a_small_buffer_that_is_full_for_long_does_not_fill_with_declarations(tmp_path: Path) -> None:
    async with filling(tmp_path) as filled:
        epoch, body = filled.outbox.epoch, b"x" * 600
        watching = asyncio.create_task(filled.bounds.run())
        for seq in range(1, 151):
            streams = [f"press-{number}.p" for number in range(MACHINES)]
            messages = [Message(one, epoch, seq, Lane.PRODUCTION, "a.b", "ea/v1/evt", body) for one in streams]
            await asyncio.wait_for(filled.outbox.append(messages, states={}), 20)
        watching.cancel()
        await asyncio.wait({watching})
        kept = await all_of(filled.outbox, Lane.PRODUCTION)
        health = await all_of(filled.outbox, Lane.HEALTH)
    assert sum(len(message.body) for message in health) < (1 << 20) // 8
    assert sum(len(message.body) for message in kept) > (1 << 20) // 3
    named, counted = defaultdict[str, set[int]](set), Counter[str]()
    for message in (*kept, *health):
        named[message.stream].add(message.seq)
    for message in health:
        data = json.loads(message.body)["data"]
        if message.type == DataLoss.TYPE:
            named[data["lost_stream"]] |= set(range(data["seq_from"], data["seq_to"] + 1))
            counted[data["lost_stream"]] += sum(data["count_by_type"].values())
    for stream, numbers in named.items():
        last = max(numbers)
        assert numbers == set(range(1, last + 1)), f"a hole in {stream} that nobody names"
        there = sum(message.stream == stream for message in (*kept, *health))
        assert there + counted[stream] == last, f"{stream}: what is named is not what is gone"
        assert last == 150 or stream == "$agent.h"
