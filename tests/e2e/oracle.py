"""What a consumer that drops equal (source, id) holds, and whether it is whole: the judge of the end-to-end tests.

It trusts nothing: bytes are parsed anew, equal ids must be equal bytes (I4), sequences must have no hole (I3),
a message may only come again, never out of order, and counts are summed from deltas, not read from totals (I2).
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any


class Ledger:
    """Feed it every received (topic, payload) of `…/evt/…` in the order of arrival."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.events: list[dict[str, Any]] = []
        self.duplicates = 0
        self._last: dict[tuple[str, str], int] = defaultdict(int)

    def take(self, payload: bytes) -> None:
        event = json.loads(payload)
        key = (event["source"], event["id"])
        if key in self.bodies:
            assert self.bodies[key] == payload, f"{key} was sent twice with different bytes"
            self.duplicates += 1
            return
        self.bodies[key] = payload
        stream = (event["source"], event["epoch"])
        seq = int(event["sequence"])
        assert event["id"] == f"{event['epoch']}.{seq}"
        assert seq == self._last[stream] + 1, f"{stream}: {seq} came after {self._last[stream]}"
        self._last[stream] = seq
        self.events.append(event)

    def take_all(self, payloads: Iterable[bytes]) -> "Ledger":
        for payload in payloads:
            self.take(payload)
        return self

    def of(self, type_: str, machine: str | None = None) -> list[dict[str, Any]]:
        """Events of a short type, e.g. `production.counted`, in order; optionally of one machine."""
        return [
            event
            for event in self.events
            if event["type"].startswith(f"dev.edgeagent.{type_}.v")
            and (machine is None or event["subject"].endswith(f"/{machine}"))
        ]

    def totals(self, counter: str = "main", member: str = "total") -> dict[str, int]:
        """Sum of the deltas by machine, for those that have counted."""
        sums: dict[str, int] = defaultdict(int)
        for event in self.of("production.counted"):
            if event["data"]["counter"] == counter:
                sums[event["subject"].rpartition("/")[2]] += event["data"]["delta"].get(member, 0)
        return dict(sums)

    def counted(self, machine: str, counter: str = "main") -> dict[str, int]:
        """Sum of the deltas; checks on the way that every `totals` is the sum so far."""
        sums: dict[str, int] = defaultdict(int)
        for event in self.of("production.counted", machine):
            data = event["data"]
            if data["counter"] != counter:
                continue
            for member, delta in data["delta"].items():
                sums[member] += delta
            assert data["totals"] == {member: sums[member] for member in data["totals"]}, event
        return dict(sums)

    def check_downtimes(self, machine: str) -> None:
        """Every downtime starts once, its revisions rise by one, and nothing follows its end."""
        revisions: dict[str, int] = {}
        ended: set[str] = set()
        for event in self.events:
            if ".downtime." not in event["type"] or not event["subject"].endswith(f"/{machine}"):
                continue
            data = event["data"]
            id_ = data["downtime_id"]
            assert id_ not in ended, f"{id_} goes on after its end"
            assert data["rev"] == revisions.get(id_, 0) + 1, f"{id_}: revision {data['rev']}"
            revisions[id_] = data["rev"]
            if data["rev"] == 1:
                assert id_ == f"dt-{event['id']}"
            if data["status"] == "ended":
                ended.add(id_)

    def check_states(self, machine: str, tolerance_s: float = 0.01) -> None:
        """State intervals tile the time line (I1): each begins where the one before it ends."""
        before: dict[str, Any] | None = None
        for event in self.of("state.changed", machine):
            if before is not None:
                data = event["data"]
                assert data.get("prev_state") == before["data"]["state"], (before, event)
                assert data["state"] != data["prev_state"], event
                assert data["prev_duration_s"] >= -tolerance_s, event
            before = event
