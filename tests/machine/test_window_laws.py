"""The laws of windows over random timelines with losses, bad tags and kills: times tile, pieces are conserved, and
what a window says follows from the events of its time."""

from collections import defaultdict

from hypothesis import example, given, settings

from tests.machine.stories import START, config, story
from tests.machine.test_invariants import PRESS, STEPS, tell

SHIFTS = [
    {"name": f"S{number}", "start": f"00:{3 * number:02d}", "end": f"00:{3 * number + 3:02d}"} for number in range(19)
]
CALENDAR = {"shifts": SHIFTS, "breaks": [{"name": "tea", "start": "00:04", "end": "00:05"}]}
LENGTH = 180
TEA = (240, 300)


def played(steps):
    told = tell(steps)
    made = config({**PRESS, "ideal_cycle": "1s"}, calendar=CALENDAR, kpi={"windows": ["shift", "hour"]})
    return told, story(made, told.lines, told.until + 2 * LENGTH)


def newest(events, basis="shift"):
    """The last revision of every window, by its start; revisions have no holes."""
    found = {}
    revisions = defaultdict(list)
    for event in events:
        if event["type"] == "kpi.window" and event["window"].basis == basis:
            start = round((event["window"].from_at - START) / 1_000_000)
            found[start] = event
            revisions[start].append(event["rev"])
    assert all(known == list(range(1, len(known) + 1)) for known in revisions.values())
    return found


def spans(events, until):
    """(state, start, end) of the state events."""
    changes = [event for event in events if event["type"] == "state.changed"]
    ends = [change["time"] for change in changes[1:]] + [until]
    return [(change["state"], change["time"], end) for change, end in zip(changes, ends, strict=True)]


def inside(span, *others):
    return sum(max(0, min(span[1], other[1]) - max(span[0], other[0])) for other in others)


@settings(deadline=None, max_examples=30)
@given(STEPS)
@example([(30.0, ("status", 8))] * 4 + [(30.0, ("killed", 0)), (12.0, ("started", 0)), (30.0, ("status", 2))])
def test_the_times_of_a_window_tile_it_and_are_those_of_the_states(steps):
    told, events = played(steps)
    windows = newest(events)
    states = spans(events, told.until + 2 * LENGTH)
    last = max(windows)

    assert sorted(windows) == list(range(0, last + 1, LENGTH))
    for start, event in windows.items():
        time = event["time"]
        window = (start, start + LENGTH)
        tea = (max(TEA[0], start), min(TEA[1], start + LENGTH))
        assert time.pot_s == LENGTH
        assert abs(time.pbt_s + time.planned_down_s - time.pot_s) < 0.003
        buckets = (time.apt_s, time.aust_s, time.adet_s, time.adot_s, time.unknown_s)
        assert abs(sum(buckets) - time.pbt_s) < 0.006
        assert abs(event["coverage"] - (1 - time.unknown_s / time.pbt_s)) < 1e-4
        running = [(since, until) for state, since, until in states if state == "running"]
        assert abs(time.apt_s - inside(window, *running)) < 0.01
        in_tea = inside(tea, *running) if tea[0] < tea[1] else 0
        assert abs(time.planned_down_s - (max(0, tea[1] - tea[0]) - in_tea)) < 0.01
        assert time.microstop_s <= time.adet_s + 0.001


@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_stops_and_pieces_are_in_the_window_in_which_they_began_or_were_counted(steps):
    _, events = played(steps)
    windows = newest(events)

    pieces, stops = defaultdict(int), defaultdict(int)
    for event in events:
        if event["type"] == "production.counted":
            at = (
                event["from_at"] if event["cause"] == "gap_recovery" else max(event["from_at"], event["to_at"] - 1e-6)
            )
            pieces[int(at // LENGTH) * LENGTH] += event["delta"]["total"]
        elif event["type"] == "downtime.started":
            stops[int(event["started_at"] // LENGTH) * LENGTH] += 1
    for start, event in windows.items():
        assert (event["qty"].pq or 0) == pieces[start]
        assert event["stops"].count == stops[start]
