"""Snapshots under cur/*: the newest event of its kind, also after a restart and a broker that forgot."""

from pathlib import Path

from buffer.outbox import Lane, Message
from edge_agent.delivery.retained import Retained
from edge_agent.events.topics import Place
from tests.delivery.forwarding import EPOCH, event, forwarding, outbox_with
from tests.hostile_broker import hostile_broker
from tests.servers_mqtt import Sink, mosquitto

PLACE = Place("e/s/a/l/m1", "ea/v1/s/a/l/m1")


def made(type_: str, seq: int) -> Message:
    """As the codec would."""
    body = (
        f'{{"specversion":"1.0","source":"urn:edgeagent:a1:m1.p","id":"{EPOCH}.{seq}","epoch":"{EPOCH}",'
        f'"sequence":"{seq:020d}","type":"dev.edgeagent.{type_}.v1"}}'
    ).encode()
    return Message("m1.p", EPOCH, seq, Lane.PRODUCTION, type_, PLACE.event(type_), body)


def drain(retained: Retained) -> list[Message]:
    taken = []
    while (snapshot := retained.take()) is not None:
        taken.append(snapshot)
    return taken


def test_the_newest_of_each_kind_stands_with_the_bytes_of_its_event() -> None:
    retained = Retained()
    events = [
        made("state.changed", 1),
        made("downtime.started", 2),
        made("state.changed", 3),
        made("downtime.ended", 4),
    ]
    retained.observe([*events, event(Lane.MEASUREMENT, 1)])
    assert [(one.topic, one.body) for one in drain(retained)] == [
        ("ea/v1/s/a/l/m1/cur/state", events[2].body),
        ("ea/v1/s/a/l/m1/cur/downtime", events[3].body),
    ]
    assert not retained.changed.is_set()


def test_what_did_not_change_is_not_sent_again_but_after_a_reconnect() -> None:
    retained = Retained()
    retained.observe([made("state.changed", 1)])
    assert len(drain(retained)) == 1
    retained.observe([made("state.changed", 1)])
    assert drain(retained) == []
    retained.all_changed()
    assert len(drain(retained)) == 1


def test_a_birth_that_is_told_anew_is_sent_once_and_not_on_the_next_connection() -> None:
    retained, birth = Retained(), event(Lane.HEALTH, 1)
    retained.once(birth)
    retained.observe([made("state.changed", 1)])
    assert [one.topic for one in drain(retained)] == [birth.topic, "ea/v1/s/a/l/m1/cur/state"]
    retained.once(birth)
    retained.all_changed()
    assert [one.topic for one in drain(retained)] == ["ea/v1/s/a/l/m1/cur/state"]


async def test_after_a_restart_the_rows_that_were_kept_give_the_same_snapshots() -> None:
    before = Retained()
    events = [made("state.changed", 1), made("downtime.started", 2)]
    outbox = await outbox_with(events, before.keep(events))
    before.observe(events)
    after = Retained()
    await after.load(outbox, [PLACE])
    assert drain(after) == drain(before)


async def test_they_are_published_after_each_connect_before_the_backlog() -> None:
    retained = Retained()
    retained.observe([made("state.changed", 1), made("downtime.started", 2)])
    async with hostile_broker() as broker:
        outbox = await outbox_with([event(Lane.PRODUCTION, 1)])
        async with forwarding(outbox, broker.url, retained=retained) as running:
            await running.drained()
            await broker.got(4)
            broker.cut()
            await broker.got(7)
        ends = [one.topic.rpartition("/")[2] for one in broker.received]
        assert ends[:7] == ["status", "state", "downtime", "state", "status", "state", "downtime"]
        assert [one.retain for one in broker.received[:4]] == [True, True, True, False]


async def test_a_change_is_published_and_a_flood_of_changes_once_in_a_while(tmp_path: Path) -> None:
    retained = Retained()
    async with mosquitto(tmp_path) as broker, Sink(broker.port, "ea/v1/s/#") as sink:
        outbox = await outbox_with()
        async with forwarding(outbox, broker.url, retained=retained) as running:
            await running.notes.until(lambda: "connected" in running.notes.log)
            running.clock.gate.clear()
            retained.observe([made("state.changed", 1)])
            await sink.wait_for(1)
            for seq in range(2, 50):
                retained.observe([made("state.changed", seq)])
            assert 1.0 in running.clock.sleeps
            assert len(sink.messages) == 1
            running.clock.gate.set()
            await sink.wait_for(2)
        assert [one.json["id"] for one in sink.messages] == [f"{EPOCH}.1", f"{EPOCH}.49"]
        async with Sink(broker.port, "ea/v1/s/#") as later:
            (snapshot,) = await later.wait_for(1)
        assert (snapshot.retained, snapshot.json["id"]) == (True, f"{EPOCH}.49")


class Restless(Retained):
    """Something has always changed, as with thousands of machines that count."""

    def take(self) -> Message | None:
        found = super().take()
        if found is not None:
            self._dirty[found.topic] = None
        return found


async def test_snapshots_that_change_all_the_time_do_not_keep_events_from_being_sent() -> None:
    retained = Restless()
    retained.observe([made("state.changed", 1), made("downtime.started", 2)])
    async with hostile_broker() as broker:
        outbox = await outbox_with([event(Lane.PRODUCTION, seq) for seq in range(1, 301)])
        async with forwarding(outbox, broker.url, retained=retained) as running:
            await running.drained()
        sent = [one for one in broker.received if one.topic.rpartition("/")[2] != "status"]
        until = max(index for index, one in enumerate(sent) if not one.retain)
        assert sum(one.retain for one in sent[:until]) <= 2 + 300 // 3
