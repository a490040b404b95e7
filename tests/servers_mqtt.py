"""mosquitto as a real process, and a subscriber that writes down everything it receives.

async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
    ...
    await sink.wait_for(10)
"""

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.programs import find_program
from tests.waiting import free_port, until


@dataclass
class Mosquitto:
    """One broker on one port for its whole life, however often it is stopped and started."""

    folder: Path
    port: int
    lines: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        path = self.folder / "mosquitto.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Return when it accepts connections."""
        assert not self.running
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self.lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = _spawn([find_program("mosquitto"), "-c", str(config)], log)
        try:
            async with asyncio.timeout(10):
                while not await self._listens():
                    assert self.running, f"mosquitto ended:\n{self.log}"
        except TimeoutError:
            raise AssertionError(f"mosquitto does not listen:\n{self.log}") from None

    async def stop(self) -> None:
        """SIGTERM: connections are closed, a persistent store is written."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9: nothing is written, nobody is told."""
        await self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It stays connected and says nothing any more, until `resume`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP: password and access files are read again."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGHUP)

    async def _end(self, with_signal: signal.Signals) -> None:
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            os.kill(process.pid, with_signal)
        await until(lambda: process.poll() is not None, what="mosquitto ends")
        self.process = None

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            await asyncio.sleep(0.01)  # noqa: TID251 - another process is polled
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True


