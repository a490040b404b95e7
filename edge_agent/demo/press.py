"""The press as an OPC UA server: its nodes show the registers of the simulated station."""

import importlib
from datetime import UTC, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.standard_address_space.standard_address_space import PostponeReferences

from edge_agent.demo.cable import LOOPBACK
from edge_agent.demo.line import PressRegisters

NAMESPACE = "urn:edge-agent:demo:press"
_NODES = {
    "status": ("Status", ua.VariantType.Int16),
    "fault": ("FaultCode", ua.VariantType.UInt16),
    "total": ("Total", ua.VariantType.UInt16),
    "rejects": ("Rejects", ua.VariantType.UInt16),
    "tonnage": ("Tonnage", ua.VariantType.Float),
}
"""Register → node name and type."""
_EPOCH = ua.DateTime(1970, 1, 1, tzinfo=UTC)


_PARTS = "asyncua.server.standard_address_space.standard_address_space_services_{}"
_FILL = "create_standard_address_space_Services_{}"
_LAST = ua.NodeId.from_string("i=2258")
"""Server.ServerStatus.CurrentTime."""


class _QuickServer(InternalServer):
    """Knows the standard's base types and its Server object only: the rest takes two seconds and nobody here asks
    for it. Raises ImportError or AttributeError with a version of the library that is made up of other parts."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:
        loading: Any = PostponeReferences(self.node_mgt_service)  # type: ignore[no-untyped-call]  # generated code
        loading.postponed_refs, loading.postponed_nodes = [], []
        for number in count(1):
            getattr(importlib.import_module(_PARTS.format(number)), _FILL.format(number))(loading)
            if _LAST in self.aspace:
                return


async def _started() -> Server:
    try:
        server = Server(iserver=_QuickServer())
        await server.init()
    except (ImportError, AttributeError):
        server = Server()
        await server.init()
    return server


class PressServer:
    """Listens on a free port of loopback. Only what has changed is written, with the time of the change."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._nodes: dict[str, Node] = {}
        self._shown: dict[str, int | float] = {}

    async def open(self, registers: PressRegisters, now: int) -> int:
        """Start; returns the port. `now` is UTC microseconds."""
        server = await _started()
        server.set_endpoint(f"opc.tcp://{LOOPBACK}:0/")
        server.disable_clock()
        server.set_server_name("edge-agent demo press")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        press = await server.nodes.objects.add_object(ua.NodeId.from_string(f"ns={index};s=Press"), "Press")
        for name, value in registers._asdict().items():
            node, type_ = _NODES[name]
            address = ua.NodeId.from_string(f"ns={index};s={node}")
            self._nodes[name] = await press.add_variable(address, node, value, varianttype=type_)
        await self.show(registers, now)
        await server.start()
        self._server = server
        assert server.bserver is not None, "started"
        return server.bserver.port

    async def show(self, registers: PressRegisters, now: int) -> None:
        """Write what has changed; `now` is UTC microseconds."""
        moment = _EPOCH + timedelta(microseconds=now)
        for name, value in registers._asdict().items():
            if self._shown.get(name) != value:
                self._shown[name] = value
                variant = ua.Variant(value, _NODES[name][1])
                await self._nodes[name].write_value(ua.DataValue(variant, SourceTimestamp=moment))

    async def close(self) -> None:
        """Stop. Safe before `open`."""
        if self._server is not None:
            await self._server.stop()
