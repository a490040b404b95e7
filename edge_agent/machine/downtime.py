"""Downtime episodes: from the first stop-like state to running, one record with revisions.

Started when a stop-like state is accepted; promoted to `stop` once, when it has lasted `microstop` and running is
no candidate; ended when running is accepted. `unknown` neither opens nor ends one: it makes the time `unknown_s`,
and what comes after, with the count, tells whether the episode went on (event model §3.6, §7.4).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from config.model import Category
from drivers.base import Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import DowntimeEnded, DowntimeStarted, DowntimeUpdated, Reason, Segment
from edge_agent.machine.calendar import Slice
from edge_agent.machine.out import Ctx, Out
from edge_agent.machine.parts import Cause as Alarm
from edge_agent.machine.plan import Plan
from edge_agent.machine.times import seconds

MAX_SEGMENTS: Final = 300
"""More would make the event larger than 64 KiB; later ones are added to the last."""
_BY_STATE: Final[Mapping[str, Category]] = {
    "fault": Category.BREAKDOWN,
    "starved": Category.STARVED,
    "blocked": Category.BLOCKED,
    "setup": Category.SETUP,
    "maintenance": Category.BREAKDOWN,
    "stopped": Category.OPERATOR,
    "idle": Category.UNCLASSIFIED,
    "off": Category.UTILITY,
}
_PLANNED: Final = frozenset({Category.PLANNED_MAINTENANCE, Category.BREAK, Category.PLANNED_OTHER})
_UNDECIDED: Final = frozenset({Category.SETUP, Category.NO_ORDER})


class Doing(NamedTuple):
    """One segment: a state from `since` for `duration` µs (0 while it is open), with the order and shift of then, and
    with what `planned_when` said. The calendar cuts it further when it is told."""

    state: str
    since: Instant
    duration: int = 0
    order: str | None = None
    shift: str | None = None
    cause: "Cause | None" = None
    planned: bool | None = None


class Cause(NamedTuple):
    """Why the machine stands: `source` is `plc`, `rule` or `mom`. `alarm`: the alarm that says so; `category`: as
    configured there, or as the MOM says; `by`: who said it."""

    code: str
    text: str | None
    source: str
    at: int
    alarm: str | None = None
    category: str | None = None
    by: str | None = None


class Blind(NamedTuple):
    """Since when nothing valid is seen inside the episode, and the pieces made until then."""

    since: Instant
    parts: int


class Downtime(NamedTuple):
    """The open episode. `parts`: pieces made until its start. `pausing`: running since then, but for less than
    `merge_gap` so far, with the pieces made until then. `alarms`: first-out first. `excused`: planned because the
    calendar or `planned_when` said so at its start; no reason of the machine changes that."""

    id: str
    rev: int
    started: Instant
    class_: str
    category: str
    planned: str
    cause: Cause | None
    segments: tuple[Doing, ...]
    start_uncertain: bool
    parts: int
    quality: str = "good"
    basis: str = "agent"
    blind: Blind | None = None
    pausing: Blind | None = None
    alarms: tuple[str, ...] = ()
    excused: bool = False


def stops(state: str) -> bool:
    """Whether the state is stop-like."""
    return state not in ("running", "unknown")


def cause_of(plan: Plan, code: Value | None, text: str | None, at: int) -> Cause | None:
    """The machine's own reason: the text of a rule before the code of a tag (event model §2.2, rank)."""
    if text is not None:
        return Cause(text, text, "rule", at)
    if not code or (isinstance(code, str) and not code.strip()):
        return None
    word = (
        str(int(code))
        if isinstance(code, bool | int) or (isinstance(code, float) and code.is_integer())
        else str(code)
    )
    word = next((one.code for raw, one in plan.downtime.reasons.items() if one.code and str(raw) == word), word)
    return Cause(word, known_reason(plan, word)[0], "plc", at)


def known_reason(plan: Plan, word: str) -> tuple[str | None, Category | None]:
    """Text and category of a reason by its published code."""
    for raw, reason in plan.downtime.reasons.items():
        if (reason.code or str(raw)) == word:
            return reason.text, reason.category
    return None, None


def _category(plan: Plan, state: str, cause: Cause | None) -> str:
    if cause is not None and cause.category is not None:
        return cause.category
    known = known_reason(plan, cause.code)[1] if cause is not None and cause.source == "plc" else None
    return (known or _BY_STATE.get(state, Category.UNCLASSIFIED)).value


