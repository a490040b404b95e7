"""How the outcome of a test is told: the miss beside what happened, in the words and times of the test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from edge_agent.clock import parse_rfc3339
from edge_agent.replay.match import ABSENT, Difference, Miss, is_time
from edge_agent.replay.suite import Place, Result
from edge_agent.replay.summary import plain, short_type, summary

Micros: TypeAlias = int

_MOST_EVENTS = 30


@dataclass(frozen=True, slots=True)
class Where:
    """Where parts of the tests stand: the main file, and (file, line) by dotted path (`tests.0.expect.1.type`)."""

    file: str
    places: Mapping[str, tuple[str, int]]

    def of(self, test: int, place: Place | None = None) -> str:
        """`file:line` of a test or of a place in it; without a line where nothing was written."""
        prefix = f"tests.{test}"
        tries = [prefix]
        if place is not None:
            tries = [f"{prefix}.{place.part}", prefix]
            if place.entry is not None:
                tries.insert(0, f"{prefix}.{place.part}.{place.entry}")
                if place.key is not None:
                    tries.insert(0, f"{tries[0]}.{place.key}")
        for path in tries:
            found = [at for p, at in self.places.items() if p == path or p.startswith(f"{path}.")]
            if found:
                file, line = min(found, key=lambda at: at[1])
                return f"{file}:{line}"
        return self.file


def told(result: Result, index: int, where: Where) -> list[str]:
    """The lines below the name of a test that failed."""
    if result.fault is not None:
        return [f"   {where.of(index, result.place)}: {result.fault}"]
    lines: list[str] = []
    for miss in result.misses:
        lines += _miss(result, miss, where.of(index, Place("expect", miss.entry)))
    for position in result.unexpected:
        word = (
            "never"
            if {short_type(result.events[position]), _family(result, position)} & set(result.test.never)
            else "only"
        )
        lines.append(f"   forbidden by `{word}`: {_event(result, position)}")
    lines.append("   what happened:")
    lines += [f"     {_event(result, position)}" for position in _worth_showing(result)]
    return lines


def as_json(result: Result, index: int, where: Where) -> dict[str, Any]:
    """Stable keys for `-o json`."""
    return {
        "name": result.test.name,
        "machine": result.test.machine,
        "place": where.of(index),
        "passed": result.passed,
        "fault": result.fault,
        "misses": [
            {
                "place": where.of(index, Place("expect", miss.entry)),
                "expected": dict(result.test.expect[miss.entry]),
                "nearest": None if miss.nearest is None else result.events[miss.nearest],
                "differences": [
                    {"field": d.path, "expected": d.expected, "got": None if d.got is ABSENT else d.got}
                    for d in miss.differences
                ],
            }
            for miss in result.misses
        ],
        "forbidden": [result.events[position] for position in result.unexpected],
        "events": len(result.events),
    }


def _miss(result: Result, miss: Miss, place: str) -> list[str]:
    entry = result.test.expect[miss.entry]
    lines = [f"   {place}: no event matches {plain(entry)}"]
    if miss.nearest is None:
        lines.append(f"     there is no {entry['type']} at all")
        return lines
    if not miss.differences:
        lines.append(f"     only {_event(result, miss.nearest)}, which an entry before it has taken")
        return lines
    lines.append(f"     nearest: {_event(result, miss.nearest)}")
    lines += _table(result.start, miss.differences)
    return lines


def _table(start: Micros, differences: Sequence[Difference]) -> list[str]:
    rows = [("field", "expected", "got")]
    for path, expected, got in differences:
        key = path.rpartition(".")[2].partition("[")[0]
        rows.append((path, "absent" if expected is None else _value(key, expected, start), _value(key, got, start)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"       {one:<{widths[0]}}  {two:<{widths[1]}}  {three}" for one, two, three in rows]


def _event(result: Result, position: int) -> str:
    event = result.events[position]
    return f"{offset(event['time'], result.start):>8}  {short_type(event):<20} {summary(event)}".rstrip()


def _family(result: Result, position: int) -> str:
    return short_type(result.events[position]).partition(".")[0]


def _worth_showing(result: Result) -> Iterable[int]:
    """All events, or those of the families that the test speaks of if there are many."""
    every = range(len(result.events))
    if len(result.events) <= _MOST_EVENTS:
        return every
    spoken = {str(entry["type"]).partition(".")[0] for entry in result.test.expect}
    chosen = [p for p in every if _family(result, p) in spoken]
    return chosen[:_MOST_EVENTS]


def _value(key: str, value: Any, start: Micros) -> str:
    if value is ABSENT:
        return "absent"
    if is_time(key) and isinstance(value, str) and "T" in value:
        return offset(value, start)
    return plain(value)


def offset(time: str, start: Micros) -> str:
    """An RFC 3339 time as an offset from the start, as tests write it: `42.5s`."""
    micros = parse_rfc3339(time) - start
    return f"{micros / 1_000_000:.3f}".rstrip("0").rstrip(".") + "s"
