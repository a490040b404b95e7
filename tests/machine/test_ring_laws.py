"""However often a ring is read, and whenever the agent is killed between: the same stops, the same parts."""

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.machine.test_ring import Entry, running


class Shift(NamedTuple):
    """`happened`: seconds since the entry before → what. `looks`: seconds since the look before → what becomes of the
    agent then."""

    happened: list[tuple[float, str]]
    looks: list[tuple[float, str]]


happening = st.tuples(st.integers(1, 8_000_000).map(lambda micros: micros / 1e6), st.sampled_from(("stop", "part")))
looks = st.tuples(
    st.integers(1, 60_000_000).map(lambda micros: micros / 1e6),
    st.sampled_from(("stored", "stored", "killed", "killed before")),
)


def entries(happened: list[tuple[float, str]]) -> list[Entry]:
    """A stop is one while the machine runs, and its end otherwise."""
    at, runs, parts = 10.0, True, 0
    found: list[Entry] = []
    for after, what in happened:
        at = round(at + after, 6)
        if what == "part":
            parts += 1
            found.append((at, "parts", parts))
        else:
            runs = not runs
            found.append((at, "run", runs))
    return found


@settings(max_examples=150, deadline=None)
@given(st.builds(Shift, st.lists(happening, max_size=40), st.lists(looks, max_size=20)))
def test_stops_and_parts_do_not_depend_on_when_the_ring_is_read(shift: Shift) -> None:
    noted = entries(shift.happened)
    line, waiting, now = running(), list(noted), 10.0
    last = noted[-1][0] or 0 if noted else 0
    for after, how in [*shift.looks, (max(0.0, last - now) + 60, "stored")]:
        now = round(now + after, 6)
        if how == "killed before":
            line.restart(now)
        brought = [entry for entry in waiting if (entry[0] or 0) <= now]
        before = line.state, len(line.events)
        line.entries(now, *brought)
        if how == "killed":  # what was not stored was not told either
            line.state = before[0]
            del line.events[before[1] :]
            line.restart(now)
            line.entries(now, *brought)
        waiting = waiting[len(brought) :]
    line.silence(int(now) + 1, int(now) + 8)

    assert line.made() == sum(tag == "parts" for _, tag, _ in noted)
    changes = [(when, value) for when, tag, value in noted if tag == "run"]
    expected = [(start[0], end[0]) for start, end in zip(changes[::2], changes[1::2], strict=False)]
    told = [(start, end) for start, end, _, _ in line.stops()]
    assert told == [(round(start, 3), round(end, 3)) for start, end in expected]
