"""Events on the wire: the envelope, the data, and that code and hand-written schemas agree."""

import inspect
import json
from dataclasses import MISSING, fields, replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from buffer.outbox import Lane
from config.model import Config
from edge_agent.clock import parse_rfc3339, rfc3339
from edge_agent.delivery import plain
from edge_agent.events import types
from edge_agent.events.codec import Encoder, agent_encoder, machine_encoder, stamp
from edge_agent.events.schema import load
from edge_agent.events.topics import agent_place
from edge_agent.events.types import (
    AgentClockAdjusted,
    AgentHeartbeat,
    AgentStarted,
    AgentStopped,
    AgentWarning,
    AlarmAcked,
    AlarmCleared,
    AlarmRaised,
    CommandAccepted,
    CommandDone,
    CommandExpired,
    CommandFailed,
    CommandRejected,
    ConnectionChanged,
    ConsumptionRecorded,
    ContextChanged,
    CycleCompleted,
    Data,
    DataGap,
    DataLoss,
    DowntimeEnded,
    DowntimeStarted,
    DowntimeUpdated,
    Event,
    GenealogyLinked,
    Judged,
    KpiWindow,
    Material,
    MeasurementSampled,
    MeterRegister,
    NativeAlarm,
    OrderChanged,
    OrderCompleted,
    OrderStarted,
    OrderTimes,
    Param,
    PlannedRunTime,
    ProductionCounted,
    Quantities,
    Raw,
    Read,
    Reason,
    Register,
    Segment,
    Series,
    StateChanged,
    Statistics,
    Stops,
    Window,
    WindowTimes,
)
from tests.schema_check import check_message

EPOCH = "mlu4idc09c7x"
AT = parse_rfc3339("2026-03-02T01:14:07.250Z")
CTX = {"order_id": "WO-260302-017", "operators": ("E1024",), "shift": "2026-03-02/A", "rev": 41}


def site(**mqtt: str) -> Config:
    tags = {"driver": "simulated", "tags": {}}
    return Config.model_construct(
        version=1,
        agent=types_of("agent", {"id": "sz1-l3-ipc01"}),
        site=types_of("site", {"enterprise": "acme", "site": "sz1", "area": "stamping"}),
        mqtt=types_of("mqtt", mqtt),
        devices={"plc": tags},
        machines={"press07": types_of("machines", {"line": "line3", "device": "plc"})},
    )


def types_of(key: str, values: dict[str, str]) -> object:
    from config.model import AgentOptions, MachineOptions, Mqtt, Site

    return {"agent": AgentOptions, "site": Site, "mqtt": Mqtt, "machines": MachineOptions}[key](**values)


def machine() -> Encoder:
    return machine_encoder(site(), "press07", EPOCH)


def agent() -> Encoder:
    return agent_encoder(site(), EPOCH)


def event(data: Data, **more: object) -> Event:
    family = data.TYPE.split(".")[0]
    lane = {"measurement": Lane.MEASUREMENT, "agent": Lane.HEALTH, "connection": Lane.HEALTH}.get(
        family, Lane.PRODUCTION
    )
    whole = {"lane": lane, "seq": 18423, "time": AT, "recorded": AT + 1_061_000, "data": data, "ctx": CTX, **more}
    return Event(**whole)


def encode(data: Data, **more: object) -> dict:
    made = event(data, **more)
    message = (agent() if made.lane is Lane.HEALTH else machine()).encode(made)
    return check_message(message.topic, message.body)


