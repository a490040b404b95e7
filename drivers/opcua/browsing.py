"""What an OPC UA server has: one level of its tree at a time, with live values and how each is written as a tag.

Nodes are told by namespace URI, for indices move. A path is made of browse names below Objects (`Press/Status`), or
is a node id. What every server has beside the machine (namespace 0) is not listed at the top, and is found by name.
"""

import difflib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from uuid import UUID

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import Quality, Reading
from drivers.looking import Entry, Listing, Looked, NoSuchPath
from drivers.opcua import binary, near
from drivers.opcua.addresses import parse_node
from drivers.opcua.doubts import TYPES, doubt, no_namespace
from drivers.opcua.layouts import Layouts
from drivers.opcua.options import OpcuaTag
from drivers.opcua.reads import Reads
from drivers.opcua.session import Session, node_id
from drivers.opcua.values import GONE, TagValues, status_name, type_name
from drivers.opcua.wanted import UNKNOWN, Wanted

_OBJECTS, _HIERARCHICAL = 85, 33
_NODES = ("nsu=", "ns=", "i=", "s=", "g=", "b=")


def written(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """The node as it stands in a configuration: `nsu=urn:acme:press;s=Status`, `i=2258`."""
    index, identifier = int(node.NamespaceIndex), node.Identifier
    if isinstance(identifier, int):
        own = f"i={identifier}"
    elif isinstance(identifier, str):
        own = f"s={identifier}"
    elif isinstance(identifier, UUID):
        own = f"g={identifier}"
    else:
        own = f"b={b64encode(bytes(identifier or b'')).decode()}"
    if index == 0:
        return own
    if index >= len(namespaces):
        return f"ns={index};{own}"
    uri = namespaces[index].replace("%", "%25").replace(";", "%3B")
    return f"nsu={uri};{own}"


class Browsing:
    """Looks over a session that somebody else owns. `per_call`: nodes of one request."""

    def __init__(self, session: Session, namespaces: Sequence[str], per_call: int) -> None:
        self._session = session
        self._namespaces = namespaces
        self._reads = Reads(session, per_call)

    async def listing(self, path: str) -> Listing:
        """What is below a path. Raises `NoSuchPath` and what asyncua raises."""
        node, steps = await self._find(path.strip("/"))
        references = await self._children(node)
        left_out = 0
        if not steps and not path:
            machine = [found for found in references if found.NodeId.NamespaceIndex]
            left_out = len(references) - len(machine)
            references = machine or references
        variables = [found.NodeId for found in references if found.NodeClass == ua.NodeClass.Variable]
        items = dict(zip(variables, await self._reads.of(variables), strict=True))
        entries = [self._entry(found, steps, items) for found in references]
        note = f"{left_out} standard objects (Server, …) are left out" if left_out and len(references) else ""
        return Listing(tuple(entries), note)

    async def look(self, tags: Mapping[str, OpcuaTag], wanted: Wanted) -> list[Looked]:
        """Tags as `read` would tell them, of values asked for now."""
        located = dict(wanted.locate(tags))
        items = dict(zip(located.values(), await self._reads.of(list(located.values())), strict=True))
        layouts = Layouts(self._session)
        gone = any(item[3] in GONE for item in items.values())
        names = await near.names(self._session) if gone else {}
        found = []
        for tag, options in tags.items():
            if tag not in located:
                uri = parse_node(options.node).uri
                why = f"{UNKNOWN}: the server has no namespace {uri}"
                bad = Reading(tag, None, Quality.BAD, detail=why)
                found.append(Looked(bad, doubt=no_namespace(uri or "", self._namespaces)))
                continue
            values, item = TagValues(tag, options), items[located[tag]]
            if values.structured:
                values.layout = await layouts.of_node(located[tag])
            reading = values.read(item)
            assert reading is not None  # a first value is outside of every dead band
            node = parse_node(options.node)
            doubted = doubt(reading, item, node, int(located[tag].NamespaceIndex), self._namespaces, names)
            found.append(Looked(reading, native=f"{_kind(item)}, {status_name(item[3])}", doubt=doubted))
        return found

    async def _find(self, path: str) -> tuple[ua.NodeId, tuple[str, ...]]:
        """(the node, the browse names that lead to it)"""
        if path.startswith(_NODES):
            return self._node(path), (path,)
        node, steps = node_id(_OBJECTS, 0), tuple(step for step in path.split("/") if step)
        if steps[:1] == ("Objects",):
            steps = steps[1:]
        for at, step in enumerate(steps):
            names = {str(found.BrowseName.Name): found.NodeId for found in await self._children(node)}
            if step not in names:
                close = difflib.get_close_matches(step, names, n=3) or list(names)[:5]
                above = "/".join(steps[:at]) or "the top"
                raise NoSuchPath(f"there is no {step!r} below {above}; there is {', '.join(close) or 'nothing'}")
            node = names[step]
        return node, steps

    def _node(self, text: str) -> ua.NodeId:
        try:
            address = parse_node(text)
        except ValueError as error:
            raise NoSuchPath(str(error)) from None
        if address.uri is not None and address.uri not in self._namespaces:
            raise NoSuchPath(f"the server has no namespace {address.uri}; it has {', '.join(self._namespaces[1:])}")
        index = address.namespace if address.uri is None else list(self._namespaces).index(address.uri)
        return node_id(address.identifier, index)

    async def _children(self, node: ua.NodeId) -> list[ua.ReferenceDescription]:
        wanted = (ua.NodeClass.Object, ua.NodeClass.Variable)
        try:
            found = await self._session.browse(node, node_id(_HIERARCHICAL, 0))
        except UaStatusCodeError as error:
            raise NoSuchPath(f"the server does not let this be looked into ({status_name(error.code)})") from None
        return [reference for reference in found if reference.NodeClass in wanted]

    def _entry(
        self, found: ua.ReferenceDescription, above: Sequence[str], items: Mapping[ua.NodeId, binary.Item]
    ) -> Entry:
        name, key = str(found.BrowseName.Name), written(found.NodeId, self._namespaces)
        path = key if "/" in name else "/".join((*above, name))
        item = items.get(found.NodeId)
        if item is None:
            return Entry(name, path, key, branch=True)
        kind = TYPES.get(item[1])
        if kind is None:
            failed = item[3] >> 30 > 1
            reading = Reading(name, None, Quality.BAD, detail=status_name(item[3])) if failed else None
            return Entry(name, path, key, branch=True, reading=reading, note=_kind(item))
        tag = {"node": key, "type": kind}
        seen = TagValues(name, OpcuaTag.model_validate(tag)).read(item)
        return Entry(name, path, key, branch=True, reading=seen, tag=tag, note=_kind(item))


def _kind(item: binary.Item) -> str:
    """`Int16`, `an array of Float: …`."""
    kind = item[1]
    if kind == binary.NOTHING:
        return "no value"
    name = type_name(kind)
    if kind & binary.ARRAY:
        return f"array of {name}: a tag names its element with 'index'"
    if kind == binary.STRUCTURE:
        return "structure: a tag names its part with 'field'"
    return name if kind in TYPES else f"{name}, which cannot be a tag"
