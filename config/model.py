"""The typed configuration after templates are expanded: what every other package builds itself from.

Frozen; names are those of the YAML. Durations are integer microseconds, sizes bytes, rates per second
(see `units`). A driver adds its own options by subclassing `DeviceOptions` and `TagOptions`.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from config.units import Duration, Rate, Size

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
"""A name becomes a topic level: letters, digits, `-`, `_`."""
TagRef = str
"""`tag` of the machine's own device, or `device/tag`."""
Scalar = bool | int | float | str


class Options(BaseModel):
    """Base of every model: unknown keys are faults, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Secret(Options):
    """Where a secret is kept. Exactly one of the three."""

    credential: str | None = None
    """Name of a systemd credential."""
    file: str | None = None
    """A file of mode 0600."""
    env: str | None = None
    """An environment variable."""


class State(StrEnum):
    """Canonical states (event model §3.1)."""

    RUNNING = "running"
    STARVED = "starved"
    BLOCKED = "blocked"
    IDLE = "idle"
    STOPPED = "stopped"
    FAULT = "fault"
    SETUP = "setup"
    MAINTENANCE = "maintenance"
    OFF = "off"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """Categories of a downtime (event model §2.2)."""

    BREAKDOWN = "breakdown"
    SETUP = "setup"
    STARVED = "starved"
    BLOCKED = "blocked"
    OPERATOR = "operator"
    TOOLING = "tooling"
    QUALITY = "quality"
    UTILITY = "utility"
    PLANNED_MAINTENANCE = "planned_maintenance"
    BREAK = "break"
    NO_ORDER = "no_order"
    PLANNED_OTHER = "planned_other"
    EXTERNAL = "external"
    UNCLASSIFIED = "unclassified"


class AgentOptions(Options):
    id: Name
    """Part of every event's source; the default is the host name."""


class Site(Options):
    """Where the agent stands (ISA-95 equipment hierarchy)."""

    enterprise: Name
    site: Name
    area: Name
    timezone: str = "UTC"


class Mqtt(Options):
    url: str = "mqtt://127.0.0.1:1883"
    """mqtt:// only on loopback or with `insecure: true`; mqtts:// otherwise."""
    username: str | None = None
    password: Secret | str | None = Field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: str | None = None
    """Default: `edge-agent-<agent id>`."""
    topic_root: str = "ea/v1"
    confirm: Literal["broker"] = "broker"
    window: Annotated[int, Field(ge=1, le=100)] = 100
    keepalive: Duration = 15_000_000
    timeout: Duration = 10_000_000
    """Longest wait for CONNACK or PUBACK before the connection is given up."""


class Buffer(Options):
    path: str = "data/buffer.db"
    max_size: Size = 4 << 30
    keep_sent: Duration = 72 * 3_600_000_000
    commit_interval: Duration = 50_000


class Backoff(Options):
    initial: Duration = 1_000_000
    max: Duration = 30_000_000


class TagOptions(Options):
    """What every driver's tag knows; a driver adds its address and type."""

    unit: str | None = None
    """UN/ECE Rec. 20 code, e.g. KWH, CEL, BAR."""
    scale: float | None = None
    offset: float | None = None
    deadband: float | None = None
    """Changes smaller than this are not reported, in the tag's unit after scaling."""
    scan: Duration | None = None
    """How often the tag is read; default: that of the device."""


class Warned(NamedTuple):
    """Something allowed that is probably not meant. `path` leads to the value from the device, as in
    pydantic's `loc`: `("tags", "kwh", "holding")`."""

    code: str
    path: tuple[str, ...]
    message: str
    fix: str = ""


class DeviceOptions(Options):
    """What every driver's device knows; `tags` is narrowed by the driver to its own tag model.

    A validator of a driver's model reports a fault of the catalogue as `PydanticCustomError("E302", text)`:
    the error's type is the code, its context may hold `why` and `fix`.
    """

    driver: str
    scan: Duration = 1_000_000
    timeout: Duration = 1_000_000
    backoff: Backoff = Backoff()
    tags: Mapping[Name, Any]

    protocol: ClassVar[str] = ""
    """Word of `connection.changed`: opcua, modbus_tcp, modbus_rtu."""

    @property
    def endpoint(self) -> str:
        """Address as a person would say it, for messages; no secrets."""
        raise NotImplementedError

    def value_type(self, tag: str) -> str:
        """Type word of a tag's value before scaling: `bool int16 … float64 bcd16 bcd32 string`."""
        raise NotImplementedError

    def warnings(self) -> Sequence[Warned]:
        """What the loader warns about in this device."""
        return ()

    def period(self, tag: str) -> int:
        """Longest time between two samples of a live tag, in microseconds: scan or sampling and publishing."""
        own: int | None = self.tags[tag].scan
        return self.scan if own is None else own


