"""A bad value never becomes a part or a running minute (I5), whatever the form of the state and of the counter."""

import math

import pytest

from drivers.base import Batch, Quality, Reading
from drivers.modbus.encoding import Encoding, conversion
from edge_agent.clock import SECOND, Instant
from tests.machine.stories import START, config, machine, story

TAGS = {
    "status": "int16",
    "word": "string",
    "red": "bool",
    "green": "bool",
    "spindle": "float32",
    "total": "uint16",
    "wide": "uint32",
    "float": "float32",
    "signed": "int16",
    "decimal": "bcd16",
    "pulse": "bool",
    "mode": "int16",
}
STATES = {
    "map": {"from": "status", "map": {1: "idle", 2: "running"}},
    "packml": {"from": "status", "preset": "packml_tr88", "map": {2: "running"}},
    "mtconnect": {"from": "word", "preset": "mtconnect_execution"},
    "tower": {"preset": "tower_light", "lamps": {"red": "red", "green": "green"}},
    "rules": {"rules": [{"state": "running", "when": "spindle > 5"}, {"state": "idle"}]},
    "activity": {"activity": {}},
}
GOOD = {"status": 1, "word": "READY", "red": False, "green": False, "spindle": 0.0, "mode": 1}
COUNTERS = ("total", "wide", "float", "signed", "decimal", "pulse")
NONSENSE = {
    "BAD": (None, Quality.BAD),
    "NaN": (math.nan, Quality.GOOD),
    "infinity": (math.inf, Quality.GOOD),
    "text": ("rubbish", Quality.GOOD),
    "empty text": ("", Quality.GOOD),
    "negative": (-1, Quality.GOOD),
    "a jump by a million": (1_000_100, Quality.GOOD),
    "beyond every register": (1 << 80, Quality.GOOD),
    "beyond every float32": (1e300, Quality.GOOD),
}


def play(state, counter, nonsense):
    """Five seconds of a machine that stands, thirty of nonsense in every tag, and then what it was before."""
    before = {**GOOD, "total": 100, "wide": 100, "float": 100.0, "signed": 100, "decimal": 100, "pulse": False}
    made = config(
        {"state": state, "counters": {"main": {"total": counter, "max_rate": "2/s"}}, "comms_timeout": "10s"},
        TAGS,
        scan="250ms",
    )
    one = machine(made)
    current = one.initial(Instant(START, 0)).state
    events = []

    def take(outcome):
        nonlocal current
        current = outcome.state
        events.extend(outcome.events)

    for step in range(4 * 60):
        now = Instant(START + step * SECOND // 4, step * SECOND // 4)
        while (due := one.due(current)) is not None and due <= now.mono:
            take(one.tick(current, now))
        odd = 20 <= step < 140
        readings = [Reading(tag, *nonsense) if odd else Reading(tag, known) for tag, known in before.items()]
        take(one.step(current, Batch("press", readings), now))
    return events


def says_something(state, value):
    """A spindle with a million turns says that it turns, and a lamp that is anything but 0 is on."""
    number = isinstance(value, int | float) and math.isfinite(value)
    return number and (state == "tower" or (state == "rules" and value > 5))


CASES = [
    pytest.param(state, counter, value, quality, id=f"{state}-{counter}-{word}")
    for state in STATES
    for counter in COUNTERS
    for word, (value, quality) in NONSENSE.items()
    if not says_something(state, value)
]


@pytest.mark.parametrize(("state", "counter", "value", "quality"), CASES)
def test_a_bad_value_is_never_a_part_and_never_a_running_minute(state, counter, value, quality):
    events = play(STATES[state], counter, (value, quality))

    assert [event.data.delta for event in events if event.data.TYPE == "production.counted"] == []
    said = [event.data.state for event in events if event.data.TYPE == "state.changed"]
    assert said
    assert "running" not in said


@pytest.mark.parametrize(("kind", "word"), [("bcd16", 0x12A4), ("bcd32", 0x123456F8)])
def test_a_binary_coded_digit_above_nine_is_bad_before_a_machine_sees_it(kind, word):
    convert = conversion(Encoding(kind))

    assert convert is not None
    with pytest.raises(ValueError, match="not a BCD number"):
        convert([word])


@pytest.mark.parametrize("text", ["0-", "--2", "²", "2-", "-", "1" * 5000])
def test_a_text_that_is_almost_a_number_is_a_value_without_a_mapping(text: str) -> None:
    made = config({"state": {"from": "word", "map": {1: "idle", 2: "running"}}}, {"word": "string"})
    events = story(made, [{"at": "0s", "word": "2"}, {"at": "5s", "word": text}], 10)
    assert [event["state"] for event in events if event["type"] == "state.changed"] == ["running", "unknown"]


def test_a_barcode_with_a_quantity_that_is_no_number_is_read_without_it() -> None:
    machine_ = {"genealogy": [{"read": "word", "relation": "consumed_into"}]}
    given = [{"at": "0s", "word": ""}, {"at": "5s", "word": "(10)L1(30)²"}]
    (link,) = story(config(machine_, {"word": "string"}), given, 10, "genealogy")
    assert (link["inputs"][0].lot, link["inputs"][0].qty) == ("L1", None)
