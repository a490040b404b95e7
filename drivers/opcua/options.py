"""What can be written in YAML for a device with `driver: opcua`, and how a node's address is read."""

import base64
import binascii
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from config.errors import Problem
from config.kinds import File, Name, Options
from config.model import DeviceOptions, Secret, TagOptions, Warned
from config.units import Duration, between

PORT = 4840
"""Registered port of opc.tcp."""

_NODE = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<kind>[isgb])=(?P<identifier>.+)", re.DOTALL)

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
]


class NodeAddress(NamedTuple):
    """A parsed `node`. The namespace is `uri`, or `namespace` (an index) when the URI is None."""

    uri: str | None
    namespace: int
    identifier: int | str | bytes | uuid.UUID
    """int for `i=`, str for `s=`, UUID for `g=`, bytes for `b=`."""


def parse_node(text: str) -> NodeAddress:
    """`nsu=<uri>;s=…`, `ns=<index>;i=…`, `i=2258`. In the URI `;` and `%` are written `%3B` and `%25` (Part 6,
    5.3.1.11). Raises ValueError that says what is wrong."""
    match = _NODE.fullmatch(text)
    if match is None:
        raise ValueError("a node is written nsu=<namespace uri>;s=<name>, or with i=, g= or b= in place of s=")
    index = int(match["index"] or 0)
    if index > 0xFFFF:
        raise ValueError("a namespace index is at most 65535")
    uri = None if match["uri"] is None else unquote(match["uri"])
    return NodeAddress(uri, index, _identifier(match["kind"], match["identifier"]))


def _identifier(kind: str, text: str) -> int | str | bytes | uuid.UUID:
    if kind == "s":
        return text
    if kind == "i":
        if not text.isascii() or not text.isdecimal() or int(text) > 0xFFFFFFFF:
            raise ValueError(f"i= needs a whole number up to 4294967295, not {text!r}")
        return int(text)
    if kind == "g":
        try:
            return uuid.UUID(text)
        except ValueError:
            raise ValueError(f"g= needs a GUID such as 72962b91-fa75-4ae6-8d28-b404dc7daf63, not {text!r}") from None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"b= needs base64, not {text!r}") from None


class Security(Options):
    """How the connection is protected, and which server is believed."""

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] = "Basic256Sha256"
    mode: Literal["SignAndEncrypt", "Sign"] = "SignAndEncrypt"
    """`Sign` leaves values readable on the wire and needs `insecure: true`."""
    trust: File | None = None
    """The server's certificate, or a folder of certificates of servers and CAs. Default: `trusted` in `pki`."""
    pki: Annotated[File, Field(validate_default=True)] = "data/pki"
    """Folder of the agent's own certificate, and where `trusted` and `rejected` server certificates are kept."""


class Identity(Options):
    """Who the agent is to the server; without it the session is anonymous."""

    username: str
    password: Secret | str | None = Field(default=None, repr=False)


class OpcuaTag(TagOptions):
    """One node's value."""

    node: str
    """`nsu=<namespace uri>;s=…` (also `i= g= b=`); `ns=<index>` moves when a PLC program is downloaded."""
    type: Type
    """What the value must be; a server that sends something that does not fit makes the tag BAD."""
    sampling: Annotated[Duration, between("1ms", "1h")] | None = None
    """How often the server looks at the value; default: that of the device."""
    queue: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Values the server keeps between two publishings; default: at least 10, and 4 × publishing / sampling."""

    @field_validator("node")
    @classmethod
    def _is_a_node(cls, text: str) -> str:
        try:
            parse_node(text)
        except ValueError as error:
            raise Problem("E301", str(error), fix="node: 'nsu=urn:acme:press;s=Status'") from None
        return text

    @model_validator(mode="after")
    def _text_has_no_scale(self) -> "OpcuaTag":
        if self.scan is not None:
            raise Problem("E303", "'scan' is for devices that are polled", fix="sampling: 500ms", at=("scan",))
        if self.type in ("bool", "string") and (self.scale, self.offset, self.deadband) != (None, None, None):
            raise Problem("E303", f"a {self.type} has no scale, offset or deadband", at=("type",))
        return self


def _which(value: object) -> str:
    return "none" if isinstance(value, str) else "protected"


class OpcuaDevice(DeviceOptions):
    """One OPC UA server."""

    protocol: ClassVar[str] = "opcua"

    driver: Literal["opcua"] = "opcua"
    url: str
    """`opc.tcp://host:4840`"""
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
    tags: Mapping[Name, OpcuaTag]

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
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
        return text

    @model_validator(mode="after")
    def _unprotected_is_said(self) -> "OpcuaDevice":
        if "scan" in self.model_fields_set:
            raise Problem("E303", "'scan' is for devices that are polled", fix="publishing: 500ms", at=("scan",))
        if self.insecure:
            return self
        if isinstance(self.security, str) or self.security.mode == "Sign":
            open_to = "read and forge" if isinstance(self.security, str) else "read"
            raise Problem(
                "E310",
                f"everyone on the network can {open_to} what this connection carries",
                fix="leave 'security' out, or write insecure: true beside it",
                at=("security",),
            )
        return self

    @property
    def address(self) -> str:
        """The URL with its port."""
        parts = urlsplit(self.url)
        return self.url if parts.port else parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{PORT}").geturl()

    @property
    def endpoint(self) -> str:
        return self.address

    def value_type(self, tag: str) -> str:
        kind: str = self.tags[tag].type
        return kind

    def period(self, tag: str) -> int:
        return self.sampling_of(tag) + self.publishing

    def sampling_of(self, tag: str) -> int:
        """Microseconds between two looks of the server at the tag's node."""
        return self.tags[tag].sampling or self.sampling or self.publishing // 2

    def queue_of(self, tag: str) -> int:
        """Values that the server is asked to keep for the tag: four publishings' worth, so that a late answer or
        a slow disk loses none."""
        return self.tags[tag].queue or max(10, -(-4 * self.publishing // self.sampling_of(tag)))

    def warnings(self) -> Sequence[Warned]:
        return [
            Warned(
                "W305",
                ("tags", name, "node"),
                f"the namespace index in {tag.node!r} moves when a PLC program is downloaded",
                "write nsu=<namespace uri>; in place of ns=…;",
            )
            for name, tag in self.tags.items()
            if tag.node.startswith("ns=") and parse_node(tag.node).namespace > 0
        ]
