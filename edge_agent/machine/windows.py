"""What lies in a window of key figures: pieces of time, stops and counts, put where they belong.

A piece is a span in one state, mode and order run. The last few pieces, and all of an open downtime, are kept apart
(`Tail`), because a state may be dated back and what a stop was is known at its end; older ones are added to the
windows for good. The calendar cuts a piece when it is added, so a change of shift needs no piece of its own. Lengths
are those of the monotonic clock, places those of the wall clock at the piece's start, and a piece is cut when the
wall clock was set: an hour that it jumped over is in no piece, and so unknown.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from edge_agent.clock import SECOND, Instant
from edge_agent.machine.calendar import Calendar
from edge_agent.machine.kpi import Buckets, Made, Stops, bucket

LOOSE: Final = 4
"""Pieces after the end of the last stop that are still kept apart."""
MOST_PIECES: Final = 300
"""Pieces of one downtime; older ones are added as the downtime is known then."""


Span: TypeAlias = tuple[int, int]
"""UTC µs, half-open."""
FOREVER: Final = 1 << 62


class Piece(NamedTuple):
    """From `since` to the next piece. `run`: the order run, None without an order."""

    state: str
    mode: str
    since: Instant
    run: str | None = None


class Stop(NamedTuple):
    """A downtime, UTC µs; `until` is None while it is open. `excused`: spans in it that are planned for a reason, not
    by the calendar alone."""

    id: str
    since: int
    until: int | None = None
    class_: str = "microstop"
    category: str = "unclassified"
    excused: tuple[Span, ...] = ()

    @property
    def is_failure(self) -> bool:
        return self.class_ == "stop" and self.category == "breakdown"

    def is_excused(self, wall: int) -> bool:
        return any(since <= wall < until for since, until in self.excused)

    def holds(self, wall: int) -> bool:
        return self.since <= wall and (self.until is None or wall < self.until)


class Window(NamedTuple):
    """`end` is None for an order that runs. `watched` and `rested`: µs of pieces added inside shifts, outside and
    inside of breaks. `lost`: pieces that were made are missing. `rev` and `shown`: what was published last."""

    basis: str
    id: str
    start: int
    end: int | None
    buckets: Buckets = Buckets()
    stops: Stops = Stops()
    made: tuple[Made, ...] = ()
    watched: int = 0
    rested: int = 0
    lost: bool = False
    rev: int = 0
    shown: str = ""

    def holds(self, wall: int) -> bool:
        return self.start <= wall and (self.end is None or wall < self.end)

    def with_made(self, made: Made) -> "Window":
        """With more pieces of a product."""
        for index, known in enumerate(self.made):
            if (known.product, known.pri) == (made.product, made.pri):
                both = Made(
                    made.product,
                    made.pri,
                    known.pq + made.pq,
                    _sum(known.gq, made.gq),
                    _sum(known.sq, made.sq),
                    _sum(known.rq, made.rq),
                )
                return self._replace(made=(*self.made[:index], both, *self.made[index + 1 :]))
        return self._replace(made=(*self.made, made))


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


class Rules(NamedTuple):
    """`orders`: time without an order is idle time; where no orders are configured all production counts.
    `unclaimed`: running without an order counts all the same."""

    calendar: Calendar
    orders: bool = False
    unclaimed: bool = False

    def claimed(self, state: str, run: str | None) -> bool | None:
        """The `order` of `bucket`."""
        if not self.orders or (run is None and self.unclaimed and state == "running"):
            return None
        return run is not None


class Tail(NamedTuple):
    """The pieces and stops that are not added yet, oldest first; the last piece is open."""

    pieces: tuple[Piece, ...] = ()
    stops: tuple[Stop, ...] = ()

    def spans(self, until: Instant) -> Iterator[tuple[Piece, Instant]]:
        """Each piece with its end."""
        for index, piece in enumerate(self.pieces):
            end = self.pieces[index + 1].since if index + 1 < len(self.pieces) else until
            if end.mono > piece.since.mono:
                yield piece, end

    def stated(self, state: str, mode: str, at: Instant, run: str | None) -> "Tail":
        """Another state from `at` on, which may lie before a change of the order. `run`: that of the first piece."""
        return self._from(at, lambda piece: piece._replace(state=state, mode=mode), Piece(state, mode, at, run))

    def claimed(self, run: str | None, at: Instant) -> "Tail":
        """Another order run, or none, from `at` on."""
        if not self.pieces:
            return self
        return self._from(at, lambda piece: piece._replace(run=run), None)

    def _from(self, at: Instant, change: Callable[[Piece], Piece], first: Piece | None) -> "Tail":
        before = [piece for piece in self.pieces if piece.since.mono < at.mono]
        after = [change(piece) for piece in self.pieces if piece.since.mono >= at.mono]
        if not after or after[0].since.mono > at.mono:
            model = before[-1] if before else self.pieces[0] if self.pieces else first
            assert model is not None
            after.insert(0, change(model)._replace(since=at))
        return self._replace(pieces=tuple(_merged([*before, *after])))

    def timed(self, at: Instant) -> "Tail":
        """Cut at `at` if the wall clock was set since the last piece began."""
        if not self.pieces or not _was_set(self.pieces[-1].since, at):
            return self
        return self._replace(pieces=(*self.pieces, self.pieces[-1]._replace(since=at)))

    def stop(self, id_: str) -> Stop | None:
        return next((stop for stop in self.stops if stop.id == id_), None)

    def with_stop(self, new: Stop) -> "Tail":
        if self.stop(new.id) is None:
            return self._replace(stops=(*self.stops, new))
        return self._replace(stops=tuple(new if stop.id == new.id else stop for stop in self.stops))


def _was_set(before: Instant, after: Instant) -> bool:
    return abs((after.wall - after.mono) - (before.wall - before.mono)) > SECOND


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    last: Piece | None = None
    for piece in pieces:
        if last is None or last._replace(since=piece.since) != piece or _was_set(last.since, piece.since):
            yield piece
            last = piece


def settle(
    windows: tuple[Window, ...], tail: Tail, rules: Rules
) -> tuple[tuple[Window, ...], Tail, tuple[Stop, ...]]:
    """Add what will not change any more to the windows; what is left, and the stops that were added."""
    open_ = next((stop.since for stop in tail.stops if stop.until is None), None)
    pieces = tail.pieces
    loose = max(0, len(pieces) - LOOSE)
    if open_ is not None:
        loose = min(loose, sum(piece.since.wall < open_ for piece in pieces[1:]))
    loose = max(loose, len(pieces) - MOST_PIECES)
    if loose == 0:
        return windows, tail, ()
    kept = tail._replace(pieces=pieces[loose:])
    for piece, end in tail.spans(pieces[-1].since):
        if end.mono <= kept.pieces[0].since.mono:
            windows = tuple(add(window, piece, end, tail.stops, rules) for window in windows)
    first = kept.pieces[0].since.wall
    done = tuple(stop for stop in tail.stops if stop.until is not None and stop.until <= first)
    for stop in done:
        windows = tuple(_begun(window, stop) for window in windows)
    return windows, kept._replace(stops=tuple(stop for stop in tail.stops if stop not in done)), done


def whole(window: Window, tail: Tail, until: Instant, rules: Rules) -> Window:
    """The window with everything known until then; time of which nothing is known is unknown."""
    for piece, end in tail.spans(until):
        window = add(window, piece, end, tail.stops, rules)
    for stop in tail.stops:
        window = _begun(window, stop)
    busy = rest = 0
    for part in rules.calendar.slices(window.start, min(until.wall, window.end or until.wall)):
        if part.on:
            busy, rest = (
                (busy, rest + part.end - part.start) if part.planned else (busy + part.end - part.start, rest)
            )
    buckets = window.buckets.plus("unknown", max(0, busy - window.watched))
    return window._replace(buckets=buckets.plus("planned", max(0, rest - window.rested)))


def add(window: Window, piece: Piece, end: Instant, stops: Sequence[Stop], rules: Rules) -> Window:
    """The window with a piece of time that ended at `end`, as far as it lies in it."""
    begin, finish = piece.since.wall, piece.since.wall + end.mono - piece.since.mono
    start = max(begin, window.start)
    stop_at = finish if window.end is None else min(finish, window.end)
    if start >= stop_at:
        return window
    order = rules.claimed(piece.state, piece.run)
    buckets, tally = window.buckets, window.stops
    watched, rested = window.watched, window.rested
    for part in rules.calendar.slices(start, stop_at):
        for since, until, stop in _cut(part.start, part.end, stops):
            planned = part.planned is not None or (stop is not None and stop.is_excused(since))
            span = until - since
            name = bucket(
                piece.state, piece.mode, order=order, active=piece.run is not None, on=part.on, planned=planned
            )
            if part.on:
                watched, rested = (watched, rested + span) if part.planned else (watched + span, rested)
            if name is None:
                continue
            buckets = buckets.plus(name, span)
            if stop is not None and name == "adet" and stop.class_ == "microstop":
                tally = tally._replace(micro=tally.micro + span)
            elif stop is not None and name in ("adet", "adot") and stop.is_failure:
                tally = tally._replace(repair=tally.repair + span)
    return window._replace(buckets=buckets, stops=tally, watched=watched, rested=rested)


def _cut(start: int, end: int, stops: Sequence[Stop]) -> Iterator[tuple[int, int, Stop | None]]:
    """The span cut where a stop begins or ends, with the stop that is on."""
    edges = {start, end}
    for stop in stops:
        known = (stop.since, FOREVER if stop.until is None else stop.until)
        edges.update(edge for span in (known, *stop.excused) for edge in span if start < edge < end)
    ordered = sorted(edges)
    for since, until in itertools.pairwise(ordered):
        yield since, until, next((stop for stop in stops if stop.holds(since)), None)


def _begun(window: Window, stop: Stop) -> Window:
    """With the stop counted, if it began in the window."""
    if not window.holds(stop.since):
        return window
    tally = window.stops
    return window._replace(
        stops=tally._replace(
            begun=tally.begun + 1,
            microstops=tally.microstops + (stop.class_ == "microstop"),
            failures=tally.failures + stop.is_failure,
        )
    )


def judged_anew(
    window: Window, before: Stop, after: Stop, spans: Sequence[tuple[str, int, int, str | None]], rules: Rules
) -> Window:
    """A stop that was added as `before` turns out to be `after`. `spans`: state, start, end (UTC µs) and order of its
    segments."""
    buckets, tally = window.buckets, window.stops
    turned = after.is_failure - before.is_failure
    if window.holds(before.since):
        tally = tally._replace(failures=tally.failures + turned)
    for state, start, end, order in spans:
        last = end if window.end is None else min(end, window.end)
        for part in rules.calendar.slices(max(start, window.start), last):
            for since, until, _ in _cut(part.start, part.end, (before, after)):
                claimed = rules.claimed(state, order)
                name = bucket(state, "production", order=claimed, active=order is not None, on=part.on, planned=False)
                if name is None or part.planned is not None:
                    continue
                was, is_ = before.is_excused(since), after.is_excused(since)
                if was != is_:
                    buckets = buckets.moved(*((name, "planned") if is_ else ("planned", name)), until - since)
                    if name == "adet" and before.class_ == "microstop":
                        micro = tally.micro + (since - until if is_ else until - since)
                        tally = tally._replace(micro=max(0, micro))
                if turned and name in ("adet", "adot"):
                    tally = tally._replace(repair=max(0, tally.repair + turned * (until - since)))
    return window._replace(buckets=buckets, stops=tally)
