"""Moving a damaged database aside, whole, and so that a start that is cut short at any point goes on with it.

A note beside the database (`<database>.damaged`) stands there from before the first move until the new database
says itself where the old one went. It holds the name the old one gets; empty, it only says that damage was found
while the database was in use, and that the next start must move it. The database goes first, then its WAL: a new
database is made only when both are gone, so a WAL without a database is always the old one.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

_SUFFIXES = ("-wal", "-shm")


def mark(path: Path) -> None:
    """The next start moves the database aside."""
    _note(path).touch()


def is_marked(path: Path) -> bool:
    return _note(path).exists()


def resume(path: Path, now: int) -> Path | None:
    """Do what the note says; where the old database is then, None if there is none any more. Raises OSError."""
    name = _note(path).read_text()
    if not name:
        return begin(path, now) if path.exists() else None
    target = path.with_name(name)
    _move(path, target)
    return target if target.exists() else None


def begin(path: Path, now: int) -> Path:
    """Move the database aside under the UTC time `now` in microseconds. Raises OSError."""
    stamp = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).strftime("%Y%m%dT%H%M%S.%fZ")
    target, again = path.with_name(f"{path.name}.{stamp}.damaged"), 1
    while target.exists():
        again += 1
        target = path.with_name(f"{path.name}.{stamp}-{again}.damaged")
    with _note(path).open("w") as note:
        note.write(target.name)
        note.flush()
        os.fsync(note.fileno())
    _sync_folder(path.parent)
    _move(path, target)
    return target


def end(path: Path) -> None:
    """The new database knows where the old one is."""
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _move(path: Path, target: Path) -> None:
    if path.exists() and not target.exists():
        path.replace(target)
    if not path.exists():
        for suffix in _SUFFIXES:
            source = path.with_name(path.name + suffix)
            if source.exists():
                source.replace(target.with_name(target.name + suffix))
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk when its folder is; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
