"""What is wrong with an OPC UA tag, for a person, and what to write instead. Pure but for the names of the server."""

import difflib
from collections.abc import Mapping, Sequence

from asyncua.ua.status_codes import StatusCodes

from config.errors import did_you_mean, listed
from drivers.base import Quality, Reading
from drivers.looking import Doubt
from drivers.opcua import binary
from drivers.opcua.addresses import NodeAddress
from drivers.opcua.values import GONE, status_name

TYPES: Mapping[int, str] = {
    1: "bool", 2: "int8", 3: "uint8", 4: "int16", 5: "uint16", 6: "int32", 7: "uint32", 8: "int64", 9: "uint64",
    10: "float32", 11: "float64", 12: "string", 13: "string", 14: "string", 16: "string", 21: "string",
}  # fmt: skip
"""Built-in type → the word of a tag."""
_DENIED = frozenset((StatusCodes.BadUserAccessDenied, StatusCodes.BadNotReadable))
_SEE = "see the sensor or the PLC program"
Names = Mapping[int, Mapping[str, str]]
"""Namespace index → text identifier → browse name, of what the server has."""


def no_namespace(uri: str, namespaces: Sequence[str]) -> Doubt:
    """None of the server's namespaces has this URI."""
    known = [one for one in namespaces[1:] if one]
    fix = did_you_mean(uri, known) or f"the server has {listed(known) or 'none of its own'}"
    return Doubt("C522", f"the server has no namespace {uri}: a program was downloaded, or it is misspelt", fix)


def doubt(reading: Reading, item: binary.Item, node: NodeAddress, index: int, namespaces: Sequence[str],
          names: Names) -> Doubt:  # fmt: skip
    """`item`: what the server sent; `index`: of the node's namespace today."""
    if reading.quality is Quality.GOOD:
        return Doubt()
    status = item[3]
    if status == StatusCodes.BadAttributeIdInvalid:
        return Doubt("C521", "the node has no value: it is a folder or an object", "name a variable below it")
    if status in GONE:
        return _unknown(node, index, namespaces, names)
    if status in _DENIED:
        what = f"the server does not let this user read it ({status_name(status)})"
        return Doubt("C513", what, "allow it in the server, or give 'identity' a user who may read it")
    if reading.quality is Quality.UNCERTAIN:
        return Doubt(
            "C523", f"the PLC itself doubts the value ({reading.detail})", "see the sensor or the PLC program"
        )
    kind = item[1]
    if status >> 30 > 1 or kind == binary.NOTHING:
        return Doubt("C523", f"the PLC gives no good value ({reading.detail})", _SEE)
    if kind & binary.ARRAY:
        return Doubt("C523", reading.detail, "name the element: index: 0")
    if kind == binary.STRUCTURE:
        return Doubt("C523", reading.detail, "name the part: field: NAME")
    return Doubt(
        "C523", reading.detail, f"type: {TYPES[kind]}" if kind in TYPES else "another node: this cannot be a tag"
    )


def _unknown(node: NodeAddress, index: int, namespaces: Sequence[str], names: Names) -> Doubt:
    """The node is not there: it is in another namespace now, or something near to it is meant, or nothing."""
    text = node.identifier if isinstance(node.identifier, str) else None
    moved = [at for at, known in names.items() if text in known and at != index and at < len(namespaces)]
    if moved and text is not None:
        where = f"ns={index}" if node.uri is None else node.uri
        what = f"s={text} is not in {where} any more: the namespace moved"
        return Doubt("C522", what, f"node: 'nsu={namespaces[moved[0]]};s={text}'")
    what = f"the PLC has no such node{'' if text is None else f' s={text}'}"
    own = names.get(index, {})
    close = difflib.get_close_matches(text, own, n=3, cutoff=0.6) if text is not None else []
    if close:
        return Doubt("C521", what, f"did you mean {' or '.join(f's={one}' for one in close)}?")
    return Doubt("C521", what, "edge-agent browse shows what it has")
