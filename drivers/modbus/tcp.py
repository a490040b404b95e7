"""Modbus TCP, also inside TLS: the frames of `mbap` over a connection to the first address that accepts."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from drivers.modbus.exchange import Connection
from drivers.modbus.mbap import MbapConnection

P = TypeVar("P", bound=asyncio.Protocol)


class TcpMedium:
    """`tls` gives the context of each connection; it may raise OSError, of which `ssl.SSLError` is one."""

    def __init__(self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._host = host
        self._port = port
        self._tls = tls

    async def open(self) -> Connection:
        return await dial(MbapConnection, self._host, self._port, None if self._tls is None else self._tls())

    def rest(self, unit: int) -> float:
        return 0.0  # a connection in doubt is closed, and its answers with it


async def dial(make: Callable[[], P], host: str, port: int, tls: ssl.SSLContext | None = None) -> P:
    """Connect to the first address of the host that accepts. Raises what the last one raised."""
    loop = asyncio.get_running_loop()
    refused: OSError = OSError(f"{host} has no address")
    name = host if tls is not None else None
    for family, _, _, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            _, connection = await loop.create_connection(
                make, str(address[0]), port, family=family, ssl=tls, server_hostname=name
            )
        except OSError as error:
            refused = error
        else:
            return connection
    raise refused
