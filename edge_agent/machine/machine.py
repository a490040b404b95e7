"""A machine: tags in, state, counts, downtimes and samples out. Fulfils `contracts.Machine`.

Pure and deterministic: everything it knows is in its `MachineState`, time comes in, and a run that was killed and
restored from its last stored state equals one that was not, but for the gap it reports.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from config.model import Config
from drivers.base import Batch, Reading
from edge_agent.clock import Instant
from edge_agent.commands import decide
from edge_agent.commands.envelope import Command
from edge_agent.machine import saved as saving
from edge_agent.machine.adopting import adopted, moved, moved_tags, unheard
from edge_agent.machine.archive import Archive
from edge_agent.machine.assembly import assemble
from edge_agent.machine.contracts import NO_NUMBERS, NO_READINGS, NO_ROWS, Outcome, State, Timing
from edge_agent.machine.counters import Group, flush
from edge_agent.machine.measurements import SetState
from edge_agent.machine.parts import Part, Rebuild, Resumed, StateBegan
from edge_agent.machine.plan import Plan, plan, with_calendar
from edge_agent.machine.quiet import quiet
from edge_agent.machine.recalling import unseen
from edge_agent.machine.record import MachineState
from edge_agent.machine.registers import Register
from edge_agent.machine.ring import Ring
from edge_agent.machine.sample_sets import prepare
from edge_agent.machine.samples import Device
from edge_agent.machine.state import GROUPS
from edge_agent.machine.tag_table import tag_table


class Machine:
    rows: tuple[str, ...] = ("archive",)

    def __init__(self, config: Config, name: str, *, epoch: str) -> None:
        self.name = name
        self._epoch = epoch
        self._team = assemble(config, name)
        self._plan = plan(config, name, self._team.feeds(), self._team.windows(), self._team.conditions())
        self._sets = prepare(config, name, tag_table(config, name).revision)
        self._writer = saving.Writer(self._plan.fingerprints, self._team.parts)
        self._given: tuple[Plan, str | None] = self._plan, None
        self.devices = frozenset(self._plan.devices)

    def _empty(self, now: Instant, last: Mapping[str, int]) -> MachineState:
        groups = {name: Group() for name in self._plan.counters}
        parts = {part.name: part.initial(now) for part in self._team.parts}
        return MachineState(
            now,
            last.get(f"{self.name}.p", 0) + 1,
            last.get(f"{self.name}.m", 0) + 1,
            groups=groups,
            sets=(SetState(),) * len(self._sets),
            parts=parts,
        )

    def initial(self, now: Instant, last: Mapping[str, int] = NO_NUMBERS) -> Outcome:
        step = self._step(self._empty(now, last), now)
        step.out.store = True
        if last.get(f"{self.name}.p", 0):
            self._begin_anew(step, "it is damaged or gone")
        step.advance()
        return step.finish()

    def step(self, state: State, batch: Batch, now: Instant) -> Outcome:
        if batch.device not in self.devices:
            return Outcome(state)
        after = None if self._sets else quiet(self._plan, state, batch, now)
        if after is not None:
            return Outcome(after)
        step = self._step(state, now)
        if batch.entries is not None:
            step.entries(batch)
        elif batch.recalled is None:
            step.batch(batch)
        else:
            step.recall(batch)
        return step.finish()

    def unseen(self, state: State, device: str) -> int | None:
        return unseen(state, device)

    def due(self, state: State) -> int | None:
        wake: int | None = state.wake
        return wake

    def tick(self, state: State, now: Instant) -> Outcome:
        step = self._step(state, now)
        step.advance()
        return step.finish()

    def _step(self, state: MachineState, now: Instant) -> Ring:
        return Ring(self._planned(state.archive.calendar), self._sets, self._epoch, state, now, self._team)

    def _planned(self, calendar: str | None) -> Plan:
        """The plan with the calendar of the MOM, if it has sent one."""
        if calendar is None:
            return self._plan
        if self._given[1] != calendar:
            self._given = with_calendar(self._plan, calendar), calendar
        return self._given[0]

    def stretched(self, state: State, factor: int) -> State:
        return state._replace(stretch=factor)

    def dump(self, state: State) -> bytes:
        return self._writer.dump(state)

    def command(self, state: State, command: Command, now: Instant) -> Outcome:
        step = self._step(state, now)
        step.advance()
        decide.answer(step, command)
        step.advance()
        return step.finish()

    def restore(
        self,
        saved: bytes,
        now: Instant,
        rows: Mapping[str, bytes] = NO_ROWS,
        last: Mapping[str, int] = NO_NUMBERS,
    ) -> Outcome:
        try:
            known, rebuild = saving.load(saved, now)
            archive = saving.load_archive(rows["archive"], now) if "archive" in rows else Archive()
        except saving.Unreadable as fault:
            step = self._step(self._empty(now, last), now)
            step.out.store = True
            self._begin_anew(step, str(fault))
            return step.finish()
        parts, anew = self._parts(known, rebuild, now)
        state = self._adapt(known, now)._replace(parts=parts, causes=known.causes, archive=archive, mode=known.mode)
        before, after = known.fingerprints, self._plan.fingerprints
        cause = "config_change" if before.get("state") != after["state"] else "agent_down"
        step = self._step(state, now)
        step.out.store = True
        for part, why in anew.items():
            self._introduce(step, part, why)
        step.tell(Resumed(known.at, now))
        step.give_up()
        for name, device in state.devices.items():
            if device.seen is not None and device.good:
                step.open_gap(name, device.seen, cause)
        if step.tracked.current is not None and cause == "config_change":
            step.blind(step.last_seen() or known.at, "config")
        for name, group in step.groups.items():
            step.groups = {**step.groups, name: flush(group, name, self._plan, step.out)}
        step.advance()
        return step.finish()

    def _begin_anew(self, step: Ring, why: str) -> None:
        step.out.warn(
            "state_unreadable",
            f"{self.name}: its stored state cannot be used ({why}); it starts anew and counts from the next sample.",
            self._plan.subject,
        )

    def adopt(
        self, former: "Machine", state: State, now: Instant, latest: Mapping[str, Sequence[Reading]] = NO_READINGS
    ) -> Outcome:
        """Go on where the machine is, which was configured as `former` until now; nothing was unseen meanwhile.

        What was counted is published as it was configured; then the new mapping applies. Baselines, open downtime and
        parts go on, and tags that mean something else now are looked at anew, behind a gap. `latest`: the newest
        readings of the devices that stay connected: tags that are used only now may not come again by themselves.
        """
        before = former._step(state, now)
        before.advance()
        before.flush()
        first = before.finish()
        known: MachineState = first.state
        saved, rebuild = saving.load(former.dump(known), now, same_clock=True)
        parts, anew = self._parts(saved, rebuild, now)
        old, new = former._plan, self._plan
        mapped = old.fingerprints["state"] == new.fingerprints["state"] and old.state_keys == new.state_keys
        adapted = self._adapt(saved, now)._replace(parts=parts)
        step = self._step(adopted(adapted, known, new, self._sets, former._sets, mapped=mapped), now)
        step.out.store = True
        for part, why in anew.items():
            self._introduce(step, part, why)
        step.tell(Resumed(now, now))
        for device in moved(old.fingerprints, new):
            seen = step.devices[device].seen if device in step.devices else None
            if seen is not None:
                step.open_gap(device, seen, "config_change")
        step.trigger = "tag" if mapped else "config"
        for device, readings in latest.items():
            if device in self.devices and device not in step.gaps:
                step.batch(Batch(device, unheard(readings, step.devices.get(device))))
        if not mapped:
            step.remap(now)
        step.advance()
        then = step.finish()
        return Outcome(
            then.state,
            [*first.events, *then.events],
            [*first.warnings, *then.warnings],
            True,
            {**first.rows, **then.rows},
        )

    def leave(self, state: State, now: Instant) -> Outcome:
        """The machine is not configured any more: what was counted is published, and its state is unknown."""
        step = self._step(state, now)
        step.advance()
        step.flush()
        step.blind(step.last_seen() or now, "config")
        step.out.store = True
        return step.finish()

    def _parts(
        self, known: saving.Saved, rebuild: Rebuild, now: Instant
    ) -> tuple[dict[str, Any], dict[Part[Any], str]]:
        """The parts' states, and those that begin anew with what was wrong with the stored one."""
        parts: dict[str, Any] = {name: saved._replace(fingerprint="") for name, saved in known.parts.items()}
        anew: dict[Part[Any], str] = {}
        for part in self._team.parts:
            saved = known.parts.get(part.name)
            if saved is None:
                parts[part.name], anew[part] = part.initial(now), ""
                continue
            try:
                parts[part.name] = part.load(saved.state, rebuild, now, same=saved.fingerprint == part.fingerprint)
            except (ValueError, TypeError) as fault:
                parts[part.name], anew[part] = part.initial(now), str(fault)
        return parts, anew

    def _introduce(self, step: Ring, part: Part[Any], why: str) -> None:
        """A part that is new to a machine in the middle of its life hears the state, and no more."""
        if why:
            step.warn("state_unreadable", f"{self.name}: what was stored of its {part.name} cannot be used ({why}).")
        current = step.tracked.current
        if current is not None and StateBegan in part.heeds:
            began = StateBegan(str(current.state), current.since, None, str(current.mode), blind=current.blind)
            step.parts = {**step.parts, part.name: part.take(step.parts[part.name], began, step)}

    def _adapt(self, known: saving.Saved, now: Instant) -> MachineState:
        """The stored state under today's configuration: what is not configured any more is set aside."""
        before, after = known.fingerprints, self._plan.fingerprints
        stored = {**known.orphans, **known.groups}
        groups, moved = {}, moved_tags(before, self._plan)
        for name, registers in self._plan.counters.items():
            group = stored.pop(name, Group())
            kept: dict[str, Register] = {
                member: register
                for member, register in group.registers.items()
                if member in registers
                and before.get(f"counter {name} {member}") == after[f"counter {name} {member}"]
                and registers[member].key not in moved
            }
            groups[name] = group._replace(registers=kept)
        keys = {key for device in self._plan.devices.values() for key in device.essential.values()}
        same_state = before.get("state") == after["state"]
        return MachineState(
            now,
            known.seq_p,
            known.seq_m,
            {
                name: Device(device.seen, {}, device.newest, device.skewed, good=device.good)
                for name, device in known.devices.items()
                if name in self._plan.devices
            },
            {key: held for key, held in known.held.items() if key in keys and key not in moved},
            {},
            {
                key: gap._replace(back=None, decided=None, signs=0, read=frozenset(), settle=None)
                for key, gap in known.gaps.items()
                if (key in keys or key in self._plan.devices) and keys.issuperset(gap.tags)
            },
            known.tracked if same_state else known.tracked._replace(candidate=None),
            groups,
            known.downtime,
            (SetState(),) * len(self._sets),
            stored,
            {},
            None,
            known.ctx,
            known.earlier,
            known.order_totals,
        )

    def roles(self) -> Mapping[str, tuple[str, ...]]:
        plan, found = self._plan, dict[str, list[str]]()

        def note(key: str, role: str) -> None:
            if role not in found.setdefault(key, []):
                found[key].append(role)

        for key in sorted(plan.state_keys):
            note(key, "state")
        for key, counts in plan.roles.items():
            for group, member in counts:
                note(key, f"counter {group}.{member}")
        if plan.reason_key is not None:
            note(plan.reason_key, "reason of a stop")
        for part in self._team.parts:
            for key in sorted(part.keys):
                note(key, part.name)
        for one in self._sets:
            for device, tags in one.tags.items():
                for tag in tags:
                    note(f"{device}/{tag}", f"measurement {one.name}")
        return {key: tuple(roles) for key, roles in found.items()}

    def timing(self, state: State) -> Timing:
        whole: MachineState = state
        return Timing(
            sum(device.dropped for device in whole.devices.values()),
            {
                name: device.newest - device.seen.wall
                for name, device in whole.devices.items()
                if device.skewed and device.newest is not None and device.seen is not None
            },
        )

    def describe(self, state: State) -> dict[str, Any]:
        whole: MachineState = state
        current, episode = whole.tracked.current, whole.downtime
        seen = [device.seen for device in whole.devices.values() if device.seen is not None]
        described: dict[str, Any] = {
            "counters": {
                name: {
                    "totals": dict(group.totals),
                    "raw": {
                        member: register.raw
                        for member, register in group.registers.items()
                        if register.raw is not None
                    },
                }
                for name, group in whole.groups.items()
            },
            "quality": "bad"
            if current is None or current.blind
            else "uncertain"
            if whole.tracked.doubt is not None
            else "good",
        }
        for part in self._team.parts:
            described |= part.describe(whole.parts[part.name])
        if late := self.timing(state).dropped:
            described["late_dropped"] = late
        if seen:
            described["last_good_at"] = max(seen, key=lambda at: at.mono).wall
        if whole.gaps:
            described["gaps"] = {
                key: {"since": gap.since.wall, "cause": gap.cause} for key, gap in sorted(whole.gaps.items())
            }
        if current is not None:
            described |= {
                "state": str(current.state),
                "group": GROUPS[current.state],
                "mode": str(current.mode),
                "since": current.since.wall,
            }
        if episode is not None:
            cause = episode.cause
            described["downtime"] = {
                "id": episode.id,
                "since": episode.started.wall,
                "class": episode.class_,
                "category": str(episode.category),
                "reason": None if cause is None else {"code": cause.code, "text": cause.text, "source": cause.source},
            }
        return described
