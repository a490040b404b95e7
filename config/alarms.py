"""Alarms of a machine: limits of numbers, bits that the PLC raises, and words of such bits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from config.errors import Problem
from config.kinds import Code, Options, TagRef
from config.states import Category
from config.units import Duration, between

Severity = Annotated[int, Field(ge=1, le=1000)]


class Chatter(Options):
    """When an alarm that comes and goes is one: from then on it lasts until it has been quiet for `within`."""

    edges: Annotated[int, Field(ge=2, le=100)] = 6
    """More changes than this, coming and going, within the time are chatter."""
    within: Annotated[Duration, between("1s", "1h")] = 60_000_000
    """The time in which they are counted."""


class AlarmBit(Options):
    """One bit of an alarm word."""

    code: Code
    """The machine's or the plant's code; what tells alarms of a machine apart."""
    text: str | None = None
    """What people call it."""
    severity: Severity = 500
    """1 (least) to 1000, as in OPC UA."""
    stops_machine: bool = False
    """It can be why the machine stands: the first one at a stop is its cause."""
    category: Category | None = None
    """Of the downtime it causes; default: from `reasons` by its code, or by the machine's state."""
    inverted: bool = False
    """Active while the bit is 0, as with a closed safety circuit."""


class ConditionOptions(Options):
    """Conditions that the device keeps itself: `{from: TAG, stops_from: 700}` with a tag of type conditions."""

    source: TagRef = Field(alias="from")
    """Tag of type `conditions`."""
    severity: Severity = 1
    """What is less severe is left out."""
    stops_from: Severity | None = None
    """Conditions of this severity and more can be why the machine stands."""
    category: Category | None = None
    """Of the downtime they cause; default: from `reasons` by their code, or by the machine's state."""


class AlarmOptions(Options):
    """`{code, tag}` with a bool tag, `{code, tag, high: 240}` with limits, or `{word, bits}`."""

    code: Code | None = None
    """The machine's or the plant's code; what tells alarms of a machine apart."""
    text: str | None = None
    """What people call it."""
    tag: TagRef | None = None
    """A bool tag that is true while the alarm is active, or a number with limits."""
    high: float | None = None
    """Active above this."""
    low: float | None = None
    """Active below this."""
    hysteresis: Annotated[float, Field(ge=0)] = 0
    """The value must come back inside the limit by so much until the alarm is over."""
    inverted: bool = False
    """Active while the tag is false, as with a closed safety circuit."""
    word: TagRef | None = None
    """A number whose bits are alarms."""
    bits: Mapping[Annotated[int, Field(ge=0, le=63)], AlarmBit] = {}
    """Bit of the word, counted from 0 → its alarm."""
    delay: Annotated[Duration, between("0s", "1d")] = 0
    """It must last so long before it is an alarm; its time is that of its first sample."""
    severity: Severity = 500
    """1 (least) to 1000, as in OPC UA."""
    stops_machine: bool = False
    """It can be why the machine stands: the first one at a stop is its cause."""
    category: Category | None = None
    """Of the downtime it causes; default: from `reasons` by its code, or by the machine's state."""
    chatter: Chatter = Chatter.model_construct()
    """When coming and going is merged into one alarm."""

    @property
    def limited(self) -> bool:
        return self.high is not None or self.low is not None

    @property
    def source(self) -> TagRef:
        """The tag or the word."""
        return self.tag or self.word or ""

    @model_validator(mode="after")
    def _one_form(self) -> "AlarmOptions":
        if (self.tag is None) == (self.word is None):
            fix = "{code: 17, tag: guard_open}"
            raise Problem("E302", "an alarm needs exactly one of 'tag' and 'word'", fix=fix)
        if self.word is not None:
            self._of_a_word()
        elif self.code is None:
            raise Problem("E306", "an alarm needs a 'code'", why="the code tells alarms of a machine apart")
        elif self.bits:
            raise Problem("E303", "'bits' belongs to 'word'", fix="word: instead of tag:", at=("bits",))
        if self.hysteresis and not self.limited:
            raise Problem("E303", "'hysteresis' belongs to 'high' or 'low'", at=("hysteresis",))
        if self.inverted and self.limited:
            raise Problem("E303", "'inverted' is for a bool tag", fix="low: instead of high:", at=("inverted",))
        if self.low is not None and self.high is not None and self.high - self.low < 2 * self.hysteresis:
            why = "with 'hysteresis' no value between 'low' and 'high' would end the alarm"
            raise Problem("E309", "the limits are too close to each other", why=why, at=("low",))
        return self

    def _of_a_word(self) -> None:
        if not self.bits:
            raise Problem("E306", "an alarm word needs 'bits'", fix="bits: {0: {code: 17, text: Guard open}}")
        own = ("code", "text", "high", "low", "inverted", "severity", "stops_machine", "category")
        for name in own:
            if name in self.model_fields_set:
                raise Problem("E303", f"'{name}' belongs to each bit of a word", at=(name,))


def check_codes(alarms: Sequence[AlarmOptions]) -> None:
    """Raises Problem if one code stands for two alarms of a machine."""
    seen: set[str] = set()
    for path, code in _codes(alarms):
        if code in seen:
            what = f"two alarms have the code '{code}'"
            raise Problem("E409", what, fix="give each a code of its own", at=path)
        seen.add(code)


def _codes(alarms: Sequence[AlarmOptions]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for index, alarm in enumerate(alarms):
        if alarm.word is None:
            yield ("alarms", index, "code"), str(alarm.code)
        for bit, one in alarm.bits.items():
            yield ("alarms", index, "bits", bit, "code"), str(one.code)
