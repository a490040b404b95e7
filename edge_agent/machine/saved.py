"""A machine's state as bytes for the outbox, and back after a restart.

Only what must survive is kept: numbers, essential tags, counters, the open interval and downtime, open gaps. The
values of sample sets are read again. Monotonic times are moved to the new process's clock by the wall time passed.
`fingerprints` say for which configuration the state was made.
"""

import json
import types
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from operator import attrgetter, is_
from typing import Any, Final, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

from edge_agent.clock import Instant
from edge_agent.machine.archive import Archive
from edge_agent.machine.counters import Group
from edge_agent.machine.downtime import Downtime
from edge_agent.machine.gaps import Gap
from edge_agent.machine.out import Counts, Ctx, Revision
from edge_agent.machine.parts import Cause, Part, Rebuild
from edge_agent.machine.record import MachineState
from edge_agent.machine.samples import Held
from edge_agent.machine.state import Tracked

VERSION: Final = 1


class SavedDevice(NamedTuple):
    seen: Instant | None
    newest: int | None
    skewed: bool
    good: bool


class SavedPart(NamedTuple):
    """A part's state as it is stored; in a machine's state that of a part which is not configured now, kept so that
    its numbers and totals go on when it is configured again."""

    fingerprint: str
    state: Any


class Saved(NamedTuple):
    """What is stored. `seq_p` and `seq_m` are the next numbers."""

    version: int
    fingerprints: Mapping[str, str]
    at: Instant
    seq_p: int
    seq_m: int
    devices: Mapping[str, SavedDevice]
    held: Mapping[str, Held]
    gaps: Mapping[str, Gap]
    tracked: Tracked
    groups: Mapping[str, Group]
    downtime: Downtime | None
    orphans: Mapping[str, Group]
    ctx: Ctx | None
    earlier: tuple[Revision, ...]
    order_totals: Counts | None
    parts: Mapping[str, SavedPart]
    causes: tuple[Cause, ...]
    mode: str | None


class Unreadable(ValueError):
    """The stored bytes are no state of this version. Says why."""


class Writer:
    """Writes one machine's states. They are written every few seconds for the time alone, so the text of what did
    not change since the last one is kept."""

    def __init__(self, fingerprints: Mapping[str, str], parts: Sequence[Part[Any]] = ()) -> None:
        self._parts = parts
        self._head = _encode([VERSION, fingerprints])[:-1]
        self._known: tuple[object, ...] | None = None
        self._tail = ""

    def dump(self, state: MachineState) -> bytes:
        """The fields of `Saved` in their order."""
        devices = {
            name: SavedDevice(device.seen, device.newest, device.skewed, device.good)
            for name, device in state.devices.items()
        }
        known = _lasting(state)
        if self._known is None or not all(map(is_, known, self._known)):
            self._known, self._tail = known, self._lasting_text(state)
        moving = _encode((state.at, state.seq_p, state.seq_m, devices))
        return f"{self._head},{moving[1:-1]},{self._tail}".encode()

    def _lasting_text(self, state: MachineState) -> str:
        parts = {
            **{name: kept for name, kept in state.parts.items() if isinstance(kept, SavedPart)},
            **{part.name: SavedPart(part.fingerprint, part.dump(state.parts[part.name])) for part in self._parts},
        }
        return _encode(
            (
                state.held,
                state.gaps,
                state.tracked._replace(revisit=None),
                state.groups,
                state.downtime,
                state.orphans,
                state.ctx,
                state.earlier,
                state.order_totals,
                parts,
                state.causes,
                state.mode,
            )
        )[1:]


_lasting: Callable[[MachineState], tuple[object, ...]] = attrgetter(
    "held",
    "gaps",
    "tracked",
    "groups",
    "downtime",
    "orphans",
    "ctx",
    "earlier",
    "order_totals",
    "parts",
    "causes",
    "mode",
)


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


