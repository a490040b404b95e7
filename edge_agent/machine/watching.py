"""Gaps within a step: opening, reading again, and closing, so that count and state are judged together.

Order when one closes: `data.gap`, what the registers recovered, then the state from the first good sample on.
"""

from collections.abc import Iterable, Sequence

from drivers.base import Quality, Reading, Value
from edge_agent.clock import Instant
from edge_agent.machine import claims, counters, gaps
from edge_agent.machine.counters import Group
from edge_agent.machine.deciding import Deciding
from edge_agent.machine.gaps import Gap, covering
from edge_agent.machine.judging import judge
from edge_agent.machine.parts import GapClosed, GapOpened, Restarted, Sample, Scanned
from edge_agent.machine.plan import AFFECTS, DevicePlan
from edge_agent.machine.samples import Held, Moment, hold
from edge_agent.machine.state import View
from edge_agent.machine.times import later


class Watching(Deciding):
    def _set_gap(self, key: str, gap: Gap) -> None:
        self.gaps = {**self.gaps, key: gap}

    def open_gap(self, device: str, since: Instant, cause: str, settle: Instant | None = None) -> None:
        """A device is not seen since then: its tags are stale, the state is unknown if it hung on them."""
        known = self.gaps.get(device)
        if known is not None:
            if settle is not None:
                again = known._replace(cause=cause, settle=settle, back=None, decided=None, signs=0, read=frozenset())
                self._set_gap(device, again)
            return
        tags = tuple(key for key in self.plan.devices[device].essential.values() if covering(self.gaps, key) is None)
        self._open(device, Gap(since, cause, tags, settle))

    def open_tag_gap(self, key: str) -> None:
        """A tag was BAD for the comms time-out; those that turned BAD with it share the gap."""
        stale = self.held[key].stale
        assert stale is not None
        device = key.partition("/")[0]
        tags = tuple(
            tag
            for tag, held in self.held.items()
            if held.stale is not None
            and held.stale.mono == stale.mono
            and tag.partition("/")[0] == device
            and covering(self.gaps, tag) is None
        )
        self._open(key, Gap(stale, "bad_quality", tags))

    def _open(self, key: str, gap: Gap) -> None:
        self._flush()
        held = dict(self.held)
        for tag in gap.tags:
            one = held.get(tag)
            if one is not None and one.stale is None:
                held[tag] = one._replace(stale=gap.since)
        self.held = held
        before = {name: group.totals for name, group in self.groups.items()}
        self._set_gap(key, gap._replace(before=before))
        self.tell(GapOpened(key, gap.cause, gap.since, gap.tags, "/" not in key))
        trigger = gaps.TRIGGERS[gap.cause]
        view = View(self.held, self.devices, self.past, self.now)
        if any(tag in self.plan.state_keys for tag in gap.tags) and judge(self.plan, view, self.groups) is None:
            since = gap.since
            if self.tracked.doubt is not None:
                since = later(since, self.tracked.doubt)
            self.blind(since, trigger)

    def _restarted(self, device: str, seen: Instant) -> None:
        settle = Instant(self.now.wall + self.plan.settle, self.now.mono + self.plan.settle)
        self.open_gap(device, seen, "plc_restart", settle)
        self.tell(Restarted(device, seen, self.now))
        for name, registers in self.plan.counters.items():
            if any(register.key.partition("/")[0] == device for register in registers.values()):
                self._announce(name, settle, certain=False)

    def _in_gap(
        self, device: str, gap: Gap, plan: DevicePlan, moments: Sequence[Moment], fresh: Sequence[Reading]
    ) -> None:
        """A batch of a device that is in a gap: its tags are read, and believed when the gap closes."""
        held = dict(self.held)
        read = set()
        for moment in moments:
            for reading in moment.readings:
                key = plan.essential[reading[0]]
                own = covering(self.gaps, key)
                if own is not None and own != device:
                    self._read_in_tag_gap(own, key, held, reading, moment)
                    continue
                read.add(key)
                old = held.get(key)
                if old is not None and reading[2] is Quality.BAD:
                    held[key] = old._replace(quality=Quality.BAD, detail=reading[4])
                    continue
                new = hold(old, reading, self.now, "agent", gap.since)
                if new is not None:
                    if new.stale is None:
                        self._hint(key, old, new)
                    held[key] = new._replace(stale=gap.since)
        self.held = held
        good = any(reading[2] is not Quality.BAD for reading in fresh)
        self._set_gap(device, gaps.seen(gap, self.now, read, self.plan.state_keys, good=good))
        self._try_close(device, self.now)

    def _read_in_tag_gap(
        self, gap_key: str, key: str, held: dict[str, Held], reading: Reading, moment: Moment
    ) -> None:
        """A reading of a tag that was BAD for longer than the comms time-out."""
        gap, old = self.gaps[gap_key], held.get(key)
        if reading[2] is Quality.BAD:
            if key in gap.read and old is not None:
                held[key] = old._replace(quality=Quality.BAD, detail=reading[4])
                self._set_gap(gap_key, gap._replace(read=gap.read - {key}))
            return
        new = hold(old, reading, moment.at, moment.basis, None)
        assert new is not None
        self._hint(key, old, new)
        held[key] = new._replace(stale=gap.since)
        self._set_gap(gap_key, gap._replace(read=gap.read | {key}, back=gap.back or moment.at))

    def _close_tag_gaps(self, device: str) -> None:
        """After a batch of the device: tags that are good again are believed when all of their gap are."""
        for key, gap in self.gaps.items():
            if key != device and gap.back is not None and gap.tags[0].partition("/")[0] == device:
                self._set_gap(key, gap._replace(signs=gap.signs + 1))
                self._try_close(key, self.now)

    def _try_close(self, key: str, at: Instant, *, force: bool = False) -> None:
        gap = self.gaps[key]
        if gap.settling(self.now) or not (force or gap.ready(self.held)) or gap.back is None:
            return
        gap = self._recover(gap, at, force=force)
        self._set_gap(key, gap)
        if not force and self._suspects(gap):
            return
        self.gaps = {name: other for name, other in self.gaps.items() if name != key}
        held = dict(self.held)
        unseen = tuple(tag for tag in gap.tags if tag in held and held[tag].quality is Quality.BAD)
        if unseen:
            self._set_gap(unseen[0], Gap(gap.since, gap.cause, unseen, before=gap.before))
        seen = tuple(tag for tag in gap.tags if tag not in unseen)
        self.held = held | {tag: held[tag]._replace(stale=None) for tag in seen if tag in held}
        self._close(key, gap._replace(tags=seen), frozenset(unseen))

    def _suspects(self, gap: Gap) -> bool:
        for tag in gap.tags:
            for name, member in self.plan.roles.get(tag, ()):
                group = self.groups.get(name)
                register = group.registers.get(member) if group is not None else None
                if register is not None and register.suspect is not None:
                    return True
        return False

    def _recover(self, gap: Gap, at: Instant, *, force: bool) -> Gap:
        """Read the registers over the gap; `force` believes a suspect reading now."""
        values: dict[str, dict[str, Value]] = {}
        for tag in gap.tags:
            one = self.held.get(tag)
            if one is not None and one.quality is Quality.GOOD:
                for name, member in self.plan.roles.get(tag, ()):
                    values.setdefault(name, {})[member] = one.value
        worst = gap.worst
        for name, members in values.items():
            for attempt in range(4 if force else 1):
                if attempt and not self._suspects(gap):
                    break
                booked = self._count(name, members, at, "agent", dict.fromkeys(members, gap.since), gap=True)
                result = counters.recovered(self.groups[name], {}, booked)
                worst = gaps.worse(worst, result.quality)
        return gap._replace(worst=worst)

    def _close(self, key: str, gap: Gap, unseen: frozenset[str]) -> None:
        """The gap ends for its tags; those in `unseen` are BAD and stay in one of their own."""
        assert gap.back is not None
        affects = self._affects(gap.tags)
        if "/" not in key:
            lost = set(self._affects(unseen)).difference(affects)
            nothing = unseen and not gap.tags
            affects = () if nothing else tuple(w for w in self.plan.devices[key].affects if w not in lost)
        delta: dict[str, int] = {}
        touched = {name for tag in gap.tags for name, _ in self.plan.roles.get(tag, ())}
        for name in sorted(touched):
            group = self.groups.get(name, Group())
            for member, total in group.totals.items():
                register = self.plan.counters[name].get(member)
                if register is not None and register.key in unseen:
                    continue
                made = total - gap.before.get(name, {}).get(member, 0)
                delta[member] = delta.get(member, 0) + made
        quality = gap.worst or "none"
        counted = "count" in affects
        self._gap_event(gap.since, gap.back, gap.cause, affects, quality if counted else None, delta or None)
        claims.flush_gap(self, gap.since, sorted(touched))
        self._flush()
        if self.team.parts:
            self._tell_closed(key, gap, gap.back)
        for tag in gap.tags:
            if tag in self.plan.factors:
                self._factor(tag, gap.back, "agent")
        since = gap.back if gap.decided is None else later(gap.back, gap.decided)
        self._evaluate(since, "agent", gaps.TRIGGERS[gap.cause], self._parts())

    def _tell_closed(self, key: str, gap: Gap, back: Instant) -> None:
        self.tell(GapClosed(key, gap.cause, gap.since, back, gap.tags, "/" not in key))
        for tag in gap.tags:
            held = self.held.get(tag)
            if held is not None and tag in self.team.by_key:
                self.tell(Sample(tag, held.value if held.stale is None else None, held.quality, back, "agent", True))
        self.tell(Scanned(back, "agent"))

    def _affects(self, tags: Iterable[str]) -> tuple[str, ...]:
        """What essential tags feed, in the words of `data.gap`."""
        keys = frozenset(tags)
        return tuple(word for word, fed in self.plan.fed.items() if keys & fed)

    def _overflowed(self, plan: DevicePlan, tags: frozenset[str], seen: Instant) -> None:
        """Values were lost in the device's queue: registers still tell the count, edges and states are gone."""
        words: set[str] = set()
        recovered = "exact"
        for tag in tags & plan.used:
            key = plan.essential.get(tag)
            words |= set(self._affects((key,))) if key is not None else {"measurement"}
            held = self.held.get(key) if key is not None else None
            if key in self.plan.roles and held is not None and isinstance(held.value, bool):
                recovered = "none"
        affects = tuple(word for word in AFFECTS if word in words)
        self._gap_event(seen, self.now, "queue_overflow", affects, recovered if "count" in words else None, None)

    def _hint(self, key: str, old: Held | None, new: Held) -> None:
        """A hint tag announces a reset: a bit that rises, a number that falls, a text that changes."""
        groups = self.plan.hint_roles.get(key)
        if groups is None or old is None:
            return
        if isinstance(new.value, bool) or isinstance(old.value, bool):
            hinted = bool(new.value) and not old.value
        elif isinstance(new.value, str) or isinstance(old.value, str):
            hinted = new.value != old.value
        else:
            hinted = new.value < old.value
        if hinted:
            for group in groups:
                self._announce(group, new.at)
