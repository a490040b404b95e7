"""A floor whose disk is filled by somebody else and freed again, some times: with `drop_oldest` it stores on all the
while, and everything that is not there any more is declared.

Prints the longest time that a stored event took, in seconds, while the disk was full and after it was freed.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox
from config.load import load
from config.model import Buffer
from drivers.registry import Drivers
from edge_agent.clock import SystemClock
from edge_agent.delivery.bounds import Bounds
from edge_agent.delivery.retained import Retained
from edge_agent.events.types import AgentStarted
from edge_agent.floor import Floor
from tests.buffer.disk_full_child import fill

STREAM = "press07.p"
EVENTS = 120
"""Stored while the disk is full: more than the database holds."""
_CONFIG = """\
version: 1
agent: {id: ipc01}
site: {enterprise: acme, site: sz1, area: hall}
machines:
  press-1: {line: line1, device: {driver: simulated, tags: {a: {kind: sine}}}, state: {from: a, map: {1: running}}}
"""


async def all_of(outbox: SqliteOutbox, lane: Lane) -> dict[int, Message]:
    found: dict[int, Message] = {}
    while batch := await outbox.next_batch(500, lane=lane, after=max(found, default=0)):
        found |= {stored.position: stored.message for stored in batch}
    return found


class Plant:
    """Stores event after event; `given` are the numbers that were confirmed, `lost` those declared."""

    def __init__(self, outbox: SqliteOutbox) -> None:
        self.outbox = outbox
        self.seq = 0
        self.longest = 0.0
        self.given: set[int] = set()
        self.lost: set[int] = set()

    async def store(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            self.seq += 1
            body = os.urandom(20_000)
            message = Message(STREAM, self.outbox.epoch, self.seq, Lane.PRODUCTION, "state.changed", "t", body)
            began = loop.time()
            await asyncio.wait_for(self.outbox.append([message], states={"press07": b"%d" % self.seq}), 60)
            self.longest = max(self.longest, loop.time() - began)

    async def drain(self) -> None:
        for lane in Lane:
            rows = await all_of(self.outbox, lane)
            for message in rows.values():
                if message.type == "data.loss":
                    data = json.loads(message.body)["data"]
                    if data["lost_stream"] == STREAM:
                        self.lost |= set(range(data["seq_from"], data["seq_to"] + 1))
                elif message.stream == STREAM:
                    self.given.add(message.seq)
            await self.outbox.ack(list(rows))


async def main(folder: Path, times: int) -> None:
    file = folder / "edge-agent.yaml"
    file.write_text(_CONFIG)
    clock = SystemClock()
    outbox = SqliteOutbox(folder / "buffer.db", agent_id="ipc01", max_size=1 << 30, now=lambda: clock.now().wall)
    await outbox.open()
    floor = Floor(load(file, Drivers().options()).config, [], outbox, Retained(), clock)
    await floor.record(AgentStarted(version="1", config_hash="x", clean_stop=True))
    options = Buffer.model_construct(max_size=1 << 30)
    watching = asyncio.create_task(Bounds(floor, outbox, clock, options).run())
    plant = Plant(outbox)
    without_ballast = 0
    for _ in range(times):
        await plant.store(60)
        fill(folder / "filler")
        await plant.store(EVENTS)
        without_ballast += not (folder / "buffer.db.ballast").exists()
        (folder / "filler").unlink()
        await plant.store(10)
        await plant.drain()
        assert plant.given | plant.lost == set(range(1, plant.seq + 1)), "a hole that nobody declared"
        assert not watching.done(), "the bounds are no longer kept"
    assert plant.lost, "nothing was ever given up: the disk was not full"
    assert without_ballast, "the ballast was never needed"
    watching.cancel()
    await outbox.close()
    sys.stdout.write(f"{plant.longest:.3f}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
