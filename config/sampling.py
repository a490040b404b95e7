"""Is every bit looked at often enough, and does every register last long enough? The numbers, before the start.

A bit that changes twice between two looks has not changed for those who look. So a pulse must last two scans
(Nyquist); one that is shorter than a scan is lost for certain, which is a fault; anything between is a warning.
"""

from collections.abc import Callable, Iterator

from config.counters import Counter
from config.errors import Problem
from config.kinds import TagRef
from config.machine import MachineOptions
from config.model import DeviceOptions
from config.presets import BLINK_SCAN, TOWER
from config.report import Path

Find = Callable[[TagRef], tuple[DeviceOptions, str] | None]
"""The device and the tag that a reference means; None if that is not known."""
MEMBERS = ("total", "good", "scrap", "rework")
_HOUR = 3600
_BITS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "bcd16": None, "bcd32": None}
_DECIMAL = {"bcd16": 10_000, "bcd32": 100_000_000}
_FLOAT32_EXACT = 1 << 24


def time(micros: int) -> str:
    """A duration as people write it."""
    for unit, size in (("min", 60_000_000), ("s", 1_000_000), ("ms", 1000)):
        if micros >= size:
            return f"{micros / size:.4g}{unit}"
    return f"{micros / 1000:.3g}ms"


def too_slow(machine: MachineOptions, find: Find) -> Iterator[tuple[Path, Problem]]:
    """Faults and warnings about one machine, with the path of the value they are about."""
    state = machine.state
    if state is not None and state.preset == TOWER:
        for colour, ref in state.lamps.items():
            found = find(ref)
            if found is not None and (looks := found[0].sampling_of(found[1])) > BLINK_SCAN:
                yield (
                    ("state", "lamps", colour),
                    Problem(
                        "E412",
                        f"'{ref}' is read every {time(looks)}; a blinking lamp would look steady or dark",
                        why=f"blinking is two changes within 3s, seen only by at most {time(BLINK_SCAN)}",
                        fix=f"scan: {time(BLINK_SCAN)} (OPC UA: sampling) at the tag",
                    ),
                )
    for name, counter in machine.counters.items():
        for member in MEMBERS:
            ref = getattr(counter, member)
            found = find(ref) if ref is not None else None
            if found is not None:
                for problem in _register(counter, ref, *found):
                    yield ("counters", name, member), problem


def _register(counter: Counter, ref: TagRef, device: DeviceOptions, tag: str) -> Iterator[Problem]:
    kind = device.value_type(tag)
    if kind == "bool":
        problem = _edges(counter, ref, device.sampling_of(tag))
        if problem is not None:
            yield problem
        return
    wrap = counter.wrap or _wrap(kind, device, tag)
    if wrap is not None and wrap / counter.max_rate < _HOUR:
        yield Problem(
            "W413",
            f"'{ref}' rolls over after {time(round(wrap / counter.max_rate * 1_000_000))} at max_rate",
            why=f"{wrap} values at {counter.max_rate:g}/s: in a longer gap how often it did so cannot be told",
            fix="count in a 32 bit register, or set 'max_rate' to what the machine can do",
        )
    if kind == "float32" and counter.resolution >= 1:
        yield Problem(
            "W414",
            f"'{ref}' is float32, which is exact only up to {_FLOAT32_EXACT}",
            why="above it single parts vanish",
            fix="count in uint32 or float64",
        )


def _wrap(kind: str, device: DeviceOptions, tag: str) -> int | None:
    options = device.tags[tag]
    if getattr(options, "scale", None) not in (None, 1):
        return None
    bits = _BITS.get(kind)
    return 1 << bits if bits is not None else _DECIMAL.get(kind)


def _edges(counter: Counter, ref: TagRef, looks: int) -> Problem | None:
    """Whether edges of a bit can be missed at that many microseconds between two looks."""
    lasts = counter.shortest
    if 2 * looks <= lasts:
        return None
    known = "pulse" in counter.model_fields_set or "max_rate" in counter.model_fields_set
    code = "E413" if looks > lasts and known else "W415"
    if counter.pulse is not None:
        why = f"its level lasts {time(lasts)} ('pulse')"
    else:
        said = "'max_rate'" if "max_rate" in counter.model_fields_set else "the default 'max_rate'"
        change = "a change" if counter.toggle else "half a period"
        why = f"{said} of {counter.max_rate:g}/s means {change} every {time(lasts)}"
    lost = "are" if code == "E413" else "may be"
    return Problem(
        code,
        f"parts {lost} missed: '{ref}' is read every {time(looks)}",
        why=f"{why}; a level must last two reads",
        fix=f"read it every {time(lasts // 2)}, or count in a register of the PLC"
        + ("" if known else ", or write 'max_rate' or 'pulse'"),
    )