DOWN = {
    "quality": "good",
    "quality_detail": ("gap_recovery",),
    "time_basis": "derived",
    "time_unc_s": 0.25,
    "downtime_id": f"dt-{EPOCH}.18424",
    "started_at": AT,
    "planned": "unplanned",
    "category": "breakdown",
    "reason": Reason(code="M-210", text="急停回路断开", source="plc", set_by="E1", set_at=AT),
    "start_uncertain": True,
    "end_uncertain": False,
    "parts_during": 0,
    "cause_alarms": ("al-press07-4711-22",),
}
ENDED = {
    "status": "ended",
    "ended_at": AT + 504_650_000,
    "duration_s": 504.65,
    "segments": (
        Segment(state="fault", started_at=AT, duration_s=431.0, order_id="WO-1", shift="A", planned=False),
        Segment(state="idle", started_at=AT + 431_000_000, duration_s=73.65),
    ),
    "unknown_s": 0,
}
ORDER = {
    "order_id": "WO-260302-017",
    "operation": "0020",
    "order_run_id": f"or-{EPOCH}-311",
    "prev_order_id": "WO-260302-016",
    "product": "BRKT-4411",
    "planned_qty": 900,
    "uom": "H87",
    "ideal_cycle_s": 20.0,
    "origin": "mom",
    "verified": True,
}
TIMES = OrderTimes(apt_s=19800, aust_s=1800, adet_s=2700, adot_s=0, unknown_s=0)
ALARM = {
    "alarm_id": "al-press07-4711-22",
    "code": "4711",
    "text": "急停回路断开",
    "severity": 900,
    "origin": "plc",
    "raised_at": AT,
    "stops_machine": True,
    "snapshot": True,
    "start_uncertain": True,
    "suppressed_count": 3,
    "native": NativeAlarm(condition_id="ns=2;i=4", event_id="ab", branch=""),
}
FULL: list[Data] = [
    StateChanged(
        quality="uncertain",
        quality_detail=("no_output",),
        time_basis="source",
        time_unc_s=0.25,
        state="fault",
        group="fault",
        prev_state="running",
        prev_duration_s=1312.4,
        planned=False,
        raw=Raw(tag="status", value=8, text="E-stop circuit open"),
        rule="enum",
        trigger="tag",
        debounced_s=1.0,
        cause_alarm="al-1",
    ),
    DowntimeStarted(**DOWN, rev=1, status="open", class_="microstop"),
    DowntimeUpdated(**DOWN, rev=2, status="open", class_="stop"),
    DowntimeEnded(**DOWN, **ENDED, rev=3, class_="stop"),
    ProductionCounted(
        counter="main",
        from_at=AT,
        to_at=AT + 2_000_000,
        delta={"total": 4, "good": 3, "scrap": 1, "rework": 0},
        totals={"total": 182204, "good": 180010, "scrap": 1977, "rework": 217},
        order_totals={"total": 611},
        scrap_reasons=({"code": "Q-07", "qty": 1},),
        raw=(Register(tag="total", prev=65534, now=2), Register(tag="scrap", now=7.5)),
        cause="machine",
        flags=("rollover",),
        pass_="first",
        parts_per_count=2,
    ),
    MeasurementSampled(
        set="zone",
        trigger="interval",
        part=1,
        parts=2,
        values={"t1": 182.4, "n": 3, "on": True, "recipe": "R12"},
        q={"t2": "bad"},
        at_ms={"t1": -20.5},
        uom={"t1": "CEL"},
        tags_rev=3,
        judged={"t1": Judged(target=180.0, lo=175, hi=185.0, ok=True)},
        series=(Series(name="force", uom="KNT", t_ms=(0, 10.5), v=(1.5, 2), q=("good", "uncertain")),),
        stats=(
            Statistics(
                name="vibration",
                uom="C16",
                n=600,
                min=0.8,
                max=2.9,
                mean=1.31,
                sd=0.22,
                first=1.0,
                last=1.2,
                window_s=60,
            ),
        ),
        unit_id="S260302000598",
        cycle_id="cy-1",
    ),
    DataGap(
        quality="bad",
        from_at=AT,
        to_at=AT + 401_500_000,
        cause="comms_loss",
        affects=("state", "count"),
        count_recovered="exact",
        recovered_delta={"total": 19},
        history_recovered=False,
    ),
    DataLoss(
        lost_stream="press07.m",
        lost_epoch=EPOCH,
        seq_from=771200,
        seq_to=779999,
        extent="exact",
        count_by_type={"measurement.sampled": 8800},
        cause="buffer_full",
        policy="shed_measurements",
        totals_after={"main": {"total": 4}},
    ),
    ConnectionChanged(
        endpoint="plc-press07",
        protocol="modbus_tcp",
        status="down",
        since=AT,
        last_good_at=AT,
        reason="timeout",
        native="no answer",
        affected=("acme/sz1/stamping/line3/press07",),
    ),
    AgentStarted(
        version="0.1.0", config_hash="ab12", clean_stop=False, prev_epoch="old0epoch1", prev_last_seq={"a.p": 4}
    ),
    AgentStopped(uptime_s=12.5, reason="SIGTERM"),
    AgentHeartbeat(
        uptime_s=30.0,
        buffer={"rows": 1, "bytes": 700, "oldest_unsent_s": 0.2, "fill": 0.01},
        last_seq={"press07.p": 5},
        clock={"source": "system", "offset_ms": 0.4, "synced": True},
        disk_free=1 << 40,
        config_hash="ab12",
        version="0.1.0",
        clock_adjusted_total_s=0,
    ),
    AgentClockAdjusted(offset_s=-3600.0),
    AgentWarning(code="unmapped", text="status 99 is not mapped", subject="acme/sz1/stamping/line3/press07"),
    CycleCompleted(
        cycle_id=f"cy-{EPOCH}-90211",
        started_at=AT,
        ended_at=AT + 19_400_000,
        duration_s=19.4,
        ideal_s=20.0,
        wait_s=0,
        result="good",
        parts=1,
        serials=("S260302000598",),
        program="P12",
        params={"tonnage": Param(v=812.4, uom="KNT"), "die": Param(q="bad")},
    ),
    OrderStarted(**ORDER, job_state="running"),
    OrderChanged(**ORDER, job_state="interrupted", change="suspended", totals={"total": 4}, times=TIMES),
    OrderCompleted(**ORDER, job_state="ended", totals={"total": 900}, times=TIMES, end_reason="qty_reached"),
    ContextChanged(rev=42, set={"batch": "L1", "operators": ("E1", "E2")}, cleared=("tool",), origin="plc"),
    GenealogyLinked(
        relation="consumed_into",
        inputs=(Material(material="COIL-1.2", lot="C88123", sublot="1", qty=0.42, uom="KGM", use="consumed"),),
        outputs=(Material(serial="S260302000598"),),
        station="press07",
        position="2",
        read=Read(kind="barcode", raw="(01)06901234567892(21)S260302000598", grade="B"),
        cycle_id="cy-1",
    ),
    AlarmRaised(**ALARM, active=True, acked=False),
    AlarmCleared(**ALARM, active=False, acked=False, cleared_at=AT),
    AlarmAcked(**ALARM, active=True, acked=True, acked_at=AT, acked_by="E1"),
    ConsumptionRecorded(
        kind="energy",
        resource="EM-press07",
        from_at=AT,
        to_at=AT + 900_000_000,
        delta=4.7,
        uom="KWH",
        total=91872.3,
        register=MeterRegister(prev=53011.2, now=53015.9),
        by_state={"running": 4.4, "fault": 0.3},
        lot="L1",
        flags=("reset",),
    ),
    KpiWindow(
        window=Window(id="2026-03-02/A", basis="shift", from_at=AT, to_at=AT + 28_800_000_000, tz="Asia/Shanghai"),
        rev=1,
        final=False,
        time=WindowTimes(
            pot_s=28800,
            pbt_s=25200,
            apt_s=19800,
            aust_s=1800,
            adet_s=2700,
            adot_s=900,
            planned_down_s=3600,
            unknown_s=0,
            microstop_s=600,
        ),
        qty=Quantities(pq=900, gq=873, sq=18, rq=9),
        pri=(PlannedRunTime(product="BRKT-4411", pri_s=20.0, pq=900, gq=873),),
        coverage=1.0,
        kpi={"availability": 0.7857142857142857, "oee": 0.6929},
        microstop_policy="availability",
        stops=Stops(count=17, microstops=11, failures=3),
    ),
    *(
        kind(
            command_id="MOM-88f1",
            command_source="urn:mom:acme:sz1",
            name="order.start",
            status=kind.TYPE.removeprefix("command."),
            code="ok",
            detail="told",
            result={"rev": 4},
            duplicate=False,
        )
        for kind in (CommandAccepted, CommandRejected, CommandDone, CommandFailed, CommandExpired)
    ),
]
TYPES = [
    kind
    for _, kind in inspect.getmembers(types, inspect.isclass)
    if issubclass(kind, Data) and kind.TYPE and kind is not Data
]


