"""What is wanted of a server, and what of it the server has not.

Every tag is wanted for ever. A tag that the server refuses is `missing` with its reason until it is `found`; the
others go on. Names near to an unknown node come from `near`, as they are found.
"""

from collections.abc import Iterable

from asyncua import ua

from drivers.base import Quality, Reading
from drivers.opcua.addresses import parse_node
from drivers.opcua.options import OpcuaDevice
from drivers.opcua.session import node_id
from drivers.opcua.values import TagValues

UNKNOWN = "BadNodeIdUnknown"


class Wanted:
    """The tags of one device over one connection."""

    def __init__(self, options: OpcuaDevice) -> None:
        self.nodes = {tag: parse_node(wanted.node) for tag, wanted in options.polled.items()}
        self.values = {tag: TagValues(tag, wanted) for tag, wanted in options.polled.items()}
        self.namespaces: list[str] = []
        self.missing: dict[str, str] = {}
        """Tag → why the server does not have it."""
        self.near: dict[str, str] = {}
        """Tag of an unknown node → what the server has instead."""

    def locate(self, tags: Iterable[str]) -> list[tuple[str, ua.NodeId]]:
        """The tags with their nodes by today's indices; what has no namespace goes missing."""
        located = []
        for tag in tags:
            node = self.nodes[tag]
            if node.uri is not None and node.uri not in self.namespaces:
                self.missing[tag] = f"{UNKNOWN}: the server has no namespace {node.uri}"
                continue
            index = node.namespace if node.uri is None else self.namespaces.index(node.uri)
            located.append((tag, node_id(node.identifier, index)))
        return located

    def lose(self, tag: str, why: str) -> None:
        self.missing[tag] = why

    def found(self, tag: str) -> None:
        self.missing.pop(tag, None)
        self.near.pop(tag, None)

    def bad_readings(self) -> list[Reading]:
        """What is missing, said once more."""
        return [
            Reading(tag, None, Quality.BAD, None, why if why != UNKNOWN else self.near.get(tag, why))
            for tag, why in self.missing.items()
        ]
