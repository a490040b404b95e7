"""Kinds of values that settings have, and the base of every model."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema

from config.errors import Problem, did_you_mean

NAME = r"^[A-Za-z0-9_-]+$"
Name = Annotated[str, Field(pattern=NAME)]
"""A name becomes a topic level: letters, digits, `-`, `_`."""
TagRef = str
"""`tag` of the machine's own device, or `device/tag`."""
Scalar = bool | int | float | str


def _beside_the_file(path: str, info: ValidationInfo) -> str:
    base: Path | None = (info.context or {}).get("base_dir")
    return path if base is None else str(base / path)


File = Annotated[str, AfterValidator(_beside_the_file)]
"""A path, relative to the folder of the configuration file; the loader makes it absolute."""


def _key(value: object) -> object:
    """`true: running` means 1: a bool tag reads as 0 or 1 in maps."""
    return int(value) if isinstance(value, bool) else value


Code = Annotated[int | str, BeforeValidator(_key)]
"""What a PLC says in a map: a number or a text."""


def _strict(schema: Any) -> Any:
    """The schema with strict numbers and booleans. `strict=True` for whole models would refuse lists and enums."""
    if isinstance(schema, dict):
        found = {name: _strict(part) for name, part in schema.items()}
        return {**found, "strict": True} if schema.get("type") in ("int", "float", "bool") else found
    return [_strict(part) for part in schema] if isinstance(schema, list) else schema


class Options(BaseModel):
    """Base of every model: unknown keys are faults, text is not taken for a number or `yes` for true, nothing
    changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _strict(handler(source))
        return schema


def time_zone(name: str) -> str:
    import zoneinfo  # only where a zone is named: it reads the disk

    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        fix = did_you_mean(name, zoneinfo.available_timezones())
        raise Problem("E301", f"'{name}' is no time zone", why="IANA names such as Europe/Berlin", fix=fix) from None
    return name


def topic(text: str) -> str:
    if not text or text.strip("/") != text or "//" in text or any(char in text for char in "+#$\x00"):
        raise Problem("E301", "a topic has no + # $, and no / at its ends", fix="topic_root: ea/v1")
    return text


def is_loopback(host: str) -> bool:
    """This computer and no other can connect to it."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def listening_address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536 and host and host.strip() == host):
        raise Problem("E301", f"'{text}' is no address and port to listen on", fix="listen: 127.0.0.1:8686")
    if ":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]")):
        raise Problem("E301", "an IPv6 address stands in brackets", fix=f"listen: '[{host}]:{port}'")
    return text


def mqtt_version(value: object) -> object:
    return "5" if value == 5 and not isinstance(value, bool) else value


def check_broker(url: str, insecure: bool) -> None:
    """Raises Problem if the address cannot be used, or sends events in the clear without `insecure`."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Problem("E301", f"the broker's address cannot be read: {error}", at=("url",)) from None
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        fix = "mqtts://mom.example:8883"
        raise Problem("E301", "a broker's address starts with mqtts:// or mqtt://", fix=fix, at=("url",))
    if parts.username is not None or parts.password is not None:
        what = "user and password do not belong into the address"
        raise Problem("E301", what, fix="write username: and password: {credential: NAME}", at=("url",))
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Problem(
            "E301", "a broker's address ends after its port", fix=f"{parts.scheme}://{parts.netloc}", at=("url",)
        )
    if parts.scheme == "mqtt" and not is_loopback(host) and not insecure:
        raise Problem(
            "E310",
            "mqtt:// to another computer is readable by everyone on the network",
            fix=f"mqtts://{host}:8883, or insecure: true beside it",
            at=("url",),
        )
