"""The moment at which the floor goes on under another configuration."""

from collections.abc import Mapping, Sequence

from buffer.memory import MemoryOutbox
from buffer.outbox import Message
from config.model import Config
from drivers.base import Batch, Quality, Reading
from edge_agent.clock import SystemClock
from edge_agent.delivery.retained import Retained
from edge_agent.floor import Floor
from edge_agent.machine.machine import Machine
from tests.machine.stories import PRESS, config


class Meanwhile(MemoryOutbox):
    """While a state is looked up something is read."""

    floor: Floor
    batch: Batch | None = None

    async def load_states(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        batch, self.batch = self.batch, None
        if batch is not None:
            await self.floor.feed(batch)
        return await super().load_states(keys)


def reading(**values: int) -> list[Reading]:
    return [Reading(tag, value, Quality.GOOD, None) for tag, value in values.items()]


def two(made: Config) -> Config:
    return made.model_copy(update={"machines": {**made.machines, "saw": made.machines["press"]}})


async def test_what_is_read_while_the_switch_is_prepared_is_not_taken_back_by_older_readings() -> None:
    clock, outbox = SystemClock(), Meanwhile(now=lambda: 0)
    await outbox.open()
    before, after = config(PRESS), two(config({**PRESS, "flush": "1s"}))
    floor = Floor(before, [Machine(before, "press", epoch=outbox.epoch)], outbox, Retained(), clock)
    outbox.floor = floor
    made: list[Message] = []

    def observe(messages: Sequence[Message]) -> None:
        made.extend(messages)

    floor.observers.append(observe)
    await floor.open()
    latest = reading(status=2, fault=0, total=0, reject=0)
    await floor.feed(Batch("press", latest))
    news = reading(status=2, fault=0, total=1, reject=0)
    outbox.batch = Batch("press", news)

    machines = [Machine(after, name, epoch=outbox.epoch) for name in after.machines]
    await floor.switch(after, machines, lambda: {"press": news if outbox.batch is None else latest})
    assert outbox.batch is None, "it was read in between"
    assert floor.describe()["press"]["counters"]["main"]["raw"] == {"total": 1}
    await floor.feed(Batch("press", reading(status=2, fault=0, total=2, reject=0)))
    assert floor.describe()["press"]["counters"]["main"]["totals"] == {"total": 2}


async def test_a_machine_that_cannot_go_on_leaves_everything_as_it_is() -> None:
    clock, outbox = SystemClock(), MemoryOutbox(now=lambda: 0)
    await outbox.open()
    before = config(PRESS)
    floor = Floor(before, [Machine(before, "press", epoch=outbox.epoch)], outbox, Retained(), clock)
    await floor.open()
    await floor.feed(Batch("press", reading(status=2, fault=0, total=10, reject=0)))
    known = floor.describe()

    class Unable(Machine):
        def adopt(self, *_: object) -> object:  # type: ignore[override]  # it never returns
            raise RuntimeError("not this one")

    raised = False
    try:
        await floor.switch(before, [Unable(before, "press", epoch=outbox.epoch)], dict)
    except RuntimeError:
        raised = True
    assert raised
    assert floor.describe() == known
    await floor.feed(Batch("press", reading(status=2, fault=0, total=11, reject=0)))
    assert floor.describe()["press"]["counters"]["main"]["totals"] == {"total": 1}
