"""How a machine is put together: the core step tells facts, in the order they happen, to parts with their own state.

A part is pure and hears only the kinds of facts it names in `heeds`, and samples of the tags in `keys`; a machine
without parts pays nothing. Order at one time of a batch: reset hints, counters (`Counted`), samples (`Sample`, in the
order of the batch, only when value, quality or validity changed), `Scanned`, then the reason and the state
(`StateBegan`, when it is accepted; its `since` may lie before facts that were told earlier). Events that the core or
another part published are told as `Published`, before the next fact. What a part tells the others with `Desk.tell` is
heard after the fact that is being told, and before the next one.

A part's tags are essential: they are held over a restart, covered by gaps, and their samples are told again when a
gap closes. Timers run at their own time. State is a NamedTuple of plain values, Instants, mappings, tuples and
frozensets; it is stored with the machine's and rebuilt by its annotations.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from config.model import Config, MachineOptions
from drivers.base import Quality, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import Data, Event
from edge_agent.machine.archive import Archive
from edge_agent.machine.calendar import Calendar
from edge_agent.machine.out import Counts, Ctx
from edge_agent.machine.samples import Held
from edge_agent.machine.state import View

Rebuild: TypeAlias = Callable[[Any, Any], Any]
"""(type, plain JSON) → value of the type, its times on the clock of this process. Raises ValueError, TypeError."""


class Sample(NamedTuple):
    """A tag that a part asked for changed its value, quality or validity. `value` is None if it cannot be believed
    now (BAD, or in a gap); `again`: told anew when a gap closed, not seen to change."""

    key: str
    value: Value | None
    quality: Quality
    at: Instant
    basis: str
    again: bool = False


class ConditionTold(NamedTuple):
    """A device told of a condition that it keeps itself, also while the device is in a gap: `said` is JSON, see
    `conditions`."""

    key: str
    said: str
    at: Instant
    basis: str


class Scanned(NamedTuple):
    """All samples of one time have been told, and their counts."""

    at: Instant
    basis: str


class Counted(NamedTuple):
    """Pieces were booked to a counter group: `delta` by configured member, made between `since` and `at`. They are
    published later (`Published` of a ProductionCounted), at the next flush."""

    counter: str
    delta: Mapping[str, int]
    since: Instant
    at: Instant
    cause: str


class StateBegan(NamedTuple):
    """A state interval began; the one before ended at `since`. `previous` is None for the first of an epoch and for a
    part that is new to a running machine. `blind`: unknown because nothing valid is seen."""

    state: str
    since: Instant
    previous: str | None
    mode: str = "production"
    blind: bool = False


class GapOpened(NamedTuple):
    """The tags in `keys` are not seen since then. `device`: the whole device is lost or was not watched."""

    name: str
    cause: str
    since: Instant
    keys: tuple[str, ...]
    device: bool


class GapClosed(NamedTuple):
    """Seen again at `back`; `Sample` follows for each tag of the gap."""

    name: str
    cause: str
    since: Instant
    back: Instant
    keys: tuple[str, ...]
    device: bool


class Restarted(NamedTuple):
    """The PLC started anew between `since` and `at`; nothing of it is believed for the settle time."""

    device: str
    since: Instant
    at: Instant


class Resumed(NamedTuple):
    """The agent starts with the stored state, `since` is when it was last stored. Gaps of its devices follow as
    `GapOpened` with cause `agent_down` or `config_change`."""

    since: Instant
    at: Instant


class ContextBegan(NamedTuple):
    """From `at` on events carry `ctx`, before it `before`; the counts of the time before have been flushed."""

    at: Instant
    ctx: Ctx | None
    before: Ctx | None


class OrderBegan(NamedTuple):
    """An order run began."""

    at: Instant
    run_id: str
    order_id: str
    product: str | None = None
    ideal_cycle_s: float | None = None


class OrderEnded(NamedTuple):
    """An order run ended: completed, suspended, aborted or superseded."""

    at: Instant
    run_id: str
    order_id: str
    how: str


class Boundary(NamedTuple):
    """A calendar boundary: `kind` is `shift`, `break`, `maintenance` or `hour`; `id` names what begins."""

    at: Instant
    kind: str
    id: str | None
    planned: bool | None = None


class Rescheduled(NamedTuple):
    """The calendar is another one from `at` on."""

    at: Instant


class Cause(NamedTuple):
    """An alarm that stops the machine was raised at `at`: candidate for the first-out cause of a downtime, unless it
    is a `snapshot`, whose true start is not known. `category` of the downtime, if the alarm has one."""

    alarm_id: str
    code: str
    text: str | None
    at: Instant
    category: str | None = None
    snapshot: bool = False


class CycleBegan(NamedTuple):
    """A cycle began; not told when it follows at once on another one."""

    at: Instant
    cycle_id: str


class CycleEnded(NamedTuple):
    """A cycle was complete at `at`; `next` is the id of one that began with that, if one did."""

    cycle_id: str
    began: Instant
    at: Instant
    result: str
    next: str | None = None


class Published(NamedTuple):
    """An event went out; `heeds` names the class of its data (`ProductionCounted`, `DowntimeStarted`, …)."""

    event: Event


class Ordered(NamedTuple):
    """A command of the MOM that was found valid, to be carried out now: name and parameters of event model §6."""

    id: str
    source: str
    name: str
    params: Mapping[str, Any]
    issued_by: str
    at: Instant


Fact: TypeAlias = (
    Sample
    | ConditionTold
    | Scanned
    | Counted
    | StateBegan
    | GapOpened
    | GapClosed
    | Restarted
    | Resumed
    | ContextBegan
    | OrderBegan
    | OrderEnded
    | Boundary
    | Rescheduled
    | Cause
    | CycleBegan
    | CycleEnded
    | Published
    | Ordered
)


class Desk(Protocol):
    """What a part can do and see while it works; belongs to one step."""

    now: Instant
    held: Mapping[str, Held]
    """Essential tags by key, as of the fact being told."""

    @property
    def calendar(self) -> Calendar:
        """What is planned, as configured or as the MOM has set it."""

    @property
    def ctx(self) -> Ctx | None:
        """Put on every event from now on that is given no other and is not dated back over a change."""

    @property
    def coming(self) -> StateBegan | None:
        """The state that waits to be accepted; it may yet go away."""

    @property
    def order_totals(self) -> Counts | None:
        """What has been published for the open order run; None without one."""

    def set_order_totals(self, totals: Counts | None) -> None: ...

    archive: Archive
    """What is kept for long; replaced as a whole."""

    def production(
        self,
        time: int,
        data: Data,
        correlation: str | None = None,
        causation: str | None = None,
        ctx: Ctx | None = None,
    ) -> None:
        """An event of `.p` that happened at `time` (UTC µs)."""

    def measurement(self, time: int, data: Data) -> None: ...

    def production_id(self, ahead: int = 0) -> str:
        """Id that the event of `.p` after `ahead` others will have."""

    def warn(self, code: str, text: str, kind: str = "") -> None:
        """`agent.warning` about this machine, limited by code and kind."""

    def keep(self) -> None:
        """The state must be stored even if nothing is published."""

    def view(self, at: Instant) -> View:
        """What expressions see."""

    def flush(self, to: Instant | None = None) -> None:
        """Publish the counts that wait, as of `to`."""

    def flush_for_order(self) -> None:
        """As `flush`, but pieces that a register counted since the new order reset it are the new order's."""

    def correct(self, group: str, delta: Mapping[str, int], since: Instant) -> None:
        """Publish counts again under another order; two of them cancel out."""

    def set_mode(self, mode: str | None, at: Instant) -> None:
        """The mode as the MOM sets it from `at` on, None for no more."""

    def set_up_between(self, start: Instant, end: Instant) -> None:
        """Downtimes that began in a change-over are set-up."""

    def set_context(self, at: Instant, ctx: Ctx | None) -> None:
        """Flush the counts, then carry `ctx`; the others hear `ContextBegan`."""

    def tell(self, fact: Fact) -> None:
        """Let the other parts (and this one, if it heeds the kind) hear it after the fact being told."""


