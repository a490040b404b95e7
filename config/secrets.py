"""Secrets: found where the configuration says they are kept, never shown."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.errors import Problem
from config.model import Secret
from config.source import is_secret

MASK = "***"


def resolve(secret: Secret | str, *, base_dir: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The secret itself, without a final line break. Raises Problem E313, which never holds any of it, also for one
    that is empty: whoever shows nothing would know it.

    A credential comes from the folder `$CREDENTIALS_DIRECTORY` that systemd gives the service; a file counts
    from `base_dir` and may be readable by its owner alone (not checked on Windows, which has no such mode).
    """
    found = _found(secret, base_dir, environ)
    if not found:
        raise Problem("E313", "a secret is empty", fix="give it a value, or leave the key away")
    return found


def _found(secret: Secret | str, base_dir: Path, environ: Mapping[str, str]) -> str:
    if isinstance(secret, str):
        return secret
    if secret.env is not None:
        value = environ.get(secret.env)
        if value is None:
            raise Problem("E313", f"the environment variable {secret.env} is not set")
        return value
    if secret.credential is not None:
        folder = environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            what = f"the credential '{secret.credential}' is given by systemd alone, and this was not started by it"
            raise Problem("E313", what, fix="use {file: PATH} or {env: NAME} when starting by hand")
        if Path(secret.credential).name != secret.credential:
            raise Problem("E313", f"'{secret.credential}' is not the name of a credential")
        fix = f"add LoadCredential={secret.credential}:/path to the service"
        return _content(Path(folder) / secret.credential, fix)
    path = base_dir / (secret.file or "")
    if os.name == "posix":
        _private(path)
    return _content(path, "")


def masked(data: Any) -> Any:
    """Plain data for a person's eyes: every secret is `***`."""
    if isinstance(data, str | int | float):
        return data
    if isinstance(data, Mapping):
        return {
            key: MASK if is_secret(key) and isinstance(value, str | int | float) else masked(value)
            for key, value in data.items()
        }
    if isinstance(data, list | tuple):
        return [masked(item) for item in data]
    return data


def _private(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it says why
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        what = f"{path} can be read by others (mode {stat.S_IMODE(mode):04o})"
        raise Problem("E313", what, why="a secret's file belongs to its owner alone", fix=f"chmod 600 {path}")


def _content(path: Path, fix: str) -> str:
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise Problem("E313", f"cannot read the secret in {path}: {error.strerror or error}", fix=fix) from None
    except UnicodeDecodeError:
        raise Problem("E313", f"the secret in {path} is not UTF-8 text") from None
