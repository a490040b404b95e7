"""How fast the pure step is, on one core, without disk: readings nobody needs, readings that make events, samples."""

from collections.abc import Callable, Mapping
from time import process_time

from benchmarks.report import Figure, show
from config.model import AgentOptions, Config, Site
from config.model import MachineOptions as MachineYaml
from drivers.base import Batch, Reading
from drivers.simulated.options import SimulatedDevice
from edge_agent.cli.run import calm_collector
from edge_agent.clock import SECOND, Instant
from edge_agent.machine.machine import Machine

_START = 1_772_409_600 * SECOND
_SECTION = "machine step"


def _config(tags: int, machine: Mapping[str, object]) -> Config:
    signals = {f"v{number:04}": {"kind": "constant", "value": 0} for number in range(tags)}
    own = {
        "status": {"kind": "constant", "value": 0},
        "total": {"kind": "counter"},
        "reject": {"kind": "counter"},
        "code": {"kind": "constant", "value": 0},
    }
    device = SimulatedDevice.model_validate({"driver": "simulated", "scan": "100ms", "tags": {**signals, **own}})
    return Config(
        version=1,
        agent=AgentOptions(id="bench"),
        site=Site(enterprise="acme", site="s", area="a"),
        devices={"plc": device},
        machines={"m": MachineYaml.model_validate({"line": "l", "device": "plc", **machine})},
    )


_MACHINE: Mapping[str, object] = {
    "state": {"from": "status", "map": {1: "idle", 2: "running", 8: "fault"}, "debounce": {"default": "1s"}},
    "counters": {"main": {"total": "total", "scrap": "reject", "max_rate": "100/s"}},
    "downtime": {"reason": "code"},
}


def _rate(machine: Machine, batch: Callable[[int], Batch], steps: int) -> tuple[float, int, float]:
    """(readings/s, events, µs spent in `dump` per step that stores)."""
    state = machine.initial(Instant(_START, 0)).state
    readings, events, dumps, dumping = 0, 0, 0, 0.0
    prepared = [batch(number) for number in range(steps)]
    calm_collector()
    begun = process_time()
    for number, one in enumerate(prepared):
        now = Instant(_START + number * 100_000, number * 100_000)
        outcome = machine.step(state, one, now)
        state = outcome.state
        readings += len(one.readings)
        events += len(outcome.events)
        due = machine.due(state)
        if due is not None and due <= now.mono:
            outcome = machine.tick(state, now)
            state, events = outcome.state, events + len(outcome.events)
        if outcome.events or outcome.store:
            before = process_time()
            machine.dump(state)
            dumping += process_time() - before
            dumps += 1
    spent = process_time() - begun - dumping
    return readings / spent, events, dumping / dumps * 1e6 if dumps else 0.0


def _unchanged(number: int, known: list[Reading]) -> Batch:
    return Batch("plc", known)


def _changing(number: int) -> Batch:
    return Batch(
        "plc",
        [
            Reading("status", 8 if number % 40 > 30 else 2),
            Reading("total", number),
            Reading("reject", number // 3),
            Reading("code", number % 7),
        ],
    )


def _side_by_side(machines: int, batch: Callable[[int], Batch], steps: int) -> float:
    """Readings/s of machines that take turns, as in an agent: each has a state and a configuration of its own."""
    team = [Machine(_config(4, _MACHINE), "m", epoch=f"e{number}") for number in range(machines)]
    states = [machine.initial(Instant(_START, 0)).state for machine in team]
    prepared = [[batch(turn) for _ in team] for turn in range(max(3, steps // machines))]
    calm_collector()
    for warm in (True, False):
        readings, begun = 0, process_time()
        for turn, batches in enumerate(prepared[:2] if warm else prepared[2:], start=0 if warm else 2):
            now = Instant(_START + turn * 100_000, turn * 100_000)
            for index, machine in enumerate(team):
                states[index] = machine.step(states[index], batches[index], now).state
                readings += len(batches[index].readings)
    return readings / (process_time() - begun)


def measure() -> list[Figure]:
    """Every figure of the step alone."""
    figures = []
    same = [Reading(f"v{number:04}", 0) for number in range(996)]
    same += [Reading("status", 2), Reading("total", 5), Reading("reject", 0), Reading("code", 0)]
    machine = Machine(_config(996, _MACHINE), "m", epoch="e")
    rate, _, _ = _rate(machine, lambda number: _unchanged(number, same), 300)
    figures.append(Figure(_SECTION, "unchanged, 1000 tags, 4 of them used", rate, "readings/s"))
    rate, _, _ = _rate(machine, lambda number: Batch("plc", [Reading(*one) for one in same]), 300)
    figures.append(Figure(_SECTION, "unchanged, read as new objects", rate, "readings/s"))
    rate, _, _ = _rate(machine, lambda number: Batch("plc", same[-4:]), 3000)
    figures.append(Figure(_SECTION, "unchanged, 4 tags, all used", rate, "readings/s"))
    rate, events, dump = _rate(machine, _changing, 5000)
    figures.append(Figure(_SECTION, "4 tags, all used and changing", rate, "readings/s", f"{events} events"))
    figures.append(Figure(_SECTION, "state to bytes, machine with counters", dump, "µs"))
    for machines in (1, 10, 100, 500):
        rate = _side_by_side(machines, lambda number: Batch("plc", same[-4:]), 20_000)
        figures.append(Figure(_SECTION, f"unchanged, 4 tags, {machines} machines", rate, "readings/s"))
        rate = _side_by_side(machines, _changing, 20_000)
        figures.append(Figure(_SECTION, f"4 tags, all changing, {machines} machines", rate, "readings/s"))
    tags = [f"v{number:04}" for number in range(1000)]
    machine = Machine(_config(1000, {"measurements": {"all": {"tags": tags, "on": "change"}}}), "m", epoch="e")
    rate, events, dump = _rate(
        machine, lambda number: Batch("plc", [Reading(tag, number * 1000 + i) for i, tag in enumerate(tags)]), 200
    )
    figures.append(Figure(_SECTION, "1000 samples, all changing", 1e6 / rate, "µs/value", f"{events} events"))
    figures.append(Figure(_SECTION, "state to bytes, sample set of 1000", dump, "µs"))
    rate, events, _ = _rate(
        machine,
        lambda number: Batch(
            "plc",
            [
                Reading(tag, number + i / 7, source_time=_START + number * 100_000 + i * 20)
                for i, tag in enumerate(tags)
            ],
        ),
        200,
    )
    figures.append(
        Figure(_SECTION, "1000 samples with times of their own", 1e6 / rate, "µs/value", f"{events} events")
    )
    return figures


if __name__ == "__main__":
    for figure in measure():
        show(figure)