@pytest.mark.parametrize("data", FULL, ids=lambda data: data.TYPE)
def test_an_event_with_every_field_is_valid_against_its_schema(data: Data) -> None:
    wire = encode(data)
    expected = {f.name.rstrip("_") for f in fields(data) if getattr(data, f.name) is not None}
    assert wire["data"].keys() == expected | {"ctx"}


@pytest.mark.parametrize(
    "data",
    # in the others a field is required because of another field's value
    [
        data
        for data in FULL
        if not isinstance(data, DowntimeEnded | DataLoss | DataGap | OrderChanged | GenealogyLinked)
    ],
    ids=lambda data: data.TYPE,
)
def test_an_event_with_its_required_fields_alone_is_valid(data: Data) -> None:
    bare = {f.name: None for f in fields(data) if f.default is None}
    wire = encode(replace(data, **bare), ctx=None)
    assert None not in wire["data"].values()


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.TYPE)
def test_every_type_has_a_schema_of_its_version_with_the_same_fields(kind: type[Data]) -> None:
    schemas = load()
    schema = schemas[kind.TYPE]
    assert schema["$id"] == f"urn:edgeagent:schema:{kind.TYPE}:{kind.VERSION}"
    mixed_in = [schemas["common"]["$defs"]["head"]]
    family = kind.TYPE.partition(".")[0]
    if family in schemas:
        mixed_in.append(schemas[family])
    named = {name for part in [schema, *mixed_in] for name in part.get("properties", {})}
    required = {name for part in [schema, *mixed_in] for name in part.get("required", [])}
    assert named == {f.name.rstrip("_") for f in fields(kind)} | {"ctx"}
    never_none = {f.name.rstrip("_") for f in fields(kind) if f.default is MISSING or (f.default is not None)} - {
        "mode"
    }
    assert never_none == required - {"mode"}


