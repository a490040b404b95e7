"""Which state the machine is in: the mapping of tags, the candidate that must persist, and back-dating.

A verdict is what the tags say now; None says that they do not decide, and then the last state is held. A
candidate is a verdict that differs; it becomes the state when it has lasted its debounce time, dated back to its
first sample. State intervals tile (I1): a new one starts where the old one ends.
"""

import itertools
from collections.abc import Mapping
from typing import Final, NamedTuple

from drivers.base import Value
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.operations import Uncertain
from edge_agent.machine.plan import Plan
from edge_agent.machine.samples import Device, Held

_DEBOUNCE: Final = {"fault": 0}
_DEBOUNCE_DEFAULT: Final = SECOND
GROUPS: Final[Mapping[str, str]] = {
    "running": "run",
    "fault": "fault",
    "starved": "standby",
    "blocked": "standby",
    "idle": "standby",
    "stopped": "standby",
    "setup": "standby",
    "maintenance": "standby",
    "off": "off",
    "unknown": "unknown",
}


class Evidence(NamedTuple):
    """The tag that decided, as read. `text`: what the value is called, where the vocabulary of the tag is known."""

    tag: str
    value: Value
    text: str | None = None


class Verdict(NamedTuple):
    """What the tags say. `reason`: the text of the rule that decided. `unmapped`: a raw value without a mapping;
    `strange`: the same of the mode. `since`: when it began, if that is known to be before now. `silent`: it says
    running, and nothing is made."""

    state: str
    rule: str
    raw: Evidence | None = None
    quality: str = "good"
    detail: str = ""
    reason: str | None = None
    unmapped: Evidence | None = None
    mode: str = "production"
    strange: Evidence | None = None
    since: Instant | None = None
    silent: bool = False

    def same(self, other: "Verdict | Interval") -> bool:
        """Whether both say the same of the machine, whatever made them."""
        return (self.state, self.mode, self.silent) == (other.state, other.mode, other.silent)


class Interval(NamedTuple):
    """The open state interval. `blind`: unknown because nothing valid is seen, not because the mapping says so."""

    state: str
    since: Instant
    blind: bool = False
    mode: str = "production"
    silent: bool = False


class Candidate(NamedTuple):
    """`basis`: time basis of `since`. `parts`: pieces made until then. `reason`: the machine's reason code then."""

    verdict: Verdict
    since: Instant
    basis: str
    trigger: str
    parts: int
    reason: Value | None = None


class Tracked(NamedTuple):
    """The state part. `doubt`: the last good sample before the tags did not decide any more; `revisit`: when to ask
    rules that depend on time again (monotonic µs). `claimed`: the tags say running since then."""

    current: Interval | None = None
    candidate: Candidate | None = None
    doubt: Instant | None = None
    revisit: int | None = None
    claimed: Instant | None = None


class View:
    """What expressions see at one time: the held tags, their age and their past."""

    def __init__(
        self,
        held: Mapping[str, Held],
        devices: Mapping[str, Device],
        past: Mapping[str, tuple[tuple[int, float], ...]],
        now: Instant,
    ) -> None:
        self.held = held
        self._devices = devices
        self._past = past
        self.now = now
        self.next: int | None = None

    def _good(self, tag: str) -> Held:
        held = self.held.get(tag)
        if held is None or held.stale is not None:
            raise Uncertain(tag)
        return held

    def value(self, tag: str) -> Value:
        return self._good(tag).value

    def age(self, tag: str) -> float:
        held = self.held.get(tag)
        if held is None:
            raise Uncertain(tag)
        good = held.stale or self._devices[tag.partition("/")[0]].seen or held.at
        return max(0, self.now.mono - good.mono) / SECOND

    def seen(self, tag: str) -> Instant | None:
        """When the tag's device was read last."""
        device = self._devices.get(tag.partition("/")[0])
        return None if device is None else device.seen

    def unchanged(self, tag: str) -> float:
        return max(0, self.now.mono - self._good(tag).changed.mono) / SECOND

    def edge(self, tag: str) -> int:
        held = self._good(tag)
        if held.before is None or held.changed != held.at or bool(held.value) == bool(held.before):
            return 0
        return 1 if held.value else -1

    def average(self, tag: str, seconds: float) -> float:
        self._good(tag)
        points = self._past.get(tag, ())
        if not points:
            raise Uncertain(tag)
        start = max(self.now.mono - round(seconds * SECOND), points[0][0])
        area, width = 0.0, 0
        for index, (at, value) in enumerate(points):
            end = points[index + 1][0] if index + 1 < len(points) else self.now.mono
            span = max(0, end - max(at, start))
            area, width = area + value * span, width + span
        return area / width if width else points[-1][1]

    def edges(self, tag: str, span: int) -> list[int]:
        """When the tag changed within the last `span` µs, monotonic µs, oldest first."""
        points = self._past.get(tag, ())
        changed = [at for (_, old), (at, new) in itertools.pairwise(points) if old != new]
        return [at for at in changed if self.now.mono - span < at <= self.now.mono]

    def revisit(self, seconds: float) -> None:
        self.revisit_at(self.now.mono + max(1, round(seconds * SECOND)))

    def revisit_at(self, mono: int) -> None:
        self.next = mono if self.next is None else min(self.next, mono)


def debounce(plan: Plan, state: str) -> int:
    """µs that a candidate for the state must last."""
    options = plan.options.state
    if options is None:
        return 0
    configured = options.debounce
    fallback = configured.get("default", _DEBOUNCE_DEFAULT)
    return max(configured.get(state, _DEBOUNCE.get(state, fallback)), options.min_duration)


def remember(
    past: Mapping[str, tuple[tuple[int, float], ...]], key: str, span: int, at: int, value: Value
) -> Mapping[str, tuple[tuple[int, float], ...]]:
    """The past of a tag that `avg` needs, with one more value at `at` (monotonic µs). Thinned out when long."""
    if isinstance(value, str):
        return past
    points = [*past.get(key, ()), (at, float(value))]
    while len(points) > 1 and points[1][0] <= at - span:
        points.pop(0)
    if len(points) > _LONGEST_PAST:
        points = points[::2] + points[-1:] if len(points) % 2 == 0 else points[::2]
    return {**past, key: tuple(points)}


_LONGEST_PAST: Final = 600
