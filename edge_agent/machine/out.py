"""What one step gives out: events with their numbers, warnings with their limit, and whether to store.

Lives for one step only. Numbers are taken from the state and go back into it, so the step stays pure.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from buffer.outbox import Lane
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import AgentWarning, Data, Event, event_id

Ctx: TypeAlias = Mapping[str, str | int | tuple[str, ...]]
"""`ctx` of events; one object for all events of a revision, so that it is encoded once."""
Counts: TypeAlias = Mapping[str, Mapping[str, int]]
"""Counter group → member → pieces."""
WARN_EVERY: Final = 600 * SECOND
"""One warning of a kind and subject in so much time; the next one says how many there were."""
MAX_KINDS: Final = 200


class Revision(NamedTuple):
    """What events carried until then."""

    until: Instant
    ctx: Ctx | None


class Out:
    def __init__(
        self, now: Instant, epoch: str, seq_p: int, seq_m: int, warned: Mapping[str, tuple[int, int]]
    ) -> None:
        self.now = now
        self.seq_p = seq_p
        self.seq_m = seq_m
        self.warned = warned
        self.events: list[Event] = []
        self.warnings: list[AgentWarning] = []
        self.store = False
        self.ctx: Ctx | None = None
        self.earlier: tuple[Revision, ...] = ()
        self.order_totals: Counts | None = None
        self.causation: str | None = None
        self._epoch = epoch

    def production(
        self,
        time: int,
        data: Data,
        correlation: str | None = None,
        causation: str | None = None,
        ctx: Ctx | None = None,
    ) -> None:
        """An event of the stream `.p` that happened at `time` (UTC µs), in the context `ctx`, or in that of then."""
        self.events.append(
            Event(
                lane=Lane.PRODUCTION,
                seq=self.seq_p,
                time=time,
                recorded=self.now.wall,
                data=data,
                correlation_id=correlation,
                causation_id=causation or self.causation,
                ctx=(ctx or None) if ctx is not None else self.context_at(time) if self.earlier else self.ctx,
            )
        )
        self.seq_p += 1

    def measurement(self, time: int, data: Data, ctx: Ctx | None = None) -> None:
        ctx = (ctx or None) if ctx is not None else self.context_at(time) if self.earlier else self.ctx
        self.events.append(
            Event(lane=Lane.MEASUREMENT, seq=self.seq_m, time=time, recorded=self.now.wall, data=data, ctx=ctx)
        )
        self.seq_m += 1

    def context_at(self, time: int) -> Ctx | None:
        """The context at `time` (UTC µs), as far back as revisions are kept. They are placed by the monotonic clock,
        so that a wall clock that was set back does not bring an old context back."""
        offset = self.now.wall - self.now.mono
        ctx = self.ctx
        for revision in self.earlier:
            if time >= revision.until.mono + offset:
                return ctx
            ctx = revision.ctx
        return ctx

    def book(self, group: str, delta: Mapping[str, int]) -> Mapping[str, int] | None:
        """Add published counts to the open order run; its totals of the group, None without an order."""
        if self.order_totals is None:
            return None
        self.order_totals = added(self.order_totals, group, delta)
        return self.order_totals[group]

    def production_id(self, ahead: int = 0) -> str:
        """Id that the event of `.p` after `ahead` others will have."""
        return event_id(self._epoch, self.seq_p + ahead)

    def warn(self, code: str, text: str, subject: str, kind: str = "") -> None:
        """Warn once per code, kind and `WARN_EVERY`; what was held back is counted in the next one."""
        key = f"{code} {kind}"
        last = self.warned.get(key)
        if last is not None and self.now.mono - last[0] < WARN_EVERY:
            self.warned = {**self.warned, key: (last[0], last[1] + 1)}
            return
        kept = dict(self.warned)
        kept.pop(key, None)
        while len(kept) >= MAX_KINDS:
            del kept[next(iter(kept))]
        kept[key] = (self.now.mono, 0)
        self.warned = kept
        self.warnings.append(AgentWarning(code=code, text=text, subject=subject, count=1 + (last[1] if last else 0)))


def added(totals: Counts, group: str, delta: Mapping[str, int]) -> Counts:
    own = totals.get(group, {})
    return {**totals, group: {**own, **{member: own.get(member, 0) + moved for member, moved in delta.items()}}}
