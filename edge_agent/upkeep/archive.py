"""Backup and restore, with the identity kept apart so that a clone is not a twin.

A backup is a zip: `manifest.json`, under `config/` the configuration with the files it includes and the certificates
that it trusts, under `identity/` what only one agent may be: its OPC UA certificate and key, and, when it moves, its
buffer with the numbers of its events. Secrets kept in files of their own are not in it.

Three ways back. *The same agent* takes the identity along. *A clone* gets another agent id and nothing of the
identity: it makes its own certificate and begins its own numbers. *A move* takes the buffer too, and leaves it
retired where it was: two agents can never go on with the same numbers.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from config import yaml12
from config.load import Loaded
from config.source import Source
from config.yaml12 import Map, Scalar
from edge_agent.upkeep.doctor import pki_folders

FORMAT = 1
_BUFFER = ("", "-wal", ".mark")
"""Ends of the names of the buffer's files."""


class Unusable(Exception):
    """Says why this cannot be restored."""


class Entry(NamedTuple):
    """A file of the backup: its name in it, and where it is. `outside`: it does not lie in the configuration's
    folder, and goes back to the very place that it has now."""

    name: str
    file: Path
    outside: bool


def entries(loaded: Loaded, *, move: bool) -> Iterator[Entry]:
    """What belongs into the backup."""
    home = loaded.base_dir
    for source in loaded.sources:
        yield _entry("config", home, home / os.path.relpath(source.file, Path(loaded.file).parent))
    mqtt = loaded.config.mqtt
    for kind, written in (("config", mqtt.ca_file), ("identity", mqtt.cert_file), ("identity", mqtt.key_file)):
        if written is not None and Path(written).is_file():
            yield _entry(kind, home, Path(written))
    for pki in pki_folders(loaded):
        for kind, folder in (("config", "trusted"), ("identity", "own")):
            for file in sorted((pki / folder).glob("*")):
                yield _entry(kind, home, file)
    if move:
        buffer = Path(loaded.config.buffer.path)
        for end in _BUFFER:
            file = buffer.with_name(buffer.name + end)
            if file.exists():
                yield _entry("identity", home, file)


def _entry(kind: str, home: Path, file: Path) -> Entry:
    where = file.resolve()
    if where.is_relative_to(home.resolve()):
        return Entry(f"{kind}/{where.relative_to(home.resolve()).as_posix()}", file, outside=False)
    return Entry(f"{kind}/outside/{where.relative_to(where.anchor).as_posix()}", where, outside=True)


def write(target: Path, loaded: Loaded, found: list[Entry], *, version: str, move: bool, force: bool) -> None:
    """Raises FileExistsError, and OSError. The file can be read by its owner alone: there are keys in it."""
    manifest = {
        "format": FORMAT,
        "version": version,
        "agent_id": loaded.config.agent.id,
        "config": Path(loaded.file).name,
        "config_hash": loaded.hash,
        "move": move,
        "files": [entry.name for entry in found],
        "outside": {entry.name: str(entry.file) for entry in found if entry.outside},
    }
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    with (
        os.fdopen(os.open(target, flags, 0o600), "wb") as out,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zip_,
    ):
        zip_.writestr("manifest.json", json.dumps(manifest, indent=2))
        for entry in found:
            zip_.write(entry.file, entry.name)


def retire(loaded: Loaded, stamp: str) -> Path | None:
    """Rename the buffer that moves away: whoever runs here again begins a new one. None if there is none."""
    buffer = Path(loaded.config.buffer.path)
    if not buffer.exists():
        return None
    retired = buffer.with_name(f"{buffer.name}.moved-{stamp}")
    for end in _BUFFER:
        file = buffer.with_name(buffer.name + end)
        if file.exists():
            file.rename(retired.with_name(retired.name + end))
    return retired


_MANIFEST: Final = {"agent_id": str, "config": str, "move": bool, "files": list, "outside": dict}


