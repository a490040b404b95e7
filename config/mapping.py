"""How tags become a machine's state and mode: a tag with a map or preset, lamps, rules, or the counter's activity."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from config.errors import Problem, did_you_mean, listed
from config.kinds import Code, Name, Options, TagRef
from config.presets import MODES, PRECEDENCE, PRESETS, TOWER, Lamp, Mode
from config.states import State
from config.units import Duration, between

PresetName = Literal["packml_tr88", "packml_tmc", "machinery_item_state", "mtconnect_execution", "tower_light"]
Mask = Annotated[int, Field(ge=1, lt=1 << 64)]


def check_rules(rules: Sequence["Rule"]) -> None:
    """Raises Problem unless every rule but the last has a condition."""
    if not rules or rules[-1].when is not None:
        at = ("rules", len(rules) - 1) if rules else ("rules",)
        fix = "add a last rule without when, e.g. - {state: idle}"
        raise Problem("E403", "the last rule must have no 'when'", why="it holds when no other does", fix=fix, at=at)
    for index, rule in enumerate(rules[:-1]):
        if rule.when is None:
            why = "it is always true, so the rules below it are never reached"
            raise Problem("E403", "a rule without 'when' before the last", why=why, at=("rules", index))


def _debounced(word: str) -> str:
    known = ["default", *State]
    if word not in known:
        fix = did_you_mean(word, known)
        raise Problem("E301", f"'{word}' is no state", why=f"allowed: {', '.join(known)}", fix=fix)
    return word


def masked(value: int, mask: int | None) -> int:
    """The bits of the mask, moved down so that the lowest of them is bit 0."""
    return value if mask is None else (value & mask) >> ((mask & -mask).bit_length() - 1)


class Rule(Options):
    """First true rule wins; the last has no `when`."""

    state: State
    """The state while this rule is the first true one."""
    when: str | None = None
    """Expression over tags; the last rule has none."""
    reason: str | None = None
    """Text of the downtime that begins with this state."""


class Activity(Options):
    """Running while a counter advances: for machines that tell nothing but their count."""

    counter: Name = "main"
    """Which of the machine's counters."""
    timeout: Annotated[Duration, between("1s", "1d")] | None = None
    """Longest time between two counts of a running machine; default: 3 × `ideal_cycle`, at least 10s."""


