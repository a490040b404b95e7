"""OPC UA servers to test against: a press by node-opcua as a process, one by asyncua in this process, and a server
that accepts a connection and never answers.

The node-opcua press writes the truth log; see `tests/peers/node-opcua/server.js` for its commands.
"""

import asyncio
import ipaddress
import json
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMESPACE = "urn:acme:press"
_SERVER = Path(__file__).parent / "peers" / "node-opcua" / "server.js"
_PACKAGES = Path(__file__).parent / "peers" / "node_modules" / "node-opcua"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def node_opcua_is_missing() -> str:
    """Why the node-opcua press cannot run here; empty if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    return "" if _PACKAGES.is_dir() else "the packages of tests/peers are not installed"


def make_certificate(
    folder: Path,
    name: str,
    uri: str,
    *,
    issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None = None,
    ca: bool = False,
    host: str = "127.0.0.1",
    until: datetime = datetime(2048, 1, 1, tzinfo=UTC),
) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """`name.pem`, `name.der` and `name.key` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
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


class NodeOpcuaPress:
    """A press served by node-opcua. A context manager; its methods may be called from anywhere.

    `pki` must hold `press.pem` and `press.key` (see `make_certificate`); it can be shared by presses that do not
    run at the same time. `truth` is the log of what its nodes did.
    """

    def __init__(
        self,
        pki: Path,
        *,
        port: int = 0,
        truth: Path | None = None,
        doubles: int = 0,
        users: dict[str, str] | None = None,
        namespaces: int = 0,
        max_sessions: int = 20,
        trust_all: bool = True,
    ) -> None:
        self.port = port or free_port()
        self.url = f"opc.tcp://127.0.0.1:{self.port}"
        self.truth = truth
        self.certificate = pki / "press.der"
        self._environment = {
            "PORT": str(self.port),
            "PKI": str(pki),
            "DOUBLES": str(doubles),
            "USERS": ",".join(f"{name}:{password}" for name, password in (users or {}).items()),
            "NAMESPACES": str(namespaces),
            "MAX_SESSIONS": str(max_sessions),
            "TRUST_ALL": str(int(trust_all)),
        } | ({} if truth is None else {"TRUTH": str(truth)})
        self._process: Popen[str] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, limit: float = 30.0) -> "NodeOpcuaPress":
        """Returns when it can be connected to."""
        self._process = Popen(
            ["node", str(_SERVER)],
            env=os.environ | self._environment,
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )
        watchdog = threading.Timer(limit, self.kill)
        watchdog.start()
        try:
            self._answer()
        finally:
            watchdog.cancel()
            watchdog.join()
        return self

    def kill(self) -> None:
        """Ends it at once, without a word to its clients."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()

    def command(self, cmd: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its answer. Blocks."""
        with self._lock:
            process = self._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(json.dumps({"cmd": cmd, **parameters}) + "\n")
            process.stdin.flush()
            return self._answer()

    def set(self, node: str, value: Any, **parameters: Any) -> None:
        self.command("set", node=node, value=value, **parameters)

    def log(self) -> list[dict[str, Any]]:
        """What its nodes did so far: `{t, node, value}`, t in µs of UTC."""
        assert self.truth is not None
        return [json.loads(line) for line in self.truth.read_text().splitlines()]

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # node-opcua prints warnings of its own
                answer: dict[str, Any] = json.loads(line)
                assert answer.get("ok", answer.get("ready")), answer
                return answer
        raise AssertionError(f"the press ended with {self._process.wait()}")

    def __enter__(self) -> "NodeOpcuaPress":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


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

    port = port or free_port()
    server = Server()
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


@asynccontextmanager
async def black_hole() -> AsyncIterator[str]:
    """Accepts connections, reads, never answers. Yields its URL."""
    held: set[asyncio.StreamWriter] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        try:
            while await reader.read(65536):
                pass
        finally:
            writer.close()
            held.discard(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.close()
        await server.wait_closed()
