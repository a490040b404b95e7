"""What a machine keeps for long and changes rarely: orders, past runs, ended downtimes, results of commands.

It is stored as a row of its own, in the transaction of the step that changed it, so that the state that every step
stores stays small. Everything in it is bounded: what is oldest goes first, micro-stops before stops, and of results
those whose command could not be accepted any more.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import Downtime, DowntimeUpdated, Reason, Segment
from edge_agent.machine.orders import Job, Run

DAY: Final = 86_400 * SECOND
KEPT: Final = 7 * DAY
"""How long an ended downtime can be given another reason, and a command is known again."""
MAX_STOPS: Final = 500
MAX_MICROSTOPS: Final = 200
MAX_RESULTS: Final = 2000
"""Twice as many of commands that never expire."""
MAX_SCHEDULED: Final = 50


class Closed(NamedTuple):
    """An ended downtime: `record` is its last event as JSON, `ended` UTC µs."""

    record: str
    ended: int
    stop: bool


class Result(NamedTuple):
    """What became of a command. `digest` of its content; `result` and `undo` (what a reversal needs) are JSON; times
    are UTC µs. `reversed`: another command has undone it."""

    digest: str
    name: str
    status: str
    code: str
    detail: str | None
    result: str | None
    at: int
    expires: int
    undo: str | None = None
    reversed: bool = False


class Scheduled(NamedTuple):
    """A command, as JSON, to be carried out at `at`."""

    command: str
    at: Instant


class Archive(NamedTuple):
    """`runs`: the newest first. `downtimes` by id, `results` by `result_key`, both oldest first. `calendar`: that of
    the MOM, as JSON of `MomCalendar`, None while the configured one holds."""

    jobs: tuple[Job, ...] = ()
    runs: tuple[Run, ...] = ()
    downtimes: Mapping[str, Closed] = {}
    results: Mapping[str, Result] = {}
    scheduled: tuple[Scheduled, ...] = ()
    calendar: str | None = None


def result_key(source: str, id_: str) -> str:
    return f"{source}\n{id_}"


def with_downtimes(archive: Archive, ended: Iterable[Downtime], now: int) -> Archive:
    """With ended downtimes, newest revisions; `now` is UTC µs."""
    known = dict(archive.downtimes)
    for data in ended:
        assert data.ended_at is not None
        known[data.downtime_id] = Closed(_encode(data), data.ended_at, data.class_ == "stop")
    known = {id_: one for id_, one in known.items() if one.ended > now - KEPT}
    for stop, most in ((False, MAX_MICROSTOPS), (True, MAX_STOPS)):
        of_kind = [id_ for id_, one in known.items() if one.stop is stop]
        for id_ in of_kind[: max(0, len(of_kind) - most)]:
            del known[id_]
    return archive._replace(downtimes=known)


def with_result(archive: Archive, key: str, result: Result, now: int) -> Archive:
    known = {name: one for name, one in archive.results.items() if name != key and _kept(one, now)}
    known[key] = result
    if len(known) > MAX_RESULTS:
        spent = [name for name, one in known.items() if one.expires < now]
        living = [name for name, one in known.items() if one.expires >= now]
        for name in (*spent[: len(known) - MAX_RESULTS], *living[: -2 * MAX_RESULTS]):
            del known[name]
    return archive._replace(results=known)


def _kept(result: Result, now: int) -> bool:
    return max(result.at + KEPT, result.expires) > now


def _encode(data: Downtime) -> str:
    return json.dumps(
        {key: value for key, value in dataclasses.asdict(data).items() if value is not None},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def reopened(closed: Closed) -> DowntimeUpdated:
    """The record of an ended downtime as it was last published."""
    plain = json.loads(closed.record)
    if "reason" in plain:
        plain["reason"] = _reason(plain["reason"])
    plain["segments"] = tuple(
        Segment(**{**one, "reason": _reason(one.get("reason"))}) for one in plain.get("segments", ())
    )
    for name in ("quality_detail", "cause_alarms"):
        if name in plain:
            plain[name] = tuple(plain[name])
    return DowntimeUpdated(**plain)


def _reason(plain: Mapping[str, object] | None) -> Reason | None:
    return None if plain is None else Reason(**plain)  # type: ignore[arg-type]  # as it was encoded
