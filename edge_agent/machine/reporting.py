"""When key figures are told: the windows of shifts, hours and orders, from their beginning to their last revision.

A window is told at its end, when the longest debounce has passed, so that a state that is dated back over the end is
in it. It is told again, with the next `rev`, when what is known of it changes later: pieces found after a gap, the
end of a stop, a reason. The last `KEPT` of each basis can still change; all figures are provisional, the MOM's are
final.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from config.calendar import KpiOptions
from config.model import Counter
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import (
    DataGap,
    Downtime,
    DowntimeEnded,
    DowntimeStarted,
    DowntimeUpdated,
    KpiWindow,
    ProductionCounted,
)
from edge_agent.machine.calendar import Calendar
from edge_agent.machine.counters import derived
from edge_agent.machine.kpi import Made
from edge_agent.machine.parts import (
    Desk,
    Fact,
    OrderBegan,
    OrderEnded,
    Part,
    Published,
    Rebuild,
    Rescheduled,
    Resumed,
    StateBegan,
    Wiring,
)
from edge_agent.machine.plan import MEMBERS, digest
from edge_agent.machine.shiftwork import look
from edge_agent.machine.window_event import QUANTITIES, told
from edge_agent.machine.windows import (
    FOREVER,
    Rules,
    Span,
    Stop,
    Tail,
    Window,
    judged_anew,
    settle,
    whole,
)

KEPT: Final = 3
"""Windows of a basis that have been told and may change."""
_MISSED: Final = 48
"""Windows of a basis that passed while the agent was down and are told all the same."""
_LATE: Final = 50
_LATE_MICRO: Final = 20
"""Micro-stops among them: people seldom explain these, and they would drive out the stops that they do explain."""
_RUNS: Final = 8
_SHIFTS: Final = frozenset({"shift"})


class Run(NamedTuple):
    """An order run; `pri` in µs."""

    id: str
    order_id: str
    product: str | None = None
    pri: int | None = None


class Kept(NamedTuple):
    """`since`: watched since then (UTC µs). `windows`: running, ended, and told ones that may change. `claim`: the
    order run that is open. `late`: stops that are in the windows and may get another reason. `dirty`: from when on
    told windows may have changed (UTC µs), and `revise` when to look. `wake`: the next timer. `anew`: it was
    stored under another configuration of the calendar."""

    since: int = 0
    windows: tuple[Window, ...] = ()
    tail: Tail = Tail()
    runs: tuple[Run, ...] = ()
    claim: str | None = None
    late: tuple[Stop, ...] = ()
    dirty: int | None = None
    revise: Instant | None = None
    wake: Instant | None = None
    anew: bool = False


class Reporting(Part[Kept]):
    name: ClassVar[str] = "kpi"
    kind = Kept
    timed: ClassVar[bool] = True
    heeds = frozenset(
        {StateBegan, OrderBegan, OrderEnded, Resumed, Rescheduled, ProductionCounted, DataGap}
        | {DowntimeStarted, DowntimeUpdated, DowntimeEnded}
    )

    def __init__(self, wiring: Wiring) -> None:
        options = wiring.options
        asked = options.kpi or KpiOptions()
        self.bases = frozenset(asked.windows)
        self.fingerprint = digest(f"{wiring.config.site.timezone} {wiring.config.calendar} {asked.windows}")
        self.policy = asked.microstop_policy
        orders = options.orders
        self.orders = orders is not None, orders is not None and orders.count_without_order
        self.ideal = options.ideal_cycle
        self.group = "main" if "main" in options.counters else next(iter(options.counters), None)
        counter = options.counters[self.group] if self.group is not None else None
        self.members = _members(counter)
        self.registers = frozenset(
            wiring.key(ref)
            for member in MEMBERS
            if counter is not None and (ref := getattr(counter, member)) is not None
        )
        state = options.state
        self.wait = 0 if state is None else max((SECOND, state.min_duration, *state.debounce.values()))
        self.uncertainty = wiring.uncertainty(self.registers)
        self.subject = wiring.machine

    def initial(self, now: Instant) -> Kept:
        return Kept(since=now.wall, wake=now)

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> Kept:
        """The stored windows, but for those that the calendar of today does not have."""
        state: Kept = rebuild(Kept, saved)
        return state._replace(wake=now, anew=not same)

    def _exists(self, window: Window, calendar: Calendar) -> bool:
        if window.basis not in self.bases:
            return False
        if window.basis == "shift":
            return (window.id, window.start, window.end) == calendar.shift(window.start)
        return window.basis == "order" or (window.start, window.end) == calendar.hour(window.start)

    def due(self, state: Kept) -> int | None:
        return None if state.wake is None else state.wake.mono

    def take(self, state: Kept, fact: Fact, out: Desk) -> Kept:
        if isinstance(fact, StateBegan):
            tail = state.tail.stated(fact.state, fact.mode, fact.since, state.claim)
            return self._changed(self._settled(state._replace(tail=tail), out), fact.since.wall, out)
        if isinstance(fact, Published):
            return self._published(state, fact, out)
        if isinstance(fact, OrderBegan):
            return self._order_began(state, fact)
        if isinstance(fact, OrderEnded):
            return self._order_ended(state, fact, out)
        if isinstance(fact, Rescheduled):
            return self._recut(state, fact.at, out)
        if isinstance(fact, Resumed) and state.anew:
            kept = tuple(window for window in state.windows if self._exists(window, out.calendar))
            return state._replace(windows=kept, anew=False)
        return state

    def _recut(self, state: Kept, at: Instant, out: Desk) -> Kept:
        """The windows under another calendar. A shift that keeps its name ends when it says now, also one that was
        told; another one is cut where the new calendar begins, for what happened under the old one stays there."""
        shift = out.calendar.shift(at.wall)
        windows: list[Window] = []
        for window in state.windows:
            if window.basis == "shift":
                if shift is not None and shift.id == window.id:
                    window = window._replace(end=shift.end)
                    if window.rev:
                        late = Instant(shift.end + self.wait, at.mono + shift.end + self.wait - at.wall)
                        state = state._replace(dirty=min(window.start, state.dirty or FOREVER), revise=late)
                elif not window.rev and window.holds(at.wall):
                    window = window._replace(end=at.wall)
            windows.append(window)
        return state._replace(windows=tuple(windows), wake=at)

    def _published(self, state: Kept, fact: Published, out: Desk) -> Kept:
        if not state.windows and self.bases == _SHIFTS and not out.calendar.has_shifts:
            return state
        data = fact.event.data
        if isinstance(data, ProductionCounted):
            return self._counted(state, data, fact.event.ctx or {}, out)
        if isinstance(data, DataGap):
            return self._gap(state, data, out)
        assert isinstance(data, Downtime)
        return self._stopped(state, data, out)

    def _rules(self, out: Desk) -> Rules:
        return Rules(out.calendar, *self.orders)

    def _settled(self, state: Kept, out: Desk) -> Kept:
        windows, tail, done = settle(state.windows, state.tail, self._rules(out))
        return state._replace(windows=windows, tail=tail, late=_latest((*state.late, *done)) if done else state.late)

    def _changed(self, state: Kept, wall: int, out: Desk) -> Kept:
        """What is known of the time from `wall` on changed: told windows that end later are looked at again."""
        if not any(window.rev and (window.end or 0) > wall for window in state.windows):
            return state
        dirty = wall if state.dirty is None else min(wall, state.dirty)
        revise = state.revise or Instant(out.now.wall + self.wait, out.now.mono + self.wait)
        return _soon(state._replace(dirty=dirty, revise=revise), revise)

    def _order_began(self, state: Kept, fact: OrderBegan) -> Kept:
        pri = self.ideal if fact.ideal_cycle_s is None else round(fact.ideal_cycle_s * SECOND)
        runs = (
            *(run for run in state.runs if run.id != fact.run_id),
            Run(fact.run_id, fact.order_id, fact.product, pri),
        )
        windows = state.windows
        if "order" in self.bases and not any(window.id == fact.run_id for window in windows):
            windows = (*windows, Window("order", fact.run_id, fact.at.wall, None))
        tail = state.tail.claimed(fact.run_id, fact.at)
        return state._replace(runs=runs[-_RUNS:], windows=windows, tail=tail, claim=fact.run_id)

    def _order_ended(self, state: Kept, fact: OrderEnded, out: Desk) -> Kept:
        windows = tuple(
            window._replace(end=max(fact.at.wall, window.start)) if window.id == fact.run_id else window
            for window in state.windows
        )
        tail = state.tail.claimed(None, fact.at)
        claim = None if state.claim == fact.run_id else state.claim
        told = Instant(out.now.wall + self.wait, out.now.mono + self.wait)
        return _soon(state._replace(windows=windows, tail=tail, claim=claim), told)

    def _counted(self, state: Kept, data: ProductionCounted, ctx: Mapping[str, Any], out: Desk) -> Kept:
        if data.counter != self.group or "total" not in data.delta:
            return state
        wall = data.from_at if data.cause == "gap_recovery" else max(data.from_at, data.to_at - 1)
        run_id = ctx.get("order_run_id")
        run = next((run for run in state.runs if run.id == run_id), None)
        product, pri = (None, self.ideal) if run is None else (run.product, run.pri)
        counts = {
            name: round(data.delta[member]) if member in data.delta else None for name, member in QUANTITIES.items()
        }
        made = Made(product, pri, counts["pq"] or 0, counts["gq"], counts["sq"], counts["rq"])

        def mine(window: Window) -> bool:
            return window.id == run_id if window.basis == "order" else window.holds(wall)

        windows = tuple(window.with_made(made) if mine(window) else window for window in state.windows)
        return self._changed(state._replace(windows=windows), wall, out)

    def _gap(self, state: Kept, data: DataGap, out: Desk) -> Kept:
        if "count" not in data.affects:
            return state
        if data.count_recovered != "exact":
            windows = tuple(
                window._replace(lost=window.lost or _overlap(window, data.from_at, data.to_at))
                for window in state.windows
            )
            state = state._replace(windows=windows)
        return self._changed(state, data.from_at, out)

    def _stopped(self, state: Kept, data: Downtime, out: Desk) -> Kept:
        """A revision of a downtime; one that is in the windows already is judged anew."""
        after = _stop(data, out.calendar)
        before = next((stop for stop in state.late if stop.id == after.id), None)
        if before is not None:
            spans = [
                (each.state, each.started_at, each.started_at + round(each.duration_s * SECOND), each.order_id)
                for each in data.segments or ()
            ]
            rules = self._rules(out)
            windows = tuple(judged_anew(window, before, after, spans, rules) for window in state.windows)
            late = tuple(after if stop.id == after.id else stop for stop in state.late)
            return self._changed(state._replace(windows=windows, late=late), after.since, out)
        if state.tail.stop(after.id) is None and not isinstance(data, DowntimeStarted):
            return state
        return self._changed(state._replace(tail=state.tail.with_stop(after)), after.since, out)

    def fire(self, state: Kept, at: Instant, out: Desk) -> Kept:
        state = self._opened(state._replace(tail=state.tail.timed(at)), at, out)
        for window in sorted(state.windows, key=lambda window: window.end or FOREVER):
            if not window.rev and window.end is not None and window.end + self.wait <= at.wall:
                state = self._tell(state, window, at, out)
        if state.revise is not None and state.revise.mono <= at.mono:
            dirty = state.dirty or 0
            for window in state.windows:
                if window.rev and window.end is not None and window.end > dirty:
                    state = self._tell(state, window, at, out)
            state = state._replace(revise=None, dirty=None)
        state = state._replace(windows=tuple(_kept(state.windows)))
        return state._replace(wake=self._next(state, at, out))

    def _next(self, state: Kept, at: Instant, out: Desk) -> Instant | None:
        """The next time at which a window begins, ends, or is to be told."""
        walls = [
            window.end + (0 if window.end > at.wall else self.wait)
            for window in state.windows
            if window.end and not window.rev
        ]
        if "shift" in self.bases and not any(w.basis == "shift" and w.holds(at.wall) for w in state.windows):
            walls += [wall for wall in (out.calendar.next(at.wall),) if wall is not None]
        wake = look(min(walls), at, out.now) if walls else None
        if state.revise is not None and (wake is None or state.revise.mono < wake.mono):
            wake = state.revise
        return wake

    def _opened(self, state: Kept, at: Instant, out: Desk) -> Kept:
        """With a window for every shift and hour up to now; counts up to the end of an hour are flushed."""
        unread = any(key not in out.held for key in self.registers)
        for basis in ("shift", "hour"):
            if basis not in self.bases:
                continue
            own = [window for window in state.windows if window.basis == basis]
            last = max((window.end or 0 for window in own), default=None)
            if last is not None and last > at.wall:
                continue
            if basis == "hour" and last is not None:
                out.flush(Instant(last, at.mono - (at.wall - last)))
            fresh = list(_spans(out.calendar, basis, at.wall if last is None else last, at.wall))[-_MISSED:]
            windows = tuple(
                Window(basis, id_, max(start, last or start), end, lost=start < state.since or unread)
                for id_, start, end in fresh
            )
            if windows:
                out.keep()
                state = state._replace(windows=(*state.windows, *windows))
        return state

    def _tell(self, state: Kept, window: Window, at: Instant, out: Desk) -> Kept:
        """Publish the window if it says something else than the last time."""
        assert window.end is not None
        end = Instant(window.end, at.mono - (at.wall - window.end))
        known = whole(window, state.tail, end, self._rules(out))
        made = known.made or self._nothing(state, out)
        lost = known.lost or not self._counter_seen(out)
        others = tuple(one for one in state.windows if one is not window)
        if window.basis == "hour" and not (known.buckets.pot or known.made or known.stops.begun or window.rev):
            return state._replace(windows=others)
        shown = digest(repr((known.buckets, known.stops, made, lost)))
        new = window._replace(shown=shown, rev=window.rev + (shown != window.shown))
        if shown != window.shown:
            data = told(
                known, made, self.policy, out.calendar.tz, self.uncertainty, whole_count=not lost, rev=new.rev
            )
            if data.kpi is not None and data.kpi.get("effectiveness", 0) > 1:
                self._too_fast(data, out)
            out.production(window.end, data, ctx=_ctx(window, state.runs, out.calendar))
        return state._replace(windows=tuple(new if one is window else one for one in state.windows))

    def _counter_seen(self, out: Desk) -> bool:
        held = [out.held.get(key) for key in self.registers]
        return all(one is not None and one.stale is None for one in held)

    def _nothing(self, state: Kept, out: Desk) -> tuple[Made, ...]:
        """Nothing was made, and that is known."""
        if not self.members or not self._counter_seen(out):
            return ()
        run = next((run for run in state.runs if run.id == state.claim), None)
        zero = {name: 0 if member in self.members else None for name, member in QUANTITIES.items()}
        pri = self.ideal if run is None else run.pri
        return (Made(None if run is None else run.product, pri, 0, zero["gq"], zero["sq"], zero["rq"]),)

    def _too_fast(self, data: KpiWindow, out: Desk) -> None:
        assert data.kpi is not None
        out.warn(
            "ideal_cycle_too_long",
            f"{self.subject}: in {data.window.id} it made its parts in {100 / data.kpi['effectiveness']:.0f} % of "
            "the time that they should take. Is ideal_cycle, or the order's, too long?",
        )


def _spans(calendar: Calendar, basis: str, wall: int, until: int) -> Iterator[tuple[str, int, int]]:
    """Windows of the basis that are on at some time from `wall` to `until`, both included."""
    while wall <= until:
        if basis == "hour":
            start, end = calendar.hour(wall)
            yield calendar.local(start).isoformat(timespec="minutes"), start, end
            wall = end
            continue
        found = calendar.at(wall)
        if found.shift is not None:
            yield found.shift
        wall = found.end if found.shift is None else found.shift.end


def _kept(windows: Sequence[Window]) -> Iterator[Window]:
    """What is running or not told yet, and the last told ones of each basis."""
    for basis in ("shift", "hour", "order"):
        own = [window for window in windows if window.basis == basis]
        yield from [window for window in own if window.rev][-KEPT:]
        yield from [window for window in own if not window.rev]


def _ctx(window: Window, runs: Sequence[Run], calendar: Calendar) -> dict[str, str | int | tuple[str, ...]] | None:
    if window.basis == "order":
        run = next((run for run in runs if run.id == window.id), None)
        order = {} if run is None else {"order_id": run.order_id, "product": run.product}
        return {**{key: value for key, value in order.items() if value}, "order_run_id": window.id}
    if window.basis == "shift":
        return {"shift": window.id}
    shift = calendar.shift(window.start)
    return None if shift is None else {"shift": shift.id}


def _stop(data: Downtime, calendar: Calendar) -> Stop:
    until = data.ended_at if data.status == "ended" else None
    excused: tuple[Span, ...] = ()
    asked = data.reason is not None and data.reason.source in ("operator", "mom")
    if asked or data.segments is None:
        by_calendar = calendar.at(data.started_at).planned is not None and not asked
        if data.planned == "planned" and not by_calendar:
            excused = ((data.started_at, until or FOREVER),)
    else:
        excused = tuple(
            (each.started_at, each.started_at + round(each.duration_s * SECOND))
            for each in data.segments
            if each.planned
        )
    return Stop(data.downtime_id, data.started_at, until, data.class_, data.category, excused)


def _latest(stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
    """The last stops, of the micro-stops fewer."""
    micro = [stop.id for stop in stops if stop.class_ == "microstop"]
    gone = set(micro[:-_LATE_MICRO])
    return tuple(stop for stop in stops if stop.id not in gone)[-_LATE:]


def _members(counter: Counter | None) -> frozenset[str]:
    """Members of the counter that are published; empty if the produced quantity is not among them."""
    if counter is None:
        return frozenset()
    known = {member for member in MEMBERS if getattr(counter, member) is not None} | {derived(counter)}
    return frozenset(member for member in known if member) if "total" in known else frozenset()


def _overlap(window: Window, start: int, end: int) -> bool:
    return start < (window.end or FOREVER) and window.start < end


def _soon(state: Kept, when: Instant) -> Kept:
    return state if state.wake is not None and state.wake.mono <= when.mono else state._replace(wake=when)


def build(wiring: Wiring) -> Part[Kept] | None:
    part = Reporting(wiring)
    return part if part.bases else None
