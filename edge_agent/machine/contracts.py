"""What the runtime and `replay` need of a machine: the one pure step.

A machine owns its streams: the next sequence numbers are part of its state, and the state is committed in
the same transaction as the events, so no number exists without a row and a roll-back returns it. All
methods are pure: time comes in, nothing is logged, the same inputs give the same outputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from drivers.base import Batch, Reading
from edge_agent.clock import Instant
from edge_agent.commands.envelope import Command
from edge_agent.events.types import AgentWarning, Event

State = Any
"""Opaque outside `edge_agent/machine`; immutable."""
NO_ROWS: Final[Mapping[str, bytes]] = {}
NO_NUMBERS: Final[Mapping[str, int]] = {}
NO_READINGS: Final[Mapping[str, Sequence[Reading]]] = {}


class Outcome(NamedTuple):
    """What a step gave. `store`: the state must be committed even if there is no event (a baseline moved, a
    candidate appeared); the last-sample time alone is no reason, the heartbeat stores it every 5 s. `rows`: further
    rows of state to commit with it, for `restore`; what is large and changes rarely is kept in them."""

    state: State
    events: Sequence[Event] = ()
    warnings: Sequence[AgentWarning] = ()
    store: bool = False
    rows: Mapping[str, bytes] = NO_ROWS


class Timing(NamedTuple):
    """Samples that were dropped because they came late, and µs by which the clocks of devices are ahead, of those
    whose times are not used for that."""

    dropped: int
    skews: Mapping[str, int]


class Machine(Protocol):
    name: str
    devices: frozenset[str]
    """Devices whose batches concern this machine."""
    rows: tuple[str, ...]
    """Names of the rows that `Outcome.rows` may hold."""

    def initial(self, now: Instant, last: Mapping[str, int] = NO_NUMBERS) -> Outcome:
        """Start without a stored state. `last`: stored numbers by stream, from which its own go on."""

    def restore(
        self,
        saved: bytes,
        now: Instant,
        rows: Mapping[str, bytes] = NO_ROWS,
        last: Mapping[str, int] = NO_NUMBERS,
    ) -> Outcome:
        """Start of the agent with a stored state and its rows: a gap with cause `agent_down` begins at its last
        sample. A state that cannot be read is none, and is warned of."""

    def adopt(
        self, former: Any, state: State, now: Instant, latest: Mapping[str, Sequence[Reading]] = NO_READINGS
    ) -> Outcome:
        """Go on in the middle of life under another configuration than that of `former`, the machine until now.
        `latest`: newest readings of the devices that stay connected."""

    def leave(self, state: State, now: Instant) -> Outcome:
        """It is not configured any more."""

    def step(self, state: State, batch: Batch, now: Instant) -> Outcome: ...

    def unseen(self, state: State, device: str) -> int | None:
        """Since when nothing of the device is known (UTC µs): from then on its own history is wanted. None if
        nothing is missing or its history is of no use."""

    def command(self, state: State, command: Command, now: Instant) -> Outcome:
        """What the MOM asks of this machine: carried out or refused, and answered by `command.*` events."""

    def due(self, state: State) -> int | None:
        """When `tick` must be called next, on the monotonic clock (µs)."""

    def tick(self, state: State, now: Instant) -> Outcome: ...

    def stretched(self, state: State, factor: int) -> State:
        """With intervals of sample sets that are so many times as long, from the next on; until told otherwise."""

    def dump(self, state: State) -> bytes:
        """The state for the outbox, with the time of the last good sample."""

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """What each tag (`device/tag`) is used for, in words of the configuration."""

    def timing(self, state: State) -> Timing: ...

    def describe(self, state: State) -> dict[str, Any]:
        """For `status`, `cur/*` and the page: state, since, open downtime, counters; plain JSON values."""