def judged(
    plan: Plan, state: str, mode: str, since: Instant, out: Out, cause: Cause | None, planned: bool | None
) -> tuple[str, bool]:
    """Category of a downtime that begins, and whether it is excused: planned by the calendar or by `planned_when`,
    whatever the machine gives as its reason. Somebody who chose the maintenance mode planned to."""
    by_calendar = plan.calendar.at(since.wall).planned
    if by_calendar is not None:
        return by_calendar, True
    category = _category(plan, state, cause)
    if planned:
        if category not in _PLANNED:
            category = (Category.PLANNED_MAINTENANCE if state == "maintenance" else Category.PLANNED_OTHER).value
        return category, True
    if cause is None and state == mode == "maintenance":
        return Category.PLANNED_MAINTENANCE.value, False
    order, _ = _of(out.context_at(since.wall))
    if plan.options.orders is not None and order is None and cause is None and state in ("idle", "stopped"):
        return Category.NO_ORDER.value, False
    return category, False


def planned_by(category: str) -> str:
    return "planned" if category in _PLANNED else "undecided" if category in _UNDECIDED else "unplanned"


def start(
    plan: Plan,
    state: str,
    mode: str,
    since: Instant,
    out: Out,
    *,
    cause: Cause | None,
    parts: int,
    uncertain: bool,
    quality: str,
    basis: str,
    alarms: tuple[str, ...] = (),
    planned: bool | None = None,
) -> Downtime:
    """Open an episode; the next event of `.p` is its `downtime.started`. `planned`: what `planned_when` says."""
    category, excused = judged(plan, state, mode, since, out, cause, planned)
    order, shift = _of(out.context_at(since.wall))
    episode = Downtime(
        f"dt-{out.production_id()}",
        1,
        since,
        "microstop",
        category,
        planned_by(category),
        cause,
        (Doing(state, since, 0, order, shift, planned=planned),),
        uncertain,
        parts,
        quality,
        basis,
        alarms=alarms,
        excused=excused,
    )
    out.production(since.wall, DowntimeStarted(**_common(plan, episode)), episode.id)  # type: ignore[arg-type]
    return episode


def _common(plan: Plan, episode: Downtime) -> dict[str, object]:
    cause = episode.cause
    return {
        "quality": episode.quality,
        "time_basis": episode.basis,
        "time_unc_s": max((plan.uncertainty(key) for key in plan.state_keys), default=0),
        "downtime_id": episode.id,
        "rev": episode.rev,
        "status": "open",
        "started_at": episode.started.wall,
        "class_": episode.class_,
        "planned": episode.planned,
        "category": episode.category,
        "reason": _reason(cause),
        "start_uncertain": episode.start_uncertain or None,
        "cause_alarms": episode.alarms or None,
    }


def _reason(cause: Cause | None) -> Reason | None:
    if cause is None:
        return None
    return Reason(code=cause.code, text=cause.text, source=cause.source, set_by=cause.by, set_at=cause.at)


def update(plan: Plan, episode: Downtime, at: Instant, out: Out, *, segments: bool = False) -> Downtime:
    """Publish a new revision of an open episode; with its segments as of `at`, if asked."""
    episode = episode._replace(rev=episode.rev + 1)
    told = _segments(plan, episode, _closed(episode, at)) if segments else None
    common = _common(plan, episode)
    out.production(at.wall, DowntimeUpdated(**common, segments=told), episode.id)  # type: ignore[arg-type]
    return episode


def _closed(episode: Downtime, at: Instant) -> list[Doing]:
    """The segments up to `at`."""
    segments = [doing for doing in episode.segments if doing.since.mono < at.mono] or [episode.segments[0]]
    segments[-1] = segments[-1]._replace(duration=max(0, at.mono - segments[-1].since.mono))
    return segments


def _segments(plan: Plan, episode: Downtime, segments: Sequence[Doing]) -> tuple[Segment, ...]:
    """The segments as they are told, cut where a shift, a break or planned maintenance begins or ends."""
    pieces = [(doing, part) for doing in segments for part in _parts(plan, doing)]
    if len(pieces) > MAX_SEGMENTS:
        last = pieces[MAX_SEGMENTS - 1][1]
        pieces = pieces[:MAX_SEGMENTS]
        pieces[-1] = (pieces[-1][0], last._replace(end=segments[-1].since.wall + segments[-1].duration))
    return tuple(
        Segment(
            state=str(doing.state),
            started_at=part.start,
            duration_s=round((part.end - part.start) / SECOND, 3),
            order_id=doing.order,
            shift=doing.shift if part.shift is None else part.shift.id,
            planned=_is_planned(plan, episode, doing, part),
            category=None if doing.cause is None else doing.cause.category,
            reason=_reason(doing.cause),
        )
        for doing, part in pieces
    )


def _parts(plan: Plan, doing: Doing) -> Iterator[Slice]:
    start = doing.since.wall
    if doing.duration == 0:
        yield plan.calendar.at(start)._replace(start=start, end=start)
    yield from plan.calendar.slices(start, start + doing.duration)


