"""What went into what: readings of barcode and RFID scanners become `genealogy.linked`, each reading once.

A reading is complete when its strobe rises (a bit) or changes (a number); without a strobe each new text is one. The
hand-shake is only read: who clears the strobe is the PLC's business. The same text again within `duplicates` is the
same reading, also over a kill. A strobe without a text is said and links nothing. What is found when the agent first
looks was read before it came, and is no reading.

The text is a lot, a serial number, … as configured; a GS1 text in brackets, `(01)…(21)…`, says itself what it holds.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

from config.orders import GenealogyOptions
from drivers.base import Quality, Value
from edge_agent.clock import Instant
from edge_agent.events.types import GenealogyLinked, Material, Read
from edge_agent.machine.context import plain, text
from edge_agent.machine.out import Ctx
from edge_agent.machine.parts import (
    CycleBegan,
    CycleEnded,
    Desk,
    Fact,
    GapOpened,
    Part,
    Rebuild,
    Sample,
    Scanned,
    Wiring,
)

_GS1: Final = re.compile(r"\(([0-9]{2,4})\)([^(]+)")
_MEANING: Final[Mapping[str, str]] = {"01": "material", "02": "material", "10": "lot", "21": "serial"}
_QUANTITY: Final = frozenset({"30", "37"})
_OUTPUT: Final = frozenset({"produced", "packed_into", "relabelled"})
"""Relations in which the reading names what comes out; in the others, what goes in."""
_BOTH: Final = frozenset({"consumed_into", "packed_into", "merged", "split", "relabelled"})
"""Relations whose other side is what the context names."""
_USES: Final = frozenset({"consumed_into", "produced"})


class Scanner(NamedTuple):
    options: GenealogyOptions
    read: str
    strobe: str | None
    grade: str | None


class Seen(NamedTuple):
    """A scanner: what its trigger showed last, and its last reading. `edge`: it fired at the time being told."""

    trigger: Value | None = None
    text: str | None = None
    at: Instant | None = None
    dropped: int = 0
    edge: bool = False


class Scans(NamedTuple):
    """`seen`: by the place of the scanner in the configuration. `cycle`: the one that is open."""

    seen: Mapping[str, Seen] = {}
    cycle: str | None = None


class Genealogy(Part[Scans]):
    name: ClassVar[str] = "genealogy"
    kind = Scans
    heeds = frozenset({Scanned, CycleBegan, CycleEnded, GapOpened})

    def __init__(self, wiring: Wiring) -> None:
        self._machine = wiring.machine

        def key(ref: str | None) -> str | None:
            return None if ref is None else wiring.key(ref)

        self._scanners = {
            str(index): Scanner(options, wiring.key(options.read), key(options.strobe), key(options.grade))
            for index, options in enumerate(wiring.options.genealogy)
        }
        self._triggers: dict[str, list[str]] = {}
        for index, scanner in self._scanners.items():
            self._triggers.setdefault(scanner.strobe or scanner.read, []).append(index)
        self.keys = frozenset(
            tag
            for scanner in self._scanners.values()
            for tag in (scanner.read, scanner.strobe, scanner.grade)
            if tag is not None
        )
        self._uncertainty = wiring.uncertainty(frozenset(self._triggers))
        self.fingerprint = "|".join(scanner.options.model_dump_json() for scanner in self._scanners.values())

    def load(self, saved: object, rebuild: Rebuild, now: Instant, *, same: bool) -> Scans:
        state: Scans = rebuild(Scans, saved) if same else Scans()
        return state

    def take(self, state: Scans, fact: Fact, out: Desk) -> Scans:
        if isinstance(fact, Sample):
            return self._sampled(state, fact)
        if isinstance(fact, Scanned):
            return self._scanned(state, fact, out)
        if isinstance(fact, CycleBegan):
            return state._replace(cycle=fact.cycle_id)
        if isinstance(fact, CycleEnded):
            return state._replace(cycle=fact.next)
        if isinstance(fact, GapOpened):
            return state._replace(cycle=None)
        return state

    def _sampled(self, state: Scans, fact: Sample) -> Scans:
        """Note which scanners fire; their other tags are read when all of the time have been told."""
        value = fact.value
        if value is None or fact.key not in self._triggers:
            return state
        seen = dict(state.seen)
        for index in self._triggers[fact.key]:
            before = seen.get(index, Seen())
            fires = before.trigger is not None and value != before.trigger
            if isinstance(value, bool):
                fires = fires and value
            seen[index] = before._replace(trigger=value, edge=before.edge or fires)
        return state._replace(seen=seen)

    def _scanned(self, state: Scans, fact: Scanned, out: Desk) -> Scans:
        if not any(one.edge for one in state.seen.values()):
            return state
        out.keep()
        seen = dict(state.seen)
        for index, one in state.seen.items():
            if one.edge and index in self._scanners:
                seen[index] = self._read(self._scanners[index], one._replace(edge=False), state.cycle, fact, out)
        return state._replace(seen=seen)

    def _read(self, scanner: Scanner, seen: Seen, cycle: str | None, fact: Scanned, out: Desk) -> Seen:
        held = out.held.get(scanner.read)
        said = plain(held.value) if held is not None and held.stale is None else None
        if held is None or said is None:
            if scanner.strobe is not None:
                out.warn(
                    "empty_read",
                    f"{self._machine}: {scanner.strobe} says that {scanner.read} was read, but there is no text in "
                    "it. Is the text written before the strobe rises?",
                    scanner.read,
                )
            return seen
        window = scanner.options.duplicates
        if said == seen.text and seen.at is not None and fact.at.mono - seen.at.mono < window:
            return seen._replace(dropped=seen.dropped + 1)
        grade = out.held.get(scanner.grade) if scanner.grade is not None else None
        out.production(
            fact.at.wall,
            GenealogyLinked(
                quality="good" if held.quality is Quality.GOOD else "uncertain",
                time_basis=fact.basis,
                time_unc_s=self._uncertainty,
                **_sides(scanner.options, said, out.ctx),
                relation=scanner.options.relation,
                station=scanner.options.station or self._machine,
                position=scanner.options.position,
                cycle_id=cycle,
                read=Read(
                    kind=scanner.options.kind,
                    raw=said,
                    grade=plain(grade.value) if grade is not None and grade.stale is None else None,
                ),
            ),
        )
        return seen._replace(text=said, at=fact.at)

    def describe(self, state: Scans) -> Mapping[str, Any]:
        dropped = sum(one.dropped for one in state.seen.values())
        return {"duplicate_reads": dropped} if dropped else {}


def _sides(options: GenealogyOptions, said: str, ctx: Ctx | None) -> dict[str, Any]:
    """What goes in and what comes out."""
    comes_out = options.relation in _OUTPUT
    read = _material(options, said, ctx, comes_out=comes_out)
    sides: dict[str, Any] = {"outputs" if comes_out else "inputs": (read,)}
    if options.relation in _BOTH and (other := _in_work(options, ctx, comes_out=not comes_out)) is not None:
        sides["inputs" if comes_out else "outputs"] = (other,)
    return sides


def _material(options: GenealogyOptions, said: str, ctx: Ctx | None, *, comes_out: bool) -> Material:
    found: dict[str, Any] = {}
    if options.identifies is None:
        parts = _GS1.findall(said) if said.startswith("(") else []
        for code, value in parts:
            if code in _MEANING:
                found[_MEANING[code]] = value
            elif code in _QUANTITY and value.isascii() and value.isdigit():
                found["qty"] = int(value)
    if not found.keys() & set(_MEANING.values()):
        found[options.identifies or ("serial" if comes_out else "lot")] = said
    if options.material is not None:
        found["material"] = options.material
    elif options.relation == "produced":
        found.setdefault("material", text(ctx, "product"))
        if found.get("serial") is not None:
            found.setdefault("lot", text(ctx, "batch"))
    if options.qty is not None:
        found["qty"] = options.qty
    use = options.use or (("produced" if comes_out else "consumed") if options.relation in _USES else None)
    uom = options.uom or ("H87" if found.get("qty") is not None else None)
    return Material(**found, uom=uom, use=use)


def _in_work(options: GenealogyOptions, ctx: Ctx | None, *, comes_out: bool) -> Material | None:
    """What the machine works on, as the context names it; None if it names nothing."""
    product, lot, serial = text(ctx, "product"), text(ctx, "batch"), text(ctx, "serial")
    if product is None and lot is None and serial is None:
        return None
    use = ("produced" if comes_out else "consumed") if options.relation in _USES else None
    return Material(material=product, lot=lot, serial=serial, use=use)


def build(wiring: Wiring) -> Genealogy | None:
    return Genealogy(wiring) if wiring.options.genealogy else None
