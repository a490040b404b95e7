"""What a machine's state and mode are read from, worked out once: tags and their tables, lamps, signals, activity."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from config.machine import MachineOptions
from config.presets import PRESETS, TOWER, Mode
from config.states import State
from edge_agent.clock import SECOND
from edge_agent.machine import expressions
from edge_agent.machine.expressions import Expression

BLINK: Final = 3 * SECOND
"""A lamp that changed twice within this blinks."""
_SILENCE: Final = 10 * SECOND


class Table(NamedTuple):
    """A tag that holds a state or mode: its values, their meaning, and the bits of it that count. `names`: what the
    preset's vocabulary calls its numbers."""

    key: str
    mask: int | None
    meaning: Mapping[int | str, str]
    default: str
    names: Mapping[int, str] = {}


class Output(NamedTuple):
    """Whether pieces come: the counter group; µs of silence that are too long, None for three counts, at least 10 s;
    and µs of one count, or of one part where a tag says how many parts a count is."""

    group: str
    timeout: int | None
    ideal: int

    def cycle(self, factor: int) -> int:
        """µs of one count; `factor`: parts per count as their tag says, 0 without one or while it is not known."""
        return self.ideal * (factor or 1)

    def silence(self, factor: int) -> int:
        """µs without a count that are too long."""
        return max(3 * self.cycle(factor), _SILENCE) if self.timeout is None else self.timeout


class StateMapping(NamedTuple):
    """`state`: the tag with its table; `lamps`: colour → key, with `looks` → state; `rules` and `signals`:
    expressions; `waits`: values of the tag in which signals of starved and blocked count, None for all; `activity`:
    the state is that of the counter; `watchdog`: running is held against the counter, `enforce` takes it away.
    `ranks`: precedence, 0 first. `keys`: all tags behind it; `windows`: tag → µs of its past that is needed."""

    state: Table | None
    lamps: Mapping[str, str]
    looks: Mapping[int | str, State]
    rules: tuple[tuple[State, Expression | None, str | None], ...]
    signals: tuple[tuple[State, Expression], ...]
    waits: frozenset[int | str] | None
    activity: Output | None
    watchdog: Output | None
    enforce: bool
    mode: Table | None
    ranks: Mapping[State, int]
    default: State
    keys: frozenset[str]
    windows: Mapping[str, int]

    @property
    def timed(self) -> bool:
        """Whether samples that change nothing matter: edges and ages are over with the next one."""
        return bool(self.rules or self.signals)


def mapping(
    options: MachineOptions, key: Callable[[str], str], registers: Mapping[str, frozenset[str]]
) -> StateMapping | None:
    """`registers`: counter group → keys. None for a machine without a state. Raises ValueError for an expression
    that does not parse."""
    state = options.state
    if state is None:
        return None
    rules = tuple(
        (rule.state, None if rule.when is None else expressions.parse(rule.when, key), rule.reason)
        for rule in state.rules or ()
    )
    ranks = state.ranks
    signals = tuple(
        sorted(
            ((word, expressions.parse(text, key)) for word, text in state.signals.items()),
            key=lambda signal: ranks[signal[0]],
        )
    )
    lamps: dict[str, str] = {str(colour): key(ref) for colour, ref in state.lamps.items()}
    preset = PRESETS[state.preset] if state.preset is not None else None
    table = None
    if state.source is not None:
        names = {} if preset is None else preset.names
        table = Table(key(state.source), state.mask, state.states, state.default, names)
    mode = options.mode
    modes = None if mode is None else Table(key(mode.source), mode.mask, mode.modes, Mode.UNKNOWN)
    activity = state.activity
    group = "main" if "main" in registers else next(iter(registers), None)
    counted = options.counters.get((group or "") if activity is None else activity.counter)
    factor = 1 if counted is None or isinstance(counted.parts_per_count, str) else counted.parts_per_count
    cycle = (options.ideal_cycle or 0) * factor
    keys = {one.key for one in (table, modes) if one is not None} | set(lamps.values())
    windows = dict.fromkeys(lamps.values(), BLINK)
    for expression in (*(when for _, when, _ in rules), *(when for _, when in signals)):
        if expression is not None:
            keys |= expression.tags
            for tag, span in expression.windows.items():
                windows[tag] = max(windows.get(tag, 0), round(span * SECOND))
    if activity is not None:
        keys |= registers[activity.counter]
    watched = group is not None and cycle > 0 and activity is None
    return StateMapping(
        table,
        lamps,
        state.states if state.preset == TOWER else {},
        rules,
        signals,
        None if preset is None else preset.waits,
        None if activity is None else Output(activity.counter, activity.timeout or None, cycle),
        Output(group, None, cycle) if watched and group is not None else None,
        options.activity_watchdog == "enforce",
        modes,
        ranks,
        state.default,
        frozenset(keys),
        windows,
    )