def dump_archive(archive: Archive, at: Instant) -> bytes:
    return _encode([VERSION, at, archive]).encode()


def load_archive(data: bytes, now: Instant) -> Archive:
    """Raises Unreadable."""
    try:
        version, at, plain = json.loads(data)
        if version != VERSION:
            raise Unreadable(f"it is of version {version}")
        return cast(Archive, _build(Archive, plain, _shift(Instant(*at), now)))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as fault:
        raise Unreadable(str(fault)) from fault


def _shift(at: Instant, now: Instant) -> int:
    """µs from the monotonic clock of the process that stored to that of this one."""
    return now.mono - at.mono - max(0, now.wall - at.wall)


_encode = json.JSONEncoder(default=_plain, separators=(",", ":"), ensure_ascii=False).encode


def load(data: bytes, now: Instant, *, same_clock: bool = False) -> tuple[Saved, Rebuild]:
    """The state with its times moved to the clock of `now` (not if this very process dumped it: `same_clock`), and
    how the parts' states, which are still plain, are rebuilt. Raises Unreadable."""
    try:
        plain = json.loads(data)
        if not isinstance(plain, list) or not plain or plain[0] != VERSION:
            raise Unreadable(f"it is of version {plain[0] if isinstance(plain, list) and plain else None}")
        shift = 0 if same_clock else _shift(Instant(*plain[2]), now)
        saved: Saved = _build(Saved, plain, shift)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as fault:
        raise Unreadable(str(fault)) from fault
    return saved, lambda kind, plain: _build(kind, plain, shift)


_hints: dict[type, list[Any]] = {}


def _fields(kind: type) -> list[Any]:
    if kind not in _hints:
        _hints[kind] = list(get_type_hints(kind).values())
    return _hints[kind]


def _build(kind: Any, plain: Any, shift: int) -> Any:
    """A value of the annotated type from JSON. Raises ValueError or TypeError when it does not fit."""
    if kind is Instant:
        wall, mono = plain
        return Instant(int(wall), int(mono) + shift)
    if kind is Any:
        return plain
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _choose(get_args(kind), plain, shift)
    if origin in (tuple, frozenset) and not isinstance(plain, list):
        raise TypeError(f"{plain!r} is no list")
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(plain, dict):
            raise TypeError(f"{plain!r} is no mapping")
        return {str(key): _build(get_args(kind)[1], value, shift) for key, value in plain.items()}
    if origin is tuple:
        return _tuple(get_args(kind), plain, shift)
    if origin is frozenset:
        return frozenset(_build(get_args(kind)[0], item, shift) for item in plain)
    if isinstance(kind, type) and issubclass(kind, tuple):
        fields = _fields(kind)
        if len(plain) > len(fields):
            raise ValueError(f"{kind.__name__} has {len(plain)} fields, not {len(fields)}")
        return kind(*(_build(field, item, shift) for field, item in zip(fields, plain, strict=False)))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return kind(plain)
    if kind is float and isinstance(plain, int):
        return float(plain)
    if not isinstance(plain, kind) or (kind is int and isinstance(plain, bool)):
        raise TypeError(f"{plain!r} is no {kind.__name__}")
    return plain


def _tuple(items: tuple[Any, ...], plain: Any, shift: int) -> tuple[Any, ...]:
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_build(items[0], item, shift) for item in plain)
    return tuple(_build(kind, item, shift) for kind, item in zip(items, plain, strict=True))


def _choose(kinds: tuple[Any, ...], plain: Any, shift: int) -> Any:
    if plain is None and type(None) in kinds:
        return None
    if isinstance(plain, bool | int | float | str) and type(plain) in kinds:
        return plain
    if type(plain) is int and float in kinds:
        return float(plain)
    for kind in kinds:
        if kind is not type(None) and kind not in (bool, int, float, str):
            return _build(kind, plain, shift)
    raise TypeError(f"{plain!r} is none of {kinds}")
