"""The sequence guard: within (stream, epoch) every number is the one before plus one, starting at 1.

The numbers are assigned by the pure steps; the outbox proves them. A hole or a repeat is a fault of the
program that made the messages, and is refused before it can reach a consumer that drops repeats.
"""

from collections.abc import Iterable, MutableMapping, Sequence

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


def spans(rows: Iterable[tuple[str, str, int, str, bytes | None]]) -> Sequence[Oldest]:
    """(stream, epoch, number, type, body or None) of messages, numbers rising in each stream, as runs without a
    hole."""
    runs: list[tuple[Span, dict[str, int], list[bytes]]] = []
    newest: dict[Key, int] = {}
    for stream, epoch, seq, kind, body in rows:
        at = newest.get((stream, epoch))
        if at is not None and runs[at][0].last + 1 == seq:
            span, types, bodies = runs[at]
            runs[at] = (span._replace(last=seq), types, bodies)
        else:
            types, bodies = {}, []
            newest[(stream, epoch)] = len(runs)
            runs.append((Span(stream, epoch, seq, seq), types, bodies))
        types[kind] = types.get(kind, 0) + 1
        if body is not None:
            bodies.append(body)
    return [Oldest(span, types, tuple(bodies)) for span, types, bodies in runs]