def test_every_type_is_tried_here() -> None:
    assert {kind.TYPE for kind in TYPES} == {data.TYPE for data in FULL}


def test_every_schema_is_a_valid_schema() -> None:
    for schema in load().values():
        Draft202012Validator.check_schema(schema)


def test_the_envelope_is_a_cloud_event_with_all_its_attributes() -> None:
    message = machine().encode(event(FULL[0], correlation_id=f"dt-{EPOCH}.18424", causation_id='a "quoted" id'))
    assert message.topic == "ea/v1/sz1/stamping/line3/press07/evt/state"
    assert (message.stream, message.epoch, message.seq, message.lane) == ("press07.p", EPOCH, 18423, Lane.PRODUCTION)
    assert message.type == "state.changed"
    wire = check_message(message.topic, message.body)
    data = wire.pop("data")
    assert wire == {
        "specversion": "1.0",
        "id": "mlu4idc09c7x.18423",
        "source": "urn:edgeagent:sz1-l3-ipc01:press07.p",
        "type": "dev.edgeagent.state.changed.v1",
        "subject": "acme/sz1/stamping/line3/press07",
        "time": "2026-03-02T01:14:07.250Z",
        "recordedtime": "2026-03-02T01:14:08.311Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:edgeagent:schema:state.changed:1.0.0",
        "sequence": "00000000000000018423",
        "epoch": "mlu4idc09c7x",
        "correlationid": "dt-mlu4idc09c7x.18424",
        "causationid": 'a "quoted" id',
    }
    assert data["raw"] == {"tag": "status", "value": 8, "text": "E-stop circuit open"}
    assert data["ctx"]["operators"] == ["E1024"]


def test_measurements_go_to_their_own_stream_and_the_agents_events_to_its_own_topics() -> None:
    measured = machine().encode(event(FULL[5]))
    assert (measured.stream, measured.topic) == ("press07.m", "ea/v1/sz1/stamping/line3/press07/evt/measurement")
    own = agent().encode(event(FULL[9]))
    assert (own.stream, own.topic) == ("$agent.h", "ea/v1/_agents/sz1-l3-ipc01/evt/agent")
    assert json.loads(own.body)["subject"] == "acme/sz1/stamping/_agents/sz1-l3-ipc01"
    assert agent().encode(event(FULL[8])).topic == "ea/v1/_agents/sz1-l3-ipc01/evt/connection"


