"""The sequence guard: within (stream, epoch) every number is the one before plus one, starting at 1.

The numbers are assigned by the pure steps; the outbox proves them. A hole or a repeat is a fault of the
program that made the messages, and is refused before it can reach a consumer that drops repeats.
"""

from collections.abc import Iterable, MutableMapping

from buffer.outbox import Message, SequenceError

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
