"""Laws of orders over random timelines: every piece is booked once, to one run or to none, whatever is asked,
repeated, dated in the past, lost or killed on the way.
"""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.clock import SECOND
from edge_agent.machine.saved import dump_archive
from tests.machine.stories import PRESS, TAGS, config, drive, machine, story
from tests.machine.stories import lines as story_lines

MOM = {
    **PRESS,
    "orders": {"authority": "mom"},
    "counters": {"main": {"total": "total", "scrap": "reject", "max_rate": "50/s", "resets": "never"}},
}
PLC = {**MOM, "orders": {"authority": "plc", "tag": "order", "changeover": "order_gap"}}
ORDERS = st.sampled_from(["A", "B", "C"])

COMMANDS = st.one_of(
    st.builds(lambda order, mode: {"name": "order.start", "order_id": order, "mode": mode}, ORDERS,
              st.sampled_from(["start", "switch"])),
    st.builds(lambda order, how: {"name": "order.stop", "order_id": order, "as": how}, ORDERS,
              st.sampled_from(["completed", "suspended", "aborted"])),
    st.builds(lambda order: {"name": "order.dispatch", "order_id": order, "planned_qty": 5, "batch": f"L{order}"},
              ORDERS),
    st.builds(lambda order, n: {"name": "order.update", "order_id": order, "planned_qty": n}, ORDERS,
              st.integers(1, 9)),
    st.builds(lambda n, of: {"name": "production.declare", "class": "scrap", "qty": n, "move_from": "good", **of},
              st.integers(1, 3), st.sampled_from([{}, {"order_id": "A"}])),
    st.builds(lambda kind, n: {"name": "production.declare", "class": kind, "qty": n},
              st.sampled_from(["good", "scrap", "rework"]), st.integers(1, 3)),
    st.builds(lambda n: {"name": "production.reverse", "command_id": f"c-{n}"}, st.integers(0, 12)),
    st.just({"name": "downtime.assign_reason", "downtime_id": "last", "code": "M-1"}),
    st.just({"name": "context.set", "batch": "X", "ttl": 20}),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.3, 1.0, 1.0, 2.5, 12.0, 40.0]),
        st.one_of(
            st.tuples(st.just("make"), st.integers(1, 5)),
            st.tuples(st.just("make"), st.integers(1, 5)),
            st.tuples(st.just("ask"), st.tuples(COMMANDS, st.sampled_from([0, 0, 0, 5, 60, -30]))),
            st.tuples(st.just("ask"), st.tuples(COMMANDS, st.just(0))),
            st.tuples(st.just("order"), st.sampled_from(["", "A", "B"])),
            st.tuples(st.just("status"), st.sampled_from([1, 2, 2, 8])),
            st.tuples(st.just("scrap"), st.just(1)),
            st.tuples(st.sampled_from(["killed", "lost", "started", "back", "started", "back"]), st.just(0)),
        ),
    ),
    max_size=40,
)


_UNDONE = {"started": "killed", "back": "lost"}


def tell(steps: list[Any], *, floor: bool, twice: bool) -> tuple[list[dict[str, Any]], float]:
    """The steps as a timeline; `floor`: the order stands in a tag; `twice`: every command comes twice."""
    lines: list[dict[str, Any]] = [{"at": "0s", "status": 2, "fault": 0, "total": 0, "reject": 0}]
    if floor:
        lines[0]["order"] = "A"
    at, total, scrap, asked = 1.0, 0, 0, 0
    away: set[str] = set()
    for wait, (what, value) in steps:
        at += wait
        now = f"{at:.1f}s"
        if what == "make":
            total += value
            lines.append({"at": now, "total": total})
        elif what == "scrap":
            total, scrap = total + 1, scrap + 1
            lines.append({"at": now, "total": total, "reject": scrap})
        elif what == "ask":
            command, effective = value
            said = {**command, "id": f"c-{asked}"}
            asked += 1
            if effective and command["name"] in ("order.start", "order.stop"):
                said["effective_at"] = f"{max(0, at - effective):.1f}s"
            lines += [{"at": now, "command": said}] * (2 if twice else 1)
        elif what == "order":
            lines += [{"at": now, "order": value}] if floor else []
        elif what == "status":
            lines.append({"at": now, "status": value})
        elif what not in away if what in ("killed", "lost") else _UNDONE[what] in away:
            away ^= {_UNDONE.get(what, what)}
            lines.append({"at": now, "agent" if what in ("killed", "started") else "device": what})
    end = f"{at + 1:.1f}s"
    lines += [{"at": end, "agent": "started"}] if "killed" in away else []
    lines += [{"at": end, "device": "back"}] if "lost" in away else []
    return lines, at + 60


