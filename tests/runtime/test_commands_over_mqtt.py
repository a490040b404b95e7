"""Commands of the MOM over a real broker: answered and carried out once, also when the agent was away."""

import json
from pathlib import Path
from typing import Any

from tests import mom
from tests.runtime.test_agent import Running, running
from tests.schema_check import check_message
from tests.servers_mqtt import Mosquitto, Sink, mosquitto
from tests.waiting import until

PRESS = "acme/sz1/hall/line1/press-1"
AGENT = "acme/sz1/hall/_agents/whole"
TOPIC = "ea/v1/sz1/hall/line1/press-1"
AGENT_TOPIC = "ea/v1/_agents/whole"
ORDERS = "    orders: {authority: mom}\n"


async def send(broker: Mosquitto, topic: str, body: bytes, *, retain: bool = False) -> None:
    await mom.send(broker.port, topic, body, retain=retain)


def command(name: str, id_: str, *, subject: str = PRESS, **params: Any) -> bytes:
    return mom.command(name, id_, subject=subject, **params)


async def listening(run: Running) -> None:
    await until(lambda: run.agent.health.broker.commands, limit=30, what="commands can come")


async def answers(sink: Sink, count: int, *, on: str = f"{TOPIC}/ack") -> list[tuple[str, str, str, bool]]:
    """(command, status, code, duplicate) of the first answers on a topic."""
    await sink.wait_for(lambda messages: sum(one.topic == on for one in messages) >= count, limit=30)
    found = []
    for one in sink.on(on):
        data = check_message(one.topic, one.payload)["data"]
        found.append((data["command_id"], data["status"], data["code"], data["duplicate"]))
    return found


async def test_a_command_is_carried_out_and_a_repeat_is_not(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port) as sink,
        running(tmp_path, broker=broker.port, more=ORDERS) as run,
    ):
        await listening(run)
        start = command("order.start", "c-1", order_id="WO-1")
        for _ in range(2):
            await send(broker, f"{TOPIC}/cmd/ctx", start)

        assert await answers(sink, 3) == [
            ("c-1", "accepted", "ok", False),
            ("c-1", "done", "ok", False),
            ("c-1", "done", "ok", True),
        ]
        (order,) = sink.on("/evt/order")
        assert order.json["causationid"] == "c-1"
        assert order.json["data"]["order_id"] == "WO-1"


async def test_a_command_waits_at_the_broker_for_an_agent_that_is_away(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        async with running(tmp_path, broker=broker.port, more=ORDERS) as run:
            await listening(run)
            await send(broker, f"{TOPIC}/cmd/ctx", command("order.start", "c-1", order_id="WO-1"))
            await answers(sink, 2)
        await send(broker, f"{TOPIC}/cmd/ctx", command("order.start", "c-2", order_id="WO-2", mode="switch"))
        async with running(tmp_path, broker=broker.port, more=ORDERS):
            assert (await answers(sink, 4))[2:] == [("c-2", "accepted", "ok", False), ("c-2", "done", "ok", False)]


async def test_what_must_not_be_carried_out_is_answered_and_harms_nothing(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port) as sink,
        running(tmp_path, broker=broker.port, more=ORDERS) as run,
    ):
        await listening(run)
        await send(broker, f"{TOPIC}/cmd/ctx", command("plc.write", "c-1", setpoint="x", value=1))
        await send(broker, f"{TOPIC}/cmd/plc", command("plc.write", "c-2", setpoint="x", value=1))
        await send(broker, f"{TOPIC}/cmd/ctx", command("order.start", "c-3", subject=AGENT, order_id="A"))
        half = command("order.start", "c-0", order_id="A").replace(b"order.start", rb"\ud800")
        await send(broker, f"{TOPIC}/cmd/ctx", half)
        await send(broker, f"{TOPIC}/cmd/ctx", b"{", retain=False)
        await send(broker, f"{TOPIC}/cmd/ctx", command("order.start", "c-4", order_id="WO-1"), retain=True)

        assert await answers(sink, 4) == [
            ("c-1", "rejected", "unauthorised", False),
            ("c-2", "rejected", "unavailable", False),
            ("c-3", "rejected", "unknown_asset", False),
            ("c-4", "rejected", "retained", False),
        ]
        assert run.types().count("order.started") == 0
        warnings = [json.loads(one.body)["data"] for one in run.messages if one.type == "agent.warning"]
        assert {one["code"] for one in warnings} >= {"malformed_command", "retained_command"}


async def test_the_retained_snapshots_are_published_again_when_asked_for(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        running(tmp_path, broker=broker.port) as run,
        Sink(broker.port, f"{AGENT_TOPIC}/ack") as acks,
        Sink(broker.port, f"{TOPIC}/cur/tags") as tags,
    ):
        await tags.wait_for(1, limit=30)
        await listening(run)
        ask = command("snapshot.request", "c-1", subject=AGENT)
        await send(broker, f"{AGENT_TOPIC}/cmd/adm", ask)

        assert await answers(acks, 1, on=f"{AGENT_TOPIC}/ack") == [("c-1", "done", "ok", False)]
        await tags.wait_for(2, limit=30)


async def test_an_agent_that_may_not_receive_commands_sends_all_the_same(tmp_path: Path) -> None:
    acl = ["topic write #", "topic read ea/v1/+/+/+/+/evt/#"]
    async with (
        mosquitto(tmp_path, acl=acl) as broker,
        Sink(broker.port, "ea/v1/+/+/+/+/evt/#") as sink,
        running(tmp_path, broker=broker.port),
    ):
        await sink.wait_for(3, limit=30)
