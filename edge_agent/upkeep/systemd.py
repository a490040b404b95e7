"""The agent as a service of systemd: the unit's text, made from the configuration, and the commands around it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from config.load import Loaded
from config.yaml12 import Map, Node, Scalar, Seq

NAME = "edge-agent"
UNIT = Path("etc/systemd/system/edge-agent.service")
"""Below the root folder."""
CREDENTIALS = "/etc/edge-agent/credentials"
"""Folder of the files that systemd gives to the service, one for each `{credential: NAME}`."""


def unit(config: Path, loaded: Loaded, user: str) -> str:
    """The unit file. `config` is absolute. Exit codes 2, 77 and 78 mean that a person must mend something first."""
    folders = sorted({str(Path(loaded.config.buffer.path).parent), str(config.parent / "data")})
    command = (sys.executable, "-m", "edge_agent", "run", "--config", str(config))
    lines = [
        "[Unit]",
        "Description=edge-agent: PLC tags in, production events out",
        "After=network-online.target",
        "Wants=network-online.target",
        "",
        "[Service]",
        f"User={user}",
        f"ExecStart={' '.join(_word(word).replace('$', '$$') for word in command)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={str(config.parent).replace('%', '%%')}",
        *(f"LoadCredential={name}:{CREDENTIALS}/{name}" for name in credentials(loaded)),
        "Restart=always",
        "RestartSec=5",
        "RestartPreventExitStatus=2 77 78",
        "TimeoutStopSec=30",
        "ProtectSystem=strict",
        f"ReadWritePaths={' '.join(_word(f'-{folder}') for folder in folders)}",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _word(text: str) -> str:
    """One word of a list, as systemd.syntax(7) quotes it. It refuses programs with quotes or backslashes."""
    text = text.replace("%", "%%")
    if " " not in text:
        return text
    return f'"{text}"'


def credentials(loaded: Loaded) -> list[str]:
    """Names of the systemd credentials that the configuration asks for."""
    found = [name for part in loaded.parts.values() for name in _named(part)]
    return sorted(dict.fromkeys(found))


def _named(node: Node) -> Iterator[str]:
    if isinstance(node, Map):
        for key, value in node:
            if key.value == "credential" and isinstance(value, Scalar):
                yield value.raw
            yield from _named(value)
    elif isinstance(node, Seq):
        for item in node.items:
            yield from _named(item)


def after_install() -> Sequence[Sequence[str]]:
    return (("systemctl", "daemon-reload"), ("systemctl", "enable", NAME))


def after_uninstall() -> Sequence[Sequence[str]]:
    return (("systemctl", "daemon-reload"),)