def read_manifest(backup: Path) -> dict[str, Any]:
    """Raises `Unusable`, and OSError."""
    try:
        with zipfile.ZipFile(backup) as zip_:
            manifest = json.loads(zip_.read("manifest.json"))
            names = set(zip_.namelist())
            broken = zip_.testzip()
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise Unusable(f"{backup} is no backup of edge-agent ({error})") from None
    if not isinstance(manifest, dict):
        raise Unusable(f"{backup} is no backup of edge-agent (its manifest is no object)")
    if manifest.get("format") != FORMAT:
        raise Unusable(f"{backup} was written by a newer version ({manifest.get('version')})")
    wrong = [key for key, kind in _MANIFEST.items() if not isinstance(manifest.get(key), kind)]
    if not wrong and not all(isinstance(name, str) for name in (*manifest["files"], *manifest["outside"].values())):
        wrong = ["list of files"]
    if wrong:
        raise Unusable(f"{backup} is no backup of edge-agent (its manifest has no valid {wrong[0]})")
    missing = [name for name in manifest["files"] if name not in names]
    if broken or missing:
        raise Unusable(f"{backup} is damaged: {broken or missing[0]}")
    return manifest


def restore(backup: Path, manifest: Mapping[str, Any], home: Path, *, clone: str | None, force: bool) -> list[Path]:
    """The files written below `home`. Raises FileExistsError before anything is written, `Unusable` and OSError."""
    wanted = [name for name in manifest["files"] if name.startswith("config/") or clone is None]
    targets = {name: _target(home, name, manifest["outside"]) for name in wanted}
    for target in targets.values():
        if target.exists() and not force:
            raise FileExistsError(17, "is there already", str(target))
    with zipfile.ZipFile(backup) as zip_:
        for name, target in targets.items():
            data = zip_.read(name)
            if name == f"config/{manifest['config']}":
                data = with_identity(data.decode(), clone or manifest["agent_id"], clone=clone is not None).encode()
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o600 if name.startswith("identity/") else 0o644
            target.unlink(missing_ok=True)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(data)
    return list(targets.values())


def _target(home: Path, name: str, outside: Mapping[str, str]) -> Path:
    if name in outside:
        target = Path(outside[name])
        if target.is_absolute() and ".." not in target.parts:
            return target
    inside = Path(*Path(name).parts[1:])
    if inside.is_absolute() or ".." in inside.parts:
        raise Unusable(f"{name} leads out of the folder")
    return home / inside


def with_identity(text: str, agent_id: str, *, clone: bool) -> str:
    """The configuration with this agent id written in it, whatever the host is called; the rest is not touched. A
    clone gets no client id of its original."""
    root = yaml12.parse(Source("", text)).root
    changes: list[tuple[Scalar, str]] = []
    agent, mqtt = root.get("agent"), root.get("mqtt")
    written = agent.get("id") if isinstance(agent, Map) else None
    if isinstance(written, Scalar):
        changes.append((written, agent_id))
    if clone and isinstance(mqtt, Map) and isinstance(client := mqtt.get("client_id"), Scalar):
        changes.append((client, f"edge-agent-{agent_id}"))
    lines = text.splitlines(keepends=True)
    for node, new in sorted(changes, key=lambda change: change[0].span, reverse=True):
        span, line = node.span, lines[node.span.line - 1]
        lines[span.line - 1] = line[: span.column - 1] + new + line[span.end_column - 1 :]
    if isinstance(written, Scalar):
        return "".join(lines)
    if isinstance(agent, Map) and agent.items:  # it says other things, but not who it is
        first = next(iter(agent))[0].span
        line = lines[first.line - 1]
        head, tail = line[: first.column - 1], line[first.column - 1 :]
        flow = "{" in head
        lines[first.line - 1] = f"{head}id: {agent_id}{', ' if flow else f'{os.linesep}{head}'}{tail}"
        return "".join(lines)
    at = next((n for n, line in enumerate(lines) if re.match(r"version\s*:", line)), -1) + 1
    return "".join([*lines[:at], f"agent: {{id: {agent_id}}}\n", *lines[at:]])
