"""Modbus servers for tests: one written by others as a process, and a hostile one that breaks the rules.

async with modbus_serial(tmp_path) as plc:
    await plc.set(holding={10: 2})
    await plc.count("holding", 20, rate=50)
"""

import asyncio
import json
import os
import shutil
import ssl
import struct
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from pymodbus.framer import FramerRTU

from tests.programs import find_program, missing
from tests.waiting import free_port

PEERS = Path(__file__).parent / "peers"
PROGRAM = PEERS / "modbus-serial" / "server.js"


@dataclass
class ModbusSerial:
    """A machine behind modbus-serial's ServerTCP, on one port for its whole life however often it is stopped.

    A stopped machine forgets its registers. What it did is in the truth log, over all its lives.
    """

    folder: Path
    port: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def truth_log(self) -> Path:
        """JSON lines: at (µs UTC), table, address, value, and total for a counter."""
        return self.folder / "modbus-truth.jsonl"

    def truth(self) -> list[dict[str, Any]]:
        path = self.truth_log
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def start(self) -> None:
        """Return when it listens."""
        assert self._process is None
        _find_module("modbus-serial")
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(PROGRAM),
            str(self.truth_log),
            str(self.port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.port = (await self._answer())["port"]

    async def stop(self) -> None:
        """End the process by its pid, as if the PLC lost power. Safe twice."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def set(self, **tables: dict[int, int]) -> None:
        """`set(holding={10: 2}, coil={0: 1})`, all of it before the next answer."""
        await self.tell({"set": tables})

    async def count(self, table: str, address: int, *, rate: float, wrap: int = 65536, words: int = 1) -> int:
        """Count up by one, `rate` times a second; 0 stops. Returns how often it has counted so far."""
        command = {"table": table, "address": address, "rate": rate, "wrap": wrap, "words": words}
        total: int = (await self.tell({"count": command}))["total"]
        return total

    async def quiet(self) -> dict[str, int]:
        """Stop every counter. Returns how often each has counted, by `table/address`."""
        totals: dict[str, int] = (await self.tell({"quiet": True}))["totals"]
        return totals

    async def refuse(self, table: str, first: int, last: int | None = None, code: int = 2) -> None:
        """Answer reads of these addresses with an exception; code 0 allows them again."""
        await self.tell({"refuse": {"table": table, "from": first, "to": last or first, "code": code}})

    async def delay(self, unit: int, ms: int) -> None:
        """Every answer of the unit comes late; 0 at once, -1 never."""
        await self.tell({"delay": {"unit": unit, "ms": ms}})

    async def ring(self, at: int, slots: int, *, tail: bool = False) -> None:
        """A ring from this holding register on, see the peer's head."""
        await self.tell({"ring": {"at": at, "slots": slots, "size": 6, "tail": tail}})

    async def push(self, *entries: tuple[int, int]) -> int:
        """Write entries (code, value) into the ring. Returns how many so far."""
        asked = [{"code": code, "value": value} for code, value in entries]
        pushed: int = (await self.tell({"push": asked}))["pushed"]
        return pushed

    async def writes(self) -> list[dict[str, Any]]:
        """Every write that was asked for."""
        asked: list[dict[str, Any]] = (await self.tell({"writes": True}))["writes"]
        return asked

    async def requests(self) -> int:
        """Requests served since the start; a read of n bits counts as n."""
        number: int = (await self.tell({"stats": True}))["requests"]
        return number

    async def only(self, connections: int) -> None:
        """Allow so many connections at a time and drop every other one; 0 allows any number."""
        await self.tell({"only": connections})

    async def connections(self) -> tuple[int, int]:
        """(accepted, dropped) since the start."""
        found = await self.tell({"stats": True})
        return found["connections"], found["dropped"]

    async def tell(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line, f"{PROGRAM.name} ended"
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, answer
        return answer


def _find_module(name: str) -> None:
    if shutil.which("node") is None or not (PEERS / "node_modules" / name).is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"the Modbus peer {name} is missing: apt-get install nodejs npm && npm ci --prefix tests/peers"
        )


@asynccontextmanager
async def modbus_serial(folder: Path, port: int = 0) -> AsyncIterator[ModbusSerial]:
    peer = ModbusSerial(folder, port or free_port())
    try:
        await peer.start()
        yield peer
    finally:
        await peer.stop()


class Asked(NamedTuple):
    """A request as the hostile peer got it."""

    number: int
    """Counted from 0 over all connections."""
    transaction: int
    unit: int
    function: int
    start: int
    count: int

    def reply(self, **changes: int) -> bytes:
        """The right answer: register n holds n, bit n is n's lowest bit. Any part can be changed."""
        asked = self._replace(**changes)
        if asked.function in (1, 2):
            bits = sum((n & 1) << (n - asked.start) for n in range(asked.start, asked.start + asked.count))
            data = bits.to_bytes((asked.count + 7) // 8, "little")
        else:
            data = b"".join((n & 0xFFFF).to_bytes(2, "big") for n in range(asked.start, asked.start + asked.count))
        pdu = bytes([asked.function, len(data)]) + data
        return frame(asked.transaction, asked.unit, pdu)

    def exception(self, code: int) -> bytes:
        return frame(self.transaction, self.unit, bytes([self.function | 0x80, code]))


def frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    return transaction.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes([unit]) + pdu


CLOSE = b"close"
SILENCE = b""
Behaviour: TypeAlias = Callable[[Asked], bytes | tuple[float, bytes]]
"""An answer, `CLOSE` or `SILENCE`; or a pair of seconds and the answer that comes so late."""


@dataclass
class HostilePeer:
    """A Modbus server that answers as its behaviour says."""

    behave: Behaviour
    port: int = 0
    tls: ssl.SSLContext | None = None
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{'tls' if self.tls else 'tcp'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "HostilePeer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and drop every connection. Safe twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                asked = await self._next(reader)
                self.asked.append(asked)
                answer = self.behave(asked)
                late, answer = answer if isinstance(answer, tuple) else (0.0, answer)
                if answer == CLOSE:
                    break
                if late:
                    asyncio.get_running_loop().call_later(late, _write, writer, answer)
                else:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _next(self, reader: asyncio.StreamReader) -> Asked:
        header = await reader.readexactly(12)
        return Asked(len(self.asked), *struct.unpack(">H4xBBHH", header))


class HostileRtu(HostilePeer):
    """The same for RTU over TCP: answers are what `rtu` makes of those of Modbus TCP."""

    @property
    def url(self) -> str:
        return f"rtu+tcp://127.0.0.1:{self.port}"

    async def _next(self, reader: asyncio.StreamReader) -> Asked:
        message = await reader.readexactly(8)
        assert message == rtu(b"\0" * 6 + message[:-2])
        return Asked(len(self.asked), 0, *struct.unpack(">BBHH2x", message))


def rtu(tcp: bytes) -> bytes:
    """A frame of Modbus TCP as one of RTU."""
    return tcp[6:] + FramerRTU.compute_CRC(tcp[6:]).to_bytes(2, "big")


def _write(writer: asyncio.StreamWriter, answer: bytes) -> None:
    if not writer.is_closing():
        writer.write(answer)


def scripted(*answers: Behaviour) -> Behaviour:
    """A behaviour: the first answers one after the other, the last one for ever."""

    def behave(asked: Asked) -> bytes | tuple[float, bytes]:
        return answers[min(asked.number, len(answers) - 1)](asked)

    return behave


class Pty:
    """A serial port: `path` is what a program opens, `master` the other end of its cable."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)

    def url(self, **settings: object) -> str:
        return f"serial://{self.path}?" + "&".join(f"{name}={value}" for name, value in settings.items())

    def close(self) -> None:
        """Safe twice."""
        for end in (self.master, self._slave):
            with suppress(OSError):
                os.close(end)


@contextmanager
def pty_pair() -> Iterator[tuple[Pty, Pty]]:
    """Two serial ports with a cable between them."""
    loop = asyncio.get_running_loop()
    one, two = Pty(), Pty()
    loop.add_reader(one.master, lambda: os.write(two.master, os.read(one.master, 4096)))
    loop.add_reader(two.master, lambda: os.write(one.master, os.read(two.master, 4096)))
    try:
        yield one, two
    finally:
        for end in (one, two):
            loop.remove_reader(end.master)
            end.close()


@asynccontextmanager
async def serial_cable(port: int) -> AsyncIterator[Pty]:
    """A serial port at whose other end is a server of RTU over TCP."""
    loop = asyncio.get_running_loop()
    end = Pty()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def back() -> None:
        while data := await reader.read(4096):
            os.write(end.master, data)

    loop.add_reader(end.master, lambda: writer.write(os.read(end.master, 4096)))
    task = asyncio.create_task(back())
    try:
        yield end
    finally:
        loop.remove_reader(end.master)
        task.cancel()
        await asyncio.wait([task])
        writer.transport.abort()
        end.close()


@asynccontextmanager
async def libmodbus(folder: Path, port: str = "") -> AsyncIterator[int]:
    """The port of a server on libmodbus (see `peers/libmodbus/server.c`), compiled when it is first asked for; with
    `port` the unit 1 on that serial port, and 0 is yielded."""
    find_program("cc")
    find_program("pkg-config")
    flags = await _run("pkg-config", "--cflags", "--libs", "libmodbus")
    if flags is None:
        missing("libmodbus", "libmodbus-dev")
    program = folder / "libmodbus-server"
    assert await _run("cc", "-o", str(program), str(PEERS / "libmodbus" / "server.c"), *flags.split()) is not None
    async with _peer(str(program), *filter(None, [port])) as listening:
        yield listening


@asynccontextmanager
async def jsmodbus(*words: str) -> AsyncIterator[int]:
    """The port of a server on jsmodbus (see `peers/jsmodbus/server.js`); with the word `rtu` it is RTU over TCP."""
    _find_module("jsmodbus")
    async with _peer("node", str(PEERS / "jsmodbus" / "server.js"), str(free_port()), *words) as listening:
        yield listening


@asynccontextmanager
async def _peer(*command: str) -> AsyncIterator[int]:
    """What it says on its first line; it ends when its stdin is closed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            port = json.loads(await process.stdout.readline())["port"]
        yield port
    finally:
        process.stdin.close()
        await process.wait()


async def _run(*command: str) -> str | None:
    """What the command prints; None if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode == 0 else None
