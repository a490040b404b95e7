"""The oven as a Modbus TCP server: its registers are those of the simulated station at the time of the request."""

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.demo.cable import LOOPBACK
from edge_agent.demo.line import OvenRegisters

UNIT = 1
BURNER_COIL, TRAYS_HOLDING, TEMP_INPUT = 0, 200, 100
_COILS, _HOLDING, _INPUT = 1, 3, 4
"""Function codes that read each table."""


class OvenServer:
    """Listens on loopback and asks `registers` at each request."""

    def __init__(self, registers: Callable[[], OvenRegisters]) -> None:
        self._registers = registers
        self._server: ModbusTcpServer | None = None

    async def open(self) -> int:
        """Start listening on a free port and return it."""
        device = SimDevice(
            id=UNIT,
            simdata=(
                [SimData(BURNER_COIL, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(TRAYS_HOLDING, values=0, datatype=DataType.REGISTERS)],
                [SimData(TEMP_INPUT, values=[0, 0], datatype=DataType.REGISTERS)],
            ),
            action=self._refresh,
        )
        self._server = ModbusTcpServer(device, address=(LOOPBACK, 0))
        await self._server.serve_forever(background=True)
        listener = cast(asyncio.Server, self._server.transport)
        port: int = listener.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop. Safe before `open`."""
        if self._server is not None:
            self._server.close()

    async def _refresh(
        self, code: int, _start: int, _address: int, _count: int, block: list[int], written: object
    ) -> ExcCodes | None:
        if written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        now = self._registers()
        if code == _COILS:
            block[0] = int(now.burner)
        elif code == _HOLDING:
            block[0] = now.trays
        elif code == _INPUT:
            block[:2] = struct.unpack(">2H", struct.pack(">f", now.temp))
        return None