class StateOptions(Options):
    """Exactly one of `from` with `map` or `preset`, `preset: tower_light` with `lamps`, `rules`, or `activity`."""

    source: TagRef | None = Field(default=None, alias="from")
    """Tag that holds the state as a number or a word."""
    mask: Mask | None = None
    """Only these bits of the tag, moved down: `0x00F0` gives 0 to 15."""
    map: Mapping[Code, State] | None = None
    """What the tag says → state; beside `preset`: what differs from it."""
    preset: PresetName | None = None
    """A ready map: PackML as numbered by TR88 or by TMC, OPC UA Machinery, MTConnect, or the lamps of a tower."""
    lamps: Mapping[Lamp, TagRef] = {}
    """With `preset: tower_light`: colour → bool tag. In `map`: red, red_blinking, …, and dark for none."""
    signals: Mapping[State, str] = {}
    """State → expression that says so beside the tag, e.g. `starved: infeed_empty`; `order` says which one wins."""
    default: State = State.UNKNOWN
    """State of a value that is not in `map`."""
    rules: tuple[Rule, ...] | None = None
    """Expressions over tags, tried from the top; instead of `from` and `map`."""
    activity: Activity | None = None
    """`{counter: main, timeout: 30s}`: running while the counter advances, else stopped."""
    order: tuple[State, ...] = ()
    """Which state wins when several are said at once; those not named follow in the usual order: off, fault,
    maintenance, setup, blocked, starved, running, stopped, idle."""
    debounce: Mapping[Annotated[str, AfterValidator(_debounced)], Duration] = {}
    """State or `default` → time; built in: default 1s, fault 0s."""
    min_duration: Duration = 0
    """A state that lasts shorter is counted to the one before; 0s is off."""

    @property
    def states(self) -> Mapping[int | str, State]:
        """What the tag or the lamps say → state, the preset's and the machine's own."""
        preset = PRESETS[self.preset].states if self.preset is not None else {}
        return {**preset, **(self.map or {})}

    @property
    def ranks(self) -> Mapping[State, int]:
        """State → its place in the order of precedence, 0 first."""
        order = dict.fromkeys((*self.order, *PRECEDENCE))
        return {state: rank for rank, state in enumerate(order)}

    @model_validator(mode="after")
    def _one_form(self) -> "StateOptions":
        said = {
            "from": self.source is not None,
            "map": self.map is not None,
            "preset": self.preset is not None,
            "lamps": bool(self.lamps),
        }
        forms = [word for word, there in (("rules", self.rules is not None), ("activity", self.activity is not None),
                                          ("from", any(said.values()))) if there]  # fmt: skip
        first = next((word for word, there in said.items() if there), "from")
        if not forms:
            raise Problem("E404", "a state needs 'from' with 'map' or 'preset', 'rules', or 'activity'")
        if len(forms) > 1:
            other = first if "from" in forms else "activity"
            one = {"rules": "'rules'", "activity": "'activity'", "from": "'from' with 'map'"}
            names = ", or ".join(dict.fromkeys(("'from' with 'map'", one[forms[0]], one[forms[1]])))
            raise Problem("E404", f"a state has {names}, not both", at=(other,))
        if self.rules is not None:
            check_rules(self.rules)
            if self.signals:
                why = "a rule with its expression at the right place says the same"
                raise Problem("E303", "'signals' does not go with 'rules'", why=why, at=("signals",))
        elif self.activity is None:
            self._of_a_tag()
        return self

    def _of_a_tag(self) -> None:
        tower = self.preset == TOWER
        if tower != bool(self.lamps) or (tower and self.source is not None):
            what = "'preset: tower_light' and 'lamps' go together, without 'from'"
            fix = "lamps: {red: lamp_red, green: lamp_green}"
            raise Problem("E404", what, fix=fix, at=("preset" if tower else "lamps",))
        if tower:
            known = PRESETS[TOWER].states
            for word in self.map or {}:
                if word not in known:
                    fix = did_you_mean(str(word), [str(one) for one in known])
                    why = f"known: {listed([str(one) for one in known])}"
                    raise Problem("E301", f"a tower light says no '{word}'", why=why, fix=fix, at=("map", word))
            return
        if self.source is None:
            word = "map" if self.map is not None else "preset"
            what = f"'{word}' needs 'from' beside it"
            raise Problem("E404", what, why="from names the tag that is mapped", at=(word,))
        if not self.map and self.preset is None:
            fix = "map: {1: idle, 2: running}"
            raise Problem(
                "E404", "'from' needs 'map' beside it", why="map says what a value means", fix=fix, at=("from",)
            )


class ModeOptions(Options):
    """What people want of the machine, apart from what it does: `{from: TAG, map: {1: production, 2: setup}}`."""

    source: TagRef = Field(alias="from")
    """Tag that holds the mode as a number or a word."""
    mask: Mask | None = None
    """Only these bits of the tag, moved down."""
    map: Mapping[Code, Mode] = {}
    """What the tag says → mode; beside `preset`: what differs from it."""
    preset: Literal["packml_unit_mode", "machinery_operation_mode"] | None = None
    """A ready map: the unit modes of PackML, or the operation modes of OPC UA Machinery."""

    @property
    def modes(self) -> Mapping[int | str, Mode]:
        return {**(MODES[self.preset] if self.preset is not None else {}), **self.map}

    @model_validator(mode="after")
    def _says_something(self) -> "ModeOptions":
        if not self.modes:
            fix = "map: {1: production, 2: setup, 3: maintenance}"
            raise Problem("E302", "'mode' needs 'map' or 'preset'", why="it says what a value means", fix=fix)
        return self
