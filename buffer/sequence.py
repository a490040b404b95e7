"""The sequence guard: within (stream, epoch) every number is the one before plus one, starting at 1.

The numbers are assigned by the pure steps; the outbox proves them. A hole or a repeat is a fault of the
program that made the messages, and is refused before it can reach a consumer that drops repeats.
"""

from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from typing import NamedTuple

from buffer.outbox import Message, Oldest, SequenceError, Span

Key = tuple[str, str]
"""(stream, epoch)"""


def follow(last: MutableMapping[Key, int], messages: Iterable[Message]) -> None:
    """Check that the messages continue `last` (highest number of each stream) and move it on.

    Raises `SequenceError`; `last` is then as it was.
    """
    moved: dict[Key, int] = {}
    for message in messages:
        key = (message.stream, message.epoch)
        due = moved.get(key, last.get(key, 0)) + 1
        if message.seq != due:
            raise SequenceError(
                f"{message.stream} in epoch {message.epoch}: number {message.seq} was appended where {due} is due"
            )
        moved[key] = due
    last.update(moved)


class Old(NamedTuple):
    """A message that could be given up; `body` if it was asked for."""

    stream: str
    epoch: str
    seq: int
    type: str
    size: int
    body: bytes | None


def spans(rows: Iterable[Old]) -> Sequence[Oldest]:
    """Messages whose numbers rise in each stream, as runs without a hole."""
    runs: list[list[Old]] = []
    newest: dict[Key, list[Old]] = {}
    for row in rows:
        run = newest.get(row[:2])
        if run is not None and run[-1].seq + 1 == row.seq:
            run.append(row)
        else:
            run = newest[row[:2]] = [row]
            runs.append(run)
    return [
        Oldest(
            Span(run[0].stream, run[0].epoch, run[0].seq, run[-1].seq),
            Counter(row.type for row in run),
            sum(row.size for row in run),
            tuple(row.body for row in run if row.body is not None),
        )
        for run in runs
    ]
