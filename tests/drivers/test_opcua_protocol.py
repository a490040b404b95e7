"""What the driver makes of servers that revise, refuse, skip and end: against a session that follows a script."""

import asyncio
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from drivers.base import Quality, Reading
from drivers.errors import ConnectionLost, DriverError
from drivers.opcua import subscription
from drivers.opcua.driver import OpcuaDriver
from drivers.opcua.options import OpcuaDevice
from tests.servers_opcua import publish_response, republish_response

NEVER = b""
"""An answer that does not come."""


class Script:
    """Fulfils `drivers.opcua.session.Session`. Answers publish requests with `answers`, then never."""

    renew_at = math.inf

    def __init__(
        self, *answers: bytes | Exception, most: int = 1000, level: int | None = None, state: int | None = None
    ) -> None:
        self.answers = list(answers)
        self.told = {2255: ["http://opcfoundation.org/UA/", "urn:acme:press"], 2267: level, 2259: state}
        self.opened = self.closed = False
        self.forgotten = 0
        """Results that are left out of an answer."""
        self.refusal: Exception | None = None
        """Why there is no subscription."""
        self.values_now: list[ua.DataValue] = []
        self.most = most
        self.acknowledged: list[int | None] = []
        self.monitored: list[int] = []
        self.items: list[ua.MonitoringParameters] = []
        self.wanted: ua.CreateSubscriptionParameters | None = None
        self.revised: dict[str, Any] = {}
        self.kept: dict[int, ua.DataValue] = {}
        """Notifications that can be had again."""
        self.asked_again: list[int] = []
        self.changed: ua.ModifySubscriptionParameters | None = None

    async def open(self) -> None:
        self.opened = True

    async def upkeep(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    async def values(self, wanted: Sequence[tuple[ua.NodeId, str | None]]) -> bytes:
        nodes = [node for node, _ in wanted]
        found = [value([""]) if node.Identifier == 2255 else self.values_now.pop(0) for node in nodes]
        self.values_now += [one for node, one in zip(nodes, found, strict=True) if node.Identifier != 2255]
        answer = ua.ReadResponse()
        answer.Results = found
        return struct_to_binary(answer)

    async def browse(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def read(self, identifiers: Sequence[int]) -> list[Any]:
        return [self.told.get(number) for number in identifiers]

    async def subscribe(self, wanted: ua.CreateSubscriptionParameters) -> ua.CreateSubscriptionResult:
        if self.refusal is not None:
            raise self.refusal
        self.wanted = wanted
        granted = ua.CreateSubscriptionResult(
            SubscriptionId=7,
            RevisedPublishingInterval=wanted.RequestedPublishingInterval,
            RevisedLifetimeCount=wanted.RequestedLifetimeCount,
            RevisedMaxKeepAliveCount=wanted.RequestedMaxKeepAliveCount,
        )
        for name, value in self.revised.items():
            setattr(granted, name, value)
        return granted

    async def modify(self, change: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        self.changed = change
        return ua.ModifySubscriptionResult(
            change.RequestedPublishingInterval, change.RequestedLifetimeCount, change.RequestedMaxKeepAliveCount
        )

    async def monitor(self, wanted: ua.CreateMonitoredItemsParameters) -> list[ua.MonitoredItemCreateResult]:
        if len(wanted.ItemsToCreate) > self.most:
            raise ua.uaerrors.BadTooManyOperations
        self.items += [item.RequestedParameters for item in wanted.ItemsToCreate]
        self.monitored += [item.ClientHandle for item in self.items[-len(wanted.ItemsToCreate) :]]
        made = [ua.MonitoredItemCreateResult(MonitoredItemId=number) for number, _ in enumerate(wanted.ItemsToCreate)]
        return made[self.forgotten :]

    async def unmonitor(self, wanted: ua.DeleteMonitoredItemsParameters) -> None:
        pass

    async def republish(self, subscription: int, sequence: int) -> bytes:
        self.asked_again.append(sequence)
        if sequence not in self.kept:
            raise ua.uaerrors.BadMessageNotAvailable
        return republish_response(self.kept[sequence], sequence=sequence)

    async def publish(self, acknowledged: ua.SubscriptionAcknowledgement | None) -> bytes:
        self.acknowledged.append(None if acknowledged is None else acknowledged.SequenceNumber)
        answer = self.answers.pop(0) if self.answers else NEVER
        if isinstance(answer, Exception):
            raise answer
        if answer is NEVER:
            await asyncio.get_running_loop().create_future()
        return answer


class Scripted(OpcuaDriver):
    def __init__(self, script: Script, tags: int = 1, **settings: Any) -> None:
        node = "nsu=urn:acme:press;i={}"
        named = {f"t{number}": {"node": node.format(number), "type": "float64"} for number in range(1, tags + 1)}
        options = {"url": "opc.tcp://x", "security": "none", "insecure": True, "tags": named, "timeout": "50ms"}
        super().__init__("press-1", OpcuaDevice.model_validate(options | settings))
        self.script = script

    def _new_session(self, address: str) -> Any:
        return self.script


def value(content: Any, status: int = 0) -> ua.DataValue:
    kind = ua.VariantType.Double if isinstance(content, float) else ua.VariantType.String
    return ua.DataValue(ua.Variant(content, kind), StatusCode=ua.StatusCode(status))


async def connected(*answers: bytes | Exception, tags: int = 1, **settings: Any) -> Scripted:
    opened = Scripted(Script(*answers), tags, **settings)
    await opened.connect()
    assert (await opened.read()).readings == []
    return opened


async def test_a_notification_is_acknowledged_by_the_read_after_it() -> None:
    opened = await connected(
        publish_response(value(1.0), sequence=1),
        publish_response(sequence=2),
        publish_response(value(2.0), sequence=2),
    )
    values = [[reading.value for reading in (await opened.read()).readings] for _ in range(3)]
    assert values == [[1.0], [], [2.0]]
    assert opened.script.acknowledged == [None, 1, None]


async def test_a_notification_that_never_came_is_an_overflow_of_every_tag() -> None:
    opened = await connected(
        publish_response(value(1.0), sequence=1),
        publish_response(value(3.0), sequence=3),
        publish_response(value(4.0), sequence=4),
        publish_response(value(6.0), sequence=0xFFFFFFFF),
        publish_response(value(7.0), sequence=1),
        tags=2,
    )
    assert [(await opened.read()).overflow for _ in range(5)] == [set(), {"t1", "t2"}, set(), {"t1", "t2"}, set()]


async def test_a_notification_that_got_lost_is_asked_for_again_and_comes_before_the_next() -> None:
    opened = await connected(publish_response(value(1.0), sequence=1), publish_response(value(4.0), sequence=4))
    opened.script.kept = {2: value(2.0), 3: value(3.0)}
    batches = [await opened.read() for _ in range(2)]
    assert [reading.value for batch in batches for reading in batch.readings] == [1.0, 2.0, 3.0, 4.0]
    assert [batch.overflow for batch in batches] == [set(), set()]
    assert opened.script.asked_again == [2, 3]


async def test_the_overflow_bit_names_its_tag() -> None:
    opened = await connected(publish_response(value(1.0), value(2.0, 0x480)), tags=2)
    batch = await opened.read()
    assert batch.overflow == {"t2"}
    assert [reading.quality for reading in batch.readings] == [Quality.GOOD, Quality.GOOD]


async def test_a_subscription_that_the_server_ends_is_a_lost_connection() -> None:
    opened = await connected(publish_response(status=0x800A0000))
    with pytest.raises(ConnectionLost, match="BadTimeout") as raised:
        await opened.read()
    assert raised.value.code == "C504"


@pytest.mark.parametrize(
    "code", ["BadSessionIdInvalid", "BadNoSubscription", "BadSubscriptionIdInvalid", "BadShutdown"]
)
async def test_a_publish_request_that_fails_is_a_lost_connection(code: str) -> None:
    opened = await connected(getattr(ua.uaerrors, code)())
    with pytest.raises(ConnectionLost, match=code) as raised:
        await opened.read()
    assert (raised.value.code, raised.value.reason) == ("C504", "session_lost")


async def test_a_publish_request_that_timed_out_in_the_server_is_sent_again() -> None:
    opened = await connected(ua.uaerrors.BadTimeout(), publish_response(value(1.0)))
    assert [reading.value for reading in (await opened.read()).readings] == [1.0]


async def test_an_answer_that_is_no_notification_is_a_lost_connection() -> None:
    opened = await connected(b"\x01\x00\x3d\x03 and so on")
    with pytest.raises(ConnectionLost) as raised:
        await opened.read()
    assert raised.value.code == "C509"


async def test_a_notification_of_a_node_that_is_gone_makes_the_tag_wanted_again() -> None:
    opened = await connected(publish_response(value(1.0, 0x80340000)))
    assert (await opened.read()).readings[0].detail == "BadNodeIdUnknown"
    assert opened._wanted.missing == {"t1": "BadNodeIdUnknown"}


async def test_signs_of_life_are_asked_for_every_second_and_the_lifetime_is_thirty() -> None:
    opened = await connected(publishing="100ms")
    assert opened.script.wanted is not None
    assert opened.script.wanted.RequestedMaxKeepAliveCount == 10
    assert opened.script.wanted.RequestedLifetimeCount == 300
    slow = await connected(publishing="1min")
    assert slow.script.wanted is not None
    assert slow.script.wanted.RequestedMaxKeepAliveCount == 1
    assert slow.script.wanted.RequestedLifetimeCount == 3


async def test_of_values_that_do_not_fit_the_queue_the_newest_stay() -> None:
    """The last value of a counter says how much was made, whatever was dropped before it (Part 4, 7.21)."""
    opened = await connected(tags=2, publishing="100ms", sampling="10ms")
    assert [(item.DiscardOldest, item.QueueSize) for item in opened.script.items[-2:]] == [(True, 40)] * 2


async def test_a_revised_interval_changes_how_signs_of_life_are_counted() -> None:
    opened = Scripted(Script(), publishing="100ms")
    opened.script.revised = {"RevisedPublishingInterval": 1000.0}
    await opened.connect()
    assert opened.script.changed is not None
    assert opened.script.changed.RequestedMaxKeepAliveCount == 1
    assert opened._reader._stale_after == pytest.approx(3.05)


async def test_a_server_that_insists_on_rare_signs_of_life_is_given_the_time() -> None:
    opened = Scripted(Script(), publishing="100ms")
    opened.script.revised = {"RevisedMaxKeepAliveCount": 5}
    await opened.connect()
    assert opened.script.changed is None
    assert opened._reader._stale_after == pytest.approx(1.55)


async def test_a_server_that_hides_its_limits_is_asked_for_less_at_once() -> None:
    opened = Scripted(Script(most=3), tags=10)
    await opened.connect()
    assert sorted(opened.script.monitored)[:10] == list(range(1, 11))
    assert len(opened._reader._live) == 10


async def test_a_server_that_takes_no_item_at_all_is_refused() -> None:
    opened = Scripted(Script(most=0))
    with pytest.raises(Exception, match="BadTooManyOperations"):
        await opened.connect()


async def test_cancelling_a_read_loses_no_notification() -> None:
    opened = await connected()
    reading = asyncio.create_task(opened.read())
    await asyncio.wait([reading], timeout=0.01)
    reading.cancel()
    await asyncio.wait([reading])
    assert opened.script.acknowledged == [None]  # the request is still out
    await opened.close()


async def test_an_item_that_never_sends_a_value_is_bad_and_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "FIRST_VALUE", 0.0)
    monkeypatch.setattr(subscription, "RETRY", 0.05)
    opened = await connected(publish_response(value(1.0)), tags=2, publishing="10ms", timeout="30s")
    assert [reading.value for reading in (await opened.read()).readings] == [1.0]
    async with asyncio.timeout(20):
        while not (silent := (await opened.read()).readings):
            pass
    assert silent == [
        Reading("t2", None, Quality.BAD, None, "BadNoData: the server took the item and sends no value")
    ]
    monitored = len(opened.script.monitored)
    async with asyncio.timeout(20):
        while len(opened.script.monitored) == monitored:
            await opened.read()
    await opened.close()


async def test_an_answer_with_fewer_results_than_items_is_a_failure() -> None:
    opened = Scripted(Script(), tags=3)
    opened.script.forgotten = 1
    with pytest.raises(DriverError, match="0 results for 1 items"):
        await opened.connect()


class Pair(Scripted):
    """Two servers that stand in for each other."""

    def __init__(self, **servers: Script | None) -> None:
        super().__init__(Script(), url=None, urls=[f"opc.tcp://{name}" for name in servers])
        self.servers = servers

    def _new_session(self, address: str) -> Any:
        script = self.servers[address.removeprefix("opc.tcp://").removesuffix(":4840")]
        if script is None:
            raise ConnectionRefusedError
        return script


async def chosen(**servers: Script | None) -> str:
    pair = Pair(**servers)
    await pair.connect()
    await pair.close()
    closed = {name for name, script in servers.items() if script is not None and script.closed}
    assert closed == {name for name, script in servers.items() if script is not None and script.opened}
    return pair._address


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ((255, 0), (255, 0), "a"),
        ((100, 0), (255, 0), "b"),
        ((100, 0), (50, 0), "a"),
        ((255, 3), (10, 0), "b"),
        (None, (10, 0), "b"),
    ],
)
async def test_the_first_healthy_server_is_read_or_the_best_there_is(
    first: tuple[int, int] | None, second: tuple[int, int], name: str
) -> None:
    servers = {
        "a": None if first is None else Script(level=first[0], state=first[1]),
        "b": Script(level=second[0], state=second[1]),
    }
    assert await chosen(**servers) == f"opc.tcp://{name}:4840"


