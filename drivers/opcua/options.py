"""What can be written in YAML for a device with `driver: opcua`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from config.errors import Problem
from config.kinds import File, Name, Options
from config.model import DeviceOptions, Secret, TagOptions, Warned
from config.units import Duration, between
from drivers.opcua.addresses import parse_node
from drivers.opcua.parts import Step, steps
from drivers.opcua.ring_options import OpcuaRing
from drivers.ring import options as ring_options

PORT = 4840
"""Registered port of opc.tcp."""

Type = Literal[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "string",
    "conditions",
]


Index = Annotated[int, Field(ge=0, le=0x7FFFFFFF)]


class Security(Options):
    """How the connection is protected, and which server is believed."""

    policy: Literal[
        "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "Basic256", "Basic128Rsa15"
    ] = "Basic256Sha256"
    """The last two are broken by today's standards, for old PLCs that have no other, and need `insecure: true`."""
    mode: Literal["SignAndEncrypt", "Sign"] = "SignAndEncrypt"
    """`Sign` leaves values readable on the wire and needs `insecure: true`."""
    trust: File | None = None
    """The server's certificate, or a folder of certificates of servers and CAs. Default: `trusted` in `pki`."""
    pki: Annotated[File, Field(validate_default=True)] = "data/pki"
    """Folder of the agent's own certificate, and where `trusted` and `rejected` server certificates are kept."""


class Identity(Options):
    """Who the agent is to the server, a user or the holder of a certificate; without it the session is anonymous."""

    username: str | None = None
    """Login at the server, with `password`."""
    password: Secret | str | None = Field(default=None, repr=False)
    """`{credential: NAME}`, `{file: PATH}` or `{env: NAME}`; plain text draws a warning."""
    certificate: File | None = None
    """The user's certificate, DER or PEM, with `key`. It is not the agent's own, which protects the connection."""
    key: File | None = None
    """Private key of `certificate`, PEM, without a pass phrase."""

    @model_validator(mode="after")
    def _one_form(self) -> "Identity":
        if (self.username is None) == (self.certificate is None):
            fix = "identity: {username: NAME, password: {credential: NAME}}"
            raise Problem("E302", "an identity needs exactly one of 'username' and 'certificate'", fix=fix)
        if (self.certificate is None) != (self.key is None):
            lacks, has = ("key", "certificate") if self.key is None else ("certificate", "key")
            raise Problem("E302", f"'{has}' needs '{lacks}' beside it", at=(has,))
        if self.certificate is not None and self.password is not None:
            raise Problem("E303", "'password' belongs to 'username'", at=("password",))
        return self


