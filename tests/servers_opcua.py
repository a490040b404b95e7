"""OPC UA servers for tests: a press by node-opcua as a process, one by asyncua in this process, a cable between
that can be cut, and things that listen and are no OPC UA server.

async with node_opcua(tmp_path) as press:
    await press.set("Status", 2)
    await press.count("Total", rate=50)
"""

import asyncio
import ipaddress
import json
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.waiting import free_port, until

T = TypeVar("T")

NAMESPACE = "urn:acme:press"
PEERS = Path(__file__).parent / "peers"
PROGRAM = PEERS / "node-opcua" / "server.js"


def make_certificate(
    folder: Path,
    name: str,
    uri: str,
    *,
    issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = None,
    ca: bool = False,
    host: str = "127.0.0.1",
    common_name: str = "",
    until: datetime = datetime(2048, 1, 1, tzinfo=UTC),
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """`name.pem`, `name.der` and `name.key` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
    signer = key if issuer is None else issuer[1]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(uri), x509.IPAddress(ipaddress.ip_address(host))]
            ),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(True, True, True, True, False, True, ca, False, False),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key


@dataclass
class NodeOpcua:
    """A press served by node-opcua, on one port for its whole life however often it is stopped.

    A stopped press forgets its values. What it did is in the truth log, over all its lives.
    """

    folder: Path
    port: int
    settings: dict[str, Any]
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """What a client that uses security has to trust."""
        return self.folder / "pki" / "press.der"

    @property
    def truth_log(self) -> Path:
        """JSON lines: at (µs UTC), node, value, and total for a counter."""
        return self.folder / "opcua-truth.jsonl"

    def truth(self) -> list[dict[str, Any]]:
        path = self.truth_log
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Return when it can be connected to."""
        assert self._process is None
        if shutil.which("node") is None or not (PEERS / "node_modules" / "node-opcua").is_dir():
            (pytest.fail if os.environ.get("CI") else pytest.skip)(
                "the OPC UA peer is missing: apt-get install nodejs npm && npm ci --prefix tests/peers"
            )
        if not self.certificate.exists():
            await asyncio.to_thread(make_certificate, self.folder / "pki", "press", "urn:acme:press-server")
        self._process = await asyncio.create_subprocess_exec(
            "node",
            str(PROGRAM),
            str(self.truth_log),
            str(self.folder / "pki"),
            str(self.port),
            json.dumps(self.settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self._answer()

    async def stop(self) -> None:
        """End the process by its pid, as if the PLC lost power. Safe twice."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    def freeze(self) -> None:
        """The process stands still: connections stay, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def set(self, node: str, value: Any, **more: Any) -> None:
        """`status`: name of a status code. `time`: source time in ms of UTC."""
        await self.tell("set", node=node, value=value, **more)

    async def count(self, node: str, *, rate: float) -> int:
        """Count up by one, `rate` times a second; 0 stops. Returns how often it has counted so far."""
        total: int = (await self.tell("count", node=node, rate=rate))["total"]
        return total

    async def quiet(self) -> dict[str, int]:
        """Stop every counter. Returns how often each has counted, by node."""
        totals: dict[str, int] = (await self.tell("quiet"))["totals"]
        return totals

    async def tell(self, cmd: str, **parameters: Any) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cmd": cmd, **parameters}).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            async for line in self._process.stdout:
                if line.startswith(b"{"):  # node-opcua says things of its own
                    answer: dict[str, Any] = json.loads(line)
                    assert answer.get("ok", answer.get("ready")), answer
                    return answer
        raise AssertionError("the press ended")


@asynccontextmanager
async def node_opcua(folder: Path, port: int = 0, **settings: Any) -> AsyncIterator[NodeOpcua]:
    """Settings: see `tests/peers/node-opcua/server.js`. The certificate is kept in the folder: make it once."""
    press = NodeOpcua(folder, port or free_port(), settings)
    try:
        await press.start()
        yield press
    finally:
        await press.stop()


class AsyncuaPress:
    """A press in this process and loop, by asyncua: fast to start, for what needs no independent server."""

    def __init__(self, server: Any, folder: Any, index: int, url: str) -> None:
        self.server, self._folder, self._index, self.url = server, folder, index, url
        self.nodes: dict[str, Any] = {}

    async def add(self, name: str, value: Any, kind: Any = None) -> None:
        """A node `nsu=urn:acme:press;s=<name>`."""
        from asyncua import ua

        node = ua.NodeId(name, self._index)
        self.nodes[name] = await self._folder.add_variable(node, name, value, kind)

    async def set(self, name: str, value: Any) -> None:
        """A value, or a `ua.DataValue`."""
        await self.nodes[name].write_value(value)

    async def remove(self, name: str) -> None:
        await self.nodes.pop(name).delete()


@asynccontextmanager
async def asyncua_press(port: int = 0, *, namespaces: int = 0) -> AsyncIterator[AsyncuaPress]:
    """Nodes Status (Int16), Total (UInt16), Order (String) and Tonnage (Float); anonymous, no security."""
    from asyncua import Server, ua

    from edge_agent.demo.press import _QuickServer  # a whole address space takes seconds

    port = port or free_port()
    server = Server(iserver=_QuickServer())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for index in range(namespaces):
        await server.register_namespace(f"urn:acme:other-{index}")
    index = await server.register_namespace(NAMESPACE)
    folder = await server.nodes.objects.add_folder(index, "Press")
    press = AsyncuaPress(server, folder, index, f"opc.tcp://127.0.0.1:{port}")
    await press.add("Status", 1, ua.VariantType.Int16)
    await press.add("Total", 0, ua.VariantType.UInt16)
    await press.add("Order", "", ua.VariantType.String)
    await press.add("Tonnage", 0.0, ua.VariantType.Float)
    await server.start()
    try:
        yield press
    finally:
        await server.stop()
        assert server.bserver is not None
        await until(lambda: not server.bserver.clients)


@asynccontextmanager
async def stranger(greeting: bytes | None) -> AsyncIterator[str]:
    """Something that listens and is no OPC UA server. Yields its URL.

    It answers the first bytes with `greeting` and is silent from then on: a black hole with b"". None: it hangs up.
    """
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            await reader.read(65536)
            if greeting is not None:
                writer.write(greeting)
                while await reader.read(65536):
                    pass
        except (OSError, asyncio.CancelledError):
            pass  # the connection ends below
        finally:
            writer.transport.abort()
            busy.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        left = list(busy)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@dataclass
class Cable:
    """A TCP relay. `cut` ends every connection and refuses new ones; `stall` keeps them and carries nothing."""

    to: int
    port: int = 0
    carried: int = 0
    """Connections so far."""
    _server: asyncio.Server | None = None
    _flows: set[asyncio.Task[None]] = field(default_factory=set)
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def plug(self) -> None:
        self._free.set()
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stall(self) -> None:
        self._free.clear()

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await _turns()  # a connection accepted just now becomes a flow, or nobody would close it
        flows = list(self._flows)
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried += 1
        task = asyncio.current_task()
        assert task is not None
        self._flows.add(task)
        ends, flows = [writer], []
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.to)
            ends.append(far)
            flows = [
                asyncio.create_task(self._flow(reader, far)),
                asyncio.create_task(self._flow(far_reader, writer)),
            ]
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the connections end below
        finally:
            for end in ends:  # first, for a second cancel may come while the flows are awaited
                end.transport.abort()
            self._flows.discard(task)
            for flow in flows:
                flow.cancel()
            await asyncio.gather(*flows, return_exceptions=True)

    async def _flow(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._free.wait()
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def cable(to: int) -> AsyncIterator[Cable]:
    """A relay to a local port."""
    relay = Cable(to)
    await relay.plug()
    try:
        yield relay
    finally:
        await relay.cut()


async def _turns() -> None:
    """A few turns of the loop: what was called soon has been called."""
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251 - no time passes


class Elsewhere:
    """An event loop in a thread of its own, for a server that must not share the loop of the test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="elsewhere")

    def __enter__(self) -> "Elsewhere":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(_turns(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine there and wait for it here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    @asynccontextmanager
    async def enter(self, manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """The manager's block, entered and left there."""
        found = await self.run(manager.__aenter__())
        try:
            yield found
        finally:
            await self.run(manager.__aexit__(None, None, None))


def publish_response(*values: Any, sequence: int = 1, status: int | None = None) -> bytes:
    """A PublishResponse of subscription 7 with one item per `ua.DataValue`, client handles counting from 1; without
    any a keep-alive; with a status the end of the subscription."""
    from asyncua import ua
    from asyncua.ua.ua_binary import struct_to_binary

    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = 7
    answer.Parameters.AvailableSequenceNumbers = [1, 2]
    message = answer.Parameters.NotificationMessage
    _fill(message, values, sequence)
    if status is not None:
        message.NotificationData = [ua.StatusChangeNotification(Status=ua.StatusCode(status))]
    return struct_to_binary(answer)


def republish_response(*values: Any, sequence: int = 1) -> bytes:
    """A RepublishResponse with one item per `ua.DataValue`, as in `publish_response`."""
    from asyncua import ua
    from asyncua.ua.ua_binary import struct_to_binary

    answer = ua.RepublishResponse()
    _fill(answer.NotificationMessage, values, sequence)
    return struct_to_binary(answer)


def _fill(message: Any, values: Sequence[Any], sequence: int) -> None:
    from asyncua import ua

    message.SequenceNumber = sequence
    if values:
        change = ua.DataChangeNotification()
        change.MonitoredItems = [
            ua.MonitoredItemNotification(handle, value) for handle, value in enumerate(values, 1)
        ]
        message.NotificationData = [change]
