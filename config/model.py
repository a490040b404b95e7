"""The typed configuration after templates are expanded: what every other package builds itself from.

Frozen; names are those of the YAML. Durations are integer microseconds, sizes bytes, rates per second
(see `units`). A driver adds its own options by subclassing `DeviceOptions` and `TagOptions`.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from config.errors import Problem, did_you_mean
from config.kinds import Code, File, check_broker, mqtt_version, time_zone, topic
from config.kinds import Name as Name
from config.kinds import Options as Options
from config.kinds import Scalar as Scalar
from config.kinds import TagRef as TagRef
from config.units import Duration, Rate, Size, between


class Secret(Options):
    """Where a secret is kept. Exactly one of the three."""

    credential: str | None = None
    """Name of a systemd credential."""
    file: File | None = None
    """A file of mode 0600."""
    env: str | None = None
    """An environment variable."""

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if sum(place is not None for place in (self.credential, self.file, self.env)) != 1:
            raise Problem("E302", "a secret needs exactly one of credential, file and env")
        return self


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


def check_rules(rules: Sequence["Rule"]) -> None:
    """Raises Problem unless every rule but the last has a condition."""
    if not rules or rules[-1].when is not None:
        at = ("rules", len(rules) - 1) if rules else ("rules",)
        fix = "add a last rule without when, e.g. - {state: idle}"
        raise Problem("E403", "the last rule must have no 'when'", why="it holds when no other does", fix=fix, at=at)
    for index, rule in enumerate(rules[:-1]):
        if rule.when is None:
            why = "it is always true, so the rules below it are never reached"
            raise Problem("E403", "a rule without 'when' before the last", why=why, at=("rules", index))


def _debounced(word: str) -> str:
    known = ["default", *State]
    if word not in known:
        fix = did_you_mean(word, known)
        raise Problem("E301", f"'{word}' is no state", why=f"allowed: {', '.join(known)}", fix=fix)
    return word


class AgentOptions(Options):
    """The agent itself."""

    id: Name
    """Part of every event's source; the default is the host name."""


class Site(Options):
    """Where the agent stands (ISA-95 equipment hierarchy)."""

    enterprise: Name
    """First level of the asset path."""
    site: Name
    """The plant; the level below `enterprise`, and in topics."""
    area: Name
    """Part of the plant, e.g. a hall or a department."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "UTC"
    """IANA name, e.g. Asia/Shanghai."""


class Mqtt(Options):
    """The broker of the MOM."""

    url: str = "mqtt://127.0.0.1:1883"
    """mqtt:// only on loopback or with `insecure: true`; mqtts:// otherwise."""
    username: str | None = None
    """Login at the broker."""
    password: Secret | str | None = Field(default=None, repr=False)
    """`{credential: NAME}`, `{file: PATH}` or `{env: NAME}`; plain text draws a warning."""
    ca_file: File | None = None
    """Certificate of the CA that signed the broker's; default: the system's CAs."""
    cert_file: File | None = None
    """The agent's own certificate, with `key_file`."""
    key_file: File | None = None
    """Key of `cert_file`."""
    insecure: bool = False
    """Allows mqtt:// to another computer: everyone on the network can read and forge."""
    protocol: Annotated[
        Literal["5", "3.1.1"], BeforeValidator(mqtt_version), WithJsonSchema({"enum": [5, "5", "3.1.1"]})
    ] = "5"
    """Version of MQTT: 5 or 3.1.1."""
    client_id: str | None = None
    """Default: `edge-agent-<agent id>`."""
    topic_root: Annotated[str, AfterValidator(topic)] = "ea/v1"
    """First levels of every topic."""
    confirm: Literal["broker"] = "broker"
    """Who confirms an event before the buffer lets it go."""
    window: Annotated[int, Field(ge=1, le=100)] = 100
    """Messages that may be on the way unconfirmed."""
    keepalive: Annotated[Duration, between("1s", "18h")] = 15_000_000
    """Longest silence on the connection before both sides ask whether the other is there."""
    timeout: Annotated[Duration, between("100ms", "10min")] = 10_000_000
    """Longest wait for CONNACK or PUBACK before the connection is given up."""

    @model_validator(mode="after")
    def _reachable_and_safe(self) -> "Mqtt":
        check_broker(self.url, self.insecure)
        if (self.cert_file is None) != (self.key_file is None):
            lacks, has = ("key_file", "cert_file") if self.key_file is None else ("cert_file", "key_file")
            raise Problem("E302", f"'{has}' needs '{lacks}' beside it", at=(has,))
        return self


