"""Runs the stories of `tests:`: each one plays its timeline through its machine and compares what was made."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from config.model import Config, Test
from edge_agent.clock import parse_rfc3339
from edge_agent.events.codec import Encoder, agent_encoder, machine_encoder
from edge_agent.events.types import Data
from edge_agent.machine.machine import Machine
from edge_agent.replay.drive import Drive, Made
from edge_agent.replay.match import ExpectationFault, Matcher, Miss, check, family
from edge_agent.replay.summary import Wire, short_type
from edge_agent.replay.timeline import Reader, TimelineFault

Micros: TypeAlias = int

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the test something is: a list (`given`, `expect`), its entry, and the key in it."""

    part: str
    entry: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of one test. `fault` says why it could not run, at `place`; then nothing else is set.

    `unexpected` are positions in `events` that `only` or `never` forbids.
    """

    test: Test
    start: Micros
    events: Sequence[Wire] = ()
    misses: Sequence[Miss] = ()
    unexpected: Sequence[int] = ()
    matched: Sequence[int | None] = ()
    fault: str | None = None
    place: Place | None = None

    @property
    def passed(self) -> bool:
        return self.fault is None and not self.misses and not self.unexpected


class Script:
    """Encodes what a `Drive` makes with an epoch that depends on nothing but the start."""

    def __init__(self, config: Config, start: Micros) -> None:
        self.epoch = replay_epoch(start)
        self._config = config
        self._encoders: dict[str | None, Encoder] = {None: agent_encoder(config, self.epoch)}

    def encode(self, made: Made) -> bytes:
        """The CloudEvent as it would be sent."""
        encoder = self._encoders.get(made.machine)
        if encoder is None:
            assert made.machine is not None
            encoder = self._encoders[made.machine] = machine_encoder(self._config, made.machine, self.epoch)
        return encoder.encode(made.event).body


def replay_epoch(start: Micros) -> str:
    """An epoch of the usual form (event model §1.3) without chance in it."""
    rest, text = start // 1000, ""
    while rest > 0:
        rest, digit = divmod(rest, 36)
        text = _DIGITS[digit] + text
    return f"{text or '0'}0000"


def drive_for(config: Config, names: Iterable[str], start: Micros) -> Drive:
    """A `Drive` of the machines named, as the agent would build them."""
    machines = [Machine(config, name, epoch=replay_epoch(start)) for name in names]
    return Drive(machines, config.devices, start=start, subject=config.subject)


def run_test(config: Config, test: Test) -> Result:
    """Play and compare. What is wrong with the test itself is a `fault` in the result."""
    start = 0
    try:
        start = parse_rfc3339(test.start)
        own = config.machines[test.machine].device
        reader = Reader(config.devices, own, start, config.subject(test.machine))
        lines = reader.read(test.given)
        until = test.until if test.until is not None else (lines[-1].at if lines else 0)
        if lines and lines[-1].at > until:
            return _fault(test, start, "the line is after `until`", Place("given", len(lines) - 1, "at"))
        check(test.expect, event_types())
        _known_words(test)
    except TimelineFault as error:
        return _fault(test, start, str(error), Place("given", error.line, error.key))
    except ExpectationFault as error:
        return _fault(test, start, str(error), Place("expect", error.entry, error.key))
    except _WordFault as error:
        return _fault(test, start, str(error), Place(error.part))
    except ValueError as error:
        return _fault(test, start, f"`start` is not a time: {error}", Place("start"))
    script = Script(config, start)
    drive = drive_for(config, [test.machine], start)
    events: list[Wire] = [json.loads(script.encode(made)) for made in drive.play(lines, until)]
    verdict = Matcher(events, start).match(test.expect)
    return Result(test, start, events, verdict.misses, _unexpected(test, events, verdict.matched), verdict.matched)


class _WordFault(ValueError):
    """A word of `only` or `never` that names no event."""

    def __init__(self, what: str, part: str) -> None:
        super().__init__(what)
        self.part = part


def _fault(test: Test, start: Micros, what: str, place: Place) -> Result:
    return Result(test, start, fault=what, place=place)


def event_types() -> frozenset[str]:
    """Every event type that exists."""
    return frozenset(_types(Data))


def _types(record: type[Data]) -> Iterable[str]:
    if record.TYPE:
        yield record.TYPE
    for child in record.__subclasses__():
        yield from _types(child)


def _known_words(test: Test) -> None:
    types = event_types()
    families = {family(type_) for type_ in types}
    for part, words in (("only", test.only), ("never", test.never)):
        for word in words:
            if word not in types and word not in families:
                raise _WordFault(f"there is no event type or family {word!r}", part)


def _unexpected(test: Test, events: Sequence[Wire], matched: Sequence[int | None]) -> list[int]:
    """Positions of the events that `only` and `never` forbid."""
    used = frozenset(position for position in matched if position is not None)
    only, never = frozenset(test.only), frozenset(test.never)
    out = []
    for position, event in enumerate(events):
        names = {type_ := short_type(event), family(type_)}
        if names & never or (names & only and position not in used):
            out.append(position)
    return out
