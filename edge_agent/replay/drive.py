"""Machines over virtual time: the same steps, in the same order, as in the running agent.

Each device is read on its own grid: a held value is read again at every scan with fresh time, so the last good
sample before a loss is the last scan before it. At one moment the order is: timers that are due, the line, the
readings of the scan together with those of the line, the regular storing of the states. Timers fire at their own
time. What a kill leaves is what was stored by then: with every outcome that asks for it and every 5 s; the process
that starts afterwards has another monotonic clock. What the agent itself would say, `$agent.h`, is said here too
(started, connections, clock, warnings), without heartbeats. A ring is read when something is noted in it, and its
tags with the scan; a history holds what lines said while nobody could read it.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from buffer.outbox import Lane
from config.model import DeviceOptions
from drivers.base import Batch, Quality, Reading, Recalled, Value
from edge_agent.clock import SECOND, Instant
from edge_agent.commands import envelope
from edge_agent.events.types import AgentClockAdjusted, AgentStarted, ConnectionChanged, Data, Event
from edge_agent.machine.contracts import Machine, Outcome, State
from edge_agent.replay import asking
from edge_agent.replay.conditions import Conditions
from edge_agent.replay.rings import Ring, plan_of
from edge_agent.replay.timeline import CONDITIONS, Key, Line

Micros: TypeAlias = int

STORE_EVERY = 5 * SECOND
CLOCK_TOLERANCE = SECOND
_BOOT_MONO = 1000 * SECOND
_MOST_TICKS = 10_000
_NEVER = 1 << 62
_DETAILS = {Quality.GOOD: "", Quality.UNCERTAIN: "Uncertain", Quality.BAD: "Bad"}

_Wanted: TypeAlias = dict[str, set[str]]
"""Tags to be read now, by device."""
_Late: TypeAlias = dict[str, list[Reading]]
"""Readings with a source time of their own, by device."""


class Made(NamedTuple):
    """An event; `machine` is None for the agent's own stream."""

    machine: str | None
    event: Event


class _Held(NamedTuple):
    value: Value | None
    quality: Quality