def _is_planned(plan: Plan, episode: Downtime, doing: Doing, part: Slice) -> bool | None:
    """Whether a part of a segment is; None is undecided. Nothing is asked for outside the shifts without an order."""
    if part.planned is not None or doing.planned or not (part.on or doing.order):
        return True
    asked = doing.cause is not None or (episode.cause is not None and episode.cause.source in ("operator", "mom"))
    if doing.cause is not None and doing.cause.category is not None:
        word = planned_by(doing.cause.category)
    elif episode.excused and not asked:
        word = planned_by(_category(plan, doing.state, episode.cause))
    else:
        word = episode.planned
    return None if word == "undecided" else word == "planned"


def condition(episode: Downtime, at: Instant, planned: bool | None) -> Downtime:
    """`planned_when` says something else from `at` on: a new segment."""
    if episode.segments[-1].planned is planned:
        return episode
    return _from(episode, at, lambda doing: doing._replace(planned=planned))


def cut(episode: Downtime, at: Instant) -> Downtime:
    """The segment that lies at `at` in two; the same episode if it has too many."""
    return _from(episode, at, lambda doing: doing)


def enter(episode: Downtime, state: str, since: Instant) -> Downtime:
    """Another state inside the episode: a new segment."""
    return _from(episode, since, lambda doing: doing._replace(state=state))


def relabel(episode: Downtime, at: Instant, ctx: Ctx | None) -> Downtime:
    """Another order or shift inside the episode: a new segment."""
    order, shift = _of(ctx)
    last = episode.segments[-1]
    if last.since.mono <= at.mono and (last.order, last.shift) == (order, shift):
        return episode
    return _from(episode, at, lambda doing: doing._replace(order=order, shift=shift))


def _of(ctx: Ctx | None) -> tuple[str | None, str | None]:
    """The order and shift of a context."""
    known = ctx or {}
    order, shift = known.get("order_id"), known.get("shift")
    return order if isinstance(order, str) else None, shift if isinstance(shift, str) else None


def _from(episode: Downtime, at: Instant, new: Callable[[Doing], Doing]) -> Downtime:
    """From `at` on something is different: the segment that lies there is split, those after it are changed."""
    if len(episode.segments) >= MAX_SEGMENTS:
        return episode
    segments: list[Doing] = []
    for index, doing in enumerate(episode.segments):
        is_open = index == len(episode.segments) - 1
        if doing.since.mono >= at.mono:
            segments.append(new(doing))
        elif is_open or doing.since.mono + doing.duration > at.mono:
            before = at.mono - doing.since.mono
            rest = 0 if is_open else doing.duration - before
            segments += [doing._replace(duration=before), new(doing._replace(since=at, duration=rest))]
        else:
            segments.append(doing)
    return episode._replace(segments=tuple(segments))


def explain(plan: Plan, episode: Downtime, cause: Cause, at: Instant, out: Out) -> Downtime:
    """A reason that came after the start: the first one stays, but the first-out alarm goes before it."""
    known = episode.cause
    if known is not None and (cause.alarm is None or known.source not in ("plc", "rule")):
        return episode
    if episode.excused:
        return update(plan, episode._replace(cause=cause), at, out)
    category = _category(plan, episode.segments[0].state, cause)
    return update(plan, episode._replace(cause=cause, category=category, planned=planned_by(category)), at, out)


def alarm(plan: Plan, found: Alarm, at: int) -> Cause:
    """The alarm as the machine's reason; its text, or that of `reasons` for its code."""
    text = found.text or known_reason(plan, found.code)[0]
    return Cause(found.code, text, "plc", at, found.alarm_id, found.category)


def promote_at(plan: Plan, episode: Downtime) -> int | None:
    """Monotonic µs of the promotion to `stop`; None if that is done or cannot be now."""
    if episode.class_ == "stop" or episode.blind is not None or episode.pausing is not None:
        return None
    return episode.started.mono + plan.downtime.microstop


def promote(plan: Plan, episode: Downtime, at: Instant, out: Out) -> Downtime:
    return update(plan, episode._replace(class_="stop"), at, out)


def end(plan: Plan, episode: Downtime, at: Instant, out: Out, *, parts: int, uncertain: bool, basis: str) -> None:
    """Close the episode at `at` with the pieces made until then; segments from `at` on are dropped."""
    segments = _closed(episode, at)
    told = _segments(plan, episode, segments)
    lasted = max(0, at.mono - episode.started.mono)
    merged = len(told) >= MAX_SEGMENTS
    episode = episode._replace(
        rev=episode.rev + 1, class_="microstop" if lasted < plan.downtime.microstop else "stop"
    )
    common = {**_common(plan, episode), "time_basis": basis, "status": "ended"}
    out.production(
        at.wall,
        DowntimeEnded(
            **common,  # type: ignore[arg-type]
            quality_detail=("segments_merged",) if merged else None,
            ended_at=at.wall,
            duration_s=seconds(episode.started, at),
            segments=told,
            unknown_s=round(sum(doing.duration for doing in segments if doing.state == "unknown") / SECOND, 3),
            end_uncertain=uncertain or None,
            parts_during=max(0, parts - episode.parts),
        ),
        episode.id,
    )
