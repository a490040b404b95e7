"""Orders and context of a machine: who claims it, what it carries on its events, where its counts belong.

Tags are judged once per time of a batch, after the counters: pieces counted up to the change belong to the order
before it. At a change the counts are flushed, the old run ends with what it got, the new revision begins, the new run
starts; all of it in one step, so a kill leaves either side and nothing between. What came from a tag stays until the
tag says something else; what the MOM set for a time goes when the time is over.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

from drivers.base import Value
from edge_agent.clock import Instant
from edge_agent.events.types import (
    ContextChanged,
    OrderChanged,
    OrderCompleted,
    OrderStarted,
    ProductionCounted,
)
from edge_agent.machine import kpi, orders
from edge_agent.machine.calendar import Calendar
from edge_agent.machine.context import Word, change, people, said
from edge_agent.machine.orders import MAX_RUNS, Booked, Job, Run
from edge_agent.machine.parts import (
    Boundary,
    Counted,
    Desk,
    Fact,
    OrderBegan,
    OrderEnded,
    Part,
    Published,
    Rebuild,
    Resumed,
    Scanned,
    StateBegan,
    Wiring,
)
from edge_agent.machine.samples import Held

_TAGS: Final = ("product", "batch", "serial", "operators", "tool", "recipe")


class Doing(NamedTuple):
    """The state interval that is open."""

    state: str
    since: Instant
    mode: str = "production"


class Work(NamedTuple):
    """`said`: what the tags said last, by their role. `by`: context key → who set it: tag, mom, order or calendar.
    `until`: when a key goes that was set for a time. `runs`: how many so far. `booked`: recent counts, for changes
    that are dated in the past. `piece`: the last piece. `idle`: the last piece of the order before, while none of the
    new one has been made (`changeover: order_gap`)."""

    said: Mapping[str, Value] = {}
    by: Mapping[str, str] = {}
    until: Mapping[str, Instant] = {}
    runs: int = 0
    run: Run | None = None
    booked: tuple[Booked, ...] = ()
    doing: Doing | None = None
    piece: Instant | None = None
    idle: Instant | None = None


class Ending(NamedTuple):
    """How a run ends: `completed`, `suspended` or `aborted`, and why."""

    how: str
    reason: str = "command"


class When(NamedTuple):
    at: Instant
    basis: str = "agent"
    unc_s: float = 0
    origin: str = "mom"


class Ordering(Part[Work]):
    name: ClassVar[str] = "orders"
    kind = Work
    timed: ClassVar[bool] = True

    def __init__(self, wiring: Wiring) -> None:
        options = wiring.options
        self.options = options.orders
        self.codes = {str(role): table for role, table in options.codes.items()}
        self.subject = wiring.machine
        self.group = "main" if "main" in options.counters else next(iter(options.counters), "main")
        tags: dict[str, str] = {}
        if options.orders is not None:
            for role in ("tag", "operation", "quantity"):
                ref = getattr(options.orders, role)
                if ref is not None:
                    tags["order" if role == "tag" else role] = wiring.key(ref)
        for role in _TAGS:
            ref = getattr(options.context, role) if options.context is not None else None
            if ref is not None:
                tags[role] = wiring.key(ref)
        self.tags: Mapping[str, str] = tags
        self.keys = frozenset(tags.values())
        self._uncertainty = wiring.uncertainty(self.keys)
        self.gap = options.orders is not None and options.orders.changeover == "order_gap"
        self.history = 0
        if options.orders is not None and options.orders.authority == "mom":
            self.history = options.orders.reattribute
        heeds: set[type] = {Boundary, Resumed}
        if options.orders is not None:
            heeds |= {StateBegan, ProductionCounted} if self.history else {StateBegan}
            if self.gap:
                heeds.add(Counted)
        if tags:
            heeds.add(Scanned)
        self.heeds = frozenset(heeds)

    @property
    def authority(self) -> str:
        return self.options.authority if self.options is not None else "mom"

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> Work:
        state: Work = rebuild(Work, saved)
        return state

    def take(self, state: Work, fact: Fact, out: Desk) -> Work:
        if isinstance(fact, Scanned):
            return self._scanned(state, fact, out)
        if isinstance(fact, Published):
            return self._counted(state, fact, out)
        if isinstance(fact, StateBegan):
            return self._spent(state, fact, out)
        if isinstance(fact, Counted):
            return self._piece(state, fact, out)
        if isinstance(fact, Boundary) and fact.kind == "shift":
            when = When(fact.at, "derived", 0, "calendar")
            return self.set_context(state, {"shift": fact.id}, "calendar", when, out)
        if isinstance(fact, Resumed):
            return self._resumed(state, fact, out)
        return state

    def due(self, state: Work) -> int | None:
        return min((until.mono for until in state.until.values()), default=None) if state.until else None

    def fire(self, state: Work, at: Instant, out: Desk) -> Work:
        """What the MOM set for a time goes; what a tag says stands again."""
        gone = [key for key, until in state.until.items() if until.mono <= at.mono]
        state = state._replace(until={key: until for key, until in state.until.items() if key not in gone})
        out.keep()
        if "mode" in gone:
            gone.remove("mode")
            out.set_mode(None, at)
        values = {key: self._word(key, state.said, out) for key in gone}
        return self._take_back(state, values, When(at), out)

    def _take_back(self, state: Work, values: Mapping[str, Word | None], when: When, out: Desk) -> Work:
        by = {key: who for key, who in state.by.items() if key not in values}
        by |= {key: "tag" for key, value in values.items() if value is not None}
        return self._change(state._replace(by=by), values, when, out)

    def _resumed(self, state: Work, fact: Resumed, out: Desk) -> Work:
        """Tags that are not configured any more say nothing any more."""
        gone = {key for key, who in state.by.items() if who == "tag" and key not in self.tags}
        heard = {role: value for role, value in state.said.items() if role in self.tags}
        state = state._replace(said=heard) if len(heard) < len(state.said) else state
        return self._take_back(state, dict.fromkeys(gone), When(fact.at), out) if gone else state

    def _scanned(self, state: Work, fact: Scanned, out: Desk) -> Work:
        heard = state.said
        changed = []
        for role, key in self.tags.items():
            held = out.held.get(key)
            if held is not None and held.stale is None and (role not in heard or heard[role] != held.value):
                changed.append(role)
                heard = {**heard, role: held.value}
        if not changed:
            return state
        out.keep()
        state = state._replace(said=heard)
        when = When(fact.at, fact.basis, self._uncertainty, "plc")
        values = {role: self._word(role, heard, out) for role in changed if role in _TAGS}
        if {"order", "operation", "quantity"}.intersection(changed):
            state, done = self._floor(state, values, when._replace(origin=self.authority), out)
            if done:
                return state
        return self.set_context(state, values, "tag", when, out)

    def _word(self, role: str, heard: Mapping[str, Value], out: Desk) -> Word | None:
        """What a tag says, in the words of the MOM; None if it says nothing, or nothing that is known."""
        value = heard.get(role)
        if value is None:
            return None
        codes = self.codes.get(role)
        if role == "operators" and isinstance(value, str):
            found = [self._known(role, word, codes, out) for word in people(value)]
            return tuple(word for word in found if word is not None) or None
        word = self._known(role, value, codes, out)
        return (word,) if role == "operators" and word is not None else word

    def _known(self, role: str, value: Value, codes: Mapping[int | str, str] | None, out: Desk) -> str | None:
        word, known = said(value, codes)
        if not known:
            out.warn(
                "unmapped_code",
                f"{self.subject}: {role} is {value!r}, which `codes: {role}` does not name; it is left away. "
                "Add the number there.",
                f"{role} {value!r}",
            )
        return word

    def _floor(self, state: Work, values: dict[str, Word | None], when: When, out: Desk) -> tuple[Work, bool]:
        """The order as the floor names it. True if a run began or ended, with `values` taken over."""
        order, operation = self._word("order", state.said, out), self._word("operation", state.said, out)
        quantity = state.said.get("quantity")
        planned = quantity if isinstance(quantity, int | float) and quantity > 0 else None
        run = state.run
        if not isinstance(order, str):
            if run is None:
                return state, False
            return self.switch(state, None, self._ending(run, out, "operator"), when, out, values), True
        operation = operation if isinstance(operation, str) else None
        if run is not None and run.job.order_id == order and operation in (None, run.job.operation):
            if planned is None or planned == run.job.planned_qty:
                return state, False
            job = run.job._replace(planned_qty=planned)
            return self.relabel(state, job, "quantity", when, out), False
        known = next((job for job in out.archive.jobs if job.is_for(order, operation)), None)
        job = known or Job(order, operation)
        if planned is not None:
            job = job._replace(planned_qty=planned)
        ending = Ending("suspended") if run is None else self._ending(run, out, None)
        return self.switch(state, job, ending, when, out, values, verified=known is not None), True

    def differs(self, state: Work, held: Mapping[str, Held]) -> bool:
        """Whether the order's tag, as held now, names another order than was known."""
        key = self.tags.get("order")
        return key is not None and key in held and held[key].value != state.said.get("order")

    def _ending(self, run: Run, out: Desk, reason: str | None) -> Ending:
        """An order that has its quantity is completed; one that is left before is suspended for the next one."""
        why = self.reason(run, out, reason or "")
        return Ending("completed", why) if why else Ending("suspended")

    def reason(self, run: Run, out: Desk, otherwise: str) -> str:
        """Why the run ends: with its quantity made, or `otherwise`."""
        out.flush_for_order()
        reached = orders.reached(run._replace(totals=out.order_totals or {}), self.group)
        return "qty_reached" if reached else otherwise

    def switch(
        self,
        state: Work,
        job: Job | None,
        ending: Ending,
        when: When,
        out: Desk,
        values: Mapping[str, Word | None] | None = None,
        *,
        verified: bool = False,
    ) -> Work:
        """End the open run as `ending` says, if there is one, and begin one of `job`, if there is one; `values` are
        other keys of the context that change with it."""
        out.flush_for_order()
        old = state.run
        run_id = f"or-{out.production_id().partition('.')[0]}-{state.runs + 1}"
        story = run_id if job is not None else old.story if old is not None else run_id
        moved = self._moved(state, when.at, out)
        if old is not None:
            for group, delta in moved.items():
                out.correct(group, {member: -n for member, n in delta.items()}, when.at)
            state = self._end(state, old, ending, story, when, out)
        elif moved:
            for group, delta in moved.items():
                out.correct(group, {member: -n for member, n in delta.items()}, when.at)
        state = self._claim(state, job, run_id, values or {}, when, out)
        if job is not None:
            state = self._begin(state, job, run_id, story, old, when, out, verified=verified)
        for group, delta in moved.items():
            out.correct(group, delta, when.at)
        run = state.run.id if state.run is not None else None
        was = old.id if old is not None else None
        later = [
            one._replace(run=run) if one.run == was and one.at.mono > when.at.mono else one for one in state.booked
        ]
        idle = state.piece if self.gap and old is not None and job is not None else None
        return state._replace(booked=tuple(later), idle=idle)

    def _moved(self, state: Work, at: Instant, out: Desk) -> Mapping[str, Mapping[str, int]]:
        """Counts that were published for what came before, but belong to what came at `at`, by group."""
        moved: dict[str, dict[str, int]] = {}
        run = state.run.id if state.run is not None else None
        for one in state.booked:
            if one.run == run and one.at.mono > at.mono and at.mono < out.now.mono:
                own = moved.setdefault(one.group, {})
                for member, n in one.delta.items():
                    own[member] = own.get(member, 0) + n
        return {group: delta for group, delta in moved.items() if any(delta.values())}

    def _claim(
        self, state: Work, job: Job | None, run_id: str, values: Mapping[str, Word | None], when: When, out: Desk
    ) -> Work:
        """The context of the new order, or of none."""
        by = {**state.by, **dict.fromkeys(values, "tag")}
        new: dict[str, Word | None] = {
            "order_id": job.order_id if job is not None else None,
            "operation": job.operation if job is not None else None,
            "order_run_id": run_id if job is not None else None,
            **values,
        }
        for key in ("product", "batch", "recipe"):
            given = getattr(job, key) if job is not None else None
            if given is not None:
                new[key], by[key] = given, "order"
            elif by.get(key) == "order":
                new[key] = self._word(key, state.said, out)
                by[key] = "tag"
        return self._change(state._replace(by=by), new, when, out)

    def _begin(
        self,
        state: Work,
        job: Job,
        run_id: str,
        story: str,
        old: Run | None,
        when: When,
        out: Desk,
        *,
        verified: bool,
    ) -> Work:
        if job.product is None and isinstance(product := (out.ctx or {}).get("product"), str):
            job = job._replace(product=product)
        run = Run(run_id, job, when.at, verified, story, out.ctx or {})
        out.set_order_totals({})
        data = OrderStarted(
            **self._record(run, "running", when),
            prev_order_id=old.job.order_id if old is not None else None,
        )
        out.production(when.at.wall, data, story)
        out.tell(OrderBegan(when.at, run_id, job.order_id, job.product, job.ideal_cycle_s))
        return state._replace(run=run, runs=state.runs + 1)

    def _end(self, state: Work, run: Run, ending: Ending, story: str, when: When, out: Desk) -> Work:
        if state.doing is not None:
            run = _spend(run, state.doing, when.at, out.calendar)
        run = run._replace(totals=out.order_totals or {}, ended=when.at, ctx=out.ctx or {})
        totals = run.totals.get(self.group, {})
        times = orders.times(run)
        if ending.how == "completed":
            out.production(
                when.at.wall,
                OrderCompleted(
                    **self._record(run, "ended", when), totals=totals, times=times, end_reason=ending.reason
                ),
                story,
            )
        else:
            job_state = "interrupted" if ending.how == "suspended" else "aborted"
            out.production(
                when.at.wall,
                OrderChanged(**self._record(run, job_state, when), change=ending.how, totals=totals, times=times),
                story,
            )
        out.set_order_totals(None)
        out.archive = out.archive._replace(runs=(run, *out.archive.runs)[:MAX_RUNS])
        out.tell(OrderEnded(when.at, run.id, run.job.order_id, ending.how))
        return state._replace(run=None)

    def relabel(self, state: Work, job: Job, what: str, when: When, out: Desk) -> Work:
        """Other data of the open run: `quantity`, or `relabelled`."""
        assert state.run is not None
        out.flush_for_order()
        state = self._claim(state, job, state.run.id, {}, when, out)
        assert state.run is not None
        run = state.run._replace(job=job, ctx=out.ctx or {})
        out.production(when.at.wall, OrderChanged(**self._record(run, "running", when), change=what), run.story)
        return state._replace(run=run)

    def _record(self, run: Run, job_state: str, when: When) -> dict[str, Any]:
        """The fields that all order events share."""
        job = run.job
        return {
            "time_basis": when.basis,
            "time_unc_s": when.unc_s,
            "order_id": job.order_id,
            "operation": job.operation,
            "order_run_id": run.id,
            "job_state": job_state,
            "product": job.product,
            "planned_qty": job.planned_qty,
            "uom": job.uom or ("H87" if job.planned_qty is not None else None),
            "ideal_cycle_s": job.ideal_cycle_s,
            "origin": self.authority,
            "verified": run.verified,
        }

    def set_context(self, state: Work, values: Mapping[str, Word | None], who: str, when: When, out: Desk) -> Work:
        """Keys with a new value, or none."""
        by = {key: name for key, name in state.by.items() if key not in values}
        by |= {key: who for key, value in values.items() if value is not None}
        until = {key: at for key, at in state.until.items() if key not in values}
        if by != state.by or len(until) != len(state.until):
            state = state._replace(by=by, until=until)
        state = self._change(state, values, when, out)
        run = state.run
        product = values.get("product")
        if run is not None and isinstance(product, str) and product != run.job.product:
            return self.relabel(state, run.job._replace(product=product), "relabelled", when, out)
        return state

    def set_by_mom(
        self, state: Work, values: Mapping[str, Word | None], until: Instant | None, when: When, out: Desk
    ) -> Work:
        """What the MOM sets stays until a tag says something else, or until its time is over."""
        state = self.set_context(state, values, "mom", when, out)
        if until is None:
            return state
        return state._replace(until={**state.until, **dict.fromkeys(values, until)})

    def set_mode(self, state: Work, mode: str, until: Instant | None, out: Desk) -> Work:
        out.set_mode(None if mode == "production" else mode, out.now)
        others = {key: at for key, at in state.until.items() if key != "mode"}
        return state._replace(until=others if until is None else {**others, "mode": until})

    def _change(self, state: Work, values: Mapping[str, Word | None], when: When, out: Desk) -> Work:
        made = change(out.ctx, values)
        if made is None:
            return state
        out.set_context(when.at, made.ctx)
        if made.set or made.cleared:
            data = ContextChanged(
                time_basis=when.basis,
                time_unc_s=when.unc_s,
                rev=made.rev,
                set=made.set,
                cleared=made.cleared or None,
                origin=when.origin,
            )
            out.production(when.at.wall, data)
        return state

    def _spent(self, state: Work, fact: StateBegan, out: Desk) -> Work:
        doing = state.doing
        if state.run is None and doing is not None and (doing.state, doing.mode) == ("running", "production"):
            self._unclaimed(out)
        if state.run is not None and state.doing is not None:
            state = state._replace(run=_spend(state.run, state.doing, fact.since, out.calendar))
        return state._replace(doing=Doing(fact.state, fact.since, fact.mode))

    def _unclaimed(self, out: Desk) -> None:
        """Running without an order is idle time in the key figures (event model §5), which nobody may have meant."""
        if self.options is not None and not self.options.count_without_order:
            out.warn(
                "running_without_order",
                f"{self.subject} ran without an order; that time is no production time (ADOT). Is its order started "
                "too late or ended too early? With count_without_order it counts.",
            )

    def _counted(self, state: Work, fact: Published, out: Desk) -> Work:
        """Remember what was booked to which run, while a change may still be dated before it."""
        event, data = fact.event, fact.event.data
        if not isinstance(data, ProductionCounted) or data.cause in ("declared",) or data.raw is None:
            return state
        at = Instant(event.time, out.now.mono - (out.now.wall - event.time))
        moved = {member: int(n) for member, n in data.delta.items()}
        run = (event.ctx or {}).get("order_run_id")
        new = Booked(at, data.counter, moved, run if isinstance(run, str) else None)
        return state._replace(booked=orders.remember(state.booked, new, out.now.mono - self.history))

    def _piece(self, state: Work, fact: Counted, out: Desk) -> Work:
        if fact.counter != self.group or max(fact.delta.get("good", 0), fact.delta.get("total", 0)) <= 0:
            return state
        if state.idle is not None and state.run is not None:
            out.set_up_between(state.idle, fact.at)
        return state._replace(piece=fact.at, idle=None)

    def describe(self, state: Work) -> Mapping[str, Any]:
        run = state.run
        if run is None:
            return {}
        job = run.job
        order = {"id": job.order_id, "run": run.id, "since": run.started.wall, "verified": run.verified}
        more = {"operation": job.operation, "product": job.product, "planned_qty": job.planned_qty}
        return {"order": {**order, **{key: value for key, value in more.items() if value is not None}}}


def _spend(run: Run, doing: Doing, end: Instant, calendar: Calendar) -> Run:
    """The run with a state interval in its times, as far as it lies in the run; the calendar cuts it."""
    span = end.mono - max(doing.since.mono, run.started.mono)
    for part in calendar.slices(end.wall - span, end.wall):
        bucket = kpi.bucket(
            doing.state, doing.mode, order=True, active=True, on=part.on, planned=part.planned is not None
        )
        if bucket not in (None, "planned"):
            run = orders.spend(run, str(bucket), part.end - part.start)
    return run


def build(wiring: Wiring) -> Ordering:
    """Every machine has one: the MOM may give it a context at any time."""
    return Ordering(wiring)
