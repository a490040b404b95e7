"""A broker without a store, killed again and again: with `confirm: mom` every event reaches the MOM all the same.

The long form: EDGE_AGENT_BROKER_KILLS=100.
"""

import asyncio
import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from tests.mom import Mom
from tests.reconcile import check_numbers
from tests.runtime.test_agent import running
from tests.servers_mqtt import Mosquitto, Sink, mosquitto
from tests.waiting import until

KILLS = int(os.environ.get("EDGE_AGENT_BROKER_KILLS", "3"))
LIMIT = 60
"""Seconds, on a machine that has other work."""


class Impatient(SystemClock):
    """The pauses between attempts are short, so that a broker can be killed often."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.2))


async def acknowledge(mom: Mom, sink: Sink, broker: Mosquitto) -> None:
    """The MOM at work: takes what comes and says up to where it has everything, when it can."""
    while True:
        mom.take(sink.taken())
        if broker.running:
            with suppress(OSError):  # it has just been killed
                await mom.acknowledge()
        await asyncio.sleep(0.3)  # noqa: TID251 - the MOM's own pace


@pytest.mark.torture
@pytest.mark.needs("mosquitto")
@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("receive_maximum", [None, 1], ids=["a window", "one at a time"])
async def test_no_event_dies_with_a_broker(tmp_path: Path, receive_maximum: int | None) -> None:
    dice = random.Random(4711)
    async with mosquitto(tmp_path, receive_maximum=receive_maximum) as broker, Sink(broker.port) as sink:
        mom = Mom(broker.port, "whole", "acme/sz1/hall/_agents/whole")
        async with running(tmp_path, broker=broker.port, mqtt=", confirm: mom", clock=Impatient()) as run:
            working = asyncio.create_task(acknowledge(mom, sink, broker))
            link = run.agent.health.broker
            for _ in range(KILLS):
                enough = link.confirmed_messages + dice.randint(5, 60)
                await until(lambda enough=enough: link.confirmed_messages >= enough, LIMIT, "the broker confirms")
                await broker.kill()
                stored = len(run.messages) + dice.randint(1, 20)
                await until(lambda stored=stored: len(run.messages) >= stored, LIMIT, "collecting goes on")
                await broker.start()
            messages = [one for one in run.messages if one.seq]
            last = {(one.stream, one.epoch): one.seq for one in messages}

            def has_all() -> bool:
                marks = mom.marks()
                return all(marks.get(stream, 0) >= seq for stream, seq in last.items())

            try:
                await until(has_all, LIMIT, "the MOM has everything")
            finally:
                working.cancel()
                await asyncio.wait([working])
            if not working.cancelled():
                working.result()
    check_numbers(mom.database)
    for one in messages:
        query = "SELECT body FROM event WHERE id = ? AND stream = ?"
        assert mom.database.ask(query, f"{one.epoch}.{one.seq}", one.stream) == [(one.body,)]
    again = mom.database.duplicates
    sys.stdout.write(f"{KILLS} kills, {len(messages)} events, 0 lost, {again} sent twice\n")
