"""Gaps: times in which a device or a tag could not be seen, from the last good sample to the first good one.

A gap opens when nothing good has come for the comms time-out, when the agent was down, or when the PLC restarted. It
closes when every essential tag it covers has been read again, so that the count and the state are judged together.
A block of zeros (or of all ones) straight after a reconnect is looked at twice. While a gap is open its tags are
`stale`: they make rules uncertain and count nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from edge_agent.clock import SECOND, Instant
from edge_agent.machine.samples import Held

PATIENCE: Final = 5 * SECOND
"""After the first good sample, for the other tags of the gap to be read."""
ENOUGH_SIGNS: Final = 3
"""Batches after which a tag that was not in any of them is taken as unchanged (a subscription that lived on)."""
TRIGGERS: Final[Mapping[str, str]] = {
    "comms_loss": "comms",
    "bad_quality": "quality",
    "agent_down": "agent_restart",
    "plc_restart": "plc_restart",
    "config_change": "config",
}
"""Cause of a gap → trigger of the state that it makes unknown."""


class Gap(NamedTuple):
    """`tags`: keys it covers. `settle`: nothing is believed before (after a PLC restart). `back`: first good sample.
    `decided`: when all its tags that make the state had been read. `signs`: batches since. `read`: keys read since.
    `worst` and `before`: what the registers gave so far, and the totals at its start. `recalled`: up to when the
    device's own history of the tags in `told` has filled it, while more of it is awaited until `awaited`."""

    since: Instant
    cause: str
    tags: tuple[str, ...] = ()
    settle: Instant | None = None
    back: Instant | None = None
    decided: Instant | None = None
    signs: int = 0
    read: frozenset[str] = frozenset()
    worst: str | None = None
    before: Mapping[str, Mapping[str, int]] = {}
    recalled: Instant | None = None
    told: tuple[str, ...] = ()
    awaited: Instant | None = None

    def settling(self, now: Instant) -> bool:
        return self.settle is not None and now.mono < self.settle.mono

    def ready(self, held: Mapping[str, Held]) -> bool:
        """Whether every tag has been read, and a suspicious block twice."""
        if self.back is None or (self.signs < ENOUGH_SIGNS and not self.read.issuperset(self.tags)):
            return False
        return self.signs > 1 or not _blank(self, held)


def _blank(gap: Gap, held: Mapping[str, Held]) -> bool:
    """Whether all numbers have become 0 or all 0xFFFF at once."""
    found = [held[tag] for tag in gap.tags if tag in held and tag in gap.read]
    numbers = [one for one in found if isinstance(one.value, int | float) and not isinstance(one.value, bool)]
    if not numbers or all(one.before is None or one.changed.mono <= gap.since.mono for one in numbers):
        return False
    return all(one.value == 0 for one in numbers) or all(one.value == 0xFFFF for one in numbers)


def seen(gap: Gap, now: Instant, read: Iterable[str], state: frozenset[str], *, good: bool) -> Gap:
    """The gap after a batch with the keys `read`; `good`: something was good; `state`: keys that make the state."""
    keys = gap.read | frozenset(read)
    if gap.settling(now):
        return gap._replace(read=keys)
    if gap.decided is None and keys.issuperset(state.intersection(gap.tags)):
        gap = gap._replace(decided=now)
    signs = gap.signs + 1
    back = gap.back or (now if good or gap.read or signs > 1 else None)
    return gap._replace(read=keys, signs=signs, back=back)


def worse(left: str | None, right: str) -> str:
    order = ("exact", "lower_bound", "none")
    return right if left is None else max(left, right, key=order.index)


def covering(gaps: Mapping[str, Gap], tag: str) -> str | None:
    """The key of the open gap that covers the tag."""
    for key, gap in gaps.items():
        if tag in gap.tags:
            return key
    return None
