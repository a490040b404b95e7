"""Keeps the outbox inside its bounds: what is given up, in which order, and that it is declared.

Priorities: confirmed messages go first (the outbox does that by itself). From `SPARE_ABOVE` on sample sets with an
interval are sampled more seldom, so that there is less to give up. Then, from `SHED_ABOVE` on, go waiting
measurements, then health but not its declarations; from `DROP_ABOVE` on production too, if the policy is
`drop_oldest`. With `stop_reading` production is never given up: when nothing else is left appends wait, and with them
the reading of devices. A declaration and what it declares are one transaction. It is an upper bound: a message that
was on its way at that moment may arrive although it is named. How declarations are kept few: see `declarations`.
"""

import logging
from collections.abc import Mapping, Sequence

from buffer.outbox import Lane, Oldest, Outbox, OutboxError, Room
from config.model import Buffer
from edge_agent.clock import Clock
from edge_agent.delivery import declarations
from edge_agent.floor import Floor

log = logging.getLogger(__name__)

SPARE_ABOVE = 0.7
SHED_ABOVE = 0.85
DROP_ABOVE = 0.95
ROOM_AGAIN = 0.8
"""Shares of the room."""
STRETCH = 5
"""So many times as long are the intervals of sample sets from `SPARE_ABOVE` on, until it is less by a tenth."""
LOOK_EVERY = 10
TURN = 0.1
"""Seconds of a turn. Each sees whether appends wait for room, and so many later the fill is asked for."""
AGE_EVERY = 600
"""Turns between two removals of what is too old."""
STEP = 50
"""One step gives up this part of the room."""
ROOM_TO_SAY_SO = 64 << 10
"""Bytes: a step that must make room at once makes it for what waits, as rows may need twice their bytes, and for the
declaration."""
DECLARATION = 1000
"""Bytes that a declaration takes, about."""
FOLD_PART, FOLD_AT_MOST = 20, 1 << 20
"""When declarations of this part of the room, or of so many bytes, are new, those that wait are folded."""
COUNTS = frozenset({"production.counted"})