def _spawn(command: Sequence[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    """A plain process: it must outlive no event loop and be waited for without one."""
    return subprocess.Popen(command, stdout=log, stderr=log)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@asynccontextmanager
async def mosquitto(
    folder: Path,
    *,
    port: int | None = None,
    started: bool = True,
    users: Mapping[str, str] | None = None,
    acl: Sequence[str] | None = None,
    tls: tuple[Path, Path, Path] | None = None,
    client_certificates: bool = False,
    persistence: bool = False,
    receive_maximum: int | None = None,
    extra: Sequence[str] = (),
) -> AsyncIterator[Mosquitto]:
    """A broker on 127.0.0.1.

    `users`: passwords by name, no anonymous login then. `acl`: lines of an access file. `tls`: CA, certificate
    and key file; with `client_certificates` clients need one of that CA. `persistence`: a clean stop keeps
    sessions and retained messages. `receive_maximum`: what it grants to publishers on MQTT 5.
    `extra`: further lines of its configuration.
    """
    folder = folder / f"mosquitto-{free_port()}"
    folder.mkdir()
    port = port or free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        "user root",
        f"allow_anonymous {str(users is None).lower()}",
        f"persistence {str(persistence).lower()}",
        f"persistence_location {folder}/",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "log_type error",
        "log_type warning",
        "log_type notice",
        *extra,
    ]
    if receive_maximum is not None:
        lines.append(f"max_inflight_messages {receive_maximum}")
    if users is not None:
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for name, password in users.items():
            await asyncio.to_thread(_run, [find_program("mosquitto_passwd"), "-b", str(passwords), name, password])
        lines.append(f"password_file {passwords}")
    if acl is not None:
        access = folder / "acl"
        access.write_text("\n".join(acl) + "\n")
        access.chmod(0o600)
        lines.append(f"acl_file {access}")
    if tls is not None:
        ca_file, cert_file, key_file = tls
        lines += [f"cafile {ca_file}", f"certfile {cert_file}", f"keyfile {key_file}"]
        lines.append(f"require_certificate {str(client_certificates).lower()}")
    broker = Mosquitto(folder, port, lines)
    if started:
        await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


class Received(NamedTuple):
    """One message as it came. `at` is the monotonic time of the event loop in seconds."""

    topic: str
    payload: bytes
    retained: bool
    at: float
    content_type: str | None
    user: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Sink:
    """Subscribes at QoS 1 and records. Comes back within milliseconds after the broker was away.

    With `session` it has a persistent session: a broker that keeps its store misses nothing for it.
    """

    def __init__(
        self,
        port: int,
        filter: str = "#",
        *,
        session: str | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.messages: list[Received] = []
        self._port = port
        self._filter = filter
        self._session = session
        self._login = (username, password)
        self._changed = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()
        await self.subscribed()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        await asyncio.to_thread(self._thread.join, 5)

    async def subscribed(self, limit: float = 10) -> None:
        async with asyncio.timeout(limit):
            await self._subscribed.wait()

    async def wait_for(
        self, condition: int | Callable[[Sequence[Received]], object], limit: float = 10
    ) -> list[Received]:
        """Wait for so many messages, or until the condition over all messages holds."""
        enough = (lambda messages: len(messages) >= condition) if isinstance(condition, int) else condition
        try:
            async with asyncio.timeout(limit):
                while not enough(self.messages):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            last = [(m.topic, m.payload[:120]) for m in self.messages[-3:]]
            raise AssertionError(f"not within {limit:g} s; {len(self.messages)} messages, last {last}") from None
        return list(self.messages)

    def taken(self) -> list[Received]:
        """What has come since the last call; the sink forgets it."""
        count = len(self.messages)
        new = self.messages[:count]
        del self.messages[:count]
        return new

    def on(self, part: str) -> list[Received]:
        """Messages whose topic contains `part`, e.g. `/evt/` or `/cur/state`."""
        return [message for message in list(self.messages) if part in message.topic]

    def events(self) -> list[dict[str, Any]]:
        """What a consumer that drops equal (source, id) holds, in the order of first arrival."""
        seen: dict[tuple[str, str], dict[str, Any]] = {}
        for message in self.on("/evt/"):
            event = message.json
            seen.setdefault((event["source"], event["id"]), event)
        return list(seen.values())

    def disorder(self) -> list[str]:
        """Where a first arrival came after one with a higher sequence number of its stream."""
        last: dict[tuple[str, str], int] = {}
        wrong = []
        for event in self.events():
            stream, number = (event["source"], event["epoch"]), int(event["sequence"])
            if number < last.get(stream, 0):
                wrong.append(f"{stream[0]}: {number} after {last[stream]}")
            last[stream] = max(number, last.get(stream, 0))
        return wrong

    def holes(self) -> list[str]:
        """Sequence numbers from 1 to the highest that never came, by stream."""
        numbers: dict[tuple[str, str], set[int]] = {}
        for event in self.events():
            numbers.setdefault((event["source"], event["epoch"]), set()).add(int(event["sequence"]))
        return [
            f"{stream[0]}: {sorted(missing)[:10]}"
            for stream, got in numbers.items()
            if (missing := set(range(1, max(got) + 1)) - got)
        ]

    def _run(self) -> None:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._session or "",
            protocol=MQTTv5,
            reconnect_on_failure=False,
        )
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._tell(self._subscribed.set)
        client.on_message = self._on_message
        client.on_socket_register_write = lambda *_: None
        if self._login[0] is not None:
            client.username_pw_set(*self._login)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if self._session else 0
        properties.ReceiveMaximum = 65535
        while not self._stop.is_set():
            with suppress(OSError):
                client.connect("127.0.0.1", self._port, 60, clean_start=self._session is None, properties=properties)
                while not self._stop.is_set() and client.loop(0.1) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                    pass
            self._tell(self._subscribed.clear)
            if not self._stop.is_set():
                self._stop.wait(0.01)
        client.disconnect()
        with suppress(OSError):
            client.loop(0.1)
            client.loop(0.1)

    def _on_connect(self, client: Client, *_: object) -> None:
        client.subscribe(self._filter, qos=1)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        properties = message.properties
        received = Received(
            message.topic,
            bytes(message.payload),
            message.retain,
            self._loop.time(),
            getattr(properties, "ContentType", None),
            dict(getattr(properties, "UserProperty", [])),
        )
        self.messages.append(received)
        self._tell(self._changed.set)

    def _tell(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the test is over
            self._loop.call_soon_threadsafe(what)
