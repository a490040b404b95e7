"""The typed configuration after templates are expanded: what every other package builds itself from.

Frozen; names are those of the YAML. Durations are integer microseconds, sizes bytes, rates per second
(see `units`). A driver adds its own options by subclassing `DeviceOptions` and `TagOptions`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from config.calendar import CalendarOptions
from config.counters import Counter
from config.errors import Problem
from config.kinds import (
    File,
    Name,
    Options,
    Scalar,
    TagRef,
    check_broker,
    is_loopback,
    listening_address,
    mqtt_version,
    time_zone,
    topic,
)
from config.machine import (
    DowntimeOptions,
    MachineOptions,
    Measurement,
    Reason,
)
from config.mapping import ModeOptions, Rule, StateOptions
from config.presets import Mode
from config.states import Category, State
from config.units import Duration, Size, between

__all__ = [
    "AgentOptions",
    "Backoff",
    "Buffer",
    "Category",
    "Config",
    "Counter",
    "DeviceOptions",
    "DowntimeOptions",
    "File",
    "Http",
    "MachineOptions",
    "Measurement",
    "Mode",
    "ModeOptions",
    "Mqtt",
    "Name",
    "Options",
    "Reason",
    "Rule",
    "Scalar",
    "Secret",
    "Site",
    "State",
    "StateOptions",
    "TagOptions",
    "TagRef",
    "Test",
    "Warned",
]


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
    confirm: Literal["broker", "mom"] = "broker"
    """Who confirms an event before the buffer lets it go: the broker that has it, or the MOM that has stored it and
    says so with `stream.ack`."""
    commands: bool = True
    """Receive the MOM's commands, on a second connection with the client id `<client_id>-cmd`."""
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
    """Largest size of the database. Near it measurements that wait are given up, oldest first, then `when_full`
    decides; a data.loss event says what went."""
    when_full: Literal["drop_oldest", "stop_reading"] = "drop_oldest"
    """What happens to production events when it is full: the oldest go, or devices are not read until there is
    room."""
    max_age: Annotated[Duration, between("1min", "3650d")] | None = None
    """Events that have waited longer are given up, and a data.loss event says so; default: never."""
    keep_sent: Duration = 72 * 3_600_000_000
    """How long confirmed events stay, for `buffer replay`."""
    commit_interval: Annotated[Duration, between("0s", "1s")] = 0
    """What is to be stored within so long after a commit goes to the disk together in the next, which spares flash
    where many machines have events; each event, and the device that it comes from, waits as long at most. `0s`: every
    event is stored at once."""


class Http(Options):
    """The page for people at the machine, and figures for monitoring; it shows and changes nothing."""

    listen: Annotated[str, AfterValidator(listening_address)] = "127.0.0.1:8686"
    """Address and port; on another address than loopback everyone on the network can read it."""
    token: Secret | str | None = Field(default=None, repr=False)
    """Who asks must show it: `Authorization: Bearer TOKEN`, or `?token=TOKEN` in a browser. `{credential: NAME}`,
    `{file: PATH}` or `{env: NAME}`; plain text draws a warning."""

    @property
    def is_open(self) -> bool:
        """Other computers can read it without a token."""
        return self.token is None and not is_loopback(self.listen.rpartition(":")[0])


class Backoff(Options):
    """Waits between attempts to connect, doubled each time."""

    initial: Annotated[Duration, between("10ms", "1h")] = 1_000_000
    """Before the second attempt."""
    max: Annotated[Duration, between("10ms", "1h")] = 30_000_000
    """The longest, for a device that refuses the agent: login, certificate."""
    silent: Annotated[Duration, between("10ms", "1h")] = 5_000_000
    """The longest for a device that is off or cannot be reached, so that it is read soon after it is back; never more
    than `max`."""

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
    target: float | None = None
    """What the value should be; sample sets judge it."""
    lo: float | None = None
    """Least value that is in order."""
    hi: float | None = None
    """Greatest value that is in order."""
    scan: Annotated[Duration, between("1ms", "1d")] | None = None
    """How often the tag is read; default: that of the device."""


_NO_MEANING = ("unit", "deadband", "target", "lo", "hi", "scan", "sampling", "queue")
"""Settings of tags that do not change what a value is."""


class Warned(NamedTuple):
    """Something allowed that is probably not meant. `path` leads to the value from the device, as in
    pydantic's `loc`: `("tags", "kwh", "holding")`."""

    code: str
    path: tuple[str, ...]
    message: str
    fix: str = ""


class DeviceOptions(Options):
    """What every driver's device knows; `tags` is narrowed by the driver to its own tag model.

    A validator of a driver's model reports a fault of the catalogue as `config.errors.Problem` ("E302", what, why,
    fix, at) or as `PydanticCustomError("E302", text)`: the error's type is the code, its context may hold `why`,
    `fix` and `at`, the path from the model to the value. Paths in the file are of type `File`.
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

    @property
    def protocol(self) -> str:
        """Word of `connection.changed`: opcua, modbus_tcp, modbus_rtu; by default the driver's."""
        return self.driver

    @property
    def endpoint(self) -> str:
        """Address as a person would say it, for messages; no secrets."""
        raise NotImplementedError

    def value_type(self, tag: str) -> str:
        """Type word of a tag's value before scaling: `bool int16 … float64 bcd16 bcd32 string`."""
        raise NotImplementedError

    def meaning(self, tag: str) -> str:
        """What the tag's number means: equal before and after a change of the file as long as values read now can be
        compared with those read before. Where the device is reached is no part of it."""
        options, order = self.tags[tag], [getattr(self, name, None) for name in ("word_order", "byte_order")]
        fields = [name for name in type(options).model_fields if name not in _NO_MEANING]
        return repr((self.driver, order, [(name, getattr(options, name)) for name in fields]))

    def sampling_of(self, tag: str) -> int:
        """Microseconds between two looks at a tag: what happens twice in between is not seen."""
        return self.period(tag)

    def warnings(self) -> Sequence[Warned]:
        """What the loader warns about in this device."""
        return ()

    def period(self, tag: str) -> int:
        """Longest time between two samples of a live tag, in microseconds: scan or sampling and publishing."""
        own: int | None = self.tags[tag].scan
        return self.scan if own is None else own


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
    http: Http | Literal[False] = Http.model_construct()
    """`false` turns it off."""
    calendar: CalendarOptions | None = None
    """When production is planned; without it always."""
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
