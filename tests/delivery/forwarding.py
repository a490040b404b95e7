"""What the tests of the forwarder share: an outbox with events, a clock that waits as the test says, a listener."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

from buffer.memory import MemoryOutbox
from buffer.outbox import Lane, Message, Outbox, Stored
from config.model import Mqtt
from edge_agent.clock import SystemClock
from edge_agent.delivery.forwarder import Forwarder, Presence
from edge_agent.delivery.mqtt import MqttPublisher
from edge_agent.delivery.publisher import PublishError, Rejected
from edge_agent.delivery.retained import Retained

EPOCH = "mlu4idc09c7x"
STATUS = "ea/v1/_agents/a1/status"
SUFFIX = {Lane.PRODUCTION: "p", Lane.HEALTH: "h", Lane.MEASUREMENT: "m"}
FAMILY = {Lane.PRODUCTION: "state", Lane.HEALTH: "agent", Lane.MEASUREMENT: "measurement"}


class TestClock(SystemClock):
    """Sleeps are noted; each lasts until `gate` is open and then a moment."""

    __test__ = False

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await self.gate.wait()
        await asyncio.sleep(min(seconds, 0.01))  # noqa: TID251 - this is the test's clock


class Notes:
    """Listener that writes down."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.errors: list[PublishError] = []
        self.refused: list[Message] = []
        self.confirmed_count = 0
        self.changed = asyncio.Event()

    def connected(self) -> None:
        self.log.append("connected")
        self.changed.set()

    def disconnected(self, error: PublishError, retry_in: float) -> None:
        self.log.append(error.code)
        self.errors.append(error)
        self.changed.set()

    def confirmed(self, count: int) -> None:
        self.confirmed_count += count
        self.changed.set()

    def rejected(self, message: Message, error: Rejected) -> None:
        self.refused.append(message)
        self.changed.set()

    async def until(self, condition: object, limit: float = 20.0) -> None:
        assert callable(condition)
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"not reached; {self.log}, {self.confirmed_count} confirmed") from None


def presence(word: str) -> Message:
    return Message("$agent.h", EPOCH, 0, Lane.HEALTH, "status", STATUS, b'{"online":%s}' % word.encode())


def event(lane: Lane, seq: int, machine: str = "m1", size: int = 0) -> Message:
    stream = f"{machine}.{SUFFIX[lane]}"
    body = (
        f'{{"source":"urn:edgeagent:a1:{stream}","id":"{EPOCH}.{seq}","epoch":"{EPOCH}",'
        f'"sequence":"{seq:020d}","pad":"{"x" * size}"}}'
    )
    topic = f"ea/v1/s/a/l/{machine}/evt/{FAMILY[lane]}"
    return Message(stream, EPOCH, seq, lane, f"{FAMILY[lane]}.made", topic, body.encode())


def set_aside_in(outbox: Outbox) -> Callable[[Stored, str], Awaitable[None]]:
    return lambda stored, reason: outbox.reject(stored.position, reason)


async def outbox_with(messages: Sequence[Message] = (), states: Mapping[str, bytes] | None = None) -> MemoryOutbox:
    outbox = MemoryOutbox(now=lambda: SystemClock().now().wall, epoch=EPOCH)
    await outbox.open()
    await outbox.append(messages, states=states or {})
    return outbox


class Running:
    """A forwarder at work."""

    def __init__(self, outbox: MemoryOutbox, url: str, retained: Retained | None, **mqtt: object) -> None:
        self.outbox = outbox
        self.clock = TestClock()
        self.notes = Notes()
        self.retained = retained or Retained()
        self.publisher = MqttPublisher(
            Mqtt(url=url, **{key: value for key, value in mqtt.items() if key != "secret"}),
            client_id="agent-1",
            password=mqtt.get("secret"),
            clock=self.clock,
        )
        self.forwarder = Forwarder(
            outbox,
            self.publisher,
            self.clock,
            presence=Presence(lambda: presence("true"), lambda: presence("false"), lambda: presence("null")),
            retained=self.retained,
            listener=self.notes,
            set_aside=set_aside_in(outbox),
            random=Random(1),
        )
        self.task: asyncio.Task[None] | None = None

    async def drained(self, limit: float = 20.0) -> None:
        """Until nothing unconfirmed is in the outbox."""

        async def rows() -> int:
            return (await self.outbox.depth()).rows

        try:
            async with asyncio.timeout(limit):
                while await rows():
                    self.notes.changed.clear()
                    await self.notes.changed.wait()
        except TimeoutError:
            raise AssertionError(f"{await rows()} left; {self.notes.log}, {self.notes.errors[-1:]}") from None

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    @property
    def waits(self) -> list[float]:
        """Back-off waits; the snapshots' second is exactly one."""
        return [seconds for seconds in self.clock.sleeps if seconds != 1.0]


@asynccontextmanager
async def forwarding(
    outbox: MemoryOutbox, url: str, *, retained: Retained | None = None, **mqtt: object
) -> AsyncIterator[Running]:
    running = Running(outbox, url, retained, **mqtt)
    running.task = asyncio.create_task(running.forwarder.run())
    try:
        yield running
    finally:
        await running.stop()