class Drive:
    """One agent with its machines and the PLCs they hang on. Use it for one timeline."""

    def __init__(
        self,
        machines: Sequence[Machine],
        devices: Mapping[str, DeviceOptions],
        *,
        start: Micros,
        subject: Callable[[str], str] = str,
        version: str = "replay",
        config_hash: str = "replay",
    ) -> None:
        self.machines = {machine.name: machine for machine in machines}
        self.states: dict[str, State] = {}
        used = frozenset().union(*(machine.devices for machine in machines)) if machines else frozenset()
        self._devices = {name: options for name, options in devices.items() if name in used}
        self._start = start
        self._subject = subject
        self._version = version
        self._config_hash = config_hash
        self._dues: dict[str, Micros] = {}
        self._held: dict[Key, _Held] = {}
        self._lost: set[str] = set()
        self._restarted: set[str] = set()
        self._connected: set[str] = set()
        self._last_good: dict[str, Micros] = {}
        self._stored: dict[str, bytes] = {}
        self._rows: dict[str, Mapping[str, bytes]] = {}
        self._asked: deque[Mapping[str, Any]] = deque()
        self._commands = 0
        self._last: Mapping[str, str] = {}
        self._agent_seq = 0
        self._alive = False
        self._booted = 0
        self._jumped = 0
        self._groups: dict[tuple[str, Micros], list[str]] = {}
        for name, options in self._devices.items():
            for tag in options.tags:
                self._groups.setdefault((name, _cadence(options, tag)), []).append(tag)
        self._scans = [(0, device, period) for device, period in self._groups]
        heapq.heapify(self._scans)
        self._store_at = STORE_EVERY
        self._rings: dict[str, Ring] = {}
        self._recorded: _Late = {}
        self._conditions = {
            (name, tag): Conditions()
            for name, options in self._devices.items()
            for tag in options.tags
            if options.value_type(tag) == CONDITIONS
        }

    def play(self, lines: Sequence[Line], until: Micros) -> Iterator[Made]:
        """Everything that the agent makes from offset 0 to `until`, both included. Offsets in µs."""
        waiting = deque(lines)
        for name in {name for line in lines for name in line.noted} & self._devices.keys():
            plan = plan_of(self._devices[name])
            assert plan is not None
            self._rings[name] = Ring(name, plan)
        at = 0
        yield from self._boot(at)
        while True:
            due = self._due()
            at = max(at, min(due, self._next(waiting)))
            if at > until:
                return
            if due <= at:
                yield from self._tick(at)
                continue
            wanted = self._due_scans(at)
            while waiting and waiting[0].at <= at:
                line = waiting.popleft()
                last = not (waiting and waiting[0].at <= at)
                yield from self._line(line, at, wanted if last else {})
            yield from self._read(at, wanted)
            if self._store_at <= at:
                self._store_at += STORE_EVERY
                self._store()

    def now(self, at: Micros) -> Instant:
        """The agent's clocks at an offset."""
        return Instant(self._start + at + self._jumped, _BOOT_MONO + at - self._booted)

    def _next(self, waiting: deque[Line]) -> Micros:
        """Offset of the next line, scan or storing."""
        at = self._store_at
        if self._scans:
            at = min(at, self._scans[0][0])
        return min(at, waiting[0].at) if waiting else at

    def _due(self) -> Micros:
        """Offset of the next timer; far away if there is none."""
        return min(self._dues.values(), default=_NEVER) - _BOOT_MONO + self._booted

    def _due_scans(self, at: Micros) -> _Wanted:
        """The tags that are to be read at `at`, by device; their next scans are set."""
        wanted: _Wanted = {}
        while self._scans and self._scans[0][0] <= at:
            _, device, period = self._scans[0]
            heapq.heapreplace(self._scans, (at + period, device, period))
            wanted.setdefault(device, set()).update(self._groups[device, period])
        return wanted

    def _tick(self, at: Micros) -> Iterator[Made]:
        now = self.now(at)
        for name, machine in self.machines.items():
            for _ in range(_MOST_TICKS):
                if self._dues.get(name, _NEVER) > now.mono:
                    break
                yield from self._take(machine, machine.tick(self.states[name], now), now)
            else:
                raise RuntimeError(f"a timer of {name} is due again and again at {now}")

    def _line(self, line: Line, at: Micros, wanted: _Wanted) -> Iterator[Made]:
        """What the line says; then the tags that it names are read, and those of `wanted`."""
        if line.clock:
            yield from self._jump(line.clock, at)
        late = self._change(line, at)
        for device, entries in line.noted.items():
            if device in self._rings:
                begin = self._start + self._jumped
                self._rings[device].note([one.at(begin) for one in entries])
                wanted.setdefault(device, set())
        for device, tag in (*(line.values if line.source_at is None else ()), *line.tags):
            wanted.setdefault(device, set()).add(tag)
        if line.restarted is not None:
            self._restarted.add(line.restarted)
        if line.lost is not None:
            yield from self._lose(line.lost, at)
        if line.back in self._devices and line.back in self._lost:
            self._lost.discard(line.back)
            wanted[line.back] = set(self._devices[line.back].tags)
        if line.agent == "killed":
            self._kill()
        elif line.agent == "started" and not self._alive:
            yield from self._boot(at)
            wanted.update((name, set(options.tags)) for name, options in self._devices.items())
        if line.history:
            yield from self._recall(wanted, at)
        for device in wanted if self._alive else ():
            if device not in self._lost:
                self._recorded.pop(device, None)
        yield from self._read(at, wanted, late)
        wanted.clear()
        if line.command is not None:
            self._asked.append(line.command)
        if self._alive:
            yield from self._ask(at)

    def _ask(self, at: Micros) -> Iterator[Made]:
        """Commands reach the agent as soon as it runs; each goes to the machine it is for, or to the first, which
        refuses it."""
        while self._asked:
            said, now = self._asked.popleft(), self.now(at)
            self._commands += 1
            event = asking.cloud_event(
                said,
                number=self._commands,
                now=now.wall,
                wall=lambda offset: self._start + offset + self._jumped,
                subject=said["subject"],
                last=self._last,
            )
            command = envelope.read(event, retained=said.get("retained", False))
            machines = list(self.machines.values())
            machine = next((one for one in machines if self._subject(one.name) == command.subject), machines[0])
            yield from self._take(machine, machine.command(self.states[machine.name], command, now), now)

    def _change(self, line: Line, at: Micros) -> _Late:
        """Write the line's values and qualities into the PLCs; what is late goes into no PLC but is returned."""
        quality = line.quality if line.quality is not None else Quality.GOOD
        late: _Late = {}
        source_at = at if line.source_at is None else line.source_at
        for key, value in line.values.items():
            held = _Held(value, quality if key in line.tags else Quality.GOOD)
            wall = self._start + source_at + self._jumped
            if key in self._conditions:
                held = _Held(self._conditions[key].change(str(value)), Quality.GOOD)
            elif line.source_at is None:
                self._held[key] = held
            reading = _reading(key[1], held, wall)
            if key in self._conditions or line.source_at is not None:
                late.setdefault(key[0], []).append(reading)
            if key not in self._conditions and (key[0] in self._lost or not self._alive):
                self._recorded.setdefault(key[0], []).append(reading)
        for key in line.tags.difference(line.values):
            if key in self._held or quality is Quality.BAD:
                self._held[key] = _Held(self._held[key].value if key in self._held else None, quality)
        return late

    def _read(self, at: Micros, wanted: _Wanted, late: _Late | None = None) -> Iterator[Made]:
        """One batch of each device that can be read, behind the new entries of its ring."""
        if not self._alive:
            return
        late = late or {}
        for name, options in self._devices.items():
            if name in self._lost or not (name in wanted or name in late):
                continue
            now = self.now(at)
            ring = self._rings.get(name)
            first = name not in self._connected
            for batch in ring.read(first=first) if ring is not None else ():
                yield from self._feed(batch, at)
            tags = wanted.get(name, ())
            source = None if options.protocol.startswith("modbus") else now.wall
            fresh = [
                _reading(tag, held, source)
                for tag in options.tags
                if tag in tags and (held := self._known(name, tag))
            ]
            fresh += [reading for reading in (ring.readings() if ring is not None else ()) if reading.tag in tags]
            held_conditions = self._refreshed(name, now.wall) if first else []
            readings = [*held_conditions, *late.get(name, ()), *fresh]
            if not readings:
                continue
            batch = Batch(name, readings, restarted=name in self._restarted)
            self._restarted.discard(name)
            yield from self._feed(batch, at)
            if name not in self._connected:
                self._connected.add(name)
                yield self._connection(name, "up", now.wall, None, at)

    def _feed(self, batch: Batch, at: Micros) -> Iterator[Made]:
        now = self.now(at)
        if any(reading.quality is not Quality.BAD for reading in batch.readings):
            self._last_good[batch.device] = now.wall
        for machine in self.machines.values():
            if batch.device in machine.devices:
                yield from self._take(machine, machine.step(self.states[machine.name], batch, now), now)

    def _refreshed(self, device: str, wall: Micros) -> list[Reading]:
        """What it tells of its conditions after connecting."""
        return [
            Reading(tag, text, Quality.GOOD, wall)
            for (name, tag), conditions in self._conditions.items()
            if name == device
            for text in conditions.refresh()
        ]

    def _recall(self, wanted: _Wanted, at: Micros) -> Iterator[Made]:
        """What the devices that are back recorded."""
        now = self.now(at)
        for name in wanted:
            options = self._devices.get(name)
            if options is None or not getattr(options, "history", False) or name in self._lost or not self._alive:
                continue
            tags = frozenset(tag for tag in options.tags if (name, tag) in self._held)
            recorded = sorted(self._recorded.get(name, ()), key=lambda reading: reading.source_time or 0)
            yield from self._feed(Batch(name, recorded, recalled=Recalled(now.wall, tags)), at)

    def _known(self, device: str, tag: str) -> _Held | None:
        """What the PLC holds; None for a value that no line has named yet."""
        held = self._held.get((device, tag))
        return None if held is None or (held.value is None and held.quality is not Quality.BAD) else held

    def _take(self, machine: Machine, outcome: Outcome, now: Instant) -> Iterator[Made]:
        self.states[machine.name] = outcome.state
        due = machine.due(outcome.state)
        self._dues[machine.name] = _NEVER if due is None else due
        if outcome.rows:
            self._rows[machine.name] = {**self._rows.get(machine.name, {}), **outcome.rows}
        if outcome.events or outcome.store:
            self._stored[machine.name] = machine.dump(outcome.state)
        for event in outcome.events:
            self._last = asking.newest(self._last, event.data)
            yield Made(machine.name, event)
        for warning in outcome.warnings:
            yield self._say(warning, now)

    def _boot(self, at: Micros) -> Iterator[Made]:
        """The agent starts, with what it stored before if it ran already."""
        self._alive, self._booted, self._store_at = True, at, at + STORE_EVERY
        now = self.now(at)
        yield self._say(
            AgentStarted(version=self._version, config_hash=self._config_hash, clean_stop=not self._stored), now
        )
        for name, machine in self.machines.items():
            saved = self._stored.get(name)
            yield from self._take(
                machine,
                machine.initial(now) if saved is None else machine.restore(saved, now, self._rows.get(name, {})),
                now,
            )

    def _kill(self) -> None:
        self._alive = False
        self.states.clear()
        self._dues.clear()
        self._connected.clear()
        self._last_good.clear()

    def _store(self) -> None:
        if self._alive:
            self._stored.update((name, machine.dump(self.states[name])) for name, machine in self.machines.items())

    def _lose(self, device: str, at: Micros) -> Iterator[Made]:
        self._lost.add(device)
        if self._alive and device in self._connected:
            self._connected.discard(device)
            yield self._connection(device, "down", self._last_good.get(device, self.now(at).wall), "timeout", at)

    def _jump(self, offset: Micros, at: Micros) -> Iterator[Made]:
        self._jumped += offset
        if self._alive and abs(offset) > CLOCK_TOLERANCE:
            yield self._say(AgentClockAdjusted(offset_s=offset / SECOND), self.now(at))

    def _connection(self, device: str, status: str, since: Micros, reason: str | None, at: Micros) -> Made:
        data = ConnectionChanged(
            endpoint=device,
            protocol=self._devices[device].protocol,
            status=status,
            since=since,
            last_good_at=self._last_good.get(device),
            reason=reason,
            affected=tuple(self._subject(m.name) for m in self.machines.values() if device in m.devices),
        )
        return self._say(data, self.now(at))

    def _say(self, data: Data, now: Instant) -> Made:
        self._agent_seq += 1
        return Made(None, Event(lane=Lane.HEALTH, seq=self._agent_seq, time=now.wall, recorded=now.wall, data=data))


def _cadence(options: DeviceOptions, tag: str) -> Micros:
    """µs between two readings of a tag: its scan, or the slower of sampling and publishing."""
    publishing = getattr(options, "publishing", 0)
    return max(publishing, options.period(tag) - publishing)


def _reading(tag: str, held: _Held, source_time: Micros | None) -> Reading:
    bad = held.quality is Quality.BAD
    detail = _DETAILS[held.quality]
    return Reading(tag, None if bad else held.value, held.quality, source_time, detail)
