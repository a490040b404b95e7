"""What the simulated machines do: a pure function of time, so that a test knows the truth to the piece.

A station goes through phases (running, waiting for material, a fault …) for ever. It makes a part after each
`cycle` of running time. `advance` gives the same result in one step as in many. A quarter of an hour of a real
line happens in half a minute, and the counters start just below their roll-over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

Micros = int

IDLE, RUNNING, SETUP, STARVED, FAULT = 1, 2, 3, 4, 8
"""Status words of the press."""
GUARD_OPEN, HYDRAULICS = 12, 31
"""Fault codes of the press."""
COLD, HOT = 20_000_000, 220_000_000
"""Bounds of the oven's temperature in millionths of a degree Celsius."""
_SECOND = 1_000_000


class Phase(NamedTuple):
    """One stretch of a station's day. `heat` is in degrees Celsius per second."""

    lasts: Micros
    status: int
    fault: int = 0
    heat: int = 0


PRESS_PLAN = (
    Phase(6 * _SECOND, RUNNING),
    Phase(2_500_000, STARVED),
    Phase(5 * _SECOND, RUNNING),
    Phase(4 * _SECOND, FAULT, GUARD_OPEN),
    Phase(7 * _SECOND, RUNNING),
    Phase(3 * _SECOND, SETUP),
    Phase(4 * _SECOND, RUNNING),
    Phase(2 * _SECOND, IDLE),
)
OVEN_PLAN = (
    Phase(9 * _SECOND, RUNNING, heat=10),
    Phase(4 * _SECOND, FAULT, heat=-25),
    Phase(3 * _SECOND, IDLE, heat=35),
    Phase(13 * _SECOND, RUNNING, heat=10),
    Phase(3 * _SECOND, FAULT, heat=-30),
    Phase(3 * _SECOND, IDLE, heat=35),
)


@dataclass(frozen=True, slots=True)
class Station:
    """One machine. `made` and `scrapped` are the truth since the start and never roll over."""

    plan: Sequence[Phase]
    cycle: Micros
    """Running time for one part."""
    scrap_every: int
    """Each so-manieth part is scrap; 0 is never."""
    ahead: tuple[Phase, ...] = ()
    """The phase it is in, with what is left of it, and those that follow before the plan begins again."""
    worked: Micros = 0
    """Running time that the part being made has had."""
    made: int = 0
    heat: int = field(default=180_000_000)
    """Millionths of a degree Celsius."""

    @property
    def now(self) -> Phase:
        """The phase it is in."""
        return self.ahead[0] if self.ahead else self.plan[0]

    @property
    def scrapped(self) -> int:
        return self.made // self.scrap_every if self.scrap_every else 0


def advance(station: Station, by: Micros) -> Station:
    """The station `by` microseconds later."""
    ahead, worked, made, heat = station.ahead, station.worked, station.made, station.heat
    while by > 0:
        ahead = ahead or tuple(station.plan)
        phase = ahead[0]
        step = min(by, phase.lasts)
        by -= step
        if phase.status == RUNNING:
            parts, worked = divmod(worked + step, station.cycle)
            made += parts
        heat = min(HOT, max(COLD, heat + phase.heat * step))
        left = phase.lasts - step
        ahead = (phase._replace(lasts=left), *ahead[1:]) if left else ahead[1:]
    return replace(station, ahead=ahead, worked=worked, made=made, heat=heat)


def trip(station: Station, lasts: Micros) -> Station:
    """The station with a fault from now on; afterwards it goes on with the phase after the present one."""
    rest = (station.ahead or tuple(station.plan))[1:]
    cooling = any(phase.heat for phase in station.plan)
    fault = Phase(lasts, FAULT, HYDRAULICS, heat=-25 if cooling else 0)
    warming = (Phase(3 * _SECOND, IDLE, heat=35),) if cooling else ()
    return replace(station, ahead=(fault, *warming, *rest))


def press() -> Station:
    """The OPC UA press: a part each 400 ms, each seventh is scrap."""
    return Station(plan=PRESS_PLAN, cycle=400_000, scrap_every=7)


def oven() -> Station:
    """The Modbus oven: a tray each 1.5 s."""
    return Station(plan=OVEN_PLAN, cycle=1_500_000, scrap_every=0)


PRESS_TOTAL_START, PRESS_REJECT_START, OVEN_TRAYS_START = 65_520, 65_533, 65_530
_REGISTER = 1 << 16


class PressRegisters(NamedTuple):
    """What the PLC of the press shows: int16, uint16, uint16, uint16, float32."""

    status: int
    fault: int
    total: int
    rejects: int
    tonnage: float


def press_registers(station: Station) -> PressRegisters:
    phase = station.now
    force = 800.0 + 2.5 * (station.made % 9) if phase.status == RUNNING else 0.0
    return PressRegisters(
        status=phase.status,
        fault=phase.fault,
        total=(PRESS_TOTAL_START + station.made) % _REGISTER,
        rejects=(PRESS_REJECT_START + station.scrapped) % _REGISTER,
        tonnage=force,
    )


class OvenRegisters(NamedTuple):
    """What the controller of the oven shows: coil, float32, uint16."""

    burner: bool
    temp: float
    trays: int


def oven_registers(station: Station) -> OvenRegisters:
    return OvenRegisters(
        burner=station.now.status != FAULT,
        temp=station.heat / 1e6,
        trays=(OVEN_TRAYS_START + station.made) % _REGISTER,
    )
