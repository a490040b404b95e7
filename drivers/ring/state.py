"""Where the reading of a ring stands, and what its entries have made of its tags so far. Pure.

It is stored as text in the transaction of what the entries brought, so that after a kill reading goes on behind the
last entry that was kept.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from drivers.base import Micros, Quality, Reading, Value
from drivers.ring.access import Slot
from drivers.ring.plan import Change, Plan

NOTHING_YET = "no entry of the ring has told it yet"
LOST = "entries of the ring were lost"


class State(NamedTuple):
    """`next`: number of the next entry. `witness`: digest of the slot before it. `values`: of the tags, None where it
    is not known. `stamp`: time of the last entry that has one. `overflow`: what the PLC's said last; `tails`:
    what its tail has been since. `dropped`: numbers before which the PLC had no room for entries. `sequence`: the
    PLC's own number of the last entry."""

    layout: str
    next: int
    witness: str
    values: Mapping[str, Value | None]
    stamp: Micros | None = None
    overflow: int | None = None
    tails: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    sequence: int | None = None


def dump(state: State) -> str:
    return json.dumps(state, separators=(",", ":"), ensure_ascii=False)


def load(text: str) -> State | None:
    """None for an empty text, and for one of another form."""
    try:
        known = State(*json.loads(text)) if text else None
        return None if known is None else known._replace(tails=tuple(known.tails), dropped=tuple(known.dropped))
    except (ValueError, TypeError):
        return None


def forgotten(state: State, plan: Plan) -> State:
    """After a loss: of tags that do not count nothing is known."""
    return state._replace(values={tag: state.values.get(tag) if tag in plan.wraps else None for tag in plan.tags})


def told(
    state: State, slots: Sequence[Slot], plan: Plan, *, counts: bool = True
) -> tuple[State, list[Reading], frozenset[int]]:
    """(state with what the entries say, the readings of it, codes that mean nothing here). The position stays.
    Without `counts` the entries are old and tell only what was so."""
    values = dict(state.values)
    readings: list[Reading] = []
    unknown: set[int] = set()
    stamp = state.stamp
    for slot in slots:
        stamp = stamp if slot.stamp is None else slot.stamp
        changes = plan.codes.get(slot.code)
        if changes is None:
            unknown.add(slot.code)
            continue
        for change in changes:
            if change.adds and not counts:
                continue
            values[change.tag] = _changed(values.get(change.tag), change, slot, plan.wraps.get(change.tag))
            readings.append(reading(change.tag, values[change.tag], slot.stamp))
    return state._replace(values=values, stamp=stamp), readings, frozenset(unknown)


def _changed(old: Value | None, change: Change, slot: Slot, wrap: int | None) -> Value | None:
    said = change.value if change.field is None else slot.fields.get(change.field)
    if not change.adds:
        return said
    if isinstance(said, str) or isinstance(old, str) or said is None:
        return old
    total = int(old or 0) + int(said)
    return total if wrap is None else total % wrap


def reading(tag: str, value: Value | None, at: Micros | None = None, why: str = NOTHING_YET) -> Reading:
    return Reading(tag, None, Quality.BAD, at, why) if value is None else Reading(tag, value, Quality.GOOD, at)


def current(state: State, tags: Iterable[str], why: str = NOTHING_YET) -> tuple[Reading, ...]:
    """The tags as they are now."""
    return tuple(reading(tag, state.values.get(tag), why=why) for tag in tags)


def unmapped(device: str, code: int) -> tuple[str, str]:
    """(code, text) of a warning about entries that mean nothing here."""
    text = f"{device}: entries of its ring have the code {code}, which `codes` does not name"
    return "unmapped_entry", f"{text}. Add it, with {{}} if it means nothing."
