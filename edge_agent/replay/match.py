"""Did what was expected happen? Entries of `expect:` against the events that were made.

An event is compared as it goes on the wire. An entry names a `type` and any fields of `data` or of the envelope
(`data` wins). Entries of one type are a subsequence of the events of that type. Maps match by subset at every
depth, lists by length and order (`flags` are a set), numbers to 1e-6 and `…_s` to 1 ms, times, written as offsets
from the start, to 1 ms. `null` means that the field is absent. `$name` is bound where it occurs first and must be
equal later.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from config.units import duration
from edge_agent.clock import parse_rfc3339
from edge_agent.replay.summary import Wire, short_type

Micros: TypeAlias = int
Bindings: TypeAlias = dict[str, Any]

ABSENT = object()
_TIMES = frozenset({"time", "since", "recordedtime", "expirytime"})
_NAME = re.compile(r"\$[A-Za-z_]\w*")
_OFFSET = re.compile(r"[+-]?\d+(\.\d+)?(us|ms|s|min|h|d)")
_MOST_STEPS = 20_000


class Difference(NamedTuple):
    """One field that is not as expected; `path` as in `segments[0].state`. `ABSENT` stands for no such field."""

    path: str
    expected: Any
    got: Any


class Miss(NamedTuple):
    """An entry that no event matched. `nearest` is the position of the event with the fewest differences, if any
    event of the type was made."""

    entry: int
    nearest: int | None
    differences: tuple[Difference, ...]


class Verdict(NamedTuple):
    """`matched` is the position of the event for each entry, None for a miss."""

    matched: tuple[int | None, ...]
    misses: tuple[Miss, ...]


class ExpectationFault(ValueError):
    """An entry that cannot be read."""

    def __init__(self, what: str, *, entry: int = 0, key: str | None = None) -> None:
        super().__init__(what)
        self.entry = entry
        self.key = key


def family(type_: str) -> str:
    return type_.partition(".")[0]


def check(entries: Sequence[Mapping[str, Any]], known_types: Iterable[str]) -> None:
    """Raises `ExpectationFault` for the first entry that cannot be read."""
    known = frozenset(known_types)
    for index, entry in enumerate(entries):
        type_ = entry.get("type")
        if not isinstance(type_, str):
            raise ExpectationFault("the entry names no `type`", entry=index)
        if type_ not in known:
            raise ExpectationFault(f"there is no event type {type_!r}", entry=index, key="type")
        for key, value in _leaves(entry):
            if is_time(key) and isinstance(value, str | int | float) and not isinstance(value, bool):
                readable = isinstance(value, str) and (
                    _NAME.fullmatch(value) or _OFFSET.fullmatch(value) or _is_rfc3339(value)
                )
                if not readable:
                    raise ExpectationFault(
                        f"`{key}: {value}` is a time: write it as an offset from the start, like 10s",
                        entry=index,
                        key=key,
                    )


class _Assigned(NamedTuple):
    """Events for the first entries, the last event used of each type, and the names bound so far."""

    found: list[int]
    after: dict[str, int]
    bindings: Bindings


class Matcher:
    """Matches against the events of one run. `start` is the UTC µs of offset 0."""

    def __init__(self, events: Sequence[Wire], start: Micros) -> None:
        self._events = events
        self._types = [short_type(event) for event in events]
        self._start = start

    def match(self, entries: Sequence[Mapping[str, Any]]) -> Verdict:
        """Assign an event to each entry, in order. An entry that cannot be matched is a miss; the rest goes on."""
        matched: list[int | None] = []
        misses: list[Miss] = []
        after: dict[str, int] = {}
        bindings: Bindings = {}
        while len(matched) < len(entries):
            budget = [_MOST_STEPS]
            found, after, bindings = self._search(entries[len(matched) :], after, bindings, budget)
            matched += found
            if len(matched) == len(entries):
                break
            entry = entries[len(matched)]
            misses.append(self._miss(len(matched), entry, after, bindings, matched))
            matched.append(None)
        return Verdict(tuple(matched), tuple(misses))

    def _search(
        self, entries: Sequence[Mapping[str, Any]], after: dict[str, int], bindings: Bindings, budget: list[int]
    ) -> "_Assigned":
        """Events for as many entries from the first on as can be matched, and where that leaves everything.

        The earliest event is the best choice unless the entry binds a name; then each one is tried.
        """
        found: list[int] = []
        for index, entry in enumerate(entries):
            chosen: int | None = None
            best: _Assigned | None = None
            for position in self._candidates(entry, after):
                tried = dict(bindings)
                if self._differences(entry, self._events[position], tried):
                    continue
                step = {**after, entry["type"]: position}
                if len(tried) == len(bindings):
                    chosen, after = position, step
                    break
                budget[0] -= 1
                rest = self._search(entries[index + 1 :], step, tried, budget)
                if best is None or len(rest.found) + 1 > len(best.found):
                    best = _Assigned([position, *rest.found], rest.after, rest.bindings)
                if len(best.found) == len(entries) - index or budget[0] <= 0:
                    break
            if best is not None:
                return best._replace(found=[*found, *best.found])
            if chosen is None:
                break
            found.append(chosen)
        return _Assigned(found, after, bindings)

    def _candidates(self, entry: Mapping[str, Any], after: Mapping[str, int]) -> Iterator[int]:
        type_ = entry["type"]
        return (p for p in range(after.get(type_, -1) + 1, len(self._types)) if self._types[p] == type_)

    def _miss(
        self,
        index: int,
        entry: Mapping[str, Any],
        after: Mapping[str, int],
        bindings: Bindings,
        matched: Sequence[int | None],
    ) -> Miss:
        """What came nearest: an event that is still free if there is one, else any of the type."""
        free = [p for p in self._candidates(entry, after) if p not in matched]
        anyone = [p for p, type_ in enumerate(self._types) if type_ == entry["type"]]
        compared = [
            (self._differences(entry, self._events[position], dict(bindings)), position)
            for position in free or anyone
        ]
        if not compared:
            return Miss(index, None, ())
        differences, nearest = min(compared, key=lambda found: len(found[0]))
        return Miss(index, nearest, tuple(differences))

    def _differences(self, entry: Mapping[str, Any], event: Wire, bindings: Bindings) -> list[Difference]:
        """The fields that are not as expected; names that occur first are bound in `bindings`."""
        out: list[Difference] = []
        data = event.get("data", {})
        for key, expected in entry.items():
            if key != "type":
                got = data[key] if key in data else event.get(key, ABSENT)
                self._compare(key, key, expected, got, bindings, out)
        return out

    def _compare(
        self, path: str, key: str, expected: Any, got: Any, bindings: Bindings, out: list[Difference]
    ) -> None:
        if expected is None or got is ABSENT:
            equal = expected is None and got is ABSENT
        elif isinstance(expected, str) and _NAME.fullmatch(expected):
            equal = same(bindings.setdefault(expected, got), got)
            if not equal:
                expected = f"{expected} = {bindings[expected]}"
        elif isinstance(expected, Mapping) and isinstance(got, Mapping):
            for name, value in expected.items():
                self._compare(f"{path}.{name}", str(name), value, got.get(str(name), ABSENT), bindings, out)
            return
        elif _is_list(expected) and _is_list(got) and len(expected) == len(got):
            if key == "flags":
                expected, got = sorted(map(str, expected)), sorted(map(str, got))
            for index, (one, other) in enumerate(zip(expected, got, strict=True)):
                self._compare(f"{path}[{index}]", key, one, other, bindings, out)
            return
        elif is_time(key) and isinstance(expected, str) and isinstance(got, str):
            equal = abs(self._wall(expected) - parse_rfc3339(got)) <= 1000
        else:
            equal = same(expected, got, 1e-3 if key.endswith("_s") else 1e-6)
        if not equal:
            out.append(Difference(path, expected, got))

    def _wall(self, expected: str) -> Micros:
        if _OFFSET.fullmatch(expected):
            sign = -1 if expected.startswith("-") else 1
            return self._start + sign * duration(expected.lstrip("+-"))
        return parse_rfc3339(expected)


def same(one: Any, other: Any, tolerance: float = 1e-6) -> bool:
    """Equal, numbers within the tolerance; a truth value is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=tolerance * (1 + 1e-9))
    return bool(one == other)


def is_time(key: str) -> bool:
    """The field is a point in time."""
    return key in _TIMES or key.endswith("_at")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_rfc3339(text: str) -> bool:
    try:
        parse_rfc3339(text)
    except ValueError:
        return False
    return True


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _leaves(member, str(name))
    elif _is_list(value):
        for member in value:
            yield from _leaves(member, key)
    else:
        yield key, value