class OpcuaTag(TagOptions):
    """One node's value."""

    ring: bool = False
    """In place of a node: the entries of the device's ring tell the value."""
    node: Annotated[str, Field(validate_default=True)] = ""
    """`nsu=<namespace uri>;s=…` (also `i= g= b=`); `ns=<index>` moves when a PLC program is downloaded."""
    type: Type
    """What the value must be; a server that sends something that does not fit makes the tag BAD. `conditions`: the
    node tells of alarms, as the server itself does (i=2253)."""
    index: Index | tuple[Index, ...] | None = None
    """Which element of an array, counted from 0; one number for each dimension of a matrix: [1, 2]."""
    field: str | None = None
    """Which field of a structure: Position, Position.X, Axes[2].Position."""
    sampling: Annotated[Duration, between("1ms", "1h")] | None = None
    """How often the server looks at the value; default: that of the device."""
    queue: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Values the server keeps between two publishings; default: at least 10, and 4 × publishing / sampling."""

    @field_validator("node")
    @classmethod
    def _is_a_node(cls, text: str, info: ValidationInfo) -> str:
        if not text:
            if not info.data.get("ring"):
                raise PydanticKnownError("missing")
            return text
        try:
            parse_node(text)
        except ValueError as error:
            raise Problem("E301", str(error), fix="node: 'nsu=urn:acme:press;s=Status'") from None
        return text

    @field_validator("field")
    @classmethod
    def _is_a_field(cls, text: str | None) -> str | None:
        try:
            steps(None, text)
        except ValueError as error:
            raise Problem("E301", str(error), fix="field: Axes[2].Position") from None
        return text

    @model_validator(mode="after")
    def _is_somewhere(self) -> "OpcuaTag":
        if self.ring:
            for word in sorted(self.model_fields_set.difference(ring_options.OF_A_TAG)):
                raise Problem("E303", f"a tag of the ring has no '{word}'", at=(word,))
            if self.type == "conditions":
                raise Problem("E303", "conditions are no tag of the ring", at=("type",))
        return self

    @model_validator(mode="after")
    def _text_has_no_scale(self) -> "OpcuaTag":
        if self.scan is not None:
            raise Problem("E303", "'scan' is for devices that are polled", fix="sampling: 500ms", at=("scan",))
        if self.type == "conditions":
            own = {
                "sampling",
                "queue",
                "index",
                "field",
                "unit",
                "scale",
                "offset",
                "deadband",
            } & self.model_fields_set
            for name in sorted(own):
                raise Problem("E303", f"conditions have no '{name}'", at=(name,))
        if self.type in ("bool", "string") and (self.scale, self.offset, self.deadband) != (None, None, None):
            raise Problem("E303", f"a {self.type} has no scale, offset or deadband", at=("type",))
        return self

    @property
    def way(self) -> tuple[Step, ...]:
        """From the node's value to the tag's; empty for the value itself."""
        return steps(self.index, self.field)


def _which(value: object) -> str:
    return "none" if isinstance(value, str) else "protected"


class OpcuaDevice(DeviceOptions):
    """One OPC UA server."""

    driver: Literal["opcua"] = "opcua"
    url: str | None = None
    """`opc.tcp://host:4840`"""
    urls: tuple[str, ...] = ()
    """In place of `url`: servers that stand in for each other, the preferred one first."""
    timeout: Annotated[Duration, between("10ms", "10min")] = 4_000_000
    """Longest wait for one answer."""
    security: Annotated[
        Annotated[Literal["none"], Tag("none")] | Annotated[Security, Tag("protected")], Discriminator(_which)
    ] = Field(default_factory=dict, validate_default=True)  # by way of its validators: `pki` is beside the file
    """`{policy, mode, trust}`, or the word `none` with `insecure: true` beside it."""
    insecure: bool = False
    """Allows what others on the network can read or change."""
    identity: Identity | None = None
    publishing: Annotated[Duration, between("10ms", "1h")] = 500_000
    """How often the server sends what changed."""
    sampling: Annotated[Duration, between("1ms", "1h")] | None = None
    """How often the server looks at a value; default: half of `publishing`."""
    polling: bool = False
    """Values are read every `sampling` and not subscribed to, as they are of a server without subscriptions."""
    history: bool = True
    """After a gap, what the server itself recorded of the tags meanwhile is read and told with its own times."""
    ring: OpcuaRing | None = None
    """A ring buffer in which the PLC notes what happens between two scans."""
    tags: Mapping[Name, OpcuaTag]

    @field_validator("url", "urls")
    @classmethod
    def _are_addresses(cls, found: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (found,) if isinstance(found, str) else found or ():
            cls._is_an_address(text)
        return found

    @classmethod
    def _is_an_address(cls, text: str) -> None:
        try:
            parts = urlsplit(text)
            good = parts.scheme == "opc.tcp" and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise Problem("E301", f"'{text}' is no address of an OPC UA server", fix="url: opc.tcp://10.0.0.7:4840")
        if "@" in parts.netloc:
            what = "user and password do not belong into the address"
            raise Problem("E301", what, fix="identity: {username: NAME, password: {credential: NAME}}")

    @model_validator(mode="after")
    def _one_address(self) -> "OpcuaDevice":
        if (self.url is None) == (not self.urls):
            raise Problem(
                "E302", "a device needs exactly one of 'url' and 'urls'", fix="url: opc.tcp://10.0.0.7:4840"
            )
        if len(set(self.addresses)) < len(self.urls):
            raise Problem("E302", "an address is written twice", at=("urls",))
        return self

    @model_validator(mode="after")
    def _unprotected_is_said(self) -> "OpcuaDevice":
        if "scan" in self.model_fields_set:
            raise Problem("E303", "'scan' is for devices that are polled", fix="publishing: 500ms", at=("scan",))
        if self.insecure:
            return self
        weak = isinstance(self.security, str) or self.security.policy in ("Basic256", "Basic128Rsa15")
        if isinstance(self.security, str) or self.security.mode == "Sign" or weak:
            open_to = "read and forge" if weak else "read"
            raise Problem(
                "E310",
                f"everyone on the network can {open_to} what this connection carries",
                fix="leave 'security' out, or write insecure: true beside it",
                at=("security",),
            )
        return self

    @model_validator(mode="after")
    def _has_a_ring_that_works(self) -> "OpcuaDevice":
        kinds: dict[str, str] = {name: tag.type for name, tag in self.tags.items()}
        nodes = [] if self.ring is None else self.ring.faults()
        bits = None if self.ring is None else self.ring.head.type
        Problem.raise_all((*nodes, *ring_options.faults(self.ring, self.tags, kinds, bits)))
        return self

    @property
    def polled(self) -> Mapping[str, OpcuaTag]:
        """The tags that have a node."""
        return {name: tag for name, tag in self.tags.items() if not tag.ring}

    @property
    def ring_period(self) -> int:
        """Microseconds between two looks at the ring."""
        return self.publishing if self.ring is None or self.ring.scan is None else self.ring.scan

    @property
    def addresses(self) -> tuple[str, ...]:
        """The URLs with their ports."""
        return tuple(with_port(url) for url in self.urls or (self.url or "",))

    @property
    def endpoint(self) -> str:
        return ", ".join(self.addresses)

    def value_type(self, tag: str) -> str:
        kind: str = self.tags[tag].type
        return kind

    def period(self, tag: str) -> int:
        return self.ring_period if self.tags[tag].ring else self.sampling_of(tag) + self.publishing

    def sampling_of(self, tag: str) -> int:
        """Microseconds between two looks of the server at the tag's node."""
        if self.tags[tag].ring:
            return ring_options.SURE
        return self.tags[tag].sampling or self.sampling or self.publishing // 2

    def queue_of(self, tag: str) -> int:
        """Values that the server is asked to keep for the tag: four publishings' worth, so that a late answer or
        a slow disk loses none."""
        return self.tags[tag].queue or max(10, -(-4 * self.publishing // self.sampling_of(tag)))

    def warnings(self) -> Sequence[Warned]:
        moving = [
            Warned(
                "W305",
                ("tags", name, "node"),
                f"the namespace index in {tag.node!r} moves when a PLC program is downloaded",
                "write nsu=<namespace uri>; in place of ns=…;",
            )
            for name, tag in self.polled.items()
            if tag.node.startswith("ns=") and parse_node(tag.node).namespace > 0
        ]
        return [*moving, *ring_options.warnings(self.ring)]


def with_port(url: str) -> str:
    """The address with the registered port if it names none."""
    parts = urlsplit(url)
    return url if parts.port else parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{PORT}").geturl()
