"""The oracle: what the PLC has done by its own log against what the MOM holds. It trusts nothing and no one.

Every part counted once, also where events were given up and declared; every number of a stream there or declared,
once; every stop of the PLC one downtime, every downtime one stop. Each check raises AssertionError that says what
is missing, double or made up.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from edge_agent.clock import parse_rfc3339
from tests.mom_database import MomDatabase

CLOCKS: Final = 50_000
"""µs by which two programs may differ about a moment; events carry milliseconds."""

Number = tuple[str, str, int]
"""(source, epoch, sequence)"""


class Stop(NamedTuple):
    """A stop of the PLC by its own log, µs UTC; `ended` is None while it lasts."""

    began: int
    ended: int | None


class Truth(NamedTuple):
    """What a PLC has done in its whole life."""

    parts: int
    stops: Sequence[Stop]


def truth(lines: Sequence[dict[str, Any]], *, total: int, status: int, running: int) -> Truth:
    """From the truth log of `servers_modbus`: the addresses of counter and state, and the state that is no stop."""
    parts = 0
    stops: list[Stop] = []
    for line in lines:
        if line["address"] == total:
            parts = line.get("total", parts)
        elif line["address"] == status:
            stands = bool(stops) and stops[-1].ended is None
            if stands and line["value"] == running:
                stops[-1] = stops[-1]._replace(ended=line["at"])
            elif not stands and line["value"] != running:
                stops.append(Stop(line["at"], None))
    return Truth(parts, stops)


def check_numbers(mom: MomDatabase) -> int:
    """Every number from 1 to the highest is there, or declared as lost, once; how many were declared."""
    declared = declared_losses(mom)
    missing: set[Number] = set()
    for source, epoch in mom.streams():
        got = {seq for (seq,) in mom.ask("SELECT seq FROM event WHERE source = ? AND epoch = ?", source, epoch)}
        missing |= {(source, epoch, seq) for seq in range(1, max(got) + 1) if seq not in got}
    silent = sorted(missing - declared)
    assert not silent, f"{len(silent)} events are missing and nobody said so: {silent[:10]}"
    return len(declared)


def check_order(mom: MomDatabase) -> None:
    """No event came for the first time after one of its stream with a higher number."""
    late = mom.ask(
        """SELECT source, seq, before FROM (SELECT source, seq,
        lag(seq) OVER (PARTITION BY source, epoch ORDER BY at) AS before FROM event) WHERE seq < before"""
    )
    assert not late, f"{len(late)} events came out of order: {late[:10]}"


def declared_losses(mom: MomDatabase) -> set[Number]:
    """The numbers that `data.loss` names; none is declared twice and every declaration adds up."""
    found: set[Number] = set()
    for event in mom.events("data.loss"):
        data = event["data"]
        if data["extent"] != "exact":
            continue
        span = range(data["seq_from"], data["seq_to"] + 1)
        told = sum(data["count_by_type"].values())
        assert told == len(span), f"{told} events of {len(span)} numbers: {data}"
        source = event["source"].rpartition(":")[0] + ":" + data["lost_stream"]
        these = {(source, data["lost_epoch"], seq) for seq in span}
        assert not found & these, f"declared twice: {data}"
        found |= these
    return found


def check_parts(mom: MomDatabase, machine: str, made: int, *, counter: str = "main") -> None:
    """The totals are what was made; the deltas add up to them, but for events that were declared as lost."""
    lost = declared_losses(mom)
    before: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    total = 0
    for event in mom.events("production.counted", machine):
        data = event["data"]
        if data["counter"] != counter or "total" not in data["delta"]:
            continue
        source, epoch, seq = event["source"], event["epoch"], int(event["sequence"])
        number, totals = before[epoch]
        delta, now = data["delta"]["total"], data["totals"]["total"]
        if any((source, epoch, n) in lost for n in range(number + 1, seq)):
            assert now - totals >= delta, f"{machine} #{seq}: {totals} and {delta} are not {now}"
        else:
            assert now - totals == delta, f"{machine} #{seq}: {totals} and {delta} are not {now}"
        total += now - totals
        before[epoch] = seq, now
    assert total == made, f"{machine} has made {made} parts and the MOM holds {total}"


def check_downtimes(mom: MomDatabase, machine: str, stops: Sequence[Stop]) -> int:
    """Each downtime told in whole, once; and for each that has ended the stop it was. How many there were."""
    told: dict[str, dict[str, Any]] = {}
    events = [event for kind in ("started", "updated", "ended") for event in mom.events(f"downtime.{kind}", machine)]
    for event in sorted(events, key=lambda event: (event["epoch"], int(event["sequence"]))):
        data = event["data"]
        id_, known = data["downtime_id"], told.get(data["downtime_id"])
        assert data["rev"] == (1 if known is None else known["rev"] + 1), f"{id_}: revision {data['rev']}"
        assert known is None or known["status"] != "ended", f"{id_} goes on after its end"
        told[id_] = data
    spans = [
        (parse_rfc3339(data["started_at"]), parse_rfc3339(data["ended_at"]) if "ended_at" in data else None)
        for data in told.values()
    ]
    for stop in stops:
        of_it = [span for span in spans if _overlap(span, stop)]
        assert len(of_it) == 1, f"{machine}: the stop {stop} is {len(of_it)} downtimes: {of_it}"
    for span in spans:
        assert any(_overlap(span, stop) for stop in stops), f"{machine}: the downtime {span} was no stop"
    assert len(spans) == len(stops)
    return len(spans)


def _overlap(span: tuple[int, int | None], stop: Stop) -> bool:
    far = 1 << 62
    return span[0] < (stop.ended or far) + CLOCKS and stop.began < (span[1] or far) + CLOCKS
