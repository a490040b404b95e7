"""Named tables from what machines say to states: the numbers and words of the common vocabularies.

PackML is numbered in two ways: TR88 (also OPC 30050) counts from 1 with Execute 6, TMC (OPC 30060) from 0 with
Execute 4. So a preset is picked, never guessed. What a table cannot know, such as why a machine is suspended, is said
by `signals` beside it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from config.states import State

_S = State


class Preset(NamedTuple):
    """`states`: value → state. `waits`: values in which the signals `starved` and `blocked` count; None: in all.
    `names`: what numbers are called in the vocabulary."""

    states: Mapping[int | str, State]
    waits: frozenset[int | str] | None = None
    names: Mapping[int, str] = {}


class Mode(StrEnum):
    """What people want of a machine, apart from what it does (event model §2.1)."""

    PRODUCTION = "production"
    SETUP = "setup"
    MAINTENANCE = "maintenance"
    MANUAL = "manual"
    TEST = "test"
    UNKNOWN = "unknown"


_PACKML: Final[Mapping[str, State]] = {
    "clearing": _S.FAULT,
    "stopped": _S.STOPPED,
    "starting": _S.IDLE,
    "idle": _S.IDLE,
    "suspended": _S.IDLE,
    "execute": _S.RUNNING,
    "stopping": _S.STOPPED,
    "aborting": _S.FAULT,
    "aborted": _S.FAULT,
    "holding": _S.STOPPED,
    "held": _S.STOPPED,
    "unholding": _S.RUNNING,
    "suspending": _S.IDLE,
    "unsuspending": _S.RUNNING,
    "resetting": _S.IDLE,
    "completing": _S.RUNNING,
    "complete": _S.IDLE,
}
_WAITS: Final = frozenset({"suspended", "suspending", "held", "holding"})
_TR88: Final = (
    "undefined", "clearing", "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting", "aborted",
    "holding", "held", "unholding", "suspending", "unsuspending", "resetting", "completing", "complete",
)  # fmt: skip
_TMC: Final = (
    "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting", "aborted", "holding", "held",
    "unholding", "suspending", "unsuspending", "resetting", "completing", "complete", "clearing",
)  # fmt: skip


def _packml(names: tuple[str, ...]) -> Preset:
    numbers: dict[int | str, State] = {number: _PACKML.get(name, _S.UNKNOWN) for number, name in enumerate(names)}
    waits = {number for number, name in enumerate(names) if name in _WAITS}
    return Preset(numbers, frozenset(waits), dict(enumerate(names)))


PRESETS: Final[Mapping[str, Preset]] = {
    "packml_tr88": _packml(_TR88),
    "packml_tmc": _packml(_TMC),
    "machinery_item_state": Preset(
        {0: _S.OFF, 1: _S.FAULT, 2: _S.IDLE, 3: _S.RUNNING},
        names={0: "not_available", 1: "out_of_service", 2: "not_executing", 3: "executing"},
    ),
    "mtconnect_execution": Preset(
        {
            "ACTIVE": _S.RUNNING,
            "READY": _S.IDLE,
            "PROGRAM_COMPLETED": _S.IDLE,
            "WAIT": _S.IDLE,
            "STOPPED": _S.STOPPED,
            "PROGRAM_STOPPED": _S.STOPPED,
            "OPTIONAL_STOP": _S.STOPPED,
            "PROGRAM_OPTIONAL_STOP": _S.STOPPED,
            "FEED_HOLD": _S.STOPPED,
            "INTERRUPTED": _S.STOPPED,
            "UNAVAILABLE": _S.UNKNOWN,
        },
        frozenset({"WAIT"}),
    ),
    "tower_light": Preset(
        {
            "red": _S.FAULT,
            "red_blinking": _S.FAULT,
            "amber": _S.STOPPED,
            "amber_blinking": _S.STOPPED,
            "green": _S.RUNNING,
            "green_blinking": _S.IDLE,
            "blue": _S.STOPPED,
            "blue_blinking": _S.STOPPED,
            "white": _S.IDLE,
            "white_blinking": _S.IDLE,
            "dark": _S.STOPPED,
        }
    ),
}
"""`suspended`, `held` and `WAIT` are what is certain without a signal: the machine is ready or stands, no more."""

Lamp = Literal["red", "amber", "green", "blue", "white"]
TOWER: Final = "tower_light"
BLINK_SCAN: Final = 250_000
"""Lamps read more seldom than this (µs) cannot be told blinking from steady."""

MODES: Final[Mapping[str, Mapping[int | str, Mode]]] = {
    "packml_unit_mode": {0: Mode.UNKNOWN, 1: Mode.PRODUCTION, 2: Mode.MAINTENANCE, 3: Mode.MANUAL},
    "machinery_operation_mode": {0: Mode.UNKNOWN, 1: Mode.MAINTENANCE, 2: Mode.SETUP, 3: Mode.PRODUCTION},
}
"""Numbers of PackML unit modes beyond these are the machine builder's own."""

PRECEDENCE: Final = (
    _S.OFF, _S.FAULT, _S.MAINTENANCE, _S.SETUP, _S.BLOCKED, _S.STARVED, _S.RUNNING, _S.STOPPED, _S.IDLE, _S.UNKNOWN,
)  # fmt: skip
"""Which state wins when several are said at once (event model §3.3)."""
