"""Is this PC fit to run the agent? Looks and changes nothing; each finding says what to do.

`ok` is fine, `warning` is worth a look, `problem` needs a person. What only the running agent can know (devices,
broker) is asked of it; without one the broker is looked at from here, without a login, so that no session is taken
over.
"""

import os
import shutil
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel

from config.errors import Problem
from config.load import Loaded
from config.model import Secret
from config.secrets import resolve
from config.units import size_text
from edge_agent.clock import EARLIEST, Clock
from edge_agent.delivery.refusals import unreachable
from edge_agent.time_server import is_synchronised

NEEDED = 1 << 30
"""Bytes on the disk of the buffer that should be free at least."""
SOON = 30
"""Days before a certificate ends that it is worth a warning."""
REACH_TIME = 4.0
"""Seconds for the broker to answer."""


class Finding(NamedTuple):
    what: str
    state: Literal["ok", "warning", "problem"]
    text: str
    fix: str = ""


def examine(
    loaded: Loaded, status: Mapping[str, Any] | None, wrong: Sequence[str], clock: Clock
) -> Iterator[Finding]:
    """`status`: that of the running agent, None if none runs; `wrong`: what of it needs a person."""
    yield from _clock(clock)
    yield from _sqlite()
    yield from _disk(loaded)
    yield from _permissions(loaded)
    yield from secrets(loaded)
    yield from certificates(loaded, clock)
    yield from _agent(loaded, status, wrong)
    yield from _broker(loaded, status)


def _clock(clock: Clock) -> Iterator[Finding]:
    now = clock.now().wall
    if now < EARLIEST:
        yield Finding("clock", "problem", "the clock of this PC is years behind", "set it, or give it a time server")
        return
    synchronised = is_synchronised()
    if synchronised is None:
        yield Finding("clock", "ok", "plausible; this system does not say whether it is synchronised")
    elif synchronised:
        yield Finding("clock", "ok", "synchronised with a time server")
    else:
        fix = "give it a time server (chrony, systemd-timesyncd): times of events are only as good as it is"
        yield Finding("clock", "warning", "plausible, but not synchronised with a time server", fix)


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < (3, 35):
        yield Finding("sqlite", "problem", f"SQLite {version} is too old", "install Python with SQLite 3.35 or newer")
    else:
        yield Finding("sqlite", "ok", f"SQLite {version}")


def _disk(loaded: Loaded) -> Iterator[Finding]:
    folder = _existing(Path(loaded.config.buffer.path).parent)
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < min(NEEDED, loaded.config.buffer.max_size):
        fix = "make room: when it is full the oldest measurements go first, and then production"
        yield Finding("disk", "problem", text, fix)
    elif free < loaded.config.buffer.max_size:
        wanted = size_text(loaded.config.buffer.max_size)
        yield Finding("disk", "warning", f"{text}, and buffer.max_size is {wanted}", "make room or lower max_size")
    else:
        yield Finding("disk", "ok", text)


def _permissions(loaded: Loaded) -> Iterator[Finding]:
    buffer = Path(loaded.config.buffer.path)
    place = buffer if buffer.exists() else _existing(buffer.parent)
    if os.access(place, os.W_OK):
        yield Finding("permissions", "ok", f"{place} can be written")
    else:
        yield Finding("permissions", "problem", f"{place} cannot be written by this user", "run as the agent's user")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def secrets(loaded: Loaded) -> Iterator[Finding]:
    """Whether each can be read."""
    sound = True
    for name, secret in _kept(loaded.config):
        try:
            resolve(secret, base_dir=loaded.base_dir)
        except Problem as problem:
            sound = False
            mild = secret.credential is not None and "CREDENTIALS_DIRECTORY" not in os.environ
            yield Finding("secrets", "warning" if mild else "problem", f"{name}: {problem.what}", problem.fix)
    if sound:
        yield Finding("secrets", "ok", "every secret can be read")


def _kept(part: object, path: str = "") -> Iterator[tuple[str, Secret]]:
    """Every secret of the configuration that is kept elsewhere, with its dotted path."""
    if isinstance(part, Secret):
        yield path, part
    elif isinstance(part, BaseModel | Mapping):
        for name, value in part.items() if isinstance(part, Mapping) else part:
            yield from _kept(value, f"{path}.{name}" if path else str(name))