class Rule(Options):
    state: State
    when: str | None = None
    """Expression over tags; the last rule has none."""
    reason: str | None = None


class StateOptions(Options):
    """Exactly one of `from` with `map`, or `rules`."""

    source: TagRef | None = Field(default=None, alias="from")
    map: Mapping[int | str, State] | None = None
    default: State = State.UNKNOWN
    rules: tuple[Rule, ...] | None = None
    debounce: Mapping[str, Duration] = {}
    """State or `default` → time; built in: default 1s, fault 0s."""
    min_duration: Duration = 0


class Counter(Options):
    """Registers of one counter group (event model §4)."""

    total: TagRef | None = None
    good: TagRef | None = None
    scrap: TagRef | None = None
    rework: TagRef | None = None
    wrap: int | None = None
    """Values until roll-over; default from the tag's type (2^16, 2^32)."""
    wrap_to: Literal[0, 1] = 0
    max_rate: Rate = 10.0
    resets: Literal["never", "order", "shift", "unknown"] = "unknown"
    reset_hints: tuple[TagRef, ...] = ()
    backward: Literal["correction", "ignore", "reset"] = "correction"
    correction_max: int = 20
    jumps: Literal["reject", "accept"] = "reject"
    assume_good: bool = False
    parts_per_count: Annotated[int, Field(ge=1)] = 1


class Reason(Options):
    text: str | None = None
    category: Category | None = None


class DowntimeOptions(Options):
    microstop: Duration = 300_000_000
    reason: TagRef | None = None
    """Tag that holds the machine's reason code; 0 or empty is no reason."""
    reasons: Mapping[int | str, Reason] = {}
    merge_gap: Duration = 0


class Measurement(Options):
    """A sample set: `every: 1s` (interval) or `on: change`."""

    tags: Annotated[tuple[TagRef, ...], Field(min_length=1)]
    every: Duration | None = None
    on: Literal["change"] | None = None
    deadband: float | None = None


class MachineOptions(Options):
    """One machine (ISA-95 work unit), its template already expanded."""

    line: Name
    device: Name
    """Name of the device that bare tag names belong to."""
    state: StateOptions | None = None
    counters: Mapping[Name, Counter] = {}
    downtime: DowntimeOptions | None = None
    ideal_cycle: Duration | None = None
    measurements: Mapping[Name, Measurement] = {}
    comms_timeout: Duration | Literal["auto"] = "auto"
    """Without a good sample for so long the state is unknown; auto is max(3 × scan, 10 s)."""
    settle: Duration = 5_000_000
    """After a PLC restart, before its values are believed."""
    flush: Duration = 2_000_000
    """How long counts are gathered into one event; 1 s to 10 s."""
    inline_units: bool = True


class Test(Options):
    """One story of `tests:`; its language is that of `edge_agent/replay`."""

    name: str
    machine: Name
    start: str = "2026-03-02T00:00:00Z"
    given: tuple[Mapping[str, Any], ...]
    until: Duration | None = None
    expect: tuple[Mapping[str, Any], ...] = ()
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class Config(Options):
    """One agent, complete: templates expanded, names resolved, every reference known to exist."""

    version: Literal[1]
    agent: AgentOptions
    site: Site
    mqtt: Mqtt = Mqtt()
    buffer: Buffer = Buffer()
    devices: Mapping[Name, DeviceOptions]
    machines: Mapping[Name, MachineOptions]
    tests: tuple[Test, ...] = ()

    def resolve(self, machine: str, ref: TagRef) -> tuple[str, str]:
        """(device, tag) that a tag reference of the machine means."""
        device, _, tag = ref.rpartition("/")
        return device or self.machines[machine].device, tag

    def subject(self, machine: str) -> str:
        """Asset path `enterprise/site/area/line/unit` (event model §1.2)."""
        s = self.site
        return f"{s.enterprise}/{s.site}/{s.area}/{self.machines[machine].line}/{machine}"
