"""A buffer that is older than what others have of it goes on under a new epoch, by itself, and says so."""

import json
import shutil
from pathlib import Path

import pytest

from buffer.outbox import Message
from tests.mom import command, send
from tests.runtime.test_agent import Running, running
from tests.runtime.test_confirmed_by_the_mom import AGENT, AGENT_TOPIC, confirmed
from tests.schema_check import check_message
from tests.servers_mqtt import mosquitto
from tests.waiting import until


def declared(messages: list[Message]) -> set[str]:
    """Streams of which it is said that they were rolled back."""
    losses = [check_message(one.topic, one.body)["data"] for one in messages if one.type == "data.loss"]
    return {loss["lost_stream"] for loss in losses if (loss["cause"], loss["extent"]) == ("rollback", "unknown")}


ALL = {"$agent.h", "press-1.p", "press-1.m"}


async def begins_anew(run: Running, epoch: str, known: str) -> None:
    await until(lambda: run.starts == 2 or run.task.done(), limit=30, what="the buffer is opened again")
    new = next(one for one in run.messages if one.epoch != epoch)
    assert new.type == "agent.started"
    assert new.epoch > max(epoch, known)
    await until(lambda: declared(run.messages) == ALL, limit=20)
    count = run.types().count("state.changed")
    await until(lambda: run.types().count("state.changed") > count + 2, limit=20, what="collecting goes on")


@pytest.mark.parametrize("newer", [False, True])
async def test_a_mark_of_the_mom_that_is_ahead_begins_a_new_epoch(tmp_path: Path, newer: bool) -> None:
    async with mosquitto(tmp_path) as broker, running(tmp_path, broker=broker.port, mqtt=", confirm: mom") as run:
        await until(lambda: confirmed(run) >= 10 and run.agent.health.broker.commands, limit=30)
        epoch = run.messages[0].epoch
        known = "y" + epoch[1:] if newer else epoch
        mark = {"stream": "press-1.p", "epoch": known, "seq": 1 if newer else 1_000_000}
        await send(broker.port, f"{AGENT_TOPIC}/cmd/adm", command("stream.ack", "m-1", subject=AGENT, **mark))
        await begins_anew(run, epoch, known)


async def test_a_birth_at_the_broker_that_is_ahead_begins_a_new_epoch_before_anything_is_sent(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        async with running(tmp_path, broker=broker.port) as run:
            await until(lambda: confirmed(run) >= 10, limit=30)
        shutil.copy(tmp_path / "buffer.db", tmp_path / "copy")
        epoch = run.messages[0].epoch
        async with running(tmp_path, broker=broker.port) as run:
            await until(lambda: confirmed(run) >= 10, limit=30)
        shutil.copy(tmp_path / "copy", tmp_path / "buffer.db")
        (tmp_path / "buffer.db.mark").unlink()  # a whole disk was restored
        async with running(tmp_path, broker=broker.port) as run:
            await begins_anew(run, epoch, epoch)


async def test_an_ordinary_restart_and_a_kill_are_no_roll_back(tmp_path: Path) -> None:
    """What the broker keeps was committed, whenever the agent was cut off."""
    async with mosquitto(tmp_path) as broker:
        for _ in range(3):
            async with running(tmp_path, broker=broker.port) as run:
                await until(lambda run=run: confirmed(run) >= 5, limit=30)
            (tmp_path / "buffer.db.mark").unlink()
            assert run.starts == 1
            assert not declared(run.messages)
        assert json.loads(run.messages[0].body)["data"]["clean_stop"]