class Bounds:
    """`run` it beside the collectors."""

    def __init__(self, floor: Floor, outbox: Outbox, clock: Clock, options: Buffer) -> None:
        self._floor = floor
        self._outbox = outbox
        self._clock = clock
        self._options = options
        self._began = clock.now()
        self._short = False
        self._sparing = False
        self._unreadable = False
        self._declared = FOLD_AT_MOST
        """Bytes of declarations since those that wait were folded; how many a former process made is not known."""
        self._in_vain: bool | None = None
        """How widely it was tried to fold in vain since anything was given up; None if it was not."""

    async def run(self) -> None:
        turn = 0
        while True:
            if turn % LOOK_EVERY == 0 or self._short or self._outbox.full:
                await self._look(with_age=turn % AGE_EVERY == 0)
            turn += 1
            await self._clock.sleep(TURN)

    async def _look(self, *, with_age: bool) -> None:
        """A disk that cannot be read at the moment is looked at again; one that is damaged ends it."""
        try:
            await self.make_room()
            if with_age:
                await self.drop_too_old()
            self._unreadable = False
        except OutboxError as error:
            if error.code != "S705":
                raise
            if not self._unreadable:
                log.warning("%s %s", error.code, error)
            self._unreadable = True

    async def make_room(self) -> None:
        """Give up what must go until the bounds hold or nothing is left that may go."""
        given = 0
        while True:
            room = await self._outbox.room()
            full = self._outbox.full
            if (room.fill < SHED_ABOVE or room.kept) and not full:
                break
            done = await self._give_up_oldest(room, full)
            if not done:
                break
            given += done
        self._say(given, room.fill)
        self._spare(room)

    def _spare(self, room: Room) -> None:
        sparing = not room.kept and room.fill >= (SPARE_ABOVE * 0.9 if self._sparing else SPARE_ABOVE)
        if sparing != self._sparing:
            self._sparing = sparing
            log.info("the buffer fills: %s", "sampling more seldom" if sparing else "sampling as configured again")
            self._floor.stretch(STRETCH if sparing else 1)

    async def _give_up_oldest(self, room: Room, full: bool) -> int:
        """One step; how many messages went. More goes than what declares it takes."""
        need = room.limit // STEP if not full else room.limit // STEP + 2 * room.waiting + ROOM_TO_SAY_SO
        step = need
        while True:
            found = await self._choose(room, full, step)
            runs = [each for oldest in found.values() for each in oldest]
            given, due = sum(each.size for each in runs), need + len(runs) * DECLARATION
            if given >= due or given < step:
                break
            step = max(due, 2 * step)
        fold = full or not found or self._declared >= min(room.limit // FOLD_PART, FOLD_AT_MOST)
        cause = "disk_full" if room.disk else "buffer_full"
        return await self._give_up(found, cause=cause, fold=fold, widely=full and not found)

    async def _choose(self, room: Room, full: bool, step: int) -> Mapping[str, Sequence[Oldest]]:
        """What goes next, by the policy that gives it up. What waits for room needs all of it at once, so then a lane
        that does not give enough is joined by the next."""
        lanes = [(Lane.MEASUREMENT, "shed_measurements"), (Lane.HEALTH, self._options.when_full)]
        if self._options.when_full == "drop_oldest" and (full or room.fill >= DROP_ABOVE):
            lanes.append((Lane.PRODUCTION, "drop_oldest"))
        found: dict[str, list[Oldest]] = {}
        for lane, policy in lanes:
            oldest = await self._oldest(lane, step)
            if oldest:
                found.setdefault(policy, []).extend(oldest)
                step -= sum(each.size for each in oldest)
                if step <= 0 or not full:
                    break
        return found

    async def drop_too_old(self) -> None:
        """Give up what has waited longer than `max_age`. A wall clock that jumps ahead makes nothing old."""
        if self._options.max_age is None:
            return
        now, began = self._clock.now(), self._began
        before = min(now.wall, began.wall + now.mono - began.mono) - self._options.max_age
        for lane in Lane:
            policy = "shed_measurements" if lane is Lane.MEASUREMENT else "drop_oldest"
            while oldest := await self._oldest(lane, self._options.max_size, before):
                fold = self._declared >= FOLD_AT_MOST
                await self._give_up({policy: oldest}, cause="expired_retention", fold=fold)

    async def _oldest(self, lane: Lane, size: int, before: int | None = None) -> Sequence[Oldest]:
        spare = declarations.KEPT if lane is Lane.HEALTH else frozenset[str]()
        return await self._outbox.oldest(lane, size, before=before, spare=spare, with_bodies=COUNTS)

    async def _give_up(
        self, oldest: Mapping[str, Sequence[Oldest]], *, cause: str, fold: bool, widely: bool = False
    ) -> int:
        """How many messages went. `fold`: what waits already to be declared is declared together with it."""
        runs = [each for of_policy in oldest.values() for each in of_policy]
        gone = [each.span for each in runs]
        said = declarations.given_up(oldest, cause)
        count = sum(sum(each.types.values()) for each in runs)
        if fold and self._in_vain not in (True, widely):
            self._declared = 0
            kept = declarations.KEPT
            waiting = await self._outbox.oldest(Lane.HEALTH, self._options.max_size, only=kept, with_bodies=kept)
            if folding := declarations.folded(waiting, said, widely=widely):
                gone += folding.gone
                said = folding.said
                count += len(folding.gone)
            else:
                self._in_vain = widely
        if gone:
            self._in_vain = None
            self._declared += await self._floor.give_up(gone, said)
        return count

    def _say(self, given: int, fill: float) -> None:
        if given and not self._short:
            log.warning("S702 the buffer is nearly full: the oldest events are given up and declared")
            self._short = True
        elif self._short and fill < ROOM_AGAIN:
            log.info("the buffer has room again")
            self._short = False