def certificates(loaded: Loaded, clock: Clock) -> Iterator[Finding]:
    """Files of certificates, and what servers showed that nobody trusts yet."""
    mqtt = loaded.config.mqtt
    found = False
    files = [(name, path) for name in ("ca_file", "cert_file") if (path := getattr(mqtt, name)) is not None]
    for name, path in files:
        found = True
        yield _certificate(f"mqtt.{name}", Path(path), clock)
    for folder in sorted({str(pki) for pki in pki_folders(loaded)}):
        file = Path(folder) / "own" / "cert.der"
        if file.exists():
            found = True
            yield _certificate("OPC UA", file, clock)
        rejected = [each for each in Path(folder, "rejected").glob("*") if each.is_file()]
        if rejected:
            text = f"{len(rejected)} server certificates in {folder}/rejected are not trusted"
            yield Finding("certificates", "warning", text, "edge-agent cert show, then edge-agent cert trust FILE")
    if not found:
        yield Finding("certificates", "ok", "none are used yet")


def pki_folders(loaded: Loaded) -> list[Path]:
    """Where OPC UA devices keep certificates."""
    found = []
    for device in loaded.config.devices.values():
        security = getattr(device, "security", None)
        if security is not None and not isinstance(security, str):
            found.append(Path(security.pki))
    return list(dict.fromkeys(found))


def _certificate(what: str, file: Path, clock: Clock) -> Finding:
    from cryptography import x509

    try:
        data = file.read_bytes()
        load = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
        certificate = load(data)
    except OSError as error:
        fix = "put it there; paths count from the folder of the file"
        return Finding("certificates", "problem", f"{what}: {file}: {error.strerror}", fix)
    except ValueError:
        return Finding(
            "certificates", "problem", f"{what}: {file} is no certificate", "ask for it again, as PEM or DER"
        )
    until = certificate.not_valid_after_utc
    days = (round(until.timestamp() * 1e6) - clock.now().wall) // 86_400_000_000
    said = f"{what}: {file.name} is valid until {until:%Y-%m-%d}"
    if days < 0:
        return Finding("certificates", "problem", f"{what}: {file.name} ended on {until:%Y-%m-%d}", "renew it")
    return Finding("certificates", "warning" if days < SOON else "ok", said, "renew it" if days < SOON else "")


def _agent(loaded: Loaded, status: Mapping[str, Any] | None, wrong: Sequence[str]) -> Iterator[Finding]:
    if status is None:
        yield Finding("agent", "warning", "no agent runs with this configuration", "edge-agent run, or service start")
        return
    if status["agent"]["config_hash"] != loaded.hash:
        text = "the file was changed since the agent read it"
        yield Finding("drift", "warning", text, "edge-agent config diff, then edge-agent reload")
    else:
        yield Finding("drift", "ok", "the agent runs with the file as it is")
    others = [text for text in wrong if "the broker is" not in text]  # that has a finding of its own
    for text in others:
        yield Finding("agent", "problem", text, "edge-agent status")
    if not others:
        yield Finding("agent", "ok", f"runs as process {status['agent']['pid']}")


def _broker(loaded: Loaded, status: Mapping[str, Any] | None) -> Iterator[Finding]:
    url = loaded.config.mqtt.url
    if status is not None:
        broker = status["broker"]
        if broker["status"] == "UP":
            yield Finding("broker", "ok", f"{url} is connected, {broker['confirmed']} events confirmed")
        else:
            code = f"{broker['code']} " if broker["code"] else ""
            text = f"{url} is {broker['status']}: {code}{broker['message'] or 'no answer yet'}"
            fix = f"edge-agent explain {broker['code']}" if broker["code"] else ""
            yield Finding("broker", "problem", text, fix)
        return
    parts = urlsplit(url)
    secure = parts.scheme == "mqtts"
    problem = _reaches(parts.hostname or "", parts.port or (8883 if secure else 1883), secure, loaded)
    if problem is None:
        yield Finding("broker", "ok", f"{url} answers; the login is tried by the agent")
    else:
        yield problem


def _reaches(host: str, port: int, secure: bool, loaded: Loaded) -> Finding | None:
    try:
        with socket.create_connection((host, port), REACH_TIME) as plain:
            if secure:
                with ssl.create_default_context(cafile=loaded.config.mqtt.ca_file).wrap_socket(
                    plain, server_hostname=host
                ):
                    pass
    except FileNotFoundError:
        return None  # said under certificates
    except OSError as error:
        refused = unreachable(error, ca_file=loaded.config.mqtt.ca_file, broker=f"{host}:{port}")
        return Finding("broker", "problem", f"{refused.code} {refused}", f"edge-agent explain {refused.code}")
    return None
