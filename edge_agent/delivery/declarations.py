"""What is said of events that are given up, and how it is kept short.

A declaration (`data.loss`) is never given up: without it a hole has no name. So that a small buffer does not fill
with declarations in a long outage, those that still wait are folded: one takes the place of all whose numbers follow
each other in a stream, with the same cause and policy. Those that it replaces are given up in the same transaction
and declared like everything else; one that was on its way at that moment may arrive as well. Starts that say nothing
of an earlier epoch are folded with them, or an agent that is started again and again would fill the buffer with them.

Where nothing else is left that may go, numbers that do not follow each other are folded too: then a declaration is an
upper bound, from the first number to the last, and `count_by_type` says how many are really gone. So those without
counts, of damaged rows, are not among these, and what is folded with one has none either.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

from buffer.outbox import Oldest, Span
from edge_agent.events.types import AgentStarted, DataLoss

KEPT: Final = frozenset({DataLoss.TYPE, AgentStarted.TYPE})
"""Types that are never given up to make room."""
_FIELDS: Final = frozenset(field.name for field in fields(DataLoss)) - {"quality", "quality_detail"}


class Folding(NamedTuple):
    """What is given up, and what is said in its place."""

    gone: list[Span]
    said: list[DataLoss]


def given_up(oldest: Mapping[str, Sequence[Oldest]], cause: str) -> list[DataLoss]:
    """A declaration for each run of numbers, by the policy that gives it up. The bodies of counts give the totals
    that repair the quantities."""
    return [
        DataLoss(
            lost_stream=span.stream,
            lost_epoch=span.epoch,
            seq_from=span.first,
            seq_to=span.last,
            extent="exact",
            count_by_type=types,
            cause=cause,
            policy=policy,
            totals_after=_totals(bodies) or None,
        )
        for policy, runs in oldest.items()
        for span, types, _, bodies in runs
    ]


def folded(waiting: Sequence[Oldest], new: Sequence[DataLoss] = (), *, widely: bool = False) -> Folding | None:
    """Few declarations in the place of `waiting`, events of the types in `KEPT` with their bodies, and of the `new`
    ones; None if a quarter of them would not go. `widely`: also of numbers that do not follow each other."""
    gone: list[Span] = []
    said: list[DataLoss] = []
    for run in waiting:
        if len(run.bodies) < sum(run.types.values()):
            continue  # one of them is not as it was written, and its declaration must not be left out
        for body in run.bodies:
            event = json.loads(body)
            data, number, epoch = event["data"], int(event["sequence"]), event["epoch"]
            if "lost_stream" not in data:
                kind = AgentStarted.TYPE
                if number == 1 or data.get("prev_epoch") is not None:
                    continue
            elif data["extent"] == "exact":
                kind = DataLoss.TYPE
                said.append(DataLoss(**{name: data[name] for name in _FIELDS & data.keys()}))
            else:
                continue
            gone.append(Span(run.span.stream, epoch, number, number))
            said.append(_own(gone[-1], kind))
    short = _merged([*said, *new], widely)
    return Folding(gone, short) if gone and 4 * len(short) <= 3 * (len(gone) + len(new)) else None


def _own(span: Span, kind: str) -> DataLoss:
    return DataLoss(
        lost_stream=span.stream,
        lost_epoch=span.epoch,
        seq_from=span.first,
        seq_to=span.last,
        extent="exact",
        count_by_type={kind: 1},
        cause="buffer_full",
        policy="drop_oldest",
    )


def _merged(losses: Iterable[DataLoss], widely: bool) -> list[DataLoss]:
    merged: list[DataLoss] = []
    for loss in sorted(losses, key=lambda loss: (*_kind(loss), loss.seq_from or 0)):
        last = merged[-1] if merged else None
        if last is not None and _kind(last) == _kind(loss) and _may_join(last, loss, widely):
            merged[-1] = _both(last, loss)
        else:
            merged.append(loss)
    return merged


def _may_join(first: DataLoss, second: DataLoss, widely: bool) -> bool:
    if widely and first.count_by_type is not None and second.count_by_type is not None:
        return True
    return second.seq_from == (first.seq_to or 0) + 1


def _kind(loss: DataLoss) -> tuple[str, ...]:
    return loss.lost_stream, loss.lost_epoch, loss.cause, loss.policy


def _both(first: DataLoss, second: DataLoss) -> DataLoss:
    """`second` begins behind the begin of `first`."""
    older, newer = sorted((first, second), key=lambda loss: loss.seq_to or 0)
    counts = first.count_by_type, second.count_by_type
    totals: dict[str, Mapping[str, Any]] = {**(older.totals_after or {}), **(newer.totals_after or {})}
    return replace(
        first,
        seq_to=newer.seq_to,
        count_by_type=None if None in counts else Counter(counts[0]) + Counter(counts[1]),
        totals_after=totals or None,
    )


def _totals(counted: Iterable[bytes]) -> dict[str, Mapping[str, int | float]]:
    """The last totals of each counter in bodies of `production.counted`, oldest first."""
    data = [json.loads(body)["data"] for body in counted]
    return {each["counter"]: each["totals"] for each in data}
