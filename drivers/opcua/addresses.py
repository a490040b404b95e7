"""How a node's address is read and written."""

import base64
import binascii
import re
import uuid
from typing import NamedTuple
from urllib.parse import unquote

_NODE = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<kind>[isgb])=(?P<identifier>.+)", re.DOTALL)


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
