"""What a disk may hold after the power was cut: every write and sync of a process is recorded, and the files are
made again as they may be at a moment of it.

What was synced is there. What was written after the last sync of its file may be there or not, in any choice of
writes, and each write in any choice of its 512-byte sectors: caches write back in their own order and a sector is
what a disk writes whole. A size is that of the writes and truncations that are there. A name that was made, moved or
removed is on the disk when its folder was synced, or the file itself (as ext4, XFS and btrfs do it for a new file);
before that the last of such changes may be missing, in their order.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

SECTOR: Final = 512
TRACE: Final = (
    *("-y", "-xx", "-s", "1000000", "-e", "signal=none"),
    *("-e", "trace=openat,lseek,pwrite64,write,fsync,fdatasync,ftruncate,fallocate,unlink,rename"),
)
"""Options of strace for a recording; `-o` is added."""


class Write(NamedTuple):
    path: Path
    at: int
    data: bytes


class Cut(NamedTuple):
    path: Path
    size: int


class Grow(NamedTuple):
    """Room that is taken; nothing if there is as much."""

    path: Path
    size: int


class Sync(NamedTuple):
    path: Path
    """Of a file or a folder."""


class Make(NamedTuple):
    path: Path


class Move(NamedTuple):
    path: Path
    to: Path | None
    """None: removed."""


Change = Write | Cut | Grow
Step = Change | Sync | Make | Move

_LINE: Final = re.compile(r"^\d+ +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
_HEX: Final = re.compile(r"<((?:\\x[0-9a-f]{2})+)>")
_FD: Final = re.compile(r"^\d+<(.*?)>(?:, )?(.*)$")


def steps(recording: str) -> Iterator[Step]:
    """What strace has written, as steps in the order in which the calls came back."""
    begun: dict[str, str] = {}
    places: dict[Path, int] = {}
    for line in recording.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        pid = line.split(maxsplit=1)[0]
        rest = found[3]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if found[1]:
            rest = begun.pop(pid) + rest
        arguments, _, result = _HEX.sub(_text, rest).rpartition("= ")
        if not result.startswith("-1"):
            yield from _step(found[1] or found[2], arguments.rstrip(" )"), result, places)


def _text(found: re.Match[str]) -> str:
    return f"<{_bytes(found[1]).decode()}>"


def _step(call: str, arguments: str, result: str, places: dict[Path, int]) -> Iterator[Step]:
    """`places`: where the next plain write to a file goes."""
    if call == "openat":
        path = Path(_FD.sub(r"\1", result))
        places[path] = 0
        if "O_CREAT" in arguments:
            yield Make(path)
        if "O_TRUNC" in arguments:
            yield Cut(path, 0)
        return
    if call in ("unlink", "rename"):
        path, *to = (Path(_bytes(raw).decode()) for raw in re.findall(r'"(.*?)"', arguments))
        yield Move(path, to[0] if to else None)
        return
    on = _FD.match(arguments)
    assert on is not None, arguments
    path = Path(on[1])
    if call in ("fsync", "fdatasync"):
        yield Sync(path)
    elif call == "ftruncate":
        yield Cut(path, int(on[2]))
    elif call == "fallocate":
        _, start, length = on[2].split(", ")
        yield Grow(path, int(start) + int(length))
    elif call == "lseek":
        places[path] = int(result)
    else:
        raw, _, tail = on[2].removeprefix('"').partition('"')
        data = _bytes(raw)[: int(result)]
        place = int(tail.split(",")[2]) if call == "pwrite64" else places.get(path, 0)
        yield Write(path, place, data)
        if call == "write":
            places[path] = place + len(data)


def _bytes(raw: str) -> bytes:
    return bytes.fromhex(raw.replace("\\x", ""))


class Loss(Enum):
    """What of the writes that were not synced is on the disk."""

    NOTHING = "nothing unsynced"
    EVERYTHING = "everything"
    PREFIX = "the first writes"
    SOME = "some writes"
    TORN = "some sectors"


@dataclass
class _File:
    """`durable` is what is there for certain; `open` has happened since its last sync."""

    durable: bytearray = field(default_factory=bytearray)
    open: list[Change] = field(default_factory=list)

    def after(self, loss: Loss, dice: Random) -> bytes:
        image = bytearray(self.durable)
        for step in _there(self.open, loss, dice):
            _apply(image, step)
        return bytes(image)


def _there(open_: Sequence[Change], loss: Loss, dice: Random) -> Sequence[Change]:
    match loss:
        case Loss.NOTHING:
            return []
        case Loss.EVERYTHING:
            return open_
        case Loss.PREFIX:
            return open_[: dice.randint(0, len(open_))]
        case Loss.SOME:
            return [step for step in open_ if dice.random() < 0.5]
        case Loss.TORN:
            return [piece for step in open_ for piece in _sectors(step) if dice.random() < 0.5]


def _sectors(step: Change) -> Iterator[Change]:
    if not isinstance(step, Write):
        yield step
        return
    at, end = step.at, step.at + len(step.data)
    while at < end:
        until = min(end, (at // SECTOR + 1) * SECTOR)
        yield Write(step.path, at, step.data[at - step.at : until - step.at])
        at = until


def _apply(image: bytearray, step: Change) -> None:
    if isinstance(step, Cut):
        del image[step.size :]
    size = step.at if isinstance(step, Write) else step.size
    image.extend(bytes(max(size - len(image), 0)))
    if isinstance(step, Write):
        image[step.at : step.at + len(step.data)] = step.data


class Disk:
    """The files of one folder as the processes see them, and as they may be after a cut."""

    def __init__(self, *there: Path) -> None:
        """`there`: files that are on the disk from the beginning."""
        self._certain = {path: _File(bytearray(path.read_bytes())) for path in there}
        self._seen = dict(self._certain)
        self._open: list[tuple[Path, _File | None]] = []
        """Changes of names that may not be on the disk, in their order."""

    def take(self, step: Step) -> None:
        match step:
            case Write(path) | Cut(path) | Grow(path):
                self._seen[path].open.append(step)
            case Make(path):
                if path not in self._seen:
                    self._name(path, _File())
            case Move(path, to):
                file = self._seen[path]
                self._name(path, None)
                if to is not None:
                    self._name(to, file)
            case Sync(path) if path in self._seen:
                file = self._seen[path]
                for done in file.open:
                    _apply(file.durable, done)
                file.open.clear()
                self._settle(lambda name, of: name == path and of is file)
            case Sync(path):
                self._settle(lambda name, _: name.parent == path)

    def _name(self, path: Path, file: _File | None) -> None:
        self._open.append((path, file))
        _set(self._seen, path, file)

    def _settle(self, is_certain: Callable[[Path, _File | None], bool]) -> None:
        """Names are changed in their order: what came before one that is on the disk is there as well."""
        last = max((n for n, change in enumerate(self._open, 1) if is_certain(*change)), default=0)
        for path, file in self._open[:last]:
            _set(self._certain, path, file)
        del self._open[:last]

    def after_a_cut(self, loss: Loss, dice: Random) -> dict[str, bytes]:
        """File name → content."""
        names = dict(self._certain)
        most = len(self._open)
        kept = {Loss.NOTHING: 0, Loss.EVERYTHING: most}.get(loss, dice.randint(0, most))
        for path, file in self._open[:kept]:
            _set(names, path, file)
        return {path.name: file.after(loss, dice) for path, file in names.items()}


def _set(names: dict[Path, _File], path: Path, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file