class Buffer(Options):
    """Where events wait until they are confirmed."""

    path: Annotated[File, Field(validate_default=True)] = "data/buffer.db"
    """The database; relative to the folder of this file."""
    max_size: Annotated[Size, between("1MiB", "1024GiB")] = 4 << 30
    """When it is full the oldest go, and a data.loss event says so."""
    keep_sent: Duration = 72 * 3_600_000_000
    """How long confirmed events stay, for `buffer replay`."""
    commit_interval: Annotated[Duration, between("1ms", "10s")] = 50_000
    """Longest wait for more events before they are written to disk together."""


class Backoff(Options):
    """Waits between attempts to connect, doubled each time."""

    initial: Annotated[Duration, between("10ms", "1h")] = 1_000_000
    """Before the second attempt."""
    max: Annotated[Duration, between("10ms", "1h")] = 30_000_000
    """The longest."""

    @model_validator(mode="after")
    def _grows(self) -> "Backoff":
        if self.initial > self.max:
            raise Problem("E309", "'initial' must be at most 'max'", at=("initial",))
        return self


class TagOptions(Options):
    """What every driver's tag knows; a driver adds its address and type."""

    unit: str | None = None
    """UN/ECE Rec. 20 code, e.g. KWH, CEL, BAR."""
    scale: float | None = None
    """The raw value is multiplied by this."""
    offset: float | None = None
    """Added after `scale`."""
    deadband: float | None = None
    """Changes smaller than this are not reported, in the tag's unit after scaling."""
    scan: Annotated[Duration, between("1ms", "1d")] | None = None
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
    """The protocol that the device speaks."""
    scan: Annotated[Duration, between("1ms", "1d")] = 1_000_000
    """How often tags are read that have no `scan` of their own."""
    timeout: Annotated[Duration, between("1ms", "10min")] = 1_000_000
    """Longest wait for one answer."""
    backoff: Backoff = Backoff.model_construct()
    """Waits between attempts to connect."""
    tags: Mapping[Name, Any]
    """What is read: name → address and type."""

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
    """First true rule wins; the last has no `when`."""

    state: State
    """The state while this rule is the first true one."""
    when: str | None = None
    """Expression over tags; the last rule has none."""
    reason: str | None = None
    """Text of the downtime that begins with this state."""


class StateOptions(Options):
    """Exactly one of `from` with `map`, or `rules`."""

    source: TagRef | None = Field(default=None, alias="from")
    """Tag that holds the state as a number or a word."""
    map: Mapping[Code, State] | None = None
    """What the tag says → state."""
    default: State = State.UNKNOWN
    """State of a value that is not in `map`."""
    rules: tuple[Rule, ...] | None = None
    """Expressions over tags, tried from the top; instead of `from` and `map`."""
    debounce: Mapping[Annotated[str, AfterValidator(_debounced)], Duration] = {}
    """State or `default` → time; built in: default 1s, fault 0s."""
    min_duration: Duration = 0
    """A state that lasts shorter is counted to the one before; 0s is off."""

    @model_validator(mode="after")
    def _one_form(self) -> "StateOptions":
        if self.rules is not None:
            if self.source is not None or self.map is not None:
                other = "from" if self.source is not None else "map"
                raise Problem("E404", "a state has 'from' with 'map', or 'rules', not both", at=(other,))
            check_rules(self.rules)
        elif self.source is None and self.map is None:
            raise Problem("E404", "a state needs 'from' with 'map', or 'rules'")
        elif self.source is None:
            raise Problem(
                "E404", "'map' needs 'from' beside it", why="from names the tag that is mapped", at=("map",)
            )
        elif not self.map:
            fix = "map: {1: idle, 2: running}"
            raise Problem(
                "E404", "'from' needs 'map' beside it", why="map says what a value means", fix=fix, at=("from",)
            )
        return self


