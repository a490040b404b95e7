"""Which state the machine is in: the mapping of tags, the candidate that must persist, and back-dating.

A verdict is what the tags say now; None says that they do not decide, and then the last state is held. A
candidate is a verdict that differs; it becomes the state when it has lasted its debounce time, dated back to its
first sample. State intervals tile (I1): a new one starts where the old one ends.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from config.model import State, StateOptions
from drivers.base import Quality, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.expressions import Uncertain
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
    """The tag that decided, as read."""

    tag: str
    value: Value


class Verdict(NamedTuple):
    """What the tags say. `reason`: the text of the rule that decided. `unmapped`: a raw value without a mapping."""

    state: str
    rule: str
    raw: Evidence | None = None
    quality: str = "good"
    detail: str = ""
    reason: str | None = None
    unmapped: Value | None = None


class Interval(NamedTuple):
    """The open state interval. `blind`: unknown because nothing valid is seen, not because the mapping says so."""

    state: str
    since: Instant
    blind: bool = False


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
    rules that depend on time again (monotonic µs)."""

    current: Interval | None = None
    candidate: Candidate | None = None
    doubt: Instant | None = None
    revisit: int | None = None


class View:
    """What expressions see at one time: the held tags, their age and their past."""

    def __init__(
        self,
        held: Mapping[str, Held],
        devices: Mapping[str, Device],
        past: Mapping[str, tuple[tuple[int, float], ...]],
        now: Instant,
    ) -> None:
        self._held = held
        self._devices = devices
        self._past = past
        self._now = now
        self.next: int | None = None

    def _good(self, tag: str) -> Held:
        held = self._held.get(tag)
        if held is None or held.stale is not None:
            raise Uncertain(tag)
        return held

    def value(self, tag: str) -> Value:
        return self._good(tag).value

    def age(self, tag: str) -> float:
        held = self._held.get(tag)
        if held is None:
            raise Uncertain(tag)
        good = held.stale or self._devices[tag.partition("/")[0]].seen or held.at
        return max(0, self._now.mono - good.mono) / SECOND

    def unchanged(self, tag: str) -> float:
        return max(0, self._now.mono - self._good(tag).changed.mono) / SECOND

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
        start = max(self._now.mono - round(seconds * SECOND), points[0][0])
        area, width = 0.0, 0
        for index, (at, value) in enumerate(points):
            end = points[index + 1][0] if index + 1 < len(points) else self._now.mono
            span = max(0, end - max(at, start))
            area, width = area + value * span, width + span
        return area / width if width else points[-1][1]

    def revisit(self, seconds: float) -> None:
        at = self._now.mono + max(1, round(seconds * SECOND))
        self.next = at if self.next is None else min(self.next, at)


def judge(plan: Plan, view: View, held: Mapping[str, Held]) -> Verdict | None:
    """What the tags say; None if an input that decides is missing or BAD."""
    options = plan.options.state
    if options is None:
        return None
    if plan.state_key is not None:
        return _mapped(plan, options, held.get(plan.state_key))
    for rule, expression in zip(options.rules or (), plan.rules, strict=True):
        try:
            if expression is None or expression.holds(view):
                doubtful = [held[tag] for tag in plan.state_keys if tag in held and held[tag].quality]
                return Verdict(
                    rule.state,
                    "expr",
                    quality="uncertain" if doubtful else "good",
                    detail=doubtful[0].detail if doubtful else "",
                    reason=rule.reason,
                )
        except Uncertain:
            return None
    return Verdict(options.default, "expr")


def _mapped(plan: Plan, options: StateOptions, held: Held | None) -> Verdict | None:
    if held is None or held.stale is not None:
        return None
    mapping: Mapping[int | str, State] = options.map or {}
    value = held.value
    key = int(value) if isinstance(value, float) and value.is_integer() else value
    state = None if isinstance(key, float) else mapping.get(key)
    if state is None and isinstance(value, str) and value.strip("-").isdigit():
        state = mapping.get(int(value))
    raw = Evidence(plan.label(plan.state_key or ""), value)
    return Verdict(
        options.default if state is None else state,
        "enum",
        raw,
        "good" if held.quality is Quality.GOOD else "uncertain",
        held.detail,
        unmapped=value if state is None else None,
    )


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
