"""Why the machine stood, told later: reasons and boundaries of open and of ended downtimes.

Each change is a new revision of the one record. What the MOM says is never overwritten by the machine; a later word
of the MOM is. An ended downtime can be changed while it is in the archive.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

from edge_agent.clock import SECOND, Instant
from edge_agent.commands.envelope import Refused
from edge_agent.events.types import Downtime as Record
from edge_agent.events.types import Reason, Segment
from edge_agent.machine import downtime
from edge_agent.machine.archive import Archive, reopened
from edge_agent.machine.downtime import Cause, Downtime
from edge_agent.machine.out import Out
from edge_agent.machine.plan import Plan


class Records(Protocol):
    """The part of a step that holds downtimes."""

    plan: Plan
    now: Instant
    out: Out
    archive: Archive
    downtime: Downtime | None

    def shelve(self) -> None: ...


class Why(NamedTuple):
    """A reason from the MOM. `category` and `planned` are kept as they are where they are None."""

    code: str
    text: str | None
    category: str | None
    planned: str | None
    by: str


def assign(frame: Records, id_: str, why: Why, segment: int | None) -> int:
    """Give a downtime, or one segment of it (counted from 0), a reason; its new revision. Raises Refused."""
    text, category = downtime.known_reason(frame.plan, why.code)
    why = why._replace(text=why.text or text, category=why.category or (category.value if category else None))
    if segment is None:
        return _change(
            frame, id_, lambda open_: _with_cause(open_, why, frame.now), lambda old: _explained(old, why, frame)
        )
    return _change(
        frame,
        id_,
        lambda open_: _with_segment_cause(open_, why, segment, frame.now),
        lambda old: _segment_explained(old, why, segment, frame),
    )


def split(frame: Records, id_: str, at: int) -> int:
    """Cut the segment that lies at `at` (UTC µs) in two; the downtime's new revision. Raises Refused."""
    return _change(
        frame,
        id_,
        lambda open_: _split_open(open_, Instant(at, frame.now.mono - (frame.now.wall - at)), frame.now),
        lambda old: _split_ended(old, at),
    )


def set_up_between(frame: Records, start: Instant, end: Instant) -> None:
    """A change-over lay there: what stopped inside it was set-up, if nobody has said otherwise."""
    episode = frame.downtime
    if episode is not None and _inside(episode.started.wall, start, end) and _may(episode.cause, episode.category):
        frame.downtime = _publish(frame, episode._replace(category="setup", planned="undecided"))
    frame.shelve()
    for closed in list(frame.archive.downtimes.values()):
        if closed.ended < start.wall:
            continue
        record = reopened(closed)
        asked = record.reason is not None and record.reason.source in ("operator", "mom")
        if _inside(record.started_at, start, end) and not asked and record.category != "setup":
            _republish(frame, dataclasses.replace(record, category="setup", planned="undecided"))


def _inside(started: int, start: Instant, end: Instant) -> bool:
    return start.wall <= started < end.wall


def _may(cause: Cause | None, category: str) -> bool:
    return category != "setup" and (cause is None or cause.source not in ("operator", "mom"))


def _change(
    frame: Records, id_: str, of_open: Callable[[Downtime], Downtime], of_ended: Callable[[Record], Record]
) -> int:
    frame.shelve()
    episode = frame.downtime
    if episode is not None and episode.id == id_:
        made = of_open(episode)
        episode = frame.downtime = _publish(frame, made, segments=made.segments is not episode.segments)
        return episode.rev
    closed = frame.archive.downtimes.get(id_)
    if closed is None:
        raise Refused("not_found", f"there is no downtime {id_}, or it is not kept any more")
    return _republish(frame, of_ended(reopened(closed)))


def _publish(frame: Records, episode: Downtime, *, segments: bool = False) -> Downtime:
    told = any(doing.cause is not None for doing in episode.segments)
    return downtime.update(frame.plan, episode, frame.now, frame.out, segments=told or segments)


def _republish(frame: Records, record: Record) -> int:
    record = dataclasses.replace(record, rev=record.rev + 1)
    ctx = frame.out.context_at(record.started_at)
    frame.out.production(frame.now.wall, record, record.downtime_id, ctx=ctx)
    frame.shelve()
    return record.rev


def _cause(why: Why, now: Instant) -> Cause:
    return Cause(why.code, why.text, "mom", now.wall, category=why.category, by=why.by)


def _with_cause(episode: Downtime, why: Why, now: Instant) -> Downtime:
    return episode._replace(
        cause=_cause(why, now),
        category=why.category or episode.category,
        planned=why.planned or (downtime.planned_by(why.category) if why.category else episode.planned),
    )


def _with_segment_cause(episode: Downtime, why: Why, index: int, now: Instant) -> Downtime:
    segments = list(episode.segments)
    segments[_checked(index, len(segments))] = segments[index]._replace(cause=_cause(why, now))
    return episode._replace(segments=tuple(segments))


def _checked(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise Refused("out_of_range", f"the downtime has segments 0 to {count - 1}, not {index}")
    return index


def _split_open(episode: Downtime, at: Instant, now: Instant) -> Downtime:
    if not episode.started.mono < at.mono < now.mono:
        raise Refused("out_of_range", "the time is not inside the downtime")
    if any(doing.since.mono == at.mono for doing in episode.segments):
        return episode
    made = downtime.cut(episode, at)
    if made is episode:
        raise Refused("out_of_range", f"the downtime has {len(episode.segments)} segments already")
    return made


def _reason(why: Why, frame: Records) -> Reason:
    return Reason(code=why.code, text=why.text, source="mom", set_by=why.by, set_at=frame.now.wall)


def _explained(old: Record, why: Why, frame: Records) -> Record:
    return dataclasses.replace(
        old,
        reason=_reason(why, frame),
        category=why.category or old.category,
        planned=why.planned or (downtime.planned_by(why.category) if why.category else old.planned),
    )


def _segment_explained(old: Record, why: Why, index: int, frame: Records) -> Record:
    segments = list(old.segments or ())
    one = segments[_checked(index, len(segments))]
    segments[index] = dataclasses.replace(one, reason=_reason(why, frame), category=why.category or one.category)
    return dataclasses.replace(old, segments=tuple(segments))


def _split_ended(old: Record, at: int) -> Record:
    segments: list[Segment] = []
    for one in old.segments or ():
        inside = (at - one.started_at) / SECOND
        if 0 < inside < one.duration_s:
            rest = dataclasses.replace(one, started_at=at, duration_s=round(one.duration_s - inside, 3))
            segments += [dataclasses.replace(one, duration_s=round(inside, 3)), rest]
        else:
            segments.append(one)
    if old.ended_at is None or not old.started_at < at < old.ended_at:
        raise Refused("out_of_range", "the time is not inside the downtime")
    if len(segments) > downtime.MAX_SEGMENTS:
        raise Refused("out_of_range", f"the downtime has {downtime.MAX_SEGMENTS} segments already")
    return dataclasses.replace(old, segments=tuple(segments))