async def test_without_any_server_each_is_named() -> None:
    with pytest.raises(DriverError, match=r"\(opc.tcp://a:4840\).*\(opc.tcp://b:4840\)") as raised:
        await chosen(a=None, b=None)
    assert raised.value.code == "C501"


async def test_a_server_whose_service_level_falls_is_left_for_another() -> None:
    first = Script(level=255)
    pair = Pair(a=first, b=Script(level=255))
    await pair.connect()
    await pair.read()
    pair._watched(1, 200)
    first.answers.append(publish_response(sequence=1))
    await pair.read()
    pair._watched(1, 50)
    with pytest.raises(ConnectionLost, match="its service level is 50") as raised:
        await pair.read()
    assert raised.value.code == "C507"
    await pair.close()


async def test_a_server_without_subscriptions_is_polled() -> None:
    opened = Scripted(Script(), sampling="10ms")
    opened.script.refusal = ua.uaerrors.BadServiceUnsupported()
    await opened.connect()
    assert (await opened.read()).readings == []
    opened.script.values_now = [value(5.0)]
    async with asyncio.timeout(20):
        first = (await opened.read()).readings
        second = (await opened.read()).readings
    assert first[0].value == 5.0
    assert second[0] is first[0]  # unchanged is the same object
    opened.script.values_now = [value(0.0, 0x80340000)]
    async with asyncio.timeout(20):
        assert (await opened.read()).readings[0].detail == "BadNodeIdUnknown"
    opened.script.values_now = [value(6.0)]
    async with asyncio.timeout(20):
        assert (await opened.read()).readings[0].value == 6.0
    await opened.close()


async def test_a_huge_notification_of_one_server_lets_the_others_go_on() -> None:
    two = struct.pack("<IBB?IBBb", 1, 1, 1, True, 2, 1, 2, 1)  # no two items are encoded alike
    count = 150_000
    data = publish_response(value(1.0))
    start = data.index(b"\x01\x00\x2b\x03")
    body = struct.pack("<i", 2 * count) + two * count + struct.pack("<i", -1)
    opened = await connected(
        data[: start + 5] + struct.pack("<i", len(body)) + body + struct.pack("<ii", -1, -1), timeout="30s"
    )
    loop, lags = asyncio.get_running_loop(), []
    began = loop.time()
    reading = asyncio.create_task(opened.read())
    while not reading.done():
        due = loop.time() + 0.005
        await asyncio.wait({reading}, timeout=0.005)
        lags.append(loop.time() - due)
    took = loop.time() - began
    assert len(reading.result().readings) == count
    assert sum(lag > took / 3 for lag in lags) <= 1  # where all is handed over at once
    assert len(lags) > 5
