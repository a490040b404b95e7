"""Names near to a node that a server does not have: what it has beside it, for the reason of the tag's fault (C521).

The server's objects are walked once per connection, level by level, while values flow; `LIMIT` bounds what that costs
a small PLC.
"""

import difflib
from collections import deque
from collections.abc import Mapping

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.opcua.session import Session, node_id
from drivers.opcua.wanted import UNKNOWN, Wanted

CODE = "C521"
LIMIT = 400
"""Requests of one walk."""
_MOST_NAMES = 20_000
_PER_NODE = 1000
_OBJECTS, _HIERARCHICAL, _SERVER = 85, 33, 2253


async def look(session: Session, wanted: Wanted) -> None:
    """Fill `wanted.near` for the unknown nodes of today."""
    unknown = {
        tag: node
        for tag, node in wanted.nodes.items()
        if wanted.missing.get(tag) == UNKNOWN and tag not in wanted.near and isinstance(node.identifier, str)
    }
    if not unknown:
        return
    known = await names(session)
    for tag, node in unknown.items():
        index = node.namespace if node.uri is None else wanted.namespaces.index(node.uri)
        wanted.near[tag] = words(str(node.identifier), known.get(index, {}))


def words(identifier: str, names: Mapping[str, str]) -> str:
    """The fault of a tag whose node is unknown. `names`: identifier → browse name of what there is."""
    close = difflib.get_close_matches(identifier, names, n=3, cutoff=0.6)
    last = identifier.rpartition(".")[2].strip('"')
    close += [known for known, name in names.items() if name == last and known not in close][: 3 - len(close)]
    found = ", ".join(f"s={name}" for name in close)
    return f"{UNKNOWN}: {CODE}, the PLC has no node s={identifier}" + (f"; near: {found}" if found else "")


async def names(session: Session) -> dict[int, dict[str, str]]:
    """Namespace index → text identifier → browse name, of what hangs under Objects."""
    found: dict[int, dict[str, str]] = {}
    root = node_id(_OBJECTS, 0)
    waiting, seen, asked = deque([root]), {root, node_id(_SERVER, 0)}, 0
    hierarchical = node_id(_HIERARCHICAL, 0)
    while waiting and asked < LIMIT and len(seen) < _MOST_NAMES:
        asked += 1
        try:
            references = await session.browse(waiting.popleft(), hierarchical, most=_PER_NODE)
        except UaStatusCodeError:
            continue  # a node that cannot be looked into hides no other
        for reference in references:
            node = reference.NodeId
            if node in seen:
                continue
            seen.add(node)
            if isinstance(node.Identifier, str):
                found.setdefault(int(node.NamespaceIndex), {})[node.Identifier] = str(reference.BrowseName.Name)
            if reference.NodeClass in (ua.NodeClass.Object, ua.NodeClass.Variable):
                waiting.append(node)
    return found
