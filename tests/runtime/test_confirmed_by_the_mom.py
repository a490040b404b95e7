"""`confirm: mom`: an event leaves the buffer when the MOM has it, whatever the broker lost."""

from pathlib import Path

from tests.mom import Mom, command, send
from tests.runtime.test_agent import Running, running
from tests.schema_check import check_message
from tests.servers_mqtt import Sink, mosquitto
from tests.waiting import until

AGENT = "acme/sz1/hall/_agents/whole"
AGENT_TOPIC = "ea/v1/_agents/whole"
BY_MOM = ", confirm: mom"
LOST = 500
MANY = "    measurements: {" + ", ".join(f"m{n}: {{tags: [total], every: 20ms}}" for n in range(5)) + "}\n"
"""So that the 500 are there soon."""


def confirmed(run: Running) -> int:
    return run.agent.health.broker.confirmed_messages


async def test_what_a_killed_broker_had_confirmed_reaches_the_mom_all_the_same(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        mom = Mom(broker.port, "whole", AGENT)
        async with Sink(broker.port, session="mom"):
            pass  # its session is known, so the broker keeps for it what comes now
        async with running(tmp_path, broker=broker.port, mqtt=BY_MOM, more=MANY) as run:
            await until(lambda: confirmed(run) >= LOST, limit=60, what="the broker has confirmed 500")
            await broker.kill()
            stored = [one for one in run.messages if one.seq]
            await broker.start()
            async with Sink(broker.port, session="mom") as sink:
                epoch = stored[0].epoch
                last = {one.stream: one.seq for one in stored}

                def all_there() -> bool:
                    mom.take(sink.taken())
                    marks = mom.marks()
                    return all(marks.get((stream, epoch), 0) >= seq for stream, seq in last.items())

                await until(all_there, limit=60, what="the MOM has everything")
                await mom.acknowledge()


async def test_a_confirmed_event_leaves_the_buffer_and_an_unconfirmed_one_does_not(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, Sink(broker.port) as sink:
        mom = Mom(broker.port, "whole", AGENT)
        async with running(tmp_path, broker=broker.port, mqtt=BY_MOM) as run:
            await until(lambda: confirmed(run) >= 20 and run.agent.health.broker.commands, limit=30)
            await until(lambda: len(sink.messages) >= 20, limit=30)
        mom.take(sink.messages)
        first = len(sink.on("/evt/"))
        async with running(tmp_path, broker=broker.port, mqtt=BY_MOM):
            await sink.wait_for(lambda messages: len(messages) > 2 * first, limit=30)
            mom.take(sink.messages)
            assert mom.database.duplicates >= 20  # nothing was confirmed, so everything came again
            await mom.acknowledge()
            marked = mom.marks()
            await send(broker.port, f"{AGENT_TOPIC}/cmd/adm", command("snapshot.request", "s-1", subject=AGENT))
            await sink.wait_for(lambda _: sink.on(f"{AGENT_TOPIC}/ack"), limit=30)  # so the marks have been taken
        sink.messages.clear()
        async with running(tmp_path, broker=broker.port, mqtt=BY_MOM):
            await sink.wait_for(20, limit=30)
        for message in [*sink.on("/evt/"), *sink.on("/ack")]:
            event = check_message(message.topic, message.payload)
            assert int(event["sequence"]) > marked[event["source"].rpartition(":")[2], event["epoch"]]


async def test_a_range_is_sent_again_as_it_was_and_what_is_gone_is_said(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        Sink(broker.port) as sink,
        running(tmp_path, broker=broker.port) as run,
    ):
        await until(lambda: confirmed(run) >= 20 and run.agent.health.broker.commands, limit=30)
        epoch = run.messages[0].epoch
        bodies = {one.seq: one.body for one in run.messages if one.stream == "press-1.p"}
        asked = {"stream": "press-1.p", "epoch": epoch, "seq_from": 2, "seq_to": 4}
        await send(broker.port, f"{AGENT_TOPIC}/cmd/adm", command("resend.range", "r-1", subject=AGENT, **asked))
        elsewhere = {**asked, "epoch": "mlu4idc09c7x"}
        await send(broker.port, f"{AGENT_TOPIC}/cmd/adm", command("resend.range", "r-2", subject=AGENT, **elsewhere))
        unknown = {"stream": "press-9.p", "epoch": epoch, "seq": 1_000_000}
        await send(broker.port, f"{AGENT_TOPIC}/cmd/adm", command("stream.ack", "m-1", subject=AGENT, **unknown))
        await sink.wait_for(lambda _: len(sink.on(f"{AGENT_TOPIC}/ack")) >= 3, limit=30)

        answers = [one.json["data"] for one in sink.on(f"{AGENT_TOPIC}/ack")]
        assert [(one["code"], one.get("result")) for one in answers] == [
            ("ok", {"sent": 3, "unavailable": []}),
            ("ok", {"sent": 0, "unavailable": [[2, 4]]}),
            ("invalid", None),
        ]

        def again() -> list[bytes]:
            return [one.payload for one in sink.messages if one.user.get("replay") == "true" and "/evt/" in one.topic]

        await until(lambda: len(again()) >= 3, limit=30)
        assert again()[-3:] == [bodies[2], bodies[3], bodies[4]]