def check(events: list[dict[str, Any]]) -> None:
    """Sums over runs and over all, and the order totals as they were told."""
    runs: dict[str, dict[str, int]] = {}
    everything: dict[str, int] = {}
    open_run: str | None = None
    for event in events:
        kind = event["type"]
        if kind == "production.counted":
            run = event.get("ctx", {}).get("order_run_id")
            own = runs.setdefault(str(run), {})
            for member, n in event["delta"].items():
                own[member] = own.get(member, 0) + n
                everything[member] = everything.get(member, 0) + n
            for member, n in event["totals"].items():
                assert n == everything.get(member, 0), event
            assert ("order_totals" in event) == (run is not None), event
            for member, n in event.get("order_totals", {}).items():
                assert n == own.get(member, 0), event
        elif kind == "order.started":
            assert open_run is None
            open_run = event["order_run_id"]
            assert open_run == event["ctx"]["order_run_id"]
        elif event.get("job_state") in ("ended", "interrupted", "aborted"):
            assert event["order_run_id"] == open_run == event["ctx"]["order_run_id"]
            for member, n in event["totals"].items():
                assert n == runs.get(str(open_run), {}).get(member, 0), event
            open_run = None
    for member, n in everything.items():
        assert n == sum(own.get(member, 0) for own in runs.values())


def _start(order: str, effective: int = 0) -> tuple[float, Any]:
    return 2.5, ("ask", ({"name": "order.start", "order_id": order, "mode": "switch"}, effective))


IN_A_GAP = [_start("A"), (2.5, ("make", 3)), (2.5, ("lost", 0)), (40.0, ("make", 5)), _start("B"), (2.5, ("back", 0))]
"""The order changes while the machine cannot be seen, and the pieces of that time are told afterwards."""


@settings(deadline=None, max_examples=80)
@example([*IN_A_GAP, (1.0, ("make", 2)), _start("A", 5)])
@given(STEPS)
def test_every_piece_belongs_to_one_run_or_to_none(steps: list[Any]) -> None:
    lines, until = tell(steps, floor=False, twice=False)

    check(story(config(MOM), lines, until, "production", "order"))


@settings(deadline=None, max_examples=80)
@given(STEPS)
def test_every_piece_belongs_to_the_order_of_the_floor(steps: list[Any]) -> None:
    lines, until = tell(steps, floor=True, twice=False)
    events = story(config(PLC, {**TAGS, "order": "string"}), lines, until, "production", "order")

    check(events)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_commands_that_come_twice_change_nothing_more(steps: list[Any]) -> None:
    def effects(twice: bool) -> list[dict[str, Any]]:
        lines, until = tell(steps, floor=False, twice=twice)
        events = story(config(MOM), lines, until)
        numbered = ("seq", "story", "downtime_id")
        return [
            {key: value for key, value in event.items() if key not in numbered}
            for event in events
            if not event["type"].startswith("command")
        ]

    assert effects(twice=True) == effects(twice=False)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_segments_of_a_downtime_add_up_to_it(steps: list[Any]) -> None:
    lines, until = tell(steps, floor=True, twice=False)
    for event in story(config(PLC, {**TAGS, "order": "string"}), lines, until, "downtime"):
        if event["status"] == "ended":
            assert abs(sum(one.duration_s for one in event["segments"]) - event["duration_s"]) < 0.01


@settings(deadline=None, max_examples=60)
@example(IN_A_GAP)
@given(STEPS)
def test_what_is_stored_of_orders_and_commands_is_what_was_there(steps: list[Any]) -> None:
    """A kill right after any line loses nothing that has been stored, and invents nothing."""
    made = config(MOM)
    lines, until = tell(steps, floor=False, twice=False)
    driven = drive(made)
    for one in driven.play(story_lines(made, lines), round(until * SECOND)):
        if one.machine is None or "press" not in driven.states:
            continue
        whole = driven.states["press"]
        archived = {"archive": dump_archive(whole.archive, whole.at)}
        again = machine(made).restore(machine(made).dump(whole), whole.at, archived).state
        assert again.archive.jobs == whole.archive.jobs
        assert again.archive.results == whole.archive.results
        assert again.archive.scheduled == whole.archive.scheduled
        before, after = whole.parts["orders"].run, again.parts["orders"].run
        assert (before and before._replace(times={})) == (after and after._replace(times={}))
        assert again.parts["orders"].until == whole.parts["orders"].until
        assert again.ctx == whole.ctx
