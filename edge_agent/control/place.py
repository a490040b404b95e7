"""Where the local socket of an agent is: next to its buffer file, for the same user alone.

On Linux a Unix domain socket of mode 0600, `buffer.db.sock`. Its path may be longer than the about 100 bytes
that the system allows: the folder is then opened and the socket reached through it. On Windows a port on
loopback; the file `buffer.db.sock` then holds the port and a token that only the same user can read.
"""

import json
import os
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

UNIX = hasattr(socket, "AF_UNIX") and sys.platform != "win32"
_LONGEST = 100
_LOOPBACK = "127.0.0.1"


class TokenFile(NamedTuple):
    """What the file holds where there is no Unix domain socket."""

    port: int
    token: str


def socket_path(buffer: Path) -> Path:
    """The socket (or token file) of the agent with this buffer file."""
    return buffer.with_name(buffer.name + ".sock")


def listen(path: Path, *, unix: bool = UNIX) -> tuple[socket.socket, str | None]:
    """A bound socket and the token that a client must show, if any.

    What an agent that was killed left behind is replaced; the lock of the buffer proves that no other agent runs.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not unix:
        return _listen_on_loopback(path)
    remove(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # Linux makes the file with this mode: others can at no moment connect
        with _reachable(path) as short:
            sock.bind(short)
        path.chmod(0o600)
    except BaseException:
        sock.close()
        raise
    return sock, None


def connect(path: Path, timeout: float, *, unix: bool = UNIX) -> tuple[socket.socket, str | None]:
    """A connected socket and the token to show, if any. Raises OSError, also when no agent listens."""
    if not unix:
        port, token = _read_token_file(path)
        return socket.create_connection((_LOOPBACK, port), timeout), token
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with _reachable(path) as short:
            sock.connect(short)
    except BaseException:
        sock.close()
        raise
    return sock, None


def remove(path: Path, *, unix: bool = UNIX) -> None:
    """Take the socket (or token file) away; anything else that has its name stays. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if unix and not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is in the way of the agent's local socket and is not a socket")
    path.unlink()


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name of the path that is short enough for the system."""
    full = os.fspath(path.absolute())
    if len(os.fsencode(full)) <= _LONGEST or not os.path.isdir("/proc/self/fd"):
        yield full
        return
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _listen_on_loopback(path: Path) -> tuple[socket.socket, str]:
    token = secrets.token_urlsafe(32)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind((_LOOPBACK, 0))
        remove(path, unix=False)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as out:
            json.dump(TokenFile(sock.getsockname()[1], token)._asdict(), out)
    except BaseException:
        sock.close()
        raise
    return sock, token


def _read_token_file(path: Path) -> TokenFile:
    text = path.read_text(encoding="utf-8")
    try:
        return TokenFile(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ConnectionRefusedError(f"{path} is not the token file of an agent") from error
