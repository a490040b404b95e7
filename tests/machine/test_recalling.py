"""What a device recorded while nobody looked is told as if it had been seen."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Batch, Quality, Reading, Recalled
from edge_agent.clock import SECOND, Instant
from tests.machine.stories import START, offset
from tests.machine.test_subscriptions import Line

ALL = frozenset({"status", "total"})
Sample = tuple[float, str, int]
"""(seconds, tag, value)"""


def readings(samples: Sequence[Sample]) -> list[Reading]:
    return [Reading(tag, value, Quality.GOOD, START + round(at * SECOND)) for at, tag, value in samples]


class Recorded(Line):
    def instant(self, at: float) -> Instant:
        return Instant(START + round(at * SECOND), round(at * SECOND))

    def recall(
        self, at: float, *samples: Sample, until: float | None = None, tags: frozenset[str] = ALL, more: bool = False
    ) -> None:
        end = START + round((at if until is None else until) * SECOND)
        batch = Batch("press", readings(samples), recalled=Recalled(end, tags, more))
        self.take(self.machine.step(self.state, batch, self.instant(at)))

    def restart(self, at: float) -> None:
        """The agent was killed; it starts again with what was stored last."""
        self.take(self.machine.restore(self.machine.dump(self.state), self.instant(at)))

    def unseen(self) -> float | None:
        since = self.machine.unseen(self.state, "press")
        return None if since is None else offset(since)

    def told(self, kind: str) -> list[dict[str, Any]]:
        found = []
        for event in self.events:
            if kind == event.data.TYPE:
                data = {field.name: getattr(event.data, field.name) for field in fields(event.data)}
                found.append({"time": offset(event.time), **{k: v for k, v in data.items() if v is not None}})
        return found

    def stops(self) -> list[tuple[float, float, float, bool]]:
        return [
            (
                offset(one["started_at"]),
                offset(one["ended_at"]),
                one["duration_s"],
                bool(one.get("start_uncertain") or one.get("end_uncertain")),
            )
            for one in self.told("downtime.ended")
        ]

    def made(self) -> int:
        return sum(self.counted())


def running() -> Recorded:
    line = Recorded()
    line.tell(0, status=2, total=100)
    line.silence(1, 100)
    return line


def test_a_stop_while_the_agent_was_off_is_an_event_with_the_right_times() -> None:
    line = running()
    line.restart(5000)
    assert line.unseen() == 99
    line.recall(
        5001,
        (600, "total", 400),
        (1000, "status", 8),
        (1300, "status", 2),
        (1310, "total", 410),
        (4990, "total", 900),
    )
    line.tell(5001.2, status=(2, 1300), total=(900, 4990))
    line.silence(5002, 5060)
    assert line.stops() == [(1000, 1300, 300, False)]
    assert line.states() == [
        ("running", 0),
        ("unknown", 99),
        ("running", 99),
        ("fault", 1000),
        ("running", 1300),
    ]
    assert line.made() == 800
    (gap,) = line.told("data.gap")
    assert (offset(gap["from_at"]), offset(gap["to_at"])) == (99, 5001)
    assert (gap["cause"], gap["count_recovered"], gap["history_recovered"]) == ("agent_down", "exact", True)
    assert line.unseen() == 5059


def test_counts_are_told_when_they_were_made() -> None:
    line = running()
    line.restart(5000)
    line.recall(5001, (600, "total", 101), (4000, "total", 102))
    line.silence(5002, 5010)
    counted = line.told("production.counted")
    assert [(one["time"] // 100 * 100, one["delta"], one["cause"]) for one in counted] == [
        (600, {"total": 1}, "machine"),
        (4000, {"total": 1}, "machine"),
    ]


def test_a_stop_that_was_open_goes_on_and_ends_in_the_history() -> None:
    line = running()
    line.tell(100, status=8)
    line.silence(101, 200)
    line.restart(5000)
    line.recall(5001, (700, "status", 2))
    line.silence(5002, 5010)
    assert line.stops() == [(100, 700, 600, False)]
    (ended,) = line.told("downtime.ended")
    assert ended["unknown_s"] == 0


def test_what_was_delivered_before_is_not_told_again() -> None:
    line = running()
    line.tell(100, total=103)
    line.silence(101, 110)
    line.restart(5000)
    line.recall(5001, (50, "total", 99), (100, "total", 103), (109.5, "total", 104))
    line.silence(5002, 5010)
    assert line.made() == 4


def test_a_lost_connection_is_filled_in_as_well() -> None:
    line = running()
    line.take(line.machine.tick(line.state, line.instant(200)))
    assert line.states()[-1] == ("unknown", 99)
    line.recall(300, (150, "status", 8), (180, "status", 2))
    line.silence(301, 310)
    assert line.stops() == [(150, 180, 30, False)]
    assert line.told("data.gap")[0]["cause"] == "comms_loss"


def test_a_loss_that_was_too_short_for_a_gap_loses_no_stop() -> None:
    line = running()
    line.recall(107, (101, "status", 8), (104, "status", 2), (105, "total", 101))
    line.tell(107.2, status=(2, 104), total=(101, 105))
    line.silence(108, 120)
    assert line.stops() == [(101, 104, 3, False)]
    assert line.told("data.gap") == []
    assert line.made() == 1


def test_a_tag_without_history_keeps_what_hangs_on_it_unknown_and_its_count_is_recovered() -> None:
    line = running()
    line.restart(5000)
    line.recall(5001, (1000, "status", 8), (1300, "status", 2), tags=frozenset({"status"}))
    line.tell(5001.2, status=(2, 1300), total=(300, 4000))
    line.silence(5002, 5020)
    assert line.stops() == [(1000, 1300, 300, False)]
    assert line.made() == 200
    gaps = line.told("data.gap")
    assert [(one["affects"], one.get("history_recovered")) for one in gaps] == [
        (("state",), True),
        (("state", "count"), None),
    ]


def test_a_clock_that_is_wrong_gives_no_history() -> None:
    line = running()
    line.tell(100, status=(2, 5000))
    assert line.machine.unseen(line.state, "press") is None


def test_a_machine_that_never_saw_the_device_wants_no_history() -> None:
    assert Recorded().unseen() is None


def test_a_kill_between_two_pieces_neither_loses_nor_doubles() -> None:
    whole, killed = running(), running()
    first = [(1000.0, "status", 8), (1100.0, "total", 105)]
    second = [(1300.0, "status", 2), (2000.0, "total", 300)]
    for line in (whole, killed):
        line.restart(5000)
        line.recall(5001, *first, until=1200, more=True)
        assert line.unseen() == 1200
    killed.restart(6000)
    assert killed.unseen() == 1200
    for line, at in ((whole, 5002), (killed, 6001)):
        line.recall(at, *second)
        line.silence(at + 1, at + 5)
        assert line.stops() == [(1000, 1300, 300, False)]
        assert line.made() == 200


def test_a_piece_that_was_not_stored_is_told_once() -> None:
    line = running()
    stored = line.machine.dump(line.state)
    line.restart(5000)
    line.recall(5001, (1000.0, "status", 8), (1300.0, "status", 2), (1400.0, "total", 150))
    again = running()
    again.take(again.machine.restore(stored, again.instant(6000)))
    again.recall(6001, (1000.0, "status", 8), (1300.0, "status", 2), (1400.0, "total", 150))
    again.silence(6002, 6010)
    assert again.stops() == [(1000, 1300, 300, False)]
    assert again.made() == 50


@st.composite
def timelines(draw: st.DrawFn) -> list[Sample]:
    at, total, samples = 200.0, 100, []
    for _ in range(draw(st.integers(0, 25))):
        at += draw(st.sampled_from((0.2, 0.7, 1.5, 5, 40, 400)))
        if draw(st.booleans()):
            samples.append((at, "status", draw(st.sampled_from((1, 2, 8)))))
        else:
            total += draw(st.integers(0, 1))
            samples.append((at, "total", total))
    return samples


@settings(max_examples=60, deadline=None)
@given(timelines(), st.floats(0, 1))
def test_what_is_recalled_gives_the_stops_and_counts_that_would_have_been_seen(
    samples: list[Sample], part: float
) -> None:
    seen, off = running(), running()
    for line in (seen, off):
        line.silence(100, 199)
    for at, tag, value in samples:
        last = seen.state.at.mono // SECOND
        seen.silence(int(last) + 1, int(at) + 1)
        seen.tell(max(at, seen.state.at.mono / SECOND), **{tag: (value, at)})
    end = (samples[-1][0] if samples else 200) + 500
    seen.silence(int(seen.state.at.mono // SECOND) + 1, int(end) + 11)
    off.restart(end)
    cut = samples[int(part * (len(samples) - 1))][0] if samples else 200.0
    off.recall(end, *(one for one in samples if one[0] <= cut), until=cut, more=True)
    if off.unseen() is not None:
        off.recall(end, *(one for one in samples if one[0] > cut))
    off.silence(int(end) + 1, int(end) + 11)
    assert off.stops() == seen.stops()
    assert off.made() == seen.made()
    intervals = [state for state in _lasting(off) if state[0] != "unknown"]
    assert intervals == _lasting(seen)


def _lasting(line: Recorded) -> list[tuple[str, float]]:
    """The states that lasted, with a state that was only interrupted for no time counted once."""
    states = line.states()
    lasting = [state for state, after in zip(states, [*states[1:], ("end", 1e9)], strict=True) if after[1] > state[1]]
    return [state for before, state in zip([("", 0.0), *lasting], lasting, strict=False) if state[0] != before[0]]
