"""Counters of a machine: which registers count what, and how a step of theirs is to be understood."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.errors import Problem
from config.kinds import Options, TagRef
from config.units import Duration, Rate, between


class Counter(Options):
    """Registers of one counter group (event model §4)."""

    total: TagRef | None = None
    """Tag that counts every part."""
    good: TagRef | None = None
    """Tag that counts good parts."""
    scrap: TagRef | None = None
    """Tag that counts parts that were thrown away."""
    rework: TagRef | None = None
    """Tag that counts parts to be mended."""
    wrap: Annotated[int, Field(ge=2, le=1 << 64)] | None = None
    """Values until roll-over; default from the tag's type (2^16, 2^32)."""
    wrap_to: Literal[0, 1] = 0
    """First value after the roll-over."""
    max_rate: Annotated[Rate, Field(gt=0)] = 10.0
    """More than this cannot be produced: a larger step is not believed."""
    resets: Literal["never", "order", "shift", "unknown"] = "unknown"
    """When the machine sets the register to 0."""
    reset_hints: tuple[TagRef, ...] = ()
    """Tags whose change goes with a reset, e.g. the order number."""
    backward: Literal["correction", "ignore", "reset"] = "correction"
    """What a small step back means."""
    correction_max: Annotated[int, Field(ge=0)] = 20
    """Largest step back that is taken for a correction by hand."""
    jumps: Literal["reject", "accept"] = "reject"
    """What happens to a step that is larger than `max_rate` allows."""
    assume_good: bool = False
    """Without a good register: total minus scrap is good."""
    parts_per_count: Annotated[int, Field(ge=1, le=10_000)] | TagRef = 1
    """Parts made in one count, e.g. cavities of a mould; a tag where it changes with the tool."""
    toggle: bool = False
    """A bool tag counts each of its changes, not only the rising ones."""
    pulse: Annotated[Duration, between("1ms", "1h")] | None = None
    """How long a bool tag keeps each level at least; default: half of the time between two parts at `max_rate`."""
    resolution: Annotated[float, Field(gt=0)] = 1.0
    """What one part adds to the register, where that is not 1; smaller changes than half of it are noise."""
    scrap_reason: TagRef | None = None
    """Tag that holds the defect code of the part that was scrapped last; 0 or empty is none."""

    @property
    def shortest(self) -> int:
        """Microseconds that a bool tag keeps its level at least."""
        if self.pulse is not None:
            return self.pulse
        return round(1_000_000 / self.max_rate) // (1 if self.toggle else 2)

    @model_validator(mode="after")
    def _counts_something(self) -> "Counter":
        if all(register is None for register in (self.total, self.good, self.scrap, self.rework)):
            raise Problem("E405", "a counter needs a tag", why="none of total, good, scrap and rework is set")
        if self.scrap_reason is not None and self.scrap is None:
            what = "'scrap_reason' needs 'scrap' beside it"
            raise Problem("E302", what, why="a reason belongs to a scrapped part", at=("scrap_reason",))
        return self