class Counter(Options):
    """Registers of one counter group (event model §4)."""

    total: TagRef | None = None
    """Tag that counts every part."""
    good: TagRef | None = None
    """Tag that counts good parts."""
    scrap: TagRef | None = None
    """Tag that counts parts that were thrown away."""
    rework: TagRef | None = None
    """Tag that counts parts to be mended."""
    wrap: Annotated[int, Field(ge=2, le=1 << 64)] | None = None
    """Values until roll-over; default from the tag's type (2^16, 2^32)."""
    wrap_to: Literal[0, 1] = 0
    """First value after the roll-over."""
    max_rate: Annotated[Rate, Field(gt=0)] = 10.0
    """More than this cannot be produced: a larger step is not believed."""
    resets: Literal["never", "order", "shift", "unknown"] = "unknown"
    """When the machine sets the register to 0."""
    reset_hints: tuple[TagRef, ...] = ()
    """Tags whose change goes with a reset, e.g. the order number."""
    backward: Literal["correction", "ignore", "reset"] = "correction"
    """What a small step back means."""
    correction_max: Annotated[int, Field(ge=0)] = 20
    """Largest step back that is taken for a correction by hand."""
    jumps: Literal["reject", "accept"] = "reject"
    """What happens to a step that is larger than `max_rate` allows."""
    assume_good: bool = False
    """Without a good register: total minus scrap is good."""
    parts_per_count: Annotated[int, Field(ge=1)] = 1
    """Parts made in one count, e.g. cavities of a mould."""

    @model_validator(mode="after")
    def _counts_something(self) -> "Counter":
        if all(register is None for register in (self.total, self.good, self.scrap, self.rework)):
            raise Problem("E405", "a counter needs a tag", why="none of total, good, scrap and rework is set")
        return self


class Reason(Options):
    """What a reason code of the machine means."""

    text: str | None = None
    """What people call it."""
    category: Category | None = None
    """Whose stop it is; default: by the machine's state."""


class DowntimeOptions(Options):
    """How stops are told apart and named."""

    microstop: Duration = 300_000_000
    """A stop that is shorter is a micro-stop."""
    reason: TagRef | None = None
    """Tag that holds the machine's reason code; 0 or empty is no reason."""
    reasons: Mapping[Code, Reason] = {}
    """The machine's reason code → text and category."""
    merge_gap: Duration = 0
    """A run shorter than this between two stops does not end the downtime."""


class Measurement(Options):
    """A sample set: `every: 1s` (interval) or `on: change`."""

    tags: Annotated[tuple[TagRef, ...], Field(min_length=1)]
    """Values that are sent together."""
    every: Annotated[Duration, between("1ms", "1d")] | None = None
    """Sent at this interval."""
    on: Literal["change"] | None = None
    """Sent when a value changes."""
    deadband: Annotated[float, Field(ge=0)] | None = None
    """With `on: change`: smaller changes are not reported."""

    @model_validator(mode="after")
    def _one_trigger(self) -> "Measurement":
        if (self.every is None) == (self.on is None):
            raise Problem(
                "E302", "a measurement needs exactly one of 'every' and 'on'", fix="every: 1s, or on: change"
            )
        return self


class MachineOptions(Options):
    """One machine (ISA-95 work unit), its template already expanded."""

    line: Name
    """The production line; the level above the machine in the asset path."""
    device: Name
    """Name of the device that bare tag names belong to."""
    state: StateOptions | None = None
    """Where the machine's state comes from."""
    counters: Mapping[Name, Counter] = {}
    """Groups of production counters; most machines have one, called main."""
    downtime: DowntimeOptions | None = None
    """How stops are told apart and named; without it with the defaults."""
    ideal_cycle: Annotated[Duration, between("1ms", "30d")] | None = None
    """Time for one part at full speed."""
    measurements: Mapping[Name, Measurement] = {}
    """Sets of values that are sent as they are."""
    comms_timeout: Annotated[Duration, between("100ms", "1d")] | Literal["auto"] = "auto"
    """Without a good sample for so long the state is unknown; auto is max(3 × scan, 10 s)."""
    settle: Duration = 5_000_000
    """After a PLC restart, before its values are believed."""
    flush: Annotated[Duration, between("1s", "10s")] = 2_000_000
    """How long counts are gathered into one event; 1 s to 10 s."""
    inline_units: bool = True
    """Samples carry their unit."""


class Test(Options):
    """One story of `tests:`; its language is that of `edge_agent/replay`."""

    name: str
    """The sentence that it proves."""
    machine: Name
    """The machine it is about."""
    start: str = "2026-03-02T00:00:00Z"
    """Wall-clock time of offset 0s."""
    given: tuple[Mapping[str, Any], ...]
    """What the tags say, line by line: `{at: 10s, status: 8}`; a value holds until it is named again."""
    until: Duration | None = None
    """End of the story; timers run up to it."""
    expect: tuple[Mapping[str, Any], ...] = ()
    """Events in order, each by its `type` and the fields that matter."""
    only: tuple[str, ...] = ()
    """Of these families no other events may occur."""
    never: tuple[str, ...] = ()
    """Types that may not occur at all."""


class Config(Options):
    """One agent, complete: templates expanded, names resolved, every reference known to exist."""

    version: Literal[1]
    agent: AgentOptions
    site: Site
    mqtt: Mqtt = Mqtt.model_construct()
    buffer: Buffer = Buffer.model_construct()
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
