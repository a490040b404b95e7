"""Where the broker is and as whom to connect to it, from `mqtt:`; a new TLS context for each connection."""

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from config.model import Mqtt
from edge_agent.delivery.refusals import unusable_files


class Login(NamedTuple):
    """Where to connect and as whom. `keepalive` and `limit` are seconds."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    ca_file: str | None
    v5: bool
    keepalive: int
    limit: float

    @property
    def broker(self) -> str:
        return f"{self.host}:{self.port}"


def login(options: Mqtt, *, client_id: str, password: str | None, home: Path) -> Login:
    """`password` is the resolved secret, `home` the folder that relative file names start from. Raises
    `NotConnected` if a file of `mqtt:` cannot be used."""
    url = urlsplit(options.url)
    secure = url.scheme == "mqtts"
    return Login(
        host=url.hostname or "127.0.0.1",
        port=url.port or (8883 if secure else 1883),
        client_id=client_id,
        username=options.username,
        password=password,
        tls=_tls(options, home) if secure else None,
        ca_file=options.ca_file,
        v5=options.protocol == "5",
        keepalive=max(1, round(options.keepalive / 1e6)),
        limit=options.timeout / 1e6,
    )


def _tls(options: Mqtt, home: Path) -> ssl.SSLContext:
    named = {
        "mqtt.ca_file": options.ca_file,
        "mqtt.cert_file": options.cert_file,
        "mqtt.key_file": options.key_file,
    }
    files = ", ".join(f"{key} ({name})" for key, name in named.items() if name)

    def path(name: str | None) -> Path | None:
        return None if name is None else home / name

    try:
        context = ssl.create_default_context(cafile=path(options.ca_file))
        if options.cert_file is not None:
            context.load_cert_chain(home / options.cert_file, path(options.key_file))
    except OSError as error:  # ssl.SSLError is one
        raise unusable_files(error, files=files) from error
    return context
