"""`edge-agent tags`: tags to and from a spreadsheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.errors import Fault
    from config.source import Source
    from edge_agent.tag_table import Row


def faults_of_rows(text: str, target: Path, rows: "Sequence[Row]", table: "Source") -> "list[Fault]":
    """What is wrong with a configuration, as far as it comes from these rows, told where it stands in their table."""
    from config.errors import ConfigFaults, Problem
    from config.load import load_source
    from config.source import TOP, Source
    from drivers.registry import Drivers
    from edge_agent.machine.expressions import names

    try:
        load_source(Source(str(target), text), target.absolute().parent, Drivers().options(), names)
    except ConfigFaults as broken:
        of = {(row.device, row.tag): row for row in rows}
        told = []
        for fault in broken.faults:
            steps = fault.path.split(".")
            at = steps.index("tags") if "tags" in steps else len(steps)
            device = steps[1] if len(steps) > 1 else ""
            row = of.get((device, steps[at + 1] if at + 1 < len(steps) else ""))
            if row is not None and fault.severity == "error":
                key = steps[at + 2] if at + 2 < len(steps) else "tag"
                span = row.places.get(key) or row.places.get("tag") or TOP
                told.append(table.fault(span, Problem(fault.code, fault.what, why=fault.why, fix=fault.fix)))
        return told
    return []
