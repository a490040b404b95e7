"""Cycles: from the time one begins to the time it ends, with what was noted of the piece.

With `start` and `end` a cycle lies between the two; with one of them from one time to the next; without, from one
advance of counter `main` to the next (event model §7.16). An edge counts when the expression was seen false before:
the first value after connecting, or after a gap, is only a level. A cycle that was open when its tags got out of
sight is dropped: nobody saw its end (I5). Cycles never overlap, and those of one trigger follow on each other (I1).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from config.cycles import CycleOptions, Result
from drivers.base import Quality, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import CycleCompleted, Param
from edge_agent.machine import expressions
from edge_agent.machine.operations import Uncertain
from edge_agent.machine.parts import (
    Counted,
    CycleBegan,
    CycleEnded,
    Desk,
    Fact,
    GapOpened,
    Part,
    Rebuild,
    Scanned,
    StateBegan,
    Wiring,
)
from edge_agent.machine.plan import MEMBERS, digest
from edge_agent.machine.times import later, seconds

FAST: Final = SECOND
"""Cycles that are shorter on average go to `.m`, whose events may be shed; with a tenth of play both ways."""
_WORDS: Final[Mapping[Value, Result]] = {
    True: "good",
    False: "scrap",
    "good": "good",
    "scrap": "scrap",
    "rework": "rework",
}
_QUALITIES: Final = ("good", "uncertain", "bad")


class Levels(NamedTuple):
    """What the two expressions said last; None: not known."""

    start: bool | None = None
    end: bool | None = None


class CycleState(NamedTuple):
    """`number`: cycles so far. `began`: the open cycle, None if none is. `parts`: pieces by member since then.
    `counted`: a count of this scan. `waiting`: starved or blocked since; `waited`: µs of that in the open cycle.
    `pace`: average µs of a cycle; `fast`: they go to `.m`. `next`: when to ask the expressions again."""

    number: int = 0
    began: Instant | None = None
    levels: Levels = Levels()
    parts: Mapping[str, int] = {}
    counted: bool = False
    waiting: Instant | None = None
    waited: int = 0
    pace: int = 0
    fast: bool = False
    next: int | None = None


class Cycles(Part[CycleState]):
    name = "cycles"
    timed = True
    kind = CycleState

    def __init__(self, wiring: Wiring) -> None:
        options = wiring.options
        self._asset = wiring.machine
        self._published = options.cycles is not None
        self._options = known = options.cycles or CycleOptions()
        self._start = None if known.start is None else expressions.parse(known.start, wiring.key)
        self._end = None if known.end is None else expressions.parse(known.end, wiring.key)
        asked = tuple(one for one in (self._start, self._end) if one is not None)
        self._deciding = frozenset(tag for one in asked for tag in one.tags)
        self.windows = {tag: round(span * SECOND) for one in asked for tag, span in one.windows.items()}
        self._result = None if known.result is None else wiring.key(known.result)
        self._program = None if known.program is None else wiring.key(known.program)
        self._params = {ref: wiring.key(ref) for ref in known.params}
        self._units = {ref: wiring.unit(key) for ref, key in self._params.items()}
        noted = {key for key in (self._result, self._program) if key is not None} | set(self._params.values())
        self.keys = self._deciding | noted
        self._counter = counter = options.counters.get("main")
        registers = {wiring.key(ref) for member in MEMBERS if (ref := getattr(counter, member, None)) is not None}
        self._watched = self._deciding or frozenset(registers)
        self._uncertainty = wiring.uncertainty(self._watched)
        factor = 1 if counter is None else counter.parts_per_count
        self._factor = wiring.key(factor) if isinstance(factor, str) else factor
        self._ideal = options.ideal_cycle
        self._has_state = options.state is not None
        self.heeds = frozenset(
            {GapOpened, Scanned}
            | ({StateBegan} if self._has_state else set())
            | (set() if counter is None else {Counted})
        )
        self.fingerprint = digest(f"{known.model_dump_json()} {factor}")

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> CycleState:
        state: CycleState = rebuild(CycleState, saved)
        return state if same else CycleState(number=state.number)

    def take(self, state: CycleState, fact: Fact, out: Desk) -> CycleState:
        if isinstance(fact, Scanned):
            if self._deciding:
                return self._judge(state, fact.at, fact.basis, out)
            return self._advanced(state, fact, out) if state.counted else state
        if isinstance(fact, Counted):
            return self._counts(state, fact)
        if isinstance(fact, StateBegan):
            return _waits(state, fact)
        if isinstance(fact, GapOpened):
            return self._unseen(state, fact)
        return state

    def due(self, state: CycleState) -> int | None:
        return state.next

    def fire(self, state: CycleState, at: Instant, out: Desk) -> CycleState:
        return self._judge(state._replace(next=None), at, "derived", out)

    def _judge(self, state: CycleState, at: Instant, basis: str, out: Desk) -> CycleState:
        """What the expressions say now, and whether that begins or ends a cycle."""
        view, was = out.view(at), state.levels
        levels = []
        for expression, before in ((self._start, was.start), (self._end, was.end)):
            try:
                levels.append(None if expression is None else expression.holds(view))
            except Uncertain:
                levels.append(before)
        now = Levels(*levels)
        if now != was or view.next != state.next:
            state = state._replace(levels=now, next=view.next)
        starts, ends = was.start is False and bool(now.start), was.end is False and bool(now.end)
        if ends and (state.began is not None or self._start is None):
            state = self._ended(state, at, basis, out, goes_on=self._start is None)
        if starts:
            if state.began is not None and self._end is None:
                return self._ended(state, at, basis, out, goes_on=True)
            state = _begin(state, at)
            out.tell(CycleBegan(at, self._id(state.number + 1, out)))
        return state

    def _counts(self, state: CycleState, fact: Counted) -> CycleState:
        if fact.counter != "main":
            return state
        if fact.cause in ("gap_recovery", "correction", "declared"):
            return state if self._deciding else _begin(state, fact.at)
        parts = {member: state.parts.get(member, 0) + made for member, made in fact.delta.items()}
        return state._replace(parts={**state.parts, **parts}, counted=True)

    def _advanced(self, state: CycleState, fact: Scanned, out: Desk) -> CycleState:
        """A cycle without tags of its own ends with each advance of the counter."""
        state = state._replace(counted=False)
        made = self._made(state)
        if made is None or made <= 0:
            return state
        return self._ended(state, fact.at, fact.basis, out, goes_on=True)

    def _made(self, state: CycleState) -> int | None:
        if self._counter is None:
            return None
        parts = state.parts
        return parts.get("total", 0) if self._counter.total is not None else sum(parts.values())

    def _unseen(self, state: CycleState, fact: GapOpened) -> CycleState:
        if self._watched.isdisjoint(fact.keys):
            return state
        begun = state.began is not None
        return CycleState(number=state.number + begun, waiting=state.waiting, pace=state.pace, fast=state.fast)

    def _ended(self, state: CycleState, at: Instant, basis: str, out: Desk, *, goes_on: bool) -> CycleState:
        """The open cycle, if there is one, ends; `goes_on`: the next one begins with that."""
        if state.began is not None:
            state = self._publish(state, state.began, later(at, state.began), basis, out, goes_on=goes_on)
        return _begin(state, at) if goes_on else state._replace(began=None, parts={}, waited=0)

    def _publish(
        self, state: CycleState, began: Instant, at: Instant, basis: str, out: Desk, *, goes_on: bool
    ) -> CycleState:
        lasted = at.mono - began.mono
        pace = lasted if state.pace == 0 else (7 * state.pace + lasted) // 8
        fast = pace < FAST * (11 if state.fast else 9) // 10
        state = state._replace(number=state.number + 1, pace=pace, fast=fast)
        known = state if out.coming is None else _waits(state, out.coming)
        waited = known.waited + (0 if known.waiting is None else at.mono - later(known.waiting, began).mono)
        made = self._made(state)
        per_cycle = self._per_cycle(out)
        cycles = max(1, (made or 0) // per_cycle) if not self._deciding else 1
        ideal = None if self._ideal is None else round(self._ideal * (made or per_cycle) / SECOND, 3)
        cycle_id = self._id(state.number, out)
        result = self._outcome(state, out)
        if self._published:
            doubtful = any((held := out.held.get(key)) is not None and held.quality for key in self._deciding)
            serial = (out.ctx or {}).get("serial")
            data = CycleCompleted(
                quality="uncertain" if doubtful or cycles > 1 else "good",
                quality_detail=("several_cycles",) if cycles > 1 else None,
                time_basis=basis,
                time_unc_s=self._uncertainty,
                cycle_id=cycle_id,
                started_at=began.wall,
                ended_at=at.wall,
                duration_s=seconds(began, at),
                ideal_s=ideal,
                wait_s=round(max(0, waited) / SECOND, 3) if self._has_state else None,
                result=result,
                parts=None if made is None else max(0, made),
                serials=None if serial is None else (str(serial),),
                program=self._text(self._program, out),
                params=self._noted(out) or None,
            )
            if fast:
                out.measurement(at.wall, data)
            else:
                out.production(at.wall, data)
        out.tell(CycleEnded(cycle_id, began, at, result, self._id(state.number + 1, out) if goes_on else None))
        return state

    def _id(self, number: int, out: Desk) -> str:
        return f"cy-{out.production_id().partition('.')[0]}-{self._asset}-{number}"

    def _per_cycle(self, out: Desk) -> int:
        """Parts of one cycle, e.g. the cavities of the mould."""
        if isinstance(self._factor, int):
            return self._factor
        held = out.held.get(self._factor)
        return int(held.value) if held is not None and isinstance(held.value, int | float) and held.value >= 1 else 1

    def _outcome(self, state: CycleState, out: Desk) -> Result:
        """As the result tag says; without one, as the counter says whose pieces are all of one kind."""
        if self._result is not None:
            held = out.held.get(self._result)
            if held is None or held.stale is not None:
                return "unknown"
            value: Value = held.value
            known = self._options.results
            code = int(value) if isinstance(value, bool | float) and value == int(value) else value
            if not isinstance(code, float) and code in known:
                return known[code]
            word = value.strip().lower() if isinstance(value, str) else value
            return _WORDS.get(word, "unknown") if isinstance(word, bool | str) else "unknown"
        counter, made = self._counter, self._made(state)
        if counter is None or not made:
            return "unknown"
        kinds: tuple[Result, ...] = ("good", "scrap", "rework")
        one = [kind for kind in kinds if state.parts.get(kind, 0) > 0]
        if len(one) == 1 and state.parts[one[0]] >= made:
            return one[0]
        rest_is_good = counter.good is None and (counter.assume_good or counter.scrap or counter.rework)
        return "good" if not one and rest_is_good else "unknown"

    def _text(self, key: str | None, out: Desk) -> str | None:
        held = None if key is None else out.held.get(key)
        return None if held is None or held.stale is not None else str(held.value).strip() or None

    def _noted(self, out: Desk) -> dict[str, Param]:
        noted: dict[str, Param] = {}
        for ref, key in self._params.items():
            held = out.held.get(key)
            if held is None:
                continue
            if held.stale is not None:
                noted[ref] = Param(uom=self._units[ref], q="bad")
            else:
                noted[ref] = Param(v=held.value, uom=self._units[ref], q=_QUALITIES[Quality(held.quality)])
        return noted


def build(wiring: Wiring) -> Cycles | None:
    """Also without `cycles`, when a sample set is to be taken at the end of each."""
    options = wiring.options
    wanted = any(measured.on == "cycle" for measured in options.measurements.values())
    return Cycles(wiring) if options.cycles is not None or wanted else None


def _begin(state: CycleState, at: Instant) -> CycleState:
    return state._replace(began=at, parts={}, counted=False, waited=0)


def _waits(state: CycleState, fact: StateBegan) -> CycleState:
    """Starved and blocked time, as far as it lies in the open cycle."""
    waited = state.waited
    if state.waiting is not None and state.began is not None:
        waited += max(0, fact.since.mono - later(state.waiting, state.began).mono)
    waiting = fact.since if fact.state in ("starved", "blocked") else None
    if waiting == state.waiting and waited == state.waited:
        return state
    return state._replace(waiting=waiting, waited=waited)
