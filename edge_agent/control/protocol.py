"""What is said on the local socket: JSON lines, one request for each connection.

The client sends one line, `{"do": "status", …parameters}`. The agent answers with one line, `{"ok": true,
"result": …}` or `{"ok": false, "code": "unknown_command", "error": "…"}`. A stream is announced by `{"ok": true,
"stream": true}` and then sends `{"item": …}` for each item and `{"dropped": n}` where the client was too slow
for n of them. Codes: `invalid`, `unknown_command`, `denied`, `busy`, `failed`, `other_version`.

Both say their version in the first line (`"version"`). After an upgrade the agent that still runs is the old one: a
question of another version is not answered, since either might understand the other wrongly.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

REQUEST_LIMIT = 1 << 16
"""Longest request in bytes."""
ANSWER_LIMIT = 1 << 26
"""Longest line of an answer in bytes."""


VERSION = version("edge-agent")
"""Of the program that this process runs, whatever has been installed since."""


class Malformed(ValueError):
    """A line that is not a JSON object."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One line with its line end. Raises TypeError for what JSON does not have."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises `Malformed`."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed("the line is not JSON") from error
    if not isinstance(message, dict):
        raise Malformed("the line is not a JSON object")
    return message


def other_version(agent: object, asking: object) -> str:
    """What a person does where the two are not of one version."""
    return (
        f"the agent that runs is {_program(agent)}, the program that asks is {_program(asking)}: restart the agent, "
        "so that both are the same"
    )


def _program(said: object) -> str:
    return f"version {said}" if isinstance(said, str) else "of another version"
