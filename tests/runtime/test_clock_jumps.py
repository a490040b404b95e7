"""The clock of the PC jumps while the broker is away: durations are those that were, and order is by number.

The long form: EDGE_AGENT_CLOCK_JUMPS=60 jumps in a row.
"""

import os
import random
import sys
from pathlib import Path
from typing import Final

import pytest

from edge_agent.clock import SECOND, Instant, SystemClock
from tests.mom_database import MomDatabase
from tests.reconcile import check_numbers, check_order
from tests.runtime.test_agent import Running, running
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import free_port, until

JUMPS = int(os.environ.get("EDGE_AGENT_CLOCK_JUMPS", "6"))
HOUR: Final = 3600 * SECOND
YEAR: Final = 365 * 24 * HOUR
TO_1970: Final = -(1 << 60)
LATE: Final = 20.0
"""Seconds: no state stands so long, however late a busy machine reads; every jump is longer."""


class Jumping(SystemClock):
    """Its wall clock is where the test puts it; its pauses are short, so that a jump is noticed soon."""

    def __init__(self) -> None:
        self.apart = 0

    def now(self) -> Instant:
        now = super().now()
        return now._replace(wall=max(now.wall + self.apart, now.mono))

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


def adjusted(run: Running) -> int:
    return run.types().count("agent.clock_adjusted")


@pytest.mark.torture
@pytest.mark.needs("mosquitto")
@pytest.mark.timeout(1800 if JUMPS > 10 else 180)
async def test_a_clock_that_jumps_during_an_outage_changes_no_duration_and_no_order(tmp_path: Path) -> None:
    dice = random.Random(4711)
    clock, mom = Jumping(), MomDatabase()
    places = [HOUR, 0, YEAR, -HOUR, -YEAR, TO_1970]
    port = free_port()
    async with running(tmp_path, broker=port, clock=clock, synchronised=lambda: True) as run:
        for number in range(JUMPS):
            seen, known = run.types().count("state.changed"), adjusted(run)
            await until(lambda seen=seen: run.types().count("state.changed") > seen + 2, 30, "the press goes on")
            clock.apart = (
                places[number] if number < len(places) else dice.choice([p for p in places if p != clock.apart])
            )
            await until(lambda known=known: adjusted(run) > known, 30, "the jump is noticed")
        async with mosquitto(tmp_path, port=port) as broker, Sink(broker.port) as sink:

            def has_all() -> bool:
                mom.take((message.topic, message.payload) for message in sink.taken())
                return mom.count_of("agent.clock_adjusted") >= JUMPS

            await until(has_all, 180, "the MOM has everything")
    check_order(mom)
    assert check_numbers(mom) == 0
    durations = [event["data"]["prev_duration_s"] for event in mom.events("state.changed")[1:]]
    wrong = [seconds for seconds in durations if not 0 <= seconds < LATE]
    assert not wrong, f"{len(wrong)} of {len(durations)} durations: {wrong[:10]}"
    changed = [at for at, message in zip(run.committed, run.messages, strict=True) if message.type == "state.changed"]
    apart = sum(durations) - (changed[len(durations)] - changed[0]) / SECOND
    sys.stdout.write(f"{JUMPS} jumps, {len(durations)} durations, together {apart:+.3f} s from what has passed\n")
    assert abs(apart) < LATE / 4
    mom.close()
