"""A serial port as a line: pyserial opens it, one thread reads it, the event loop does the rest.

A thread, because serial ports cannot be waited for in every event loop (Windows). It hands over one piece at a time
and reads on when that has been taken, so a line that never falls silent costs no more than the loop gives it.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from drivers.modbus.endpoint import Port
from drivers.modbus.exchange import Connection
from drivers.modbus.rtu import Doubts, RtuConnection

try:
    from termios import error as SettingsRefused  # no OSError, and pyserial lets it through
except ImportError:  # Windows, where pyserial has an error of its own

    class SettingsRefused(Exception):  # type: ignore[no-redef]  # of the other branch
        pass


if TYPE_CHECKING:
    import serial

_PIECE = 512
_MOST_UNSENT = 512
"""Bytes."""
_WAKE = 0.25
"""Seconds after which the thread looks whether it is still wanted."""
_ENDS_WITHIN = 1.0
"""Seconds."""


class SerialMedium:
    def __init__(self, options: Port) -> None:
        self._options = options
        self._doubts = Doubts()
        self._port: SerialTransport | None = None

    async def open(self) -> Connection:
        """Raises OSError; ImportError without pyserial."""
        import serial

        if self._port is not None and not await asyncio.to_thread(self._port.ended.wait, _ENDS_WITHIN):
            raise OSError(errno.EBUSY, "the port does not close")  # the system lets one at a time have it
        path, baud, parity, stop_bits = self._options
        loop = asyncio.get_running_loop()

        def opened() -> serial.Serial:
            try:
                return serial.Serial(
                    path, baud, parity=parity, stopbits=stop_bits, timeout=_WAKE, write_timeout=0, exclusive=True
                )
            except SettingsRefused as error:
                what = (
                    f"the port does not take {baud} baud, parity {parity}, {stop_bits} stop bits ({error.args[-1]})"
                )
                raise OSError(what) from error

        opening = loop.run_in_executor(None, opened)
        try:
            port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise
        connection = RtuConnection(self._doubts, self._options.character)
        self._port = SerialTransport(loop, port, connection)
        self._port.start()
        return connection

    def rest(self, unit: int) -> float:
        return self._doubts.rest(unit)


class SerialTransport(asyncio.Transport):
    """What a connection writes to. `ended` is set when the port is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: serial.Serial, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.ended = threading.Event()
        self._loop = loop
        self._port = port
        self._protocol = protocol
        self._wanted = True
        self._taken = threading.Event()

    def start(self) -> None:
        self._protocol.connection_made(self)
        threading.Thread(target=self._read, name=f"serial {self._port.port}", daemon=True).start()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            if self._port.out_waiting > _MOST_UNSENT:  # pyserial would wait for room and hold the loop up
                raise OSError("the port does not send")
            self._port.write(data)
        except (OSError, TypeError):  # the latter when it is closed at this moment
            self.abort()

    def abort(self) -> None:
        self._wanted = False
        self._taken.set()
        with suppress(OSError, TypeError):
            self._port.cancel_read()

    def _read(self) -> None:
        lost: Exception | None = None
        try:
            while self._wanted:
                piece = self._port.read(max(1, min(self._port.in_waiting, _PIECE)))
                if piece:
                    self._taken.clear()
                    self._loop.call_soon_threadsafe(self._take, piece)
                    self._taken.wait()
        except (OSError, RuntimeError) as error:  # the port is gone, or the loop is
            lost = error
        finally:
            self._port.close()
            self.ended.set()
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._protocol.connection_lost, lost)

    def _take(self, piece: bytes) -> None:
        if self._wanted:
            self._protocol.data_received(piece)
        self._taken.set()


def _close(opened: asyncio.Future[serial.Serial]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()
