"""What can be written in YAML for a device with `driver: simulated`."""

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from config.model import DeviceOptions, Name, Scalar, TagOptions
from config.units import Duration, Rate

_TYPES = {"counter": "uint32", "sine": "float64", "random": "float64"}


class SimulatedTag(TagOptions):
    """One signal. Its value depends on the time since connecting alone, so two runs are equal."""

    kind: Literal["counter", "sine", "random", "constant", "cycle", "broken"]
    """counter: counts at `rate` · sine, random: between `low` and `high` · constant: `value` ·
    cycle: goes through `values`, one `every` · broken: always BAD."""
    rate: Rate = 1.0
    start: int = 0
    """First value of a counter."""
    wrap: int = 1 << 32
    """A counter goes back to 0 here."""
    low: float = 0.0
    high: float = 1.0
    every: Duration = 1_000_000
    """Period of a sine; how long a random or cycle value stays."""
    value: Scalar = 0
    values: tuple[Scalar, ...] = ()

    @model_validator(mode="after")
    def _a_cycle_has_values(self) -> "SimulatedTag":
        if self.kind == "cycle" and not self.values:
            raise PydanticCustomError("E301", "a cycle needs 'values'")
        return self

    @property
    def type(self) -> str:
        sample = self.values[0] if self.kind == "cycle" else self.value
        words = {bool: "bool", int: "int64", float: "float64", str: "string"}
        return _TYPES.get(self.kind) or words[type(sample)]


class SimulatedDevice(DeviceOptions):
    """A device that needs no PLC."""

    driver: Literal["simulated"] = "simulated"
    tags: Mapping[Name, SimulatedTag]

    @property
    def endpoint(self) -> str:
        return "simulated"

    def value_type(self, tag: str) -> str:
        kind: str = self.tags[tag].type
        return kind
