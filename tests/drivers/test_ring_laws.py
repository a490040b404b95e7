"""Whatever a PLC writes into its ring and whenever the agent is killed: every entry is told once or declared lost.

The short form tells a few hundred stories; `make torture` twelve thousand.
"""

import asyncio
import os
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.ring.plan import Plan
from drivers.ring.reader import PATIENCE
from tests.drivers.ring_plc import RingPlc, plan
from tests.drivers.test_ring import Session

STORIES = int(os.environ.get("EDGE_AGENT_RING_STORIES", "300"))


class Deed(NamedTuple):
    """`push`: entries are written. `scan`: the ring is read, with entries written before each of its requests.
    `kill`: the same, and what it brought is not kept. `reboot`: of the PLC."""

    what: str
    times: int = 0
    meanwhile: tuple[int, ...] = ()


numbered: st.SearchStrategy[Plan] = st.one_of(
    st.builds(
        plan,
        st.sampled_from(("next", "last")),
        st.sampled_from((2, 3, 4, 8, 16)),
        first=st.integers(0, 1),
        tail=st.booleans(),
        boot=st.booleans(),
        sequences=st.sampled_from((0, 64, 65536)),
    ),
    st.builds(
        plan,
        st.just("total"),
        st.sampled_from((2, 4, 8, 16)),
        tail=st.booleans(),
        modulo=st.sampled_from((64, 65536)),
        boot=st.booleans(),
        sequences=st.sampled_from((0, 64, 65536)),
    ),
)

deeds = st.lists(
    st.one_of(
        st.builds(Deed, st.just("push"), st.integers(1, 40)),
        st.builds(
            Deed,
            st.sampled_from(("scan", "scan", "kill")),
            st.just(0),
            st.lists(st.integers(0, 20), max_size=4).map(tuple),
        ),
        st.just(Deed("reboot")),
    ),
    max_size=25,
)


async def live(plc: RingPlc, story: list[Deed]) -> Session:
    line = Session(plc)
    await finished(line)
    for deed in story:
        waiting = list(deed.meanwhile)

        def meanwhile(waiting: list[int] = waiting) -> None:
            for _ in range(waiting.pop() if waiting else 0):
                plc.push()

        plc.meanwhile = meanwhile
        if deed.what == "push":
            for _ in range(deed.times):
                plc.push()
        elif deed.what == "reboot":
            if not isinstance((line.told or ["nothing"])[-1], int):
                continue  # of a ring in which nothing was seen yet nobody can tell that it began anew
            plc.reboot()
        else:
            await line.scan(kept=deed.what == "scan")
            if deed.what == "kill":
                line.connect()
    plc.meanwhile = lambda: None
    for _ in range(2):
        plc.push()
        await finished(line)
    return line


async def finished(line: Session) -> None:
    """An entry that is not whole is looked at again."""
    for _ in range(PATIENCE + 1 if line.plc.tardy else 1):
        await line.drain()


def holes(told: list[int | str], last: int) -> list[tuple[int, int]]:
    """Where entries are missing without a word."""
    return [
        (one, after)
        for one, after in pairwise([*told, last + 1])
        if isinstance(one, int) and isinstance(after, int) and after != one + 1
    ]


@pytest.mark.torture
@pytest.mark.timeout(7200 if STORIES > 300 else 120)
@settings(max_examples=STORIES, deadline=None)
@example(
    plan("next", 4, boot=True),
    [Deed("scan", 0, (3,)), Deed("reboot"), Deed("scan", 0, (1, 3, 0, 2))],  # slots are written over twice meanwhile
    4096,
    False,
)
@given(numbered, deeds, st.sampled_from((1, 3, 4096)), st.booleans())
def test_every_entry_is_told_once_or_declared_lost(how: Plan, story: list[Deed], pieces: int, tardy: bool) -> None:
    plc = RingPlc(how, pieces=pieces, tardy=tardy and how.sequences > 0)
    line = asyncio.run(live(plc, story))
    numbers = [one for one in line.told if isinstance(one, int)]
    assert numbers == sorted(set(numbers)), "told twice or out of order"
    assert holes([0, *line.told], plc.written[-1]) == []
    assert line.parts == len(numbers)
    if not plc.plan.confirms:
        assert plc.writes == []
