"""What the structures of a server look like: its DataTypeDefinition attributes (Part 3, 8.47), read once per type.

Nothing is registered with the library: two servers may number their types alike and mean different ones.
"""

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.opcua.parts import Layout, LayoutField
from drivers.opcua.session import Session, node_id

_HAS_SUBTYPE = 45
_DEPTH = 16
"""Structures may hold structures, and types derive from others; no real one does so deeper."""
_LAST_BUILT_IN = 25


class Layouts:
    """The types of one connection; a program download may change them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[ua.NodeId, Layout | int | None] = {}

    async def of_node(self, node: ua.NodeId) -> Layout | None:
        """The structure that a variable holds; None if it holds none, or the server does not say."""
        kind = await self._session.attribute(node, AttributeIds.DataType)
        found = await self._of_type(kind, 0) if isinstance(kind, ua.NodeId) else None
        return found if isinstance(found, Layout) else None

    async def _of_type(self, kind: ua.NodeId, depth: int) -> Layout | int | None:
        """The layout of a structure, the built-in type of everything else; None if the server does not say."""
        if kind.NamespaceIndex == 0 and isinstance(kind.Identifier, int) and 0 < kind.Identifier <= _LAST_BUILT_IN:
            return kind.Identifier
        if kind not in self._known:
            self._known[kind] = None if depth > _DEPTH else await self._ask(kind, depth)
        return self._known[kind]

    async def _ask(self, kind: ua.NodeId, depth: int) -> Layout | int | None:
        definition = await self._session.attribute(kind, AttributeIds.DataTypeDefinition)
        if isinstance(definition, ua.EnumDefinition):
            return ua.VariantType.Int32.value
        if not isinstance(definition, ua.StructureDefinition):
            base = await self._base(kind)
            return None if base is None else await self._of_type(base, depth + 1)
        fields: list[LayoutField] = []
        for field in definition.Fields or ():
            of = await self._of_type(field.DataType, depth + 1)
            if of is None:
                return None
            fields.append(LayoutField(str(field.Name), of, max(0, int(field.ValueRank)), bool(field.IsOptional)))
        name = await self._session.attribute(kind, AttributeIds.BrowseName)
        encoding = definition.DefaultEncodingId
        return Layout(
            name.Name if isinstance(name, ua.QualifiedName) else str(kind.Identifier),
            int(definition.StructureType),
            (encoding.NamespaceIndex, encoding.Identifier),
            tuple(fields),
        )

    async def _base(self, kind: ua.NodeId) -> ua.NodeId | None:
        """The type that this one derives from."""
        try:
            found = await self._session.browse(kind, node_id(_HAS_SUBTYPE, 0), forward=False)
        except UaStatusCodeError:
            return None
        return found[0].NodeId if found else None
