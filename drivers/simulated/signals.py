"""What a simulated tag shows at a time. Pure: the same time gives the same value."""

import math
import random

from drivers.base import Micros, Quality, Reading
from drivers.simulated.options import SimulatedTag


def reading(name: str, tag: SimulatedTag, elapsed: Micros) -> Reading:
    """The tag's reading `elapsed` microseconds after connecting."""
    match tag.kind:
        case "counter":
            return Reading(name, (tag.start + int(tag.rate * elapsed / 1_000_000)) % tag.wrap)
        case "sine":
            share = (1 + math.sin(2 * math.pi * elapsed / tag.every)) / 2
            return Reading(name, tag.low + share * (tag.high - tag.low))
        case "random":
            chance = random.Random(f"{name} {elapsed // tag.every}")
            return Reading(name, chance.uniform(tag.low, tag.high))
        case "cycle":
            return Reading(name, tag.values[elapsed // tag.every % len(tag.values)])
        case "constant":
            return Reading(name, tag.value)
        case "broken":
            return Reading(name, None, Quality.BAD, detail="broken on purpose")
