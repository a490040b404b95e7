"""How a timeline becomes batches, ticks, kills and restarts: seen by a machine that only writes down what it gets."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pytest

from buffer.outbox import Lane
from config.model import DeviceOptions, TagOptions
from drivers.base import Batch, Quality
from edge_agent.clock import SECOND, Instant
from edge_agent.events.types import AgentWarning, Event, StateChanged
from edge_agent.machine.contracts import Outcome, State
from edge_agent.replay.drive import Drive, Made
from edge_agent.replay.timeline import Reader, TimelineFault, as_type

START = 1_772_409_600 * SECOND


class Device(DeviceOptions):
    driver: str = "plain"
    tags: Mapping[str, TagOptions] = {}
    types: Mapping[str, str] = {}

    def value_type(self, tag: str) -> str:
        return self.types.get(tag, "int16")


class ModbusDevice(Device):
    protocol: ClassVar[str] = "modbus_tcp"


def device(kind: type[Device] = Device, scan: str = "1s", **tags: str) -> Device:
    """A device whose tags have the scan given, e.g. `status="10s"`, or that of the device with an empty text."""
    return kind.model_validate(
        {"driver": "plain", "scan": scan, "tags": {tag: {"scan": own} if own else {} for tag, own in tags.items()}}
    )


class Witness:
    """State: what was seen since the start, as text. `timer` is when it wants its ticks, in µs after boot."""

    name = "m"

    def __init__(self, devices: Iterable[str] = ("d",), timers: Iterable[float] = (), store: bool = False) -> None:
        self.devices = frozenset(devices)
        self.timers = tuple(round(timer * SECOND) for timer in timers)
        self.store = store
        self.seen: list[str] = []

    def initial(self, now: Instant, last: object = None) -> Outcome:
        self.seen.append(f"{clock(now)} initial")
        return Outcome((now.mono, 0), store=True)

    def restore(self, saved: bytes, now: Instant, rows: object = None, last: object = None) -> Outcome:
        self.seen.append(f"{clock(now)} restore {saved.decode()}")
        return Outcome((now.mono, len(self.timers)))

    def step(self, state: State, batch: Batch, now: Instant) -> Outcome:
        said = ", ".join(
            f"{r.tag}={r.value}{'' if r.quality is Quality.GOOD else '!' + r.quality.name}"
            + ("" if r.source_time in (None, now.wall) else f"@{(r.source_time - START) / SECOND:g}")
            for r in batch.readings
        )
        mark = " restarted" if batch.restarted else ""
        self.seen.append(f"{clock(now)} {batch.device}: {said}{mark}")
        return Outcome(state, store=self.store)

    def due(self, state: State) -> int | None:
        boot, fired = state
        return boot + self.timers[fired] if fired < len(self.timers) else None

    def tick(self, state: State, now: Instant) -> Outcome:
        self.seen.append(f"{clock(now)} tick")
        return Outcome((state[0], state[1] + 1))

    def dump(self, state: State) -> bytes:
        return self.seen[-1].encode()

    def describe(self, state: State) -> dict[str, Any]:
        return {}


def clock(now: Instant) -> str:
    return f"{(now.wall - START) / SECOND:g}s"


def play(
    *given: dict[str, Any], until: float, machine: Witness | None = None, devices: dict[str, Device] | None = None
) -> tuple[list[str], list[Made]]:
    machine = machine or Witness()
    devices = devices or {"d": device(a="", b="")}
    lines = Reader(devices, "d", START).read(given)
    made = list(Drive([machine], devices, start=START).play(lines, round(until * SECOND)))
    return machine.seen, made


def test_a_held_value_is_read_again_at_every_scan() -> None:
    seen, _ = play({"at": "0s", "a": 1}, {"at": "1.5s", "a": 2}, until=3)
    assert seen == ["0s initial", "0s d: a=1", "1s d: a=1", "1.5s d: a=2", "2s d: a=2", "3s d: a=2"]


def test_a_line_on_the_grid_is_read_once_together_with_the_scan() -> None:
    seen, _ = play({"at": "0s", "a": 1, "b": 5}, {"at": "1s", "b": 6}, until=1)
    assert seen == ["0s initial", "0s d: a=1, b=5", "1s d: a=1, b=6"]


def test_two_lines_of_one_moment_are_two_readings() -> None:
    seen, _ = play({"at": "0s", "a": 1}, {"at": "0s", "a": 2}, until=0)
    assert seen == ["0s initial", "0s d: a=1", "0s d: a=2"]


def test_each_tag_has_its_own_scan() -> None:
    seen, _ = play({"at": "0s", "a": 1, "b": 2}, until=2, devices={"d": device(a="", b="2s")})
    assert seen[1:] == ["0s d: a=1, b=2", "1s d: a=1", "2s d: a=1, b=2"]


def test_a_tag_that_no_line_has_named_yet_is_not_read() -> None:
    seen, _ = play({"at": "1s", "b": 2}, until=1)
    assert seen == ["0s initial", "1s d: b=2"]


def test_timers_fire_at_their_own_time_between_lines() -> None:
    seen, _ = play({"at": "0s", "a": 1}, until=2, machine=Witness(timers=[0.5, 1.25]))
    assert seen == ["0s initial", "0s d: a=1", "0.5s tick", "1s d: a=1", "1.25s tick", "2s d: a=1"]


def test_a_timer_fires_before_a_reading_of_the_same_moment_and_still_at_the_end() -> None:
    seen, _ = play({"at": "0s", "a": 1}, until=2, machine=Witness(timers=[1, 2]))
    assert seen[2:] == ["1s tick", "1s d: a=1", "2s tick", "2s d: a=1"]


def test_a_timer_that_is_always_due_is_a_fault_of_the_machine() -> None:
    class Stuck(Witness):
        def due(self, state: State) -> int | None:
            return 1

    with pytest.raises(RuntimeError, match="due again and again"):
        play({"at": "0s", "a": 1}, until=1, machine=Stuck())


def test_bad_quality_holds_until_a_line_names_the_tag() -> None:
    seen, _ = play(
        {"at": "0s", "a": 1, "b": 2},
        {"at": "1s", "quality": "bad", "tags": ["a"]},
        {"at": "2s", "quality": "uncertain", "tags": ["b"]},
        {"at": "3s", "a": 3, "b": 4},
        until=3,
    )
    assert seen[1:] == [
        "0s d: a=1, b=2",
        "1s d: a=None!BAD, b=2",
        "2s d: a=None!BAD, b=2!UNCERTAIN",
        "3s d: a=3, b=4",
    ]


def test_a_value_may_come_with_its_quality() -> None:
    seen, _ = play(
        {"at": "0s", "a": 1, "quality": "uncertain"}, {"at": "0.5s", "quality": "good", "tags": ["a"]}, until=1
    )
    assert seen[1:] == ["0s d: a=1!UNCERTAIN", "0.5s d: a=1", "1s d: a=1"]


def test_a_tag_can_be_bad_from_the_beginning() -> None:
    seen, _ = play({"at": "0s", "quality": "bad", "tags": ["a"]}, until=0)
    assert seen[1:] == ["0s d: a=None!BAD"]


def test_a_line_with_a_source_time_does_not_change_the_held_value() -> None:
    seen, _ = play({"at": "0s", "a": 5}, {"at": "2s", "a": 3, "source_at": "0.5s"}, until=3)
    assert seen[1:] == ["0s d: a=5", "1s d: a=5", "2s d: a=3@0.5, a=5", "3s d: a=5"]


def test_a_lost_device_is_not_read_and_on_its_return_everything_is_read() -> None:
    seen, made = play(
        {"at": "0s", "a": 1},
        {"at": "1s", "device": "lost"},
        {"at": "1.5s", "a": 2},
        {"at": "2.5s", "device": "back"},
        until=3,
    )
    assert seen[1:] == ["0s d: a=1", "2.5s d: a=2", "3s d: a=2"]
    said = [
        (event.data.status, event.data.since - START) for _, event in made if event.data.TYPE == "connection.changed"
    ]
    assert said == [("up", 0), ("down", 0), ("up", 2.5 * SECOND)]


def test_one_of_two_devices_is_lost_by_its_name() -> None:
    devices = {"d": device(a=""), "meter": device(kwh="")}
    seen, _ = play(
        {"at": "0s", "a": 1, "meter/kwh": 7},
        {"at": "1s", "device": {"lost": "meter"}},
        until=1,
        machine=Witness(["d", "meter"]),
        devices=devices,
    )
    assert seen[1:] == ["0s d: a=1", "0s meter: kwh=7", "1s d: a=1"]


def test_a_restarted_plc_is_marked_in_the_next_batch_alone() -> None:
    seen, _ = play({"at": "0s", "a": 1}, {"at": "0.5s", "plc": "restarted"}, until=2)
    assert seen[1:] == ["0s d: a=1", "1s d: a=1 restarted", "2s d: a=1"]


def test_a_killed_agent_comes_back_with_what_was_stored_every_five_seconds() -> None:
    seen, made = play(
        {"at": "0s", "a": 1},
        {"at": "7.5s", "agent": "killed"},
        {"at": "8s", "a": 2},
        {"at": "9.5s", "agent": "started"},
        until=10,
    )
    assert seen[-4:] == ["7s d: a=1", "9.5s restore 5s d: a=1", "9.5s d: a=2", "10s d: a=2"]
    assert [event.data.clean_stop for _, event in made if event.data.TYPE == "agent.started"] == [True, False]


def test_a_killed_agent_comes_back_with_what_an_outcome_asked_to_store() -> None:
    seen, _ = play(
        {"at": "0s", "a": 1},
        {"at": "7.5s", "agent": "killed"},
        {"at": "9.5s", "agent": "started"},
        until=9.5,
        machine=Witness(store=True),
    )
    assert "9.5s restore 7s d: a=1" in seen


def test_the_process_that_starts_again_has_another_monotonic_clock() -> None:
    drive = Drive([Witness()], {"d": device(a="")}, start=START)
    lines = Reader({"d": device(a="")}, "d", START).read(
        [{"at": "100s", "agent": "killed"}, {"at": "200s", "agent": "started"}]
    )
    before = drive.now(0).mono
    list(drive.play(lines, 300 * SECOND))
    assert drive.now(200 * SECOND).mono == before


def test_a_clock_jump_moves_the_wall_clock_alone() -> None:
    seen, made = play({"at": "0s", "a": 1}, {"at": "1s", "clock": "+3600s"}, until=2, machine=Witness(timers=[1.5]))
    assert seen[2:] == ["3601s d: a=1", "3601.5s tick", "3602s d: a=1"]
    (adjusted,) = [event.data for _, event in made if event.data.TYPE == "agent.clock_adjusted"]
    assert adjusted.offset_s == 3600
    seen, _ = play({"at": "0s", "a": 1}, {"at": "1s", "clock": "-60s"}, until=1)
    assert seen[-1] == "-59s d: a=1"


def test_warnings_of_a_machine_become_events_of_the_agent() -> None:
    class Warner(Witness):
        def step(self, state: State, batch: Batch, now: Instant) -> Outcome:
            event = Event(
                lane=Lane.PRODUCTION,
                seq=1,
                time=now.wall,
                recorded=now.wall,
                data=StateChanged(state="idle", group="standby", rule="enum", trigger="tag"),
            )
            return Outcome(state, [event], [AgentWarning(code="W900", text="odd", subject="m")])

    _, made = play({"at": "0s", "a": 1}, until=0, machine=Warner())
    assert [(one.machine, one.event.data.TYPE) for one in made] == [
        (None, "agent.started"),
        ("m", "state.changed"),
        (None, "agent.warning"),
        (None, "connection.changed"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"a": 1}, "no time"),
        ({"at": 10}, "10 is not a time"),
        ({"at": "-1s"}, "before the start"),
        ({"at": "2026-13-01T00:00:00Z"}, "is not a time"),
        ({"at": "0s", "c": 1}, "device 'd' has no tag 'c'"),
        ({"at": "0s", "qualty": "bad"}, "did you mean 'quality'"),
        ({"at": "0s", "x/a": 1}, "no device 'x'"),
        ({"at": "0s", "a": "one"}, "a: the tag is a number"),
        ({"at": "0s", "a": None}, "the tag is a number"),
        ({"at": "0s", "a": True}, "the tag is a number"),
        ({"at": "0s", "a": 1.5}, "a whole number"),
        ({"at": "0s", "a": 40000}, "does not fit into int16"),
        ({"at": "0s", "quality": "bad"}, "which tags"),
        ({"at": "0s", "quality": "poor", "tags": ["a"]}, "good, uncertain or bad"),
        ({"at": "0s", "tags": ["a"]}, "belongs to `quality`"),
        ({"at": "0s", "quality": "bad", "tags": 7}, "list of tag names"),
        ({"at": "0s", "device": "gone"}, "lost or back"),
        ({"at": "0s", "device": {"lost": "x"}}, "no device 'x'"),
        ({"at": "0s", "plc": "stopped"}, "restarted"),
        ({"at": "0s", "agent": "stopped"}, "killed or started"),
        ({"at": "0s", "clock": 5}, "is not a time"),
        ({"at": "0s", "source_at": "1s"}, "names no tag"),
        ({"at": "0s", "command": {"name": "order.start"}}, "which machine is the command for"),
        ({"at": "0s", "command": {"name": "orderstart"}}, "there is no command 'orderstart'; did you mean"),
        ({"at": "0s", "command": "order.start"}, "a command is written like"),
        ({"at": "0s", "command": {"name": "order.start", "expirytime": "soon"}}, "is not a time"),
    ],
)
def test_a_line_that_cannot_be_played_says_why(line: dict[str, Any], said: str) -> None:
    with pytest.raises(TimelineFault, match=said):
        Reader({"d": device(a="")}, "d", START).line(line)


def test_a_line_earlier_than_the_one_before_it_is_a_fault() -> None:
    with pytest.raises(TimelineFault, match="earlier") as caught:
        Reader({"d": device(a="")}, "d", START).read([{"at": "2s", "a": 1}, {"at": "1s", "a": 1}])
    assert caught.value.line == 1


@pytest.mark.parametrize("line", [{"at": "9999-12-31T23:59:59Z"}, {"at": "1s", "clock": "-99999999999s"}])
def test_a_time_that_no_clock_shows_is_a_fault(line: dict[str, Any]) -> None:
    with pytest.raises(TimelineFault, match="cannot show"):
        Reader({"d": device(a="")}, "d", START).read([line])


@pytest.mark.parametrize(
    ("value", "kind", "said"), [(10**400, "float64", "64 bits"), ("a\ud800", "string", "half of a character")]
)
def test_a_value_that_no_device_can_give_is_a_fault(value: object, kind: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        as_type(value, kind)


def test_without_a_home_device_a_bare_tag_is_a_fault() -> None:
    with pytest.raises(TimelineFault, match="write device/a"):
        Reader({"d": device(a="")}, None, START).line({"at": "0s", "a": 1})


@pytest.mark.parametrize(
    ("type_", "written", "read"),
    [
        ("bool", 1, True),
        ("bool", False, False),
        ("float32", 20, 20.0),
        ("uint16", 7.0, 7),
        ("string", "WO-1", "WO-1"),
        ("bcd16", 9999, 9999),
    ],
)
def test_a_value_is_read_as_the_tags_type(type_: str, written: Any, read: Any) -> None:
    options = Device.model_validate({"tags": {"a": {}}, "types": {"a": type_}})
    (value,) = Reader({"d": options}, "d", START).line({"at": "0s", "a": written}).values.values()
    assert (value, type(value)) == (read, type(read))


def test_a_device_that_publishes_is_read_at_each_publishing() -> None:
    class Publishing(Device):
        publishing: int = 2 * SECOND

        def period(self, tag: str) -> int:
            return SECOND + self.publishing

    seen, _ = play({"at": "0s", "a": 1}, until=4, devices={"d": device(Publishing, a="")})
    assert seen[1:] == ["0s d: a=1", "2s d: a=1", "4s d: a=1"]


def test_modbus_has_no_source_time() -> None:
    class Times(Witness):
        def step(self, state: State, batch: Batch, now: Instant) -> Outcome:
            self.seen.append(str([r.source_time for r in batch.readings]))
            return Outcome(state)

    seen, _ = play({"at": "0s", "a": 1}, until=0, machine=Times(), devices={"d": device(ModbusDevice, a="")})
    assert seen[-1] == "[None]"
