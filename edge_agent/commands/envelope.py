"""A command as it comes: a CloudEvent `dev.edgeagent.cmd.<name>.v1`, read into a record.

(source, id) is the command's idempotency key, chosen by the MOM and kept over its retries; `digest` covers what is
asked, so that one key never stands for two different commands.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edge_agent.clock import SECOND, parse_rfc3339

PREFIX: Final = "dev.edgeagent.cmd."
CLASSES: Final[Mapping[str, str]] = {
    "order.dispatch": "ctx",
    "order.start": "ctx",
    "order.stop": "ctx",
    "order.update": "ctx",
    "order.revoke": "ctx",
    "downtime.assign_reason": "ctx",
    "downtime.split": "ctx",
    "production.declare": "ctx",
    "production.reverse": "ctx",
    "context.set": "ctx",
    "calendar.set": "ctx",
    "alarm.ack": "ctx",
    "resend.range": "adm",
    "stream.ack": "adm",
    "snapshot.request": "adm",
    "plc.write": "plc",
}
"""Every command with the class of its topic."""
LIVES: Final[Mapping[str, int]] = {"ctx": 600 * SECOND, "adm": 3600 * SECOND, "plc": 10 * SECOND}
"""How long a command without `expirytime` may be carried out, µs by class."""
LONGEST: Final = 500
"""Characters of an id, a source, a subject: they are repeated in every answer."""
_HEAD: Final = frozenset({"issued_by", "expect_ctx_rev", "effective_at", "sig"})


class Malformed(ValueError):
    """The message is no command. Says why."""


class Refused(Exception):
    """What was asked cannot be done; `code` is one of event model §6."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Command(NamedTuple):
    """Times are UTC µs. `subject`: the asset it is for. `params`: what of `data` belongs to the command itself.
    `topic_class`: class of the topic it came on, None if it came on none."""

    id: str
    source: str
    name: str
    subject: str
    time: int
    expires: int
    params: Mapping[str, Any]
    issued_by: str
    expect_ctx_rev: int | None = None
    effective_at: int | None = None
    retained: bool = False
    topic_class: str | None = None

    @property
    def digest(self) -> str:
        asked = [self.name, self.subject, self.params, self.expect_ctx_rev, self.effective_at]
        text = json.dumps(asked, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read(event: Mapping[str, Any], *, retained: bool = False, topic_class: str | None = None) -> Command:
    """The command in a CloudEvent. Raises Malformed, also for what JSON can write but no message can hold: numbers
    without end, halves of characters."""
    try:
        json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed(f"it cannot be repeated: {error!r}"[:LONGEST]) from None
    type_ = _text(event, "type")
    name, _, version = type_.removeprefix(PREFIX).rpartition(".")
    if not type_.startswith(PREFIX) or version != "v1":
        raise Malformed(f"type is {type_!r}, not {PREFIX}<name>.v1")
    data = event.get("data")
    if not isinstance(data, Mapping):
        raise Malformed("data is no object")
    rev = data.get("expect_ctx_rev")
    if rev is not None and (not isinstance(rev, int) or isinstance(rev, bool)):
        raise Malformed("expect_ctx_rev is no whole number")
    time = _time(event, "time")
    if time is None:
        raise Malformed("time is missing")
    expires = _time(event, "expirytime")
    return Command(
        _text(event, "id"),
        _text(event, "source"),
        name,
        _text(event, "subject"),
        time,
        time + LIVES[CLASSES.get(name, "ctx")] if expires is None else expires,
        {key: value for key, value in data.items() if key not in _HEAD},
        _text(data, "issued_by"),
        rev,
        _time(data, "effective_at"),
        retained,
        topic_class,
    )


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{key} is missing" if value is None else f"{key} is no text")
    if len(value) > LONGEST:
        raise Malformed(f"{key} has {len(value)} characters, and {LONGEST} are the most")
    return value


def _time(record: Mapping[str, Any], key: str) -> int | None:
    value = record.get(key)
    if value is None:
        return None
    try:
        return parse_rfc3339(value)
    except (TypeError, ValueError) as error:
        raise Malformed(f"{key} is no time: {error}") from error


def check_class(command: Command) -> None:
    """The broker allows by topic, so what came on one must be of its class. Raises Refused."""
    known = CLASSES.get(command.name)
    if None not in (known, command.topic_class) and known != command.topic_class:
        detail = f"{command.name} is of class {known} and came on a topic of class {command.topic_class}"
        raise Refused("unauthorised", detail)


def stored(command: Command) -> str:
    """The command as JSON, for the archive."""
    return json.dumps(command, ensure_ascii=False, separators=(",", ":"))


def loaded(text: str) -> Command:
    return Command(*json.loads(text))
