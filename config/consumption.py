"""What a machine uses, by its meters."""

from typing import Annotated, Literal

from pydantic import Field

from config.kinds import Options, TagRef
from config.units import Duration, Rate, between


class MeterOptions(Options):
    """A meter that only counts up; a step down means that it was set to 0."""

    kind: Literal["energy", "material", "media"]
    """What it measures."""
    tag: TagRef
    """The meter's register; a tag of another device is `device/tag`. Its `unit` is that of the consumption."""
    resource: Annotated[str, Field(min_length=1)] | None = None
    """Code of the meter or the material; default: the name of this entry."""
    every: Annotated[Duration, between("1s", "1d")] = 900_000_000
    """How often the consumption since the last event is published, at the full interval of the clock (UTC)."""
    resolution: Annotated[float, Field(gt=0)] = 0.001
    """The meter's smallest step, in its unit: amounts are whole multiples of it, so that sums are exact."""
    max_rate: Annotated[Rate, Field(gt=0)] | None = None
    """More than this, in the meter's unit, cannot be used: a larger step is not believed."""
