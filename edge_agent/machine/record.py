"""The whole state of a machine: immutable, replaced as a whole by each step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from edge_agent.clock import Instant
from edge_agent.machine.archive import Archive
from edge_agent.machine.counters import Group
from edge_agent.machine.downtime import Downtime
from edge_agent.machine.gaps import Gap
from edge_agent.machine.measurements import SetState
from edge_agent.machine.out import Counts, Ctx, Revision
from edge_agent.machine.parts import Cause
from edge_agent.machine.samples import Device, Held
from edge_agent.machine.state import Tracked


class MachineState(NamedTuple):
    """`seq_p`, `seq_m`: the next numbers of the streams `.p` and `.m`. `at`: the last step. `held`: essential tags by
    key. `past`: key → (monotonic µs, value) for `avg`. `gaps`: open ones, by device or key. `orphans`: totals of
    counters that are not configured now. `warned`: code and kind → (monotonic µs, held back since). `wake`: the
    first timer, monotonic µs. `ctx`: the context on every event; `earlier`: what it was, newest first.
    `order_totals`: what the open order run has got. `archive`: stored as a row of its own. `mode`: as the MOM set
    it. `parts`: the state of each part, by its name. `causes`: recent alarms that may be why the machine stands.
    `stretch`: the intervals of sample sets are so many times as long while the buffer is nearly full; not stored."""

    at: Instant
    seq_p: int = 1
    seq_m: int = 1
    devices: Mapping[str, Device] = {}
    held: Mapping[str, Held] = {}
    past: Mapping[str, tuple[tuple[int, float], ...]] = {}
    gaps: Mapping[str, Gap] = {}
    tracked: Tracked = Tracked()
    groups: Mapping[str, Group] = {}
    downtime: Downtime | None = None
    sets: tuple[SetState, ...] = ()
    orphans: Mapping[str, Group] = {}
    warned: Mapping[str, tuple[int, int]] = {}
    wake: int | None = None
    ctx: Ctx | None = None
    earlier: tuple[Revision, ...] = ()
    order_totals: Counts | None = None
    archive: Archive = Archive()
    mode: str | None = None
    parts: Mapping[str, Any] = {}
    causes: tuple[Cause, ...] = ()
    stretch: int = 1
