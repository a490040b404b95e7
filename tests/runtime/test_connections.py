"""`connection.changed`: what is said of a device while it comes, is read, gets worse and goes."""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Sequence

import pytest

from drivers.base import Batch, Quality, Reading
from drivers.errors import ConnectionLost
from drivers.simulated.options import SimulatedDevice
from edge_agent.backoff import Backoff
from edge_agent.clock import SECOND, Instant
from edge_agent.collector import Collector
from edge_agent.events.types import ConnectionChanged, Data
from edge_agent.health import DeviceHealth

OPTIONS = SimulatedDevice.model_validate({"scan": "1s", "tags": {"temp": {"kind": "constant", "value": 5}}})
GOOD = [Reading("temp", 5), Reading("total", 7)]
HALF = [Reading("temp", None, Quality.BAD, None, "BadSensorFailure"), Reading("total", 7)]


class Script:
    """A driver and its clock: at these seconds it reads this, or fails with this; then it reads nothing any more."""

    def __init__(self, *said: tuple[float, Sequence[Reading] | Exception]) -> None:
        self._said = deque(said)
        self._at = 0
        self.over = asyncio.Event()
        self.told: list[Data] = []
        self.waits: list[float] = []

    def now(self) -> Instant:
        return Instant(self._at, self._at)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def read(self) -> Batch:
        if not self._said:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        at, said = self._said.popleft()
        self._at = round(at * SECOND)
        if isinstance(said, Exception):
            raise said
        return Batch("press-1", said)

    async def feed(self, batch: Batch) -> None: ...

    def unseen(self, device: str) -> int | None:
        return None

    def position(self, device: str) -> str | None:
        return None

    async def record(self, *data: Data) -> None:
        self.told += data


async def played(script: Script, backoff: Backoff) -> None:
    collector = Collector(
        "press-1",
        OPTIONS,
        lambda: script,
        script,
        DeviceHealth(),
        script,
        backoff,
        lambda: ("acme/sz1/hall/line1/press-1",),
    )
    running = asyncio.create_task(collector.run())
    await asyncio.wait_for(script.over.wait(), 20)
    running.cancel()
    await asyncio.wait([running])


async def told(*said: tuple[float, Sequence[Reading] | Exception]) -> list[ConnectionChanged]:
    script = Script(*said)
    await played(script, Backoff(SECOND, SECOND, random.Random(1)))
    return [one for one in script.told if isinstance(one, ConnectionChanged)]


def words(changes: list[ConnectionChanged]) -> list[tuple[str, str | None, float]]:
    return [(one.status, one.reason, one.since / SECOND) for one in changes]


@pytest.mark.parametrize("reason", ["timeout", "refused", "auth", "session_lost", "exception"])
async def test_a_lost_device_is_down_since_it_was_seen_last_for_the_reason_that_its_driver_gives(reason: str) -> None:
    lost = ConnectionLost("It is gone.", code="C502", reason=reason)

    up, down, again = await told((1, GOOD), (2, GOOD), (9, lost), (10, lost), (12, GOOD))

    assert words([up, down, again]) == [("up", None, 1), ("down", reason, 2), ("up", None, 12)]
    assert (down.endpoint, down.protocol, down.native) == ("press-1", OPTIONS.protocol, "It is gone.")
    assert down.last_good_at == 2 * SECOND
    assert {one.affected for one in (up, down, again)} == {("acme/sz1/hall/line1/press-1",)}


async def test_a_device_that_never_answered_is_down_and_has_no_last_good_time() -> None:
    (down,) = await told((3, ConnectionLost("Nobody there.", code="C501", reason="refused")))

    assert words([down]) == [("down", "refused", 3)]
    assert down.last_good_at is None


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (ConnectionLost("Nothing listens.", code="C501", reason="refused"), 5),
        (ConnectionLost("No answer.", code="C502", reason="timeout"), 5),
        (ConnectionLost("The name is unknown.", code="C503", reason="exception"), 5),
        (ConnectionLost("No session left.", code="C505", reason="refused"), 5),
        (ConnectionLost("The certificate is not believed.", code="C511", reason="auth"), 30),
        (ConnectionLost("The login is refused.", code="C513", reason="auth"), 30),
        (ConnectionLost("That makes no sense.", code="C509", reason="exception"), 30),
        (ZeroDivisionError("a fault of the driver"), 30),
    ],
    ids=lambda value: getattr(value, "code", None),
)
async def test_a_device_that_is_away_is_asked_every_few_seconds_and_one_that_refuses_more_seldom(
    error: Exception, longest: int
) -> None:
    script = Script(*[(0, error)] * 40)
    waits = OPTIONS.backoff

    await played(script, Backoff(waits.initial, waits.max, random.Random(1), silent=waits.silent))

    assert longest / 2 <= min(script.waits[8:]) <= max(script.waits) <= longest


async def test_a_device_that_hangs_while_it_is_left_is_not_waited_for() -> None:
    class Hanging(Script):
        async def close(self) -> None:
            await asyncio.get_running_loop().create_future()

    script = Hanging((1, GOOD))
    await asyncio.wait_for(played(script, Backoff(SECOND, SECOND, random.Random(1))), 20)


async def test_a_fault_of_the_driver_itself_is_an_exception_and_named() -> None:
    _, down = await told((1, GOOD), (2, ZeroDivisionError("ouch")))

    assert down.reason == "exception"
    assert "ouch" in (down.native or "")


async def test_a_device_some_of_whose_tags_are_bad_is_degraded_and_names_them() -> None:
    changes = await told((1, GOOD), (10, HALF), (20, HALF), (30, GOOD))

    assert words(changes) == [("up", None, 1), ("degraded", "bad_quality", 10), ("up", None, 30)]
    assert changes[1].native == "no good value from temp (BadSensorFailure)"


async def test_a_tag_that_flaps_is_told_at_most_every_five_seconds() -> None:
    changes = await told((1, GOOD), *((2 + n / 2, HALF if n % 2 else GOOD) for n in range(20)))

    times = [one.since / SECOND for one in changes]
    assert len(times) > 1
    assert all(later - before >= 5 for before, later in itertools.pairwise(times))