def test_the_topic_root_can_be_changed() -> None:
    encoder = machine_encoder(site(topic_root="plant/edge"), "press07", EPOCH)
    assert encoder.encode(event(FULL[0])).topic == "plant/edge/sz1/stamping/line3/press07/evt/state"


def test_text_is_utf8_and_not_escaped() -> None:
    assert "急停回路断开".encode() in machine().encode(event(FULL[1])).body


def test_the_same_event_gives_the_same_bytes() -> None:
    assert [machine().encode(event(FULL[0])) for _ in range(2)].count(machine().encode(event(FULL[0]))) == 2


def test_an_integer_beyond_two_to_the_53_is_text() -> None:
    big = (1 << 53) + 1
    counted = replace(FULL[4], totals={"total": big, "good": 1 << 53}, raw=(Register(tag="t", prev=-big, now=3),))
    wire = encode(counted)["data"]
    assert wire["totals"] == {"total": str(big), "good": 1 << 53}
    assert wire["raw"] == [{"tag": "t", "prev": str(-big), "now": 3}]
    values = {"a": 1.5, "b": big, "c": "text", "d": True}
    assert encode(replace(FULL[5], values=values))["data"]["values"] == values | {"b": str(big)}
    assert encode(replace(FULL[0], raw=Raw(tag="t", value=big)))["data"]["raw"]["value"] == str(big)


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_number_json_does_not_have_is_left_out_and_named_as_bad(number: float) -> None:
    data = encode(replace(FULL[5], values={"t1": number, "t3": 1.0}))["data"]
    assert data["values"] == {"t3": 1.0}
    assert data["q"] == {"t2": "bad", "t1": "bad"}
    gap = encode(replace(FULL[6], time_unc_s=0.5, recovered_delta={"total": number, "good": 2}))["data"]
    assert gap["recovered_delta"] == {"good": 2}


def test_seconds_are_rounded_to_the_millisecond_and_whole_ones_have_no_fraction() -> None:
    data = machine().encode(event(replace(FULL[0], prev_duration_s=1312.4004999, debounced_s=1.0))).body
    assert b'"prev_duration_s":1312.4,' in data
    assert b'"debounced_s":1,' in data


@given(st.integers(0, 4_102_444_800_000_000))
def test_a_time_stamp_is_the_clocks_rfc3339(wall: int) -> None:
    assert stamp(wall) == rfc3339(wall)


def test_a_wrong_member_is_found() -> None:
    message = machine().encode(event(FULL[0]))
    wrong = message.body.replace(b'"trigger"', b'"tricker"')
    with pytest.raises(AssertionError, match=r"state\.changed"):
        check_message(message.topic, wrong)


def test_birth_and_will_and_counters_are_valid() -> None:
    place = agent_place(site())
    told = {"agent_id": "sz1-l3-ipc01", "epoch": EPOCH, "version": "0.1.0", "config_hash": "ab12"}
    told |= {"last_seq": {"press07.p": 4, "$agent.h": 9}, "since": AT}
    birth = plain.status(place, online=True, **told)
    assert birth.topic == "ea/v1/_agents/sz1-l3-ipc01/status"
    assert check_message(birth.topic, birth.body)["since"] == "2026-03-02T01:14:07.250Z"
    will = plain.status(place, online=False, **told)
    assert check_message(will.topic, will.body)["online"] is False
    values = {"main": {"totals": {"total": 4}, "raw": {"total": 65534}}}
    shown = plain.counters(machine().place, "press07", EPOCH, at=AT, values=values)
    assert shown.topic == "ea/v1/sz1/stamping/line3/press07/cur/counters"
    assert check_message(shown.topic, shown.body)["counters"] == values
    tags = {"temp": {"tag": "press07.temp", "type": "float32", "unit": "CEL", "hi": 240.0}}
    told = plain.tags(machine().place, "press07", EPOCH, 3, tags)
    assert told.topic == "ea/v1/sz1/stamping/line3/press07/cur/tags"
    assert check_message(told.topic, told.body)["tags"] == tags