S = TypeVar("S")


class Part(Generic[S]):
    """Base of all parts; every method is pure but for what it does at the desk."""

    name: ClassVar[str]
    """Key of its state in the machine's."""
    kind: type[S]
    """The NamedTuple that holds its state."""
    keys: frozenset[str] = frozenset()
    """Tags (`device/tag`) whose samples it hears."""
    conditions: frozenset[str] = frozenset()
    """Tags (`device/tag`) of conditions, which it hears as `ConditionTold`."""
    windows: Mapping[str, int] = {}
    """Tags of which `avg` needs the past, with the longest time, µs."""
    feeds: ClassVar[str | None] = None
    """The word in `affects` of `data.gap` for its tags: `alarm`, `consumption`, `measurement`."""
    heeds: frozenset[type] = frozenset()
    """Kinds of facts it hears, beside `Sample`; for `Published` the classes of the events' data."""
    timed: ClassVar[bool] = False
    """Whether `due` may ever give a time."""
    fingerprint: str = ""
    """Of the configuration that its state depends on."""

    def initial(self, now: Instant) -> S:
        return self.kind()

    def take(self, state: S, fact: Fact, out: Desk) -> S:
        """The state after a fact; the same object if nothing changed."""
        raise NotImplementedError

    def due(self, state: S) -> int | None:
        """When `fire` must be called, monotonic µs."""
        return None

    def fire(self, state: S, at: Instant, out: Desk) -> S:
        """What is due at `at` happens; afterwards `due` must have moved."""
        raise NotImplementedError

    def dump(self, state: S) -> object:
        """What is stored of the state: the state itself or something like it."""
        return state

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> S:
        """The state from what was stored; `same`: with today's fingerprint. Raises ValueError or TypeError."""
        if not same:
            return self.initial(now)
        state: S = rebuild(self.kind, saved)
        return state

    def describe(self, state: S) -> Mapping[str, Any]:
        """Entries for `Machine.describe`, plain JSON values."""
        return {}


