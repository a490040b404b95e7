"""The shop floor in memory: every machine with its state, stepped and stored.

One call, one commit: a batch goes through the pure step of each machine it concerns, and the events together
with the new states are handed to the outbox as one transaction. Steps are synchronous, nothing is awaited
between a step and its place in the outbox, and the outbox keeps that order, so what is in memory is never behind
what is on the disk, and a later commit can never overtake an earlier one. `$agent.h`, the agent's own stream,
lives here too for the same reason.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from buffer.outbox import Lane, Message, Outbox, Span, Stored
from config.model import Config
from drivers.base import Batch, Reading
from edge_agent.clock import SECOND, Clock, Instant
from edge_agent.commands.envelope import Command
from edge_agent.delivery import plain
from edge_agent.delivery.retained import Retained
from edge_agent.due import DueTimes
from edge_agent.events.codec import agent_encoder, machine_encoder
from edge_agent.events.topics import AGENT_STREAM
from edge_agent.events.types import AgentWarning, Data, DataLoss, Event
from edge_agent.machine.contracts import NO_ROWS, Machine, Outcome, State, Timing
from edge_agent.machine.tag_table import tag_table

log = logging.getLogger(__name__)

Observer = Callable[[Sequence[Message]], None]
"""Called with messages once they are committed."""
Watcher = Callable[[Batch, Instant], None]
"""Called with a batch and the time it was read, before it is fed."""

STORED_AT = "stored_at"
"""Row of state: the time of the last `store` (UTC µs)."""
_TELL_AGAIN = 60 * SECOND
_AT_ONCE = 200
"""Machines whose states are stored in one commit: a plant of thousands must not hold up the scans."""


class Floor:
    """All machines of one agent. Build it on an open outbox, `open` it, then `feed` and `tick` it."""

    def __init__(
        self,
        config: Config,
        machines: Iterable[Machine],
        outbox: Outbox,
        retained: Retained,
        clock: Clock,
        *,
        is_doubtful: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_doubtful`: whether the wall clock was not set yet, which is said on every event."""
        self.machines = {machine.name: machine for machine in machines}
        self.observers: list[Observer] = [retained.observe]
        self.watchers: list[Watcher] = []
        self.last_seq: dict[str, int] = {}
        """Highest number of each stream that is stored."""
        self._given = 0
        """The last number given in the agent's own stream."""
        self._outbox = outbox
        self._retained = retained
        self._config = config
        self._clock = clock
        self._is_doubtful = is_doubtful
        self._encoders = {name: machine_encoder(config, name, outbox.epoch) for name in self.machines}
        self._dictionaries = self._tags_of(config, self.machines)
        self._agent_encoder = agent_encoder(config, outbox.epoch)
        self._states: dict[str, State] = {}
        self._positions: dict[str, str] = {}
        """Device → up to where its ring was fed."""
        self._stretch = 1
        self._failed: dict[str, int] = {}
        """Machine → when it was said that it fails, monotonic µs."""
        self._troubles: list[AgentWarning] = []
        self._due = DueTimes()
        self._by_device = _by_device(self.machines.values())

    async def open(self, *first: Data) -> None:
        """Take every machine up where the outbox left it. `first` become the first events of this start."""
        self.last_seq.update(await self._outbox.last_numbers())
        self._given = self.last_seq.get(AGENT_STREAM, 0)
        await self._retained.load(self._outbox, [encoder.place for encoder in self._encoders.values()])
        await self._find_positions(self._config)
        stored = await self._stored(self.machines.values())
        await self.record(*first)
        now = self._clock.now()
        outcomes = []
        for name, machine in self.machines.items():
            outcomes.append((machine, _begun(machine, *stored[name], now, self.last_seq)))
        await self._commit(outcomes, now)
        for dictionary in self._dictionaries:
            self._retained.put(dictionary)

    async def switch(
        self, config: Config, machines: Sequence[Machine], newest: Callable[[], Mapping[str, Sequence[Reading]]]
    ) -> None:
        """Go on with another configuration. `machines` are those it has: one that is the very object in use goes on
        untouched, a new one begins or goes on where it was when it was configured last, and one that is not among
        them any more says so. `newest` gives the newest readings of the devices that stay connected; it is asked at
        the moment of the switch, or what is fed meanwhile would be taken back.

        All in one commit, and no step of another configuration comes between; when a machine cannot go on nothing is
        changed.
        """
        new = [machine for machine in machines if machine.name not in self.machines]
        await self._find_positions(config)
        stored = await self._stored(new)
        encoders = {m.name: machine_encoder(config, m.name, self._outbox.epoch) for m in machines}
        await self._retained.load(self._outbox, [encoders[machine.name].place for machine in new])
        latest = newest()
        now, names = self._clock.now(), {machine.name for machine in machines}
        gone = [(m, m.leave(self._states[m.name], now)) for m in self.machines.values() if m.name not in names]
        going_on = [
            (machine, machine.adopt(former, self._states[machine.name], now, latest))
            for machine in machines
            if (former := self.machines.get(machine.name)) is not None and former is not machine
        ]
        begun = [(machine, _begun(machine, *stored[machine.name], now, self.last_seq)) for machine in new]
        for machine, _ in (*going_on, *begun):
            self._encoders[machine.name] = encoders[machine.name]
        for dictionary in self._tags_of(config, [machine.name for machine, _ in (*going_on, *begun)]):
            self._retained.put(dictionary)
        self.machines = {machine.name: machine for machine in machines}
        self._by_device = _by_device(machines)
        await self._commit([*gone, *going_on, *begun], now)
        self.stretch(self._stretch)
        for machine, _ in gone:
            del self._states[machine.name], self._encoders[machine.name]

    def _tags_of(self, config: Config, machines: Iterable[str]) -> list[Message]:
        """The retained dictionaries of the machines' tags."""
        encoders = {name: self._encoders[name] for name in machines}
        return [
            plain.tags(encoder.place, name, encoder.epoch, *tag_table(config, name))
            for name, encoder in encoders.items()
        ]

    async def _stored(self, machines: Iterable[Machine]) -> dict[str, tuple[bytes | None, Mapping[str, bytes]]]:
        """Each machine's state and rows, as they were stored last."""
        keys = {machine.name: {row: _key(machine.name, row) for row in machine.rows} for machine in machines}
        wanted = [*map(_key, keys), *(key for rows in keys.values() for key in rows.values())]
        found = await self._outbox.load_states(wanted)
        return {
            name: (found.get(_key(name)), {row: found[key] for row, key in rows.items() if key in found})
            for name, rows in keys.items()
        }

    async def feed(self, batch: Batch) -> None:
        """Step the machines that the batch concerns; returns when it is committed. Nothing to keep, no commit."""
        now = self._clock.now()
        for watcher in self.watchers if batch.recalled is None else ():
            watcher(batch, now)
        machines = self._by_device.get(batch.device, ())
        must = batch.entries is not None or batch.recalled is not None
        outcomes = self._each(machines, lambda m, s, at: m.step(s, batch, at), now, must=must)
        rows: dict[str, bytes] = {}
        if batch.entries is not None:
            self._positions[batch.device] = batch.entries.position
            rows[_ring(batch.device)] = batch.entries.position.encode()
        await self._commit(outcomes, now, rows)

    def position(self, device: str) -> str | None:
        """Up to where the device's ring was fed; empty if that never was."""
        return self._positions.get(device, "")

    async def _find_positions(self, config: Config) -> None:
        new = {device: _ring(device) for device in config.devices if device not in self._positions}
        found = await self._outbox.load_states(list(new.values()))
        self._positions.update((device, found.get(key, b"").decode()) for device, key in new.items())

    def using(self, device: str) -> list[str]:
        """Names of the machines that use tags of the device."""
        return [machine.name for machine in self._by_device.get(device, ())]

    def unseen(self, device: str) -> int | None:
        """Since when some machine knows nothing of the device, UTC µs."""
        machines = self._by_device.get(device, ())
        found = [machine.unseen(self._states[machine.name], device) for machine in machines]
        return min((since for since in found if since is not None), default=None)

    async def tick(self) -> None:
        """Fire the machines' timers for ever, each at its own time."""
        while True:
            next_due = self._due.next()
            now = self._clock.now()
            if next_due is None or next_due > now.mono:
                wait = None if next_due is None else (next_due - now.mono) / 1e6
                try:
                    async with asyncio.timeout(wait):
                        await self._due.earlier.wait()
                except TimeoutError:
                    pass
                continue
            due = [self.machines[name] for name in self._due.take(now.mono)]
            await self._commit(self._each(due, lambda m, s, at: m.tick(s, at), now), now)

    def _each(
        self,
        machines: Iterable[Machine],
        act: Callable[[Machine, State, Instant], Outcome],
        now: Instant,
        *,
        must: bool = False,
    ) -> list[tuple[Machine, Outcome]]:
        """What each machine makes of it. One that fails stays as it was until its next reading, for it must not stop
        the others. `must`: what it is given comes only once, so that is raised, before any of them goes on."""
        outcomes = []
        for machine in machines:
            try:
                outcome = act(machine, self._states[machine.name], now)
            except Exception as error:  # a bug of ours that the readings of one machine bring out
                if must:
                    raise
                self._note_failure(machine.name, error, now)
                continue
            outcomes.append((machine, outcome))
        return outcomes

    def _note_failure(self, machine: str, error: Exception, now: Instant) -> None:
        """Say so, once a minute for each machine."""
        last = self._failed.get(machine)
        if last is None or now.mono - last >= _TELL_AGAIN:
            self._failed[machine] = now.mono
            text = f"{machine}: nothing is made of what is read: {error!r}. This is a bug in edge-agent, report it."
            log.exception("%s", text)
            subject = self._encoders[machine].place.subject
            self._troubles.append(AgentWarning(code="machine_failed", text=text, subject=subject))

    async def command(self, machine: str, command: Command) -> None:
        """Let a machine answer a command of the MOM; returns when the answer and what it did are committed."""
        now = self._clock.now()
        one = self.machines[machine]
        await self._commit([(one, one.command(self._states[machine], command, now))], now)

    async def record(self, *data: Data, time: int | None = None, story: str | None = None) -> None:
        """Events of the agent itself, in `$agent.h`; `time` (UTC µs) is when they happened, by default now; `story`:
        the command that they answer."""
        now = self._clock.now()
        messages = [self._agent_message(each, now, time, story) for each in data]
        await self._append(messages, {})

    async def give_up(self, gone: Sequence[Span], declared: Iterable[DataLoss]) -> int:
        """Remove what waits of these numbers and declare it in `$agent.h`, in one transaction; the bytes of the
        declarations."""
        now = self._clock.now()
        messages = [self._agent_message(each, now, None) for each in declared]
        await self._append(messages, {}, gone)
        return sum(len(message.body) for message in messages)

    async def set_aside(self, stored: Stored, reason: str) -> None:
        """Move a message that the broker never takes to the dead letters and declare it, in one transaction. That a
        declaration is not taken is not declared again, or it would go on for ever."""
        position, message = stored
        messages = []
        if message.type != DataLoss.TYPE:
            lost = DataLoss(
                lost_stream=message.stream,
                lost_epoch=message.epoch,
                seq_from=message.seq,
                seq_to=message.seq,
                extent="exact",
                count_by_type={message.type: 1},
                cause="poison_event",
                policy="drop_oldest",
            )
            messages = [self._agent_message(lost, self._clock.now(), None)]
        await self._outbox.reject(position, reason, messages)
        self._tell(messages)

    def stretch(self, factor: int) -> None:
        """Sample at intervals that are so many times as long, from the next of each set on."""
        self._stretch = factor
        for name, machine in self.machines.items():
            self._states[name] = machine.stretched(self._states[name], factor)

    async def store(self, *data: Data) -> None:
        """Commit every machine's state as it stands, so that a gap would begin at its last sample; with `data` as
        events of the agent, in the first of the commits."""
        now = self._clock.now()
        messages = [self._agent_message(each, now, None) for each in data]
        stored_at = {STORED_AT: str(now.wall).encode()}
        names = list(self.machines)
        for at in range(0, max(1, len(names)), _AT_ONCE):
            some = [name for name in names[at : at + _AT_ONCE] if name in self.machines]
            states = {_key(name): self.machines[name].dump(self._states[name]) for name in some}
            await self._append(messages, {**states, **stored_at})
            messages, stored_at = [], {}

    def streams(self) -> Iterator[str]:
        """Those of the machines of now."""
        return (f"{name}.{lane}" for name in self.machines for lane in "pm")

    def timing(self) -> dict[str, Timing]:
        return {name: machine.timing(self._states[name]) for name, machine in self.machines.items()}

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: machine.describe(self._states[name]) for name, machine in self.machines.items()}

    async def _commit(
        self, outcomes: Iterable[tuple[Machine, Outcome]], now: Instant, rows: Mapping[str, bytes] = NO_ROWS
    ) -> None:
        """`rows`: further rows of state, of the same transaction."""
        messages: list[Message] = []
        states: dict[str, bytes] = dict(rows)
        counted: list[Machine] = []
        for machine, outcome in outcomes:
            name = machine.name
            self._states[name] = outcome.state
            self._due.set(name, machine.due(outcome.state) if name in self.machines else None)
            if outcome.events:
                own = [self._encoders[name].encode(event) for event in self._judged(outcome.events)]
                messages += own
                if any(message.type == "production.counted" for message in own):
                    counted.append(machine)
            if outcome.warnings:
                messages += [self._agent_message(warning, now, None) for warning in outcome.warnings]
            if outcome.events or outcome.store:
                states[_key(name)] = machine.dump(outcome.state)
            for row, content in outcome.rows.items():
                states[_key(name, row)] = content
        messages += [self._agent_message(warning, now, None) for warning in self._troubles]
        self._troubles.clear()
        if not messages and not states:
            return
        snapshots = [self._counters(machine, now) for machine in counted]
        await self._append(messages, states)
        for snapshot in snapshots:
            self._retained.put(snapshot)

    async def _append(
        self, messages: Sequence[Message], states: Mapping[str, bytes], evict: Sequence[Span] = ()
    ) -> None:
        if not messages and not states:
            return
        await self._outbox.append(messages, states={**states, **self._retained.keep(messages)}, evict=evict)
        self._tell(messages)

    def _tell(self, messages: Sequence[Message]) -> None:
        """They are committed."""
        for message in messages:
            self.last_seq[message.stream] = message.seq
        for observer in self.observers:
            observer(messages)

    def _counters(self, machine: Machine, now: Instant) -> Message:
        encoder = self._encoders[machine.name]
        values = machine.describe(self._states[machine.name])["counters"]
        return plain.counters(encoder.place, machine.name, encoder.epoch, at=now.wall, values=values)

    def _agent_message(self, data: Data, now: Instant, time: int | None, story: str | None = None) -> Message:
        self._given += 1
        at = now.wall if time is None else time
        event = Event(
            lane=Lane.HEALTH,
            seq=self._given,
            time=at,
            recorded=now.wall,
            data=data,
            correlation_id=story,
            causation_id=story,
        )
        return self._agent_encoder.encode(*self._judged([event]))

    def _judged(self, events: Sequence[Event]) -> Sequence[Event]:
        """Events with what is to be said of the clock that they were timed with."""
        return [_doubted(event) for event in events] if self._is_doubtful() else events


def _doubted(event: Event) -> Event:
    detail = (*(event.data.quality_detail or ()), "clock_unsynced")
    return replace(event, data=replace(event.data, quality_detail=detail))


def _begun(
    machine: Machine, stored: bytes | None, rows: Mapping[str, bytes], now: Instant, last: Mapping[str, int]
) -> Outcome:
    return machine.initial(now, last) if stored is None else machine.restore(stored, now, rows, last)


def _by_device(machines: Iterable[Machine]) -> dict[str, list[Machine]]:
    found: dict[str, list[Machine]] = {}
    for machine in machines:
        for device in machine.devices:
            found.setdefault(device, []).append(machine)
    return found


def _ring(device: str) -> str:
    return f"ring/{device}"


def _key(machine: str, row: str | None = None) -> str:
    return f"machine/{machine}" if row is None else f"machine/{machine}/{row}"