class Wiring(NamedTuple):
    """What a part is built from."""

    config: Config
    machine: str

    @property
    def options(self) -> MachineOptions:
        return self.config.machines[self.machine]

    @property
    def subject(self) -> str:
        return self.config.subject(self.machine)

    def key(self, ref: str) -> str:
        """`device/tag` of a tag reference."""
        return "/".join(self.config.resolve(self.machine, ref))

    def period(self, key: str) -> int:
        """µs between samples."""
        device, _, tag = key.partition("/")
        return self.config.devices[device].period(tag)

    def uncertainty(self, keys: frozenset[str]) -> float:
        """± seconds of times that come from the tags."""
        return max((self.period(key) for key in keys), default=0) / SECOND

    def unit(self, key: str) -> str | None:
        device, _, tag = key.partition("/")
        unit: str | None = self.config.devices[device].tags[tag].unit
        return unit

    def value_type(self, key: str) -> str:
        device, _, tag = key.partition("/")
        return self.config.devices[device].value_type(tag)


class Team(NamedTuple):
    """The parts of a machine in the order in which they hear, with who hears what worked out."""

    parts: tuple[Part[Any], ...] = ()
    by_kind: Mapping[type, tuple[Part[Any], ...]] = {}
    by_key: Mapping[str, tuple[Part[Any], ...]] = {}
    timed: tuple[Part[Any], ...] = ()

    def feeds(self) -> Mapping[str, frozenset[str]]:
        """Word in `affects` of `data.gap` ("" for none) → the tags that parts hear."""
        fed: dict[str, frozenset[str]] = {}
        for part in self.parts:
            fed[part.feeds or ""] = fed.get(part.feeds or "", frozenset()) | part.keys
        return fed

    def conditions(self) -> frozenset[str]:
        """Tags of conditions that some part hears."""
        return frozenset().union(*(part.conditions for part in self.parts))

    def windows(self) -> Mapping[str, int]:
        """Tag → µs of its past that some part needs."""
        wanted: dict[str, int] = {}
        for part in self.parts:
            for tag, span in part.windows.items():
                wanted[tag] = max(span, wanted.get(tag, 0))
        return wanted

    def hearing(self, fact: Fact) -> tuple[Part[Any], ...]:
        if isinstance(fact, Sample):
            return self.by_key.get(fact.key, ())
        return self.by_kind.get(type(fact.event.data) if isinstance(fact, Published) else type(fact), ())


def team(parts: tuple[Part[Any], ...]) -> Team:
    kinds = {kind for part in parts for kind in part.heeds}
    keys = {key for part in parts for key in part.keys}
    return Team(
        parts,
        {kind: tuple(part for part in parts if kind in part.heeds) for kind in kinds},
        {key: tuple(part for part in parts if key in part.keys) for key in keys},
        tuple(part for part in parts if part.timed),
    )
