"""The dictionary as JSON, CSV or a Markdown table."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from edge_agent.dictionary.entry import COLUMNS, Conflict, Entry


def as_json(entries: Sequence[Entry], found: Sequence[Conflict]) -> dict[str, Any]:
    """Stable keys; cells that are empty are left out."""
    return {
        "ok": not found,
        "entries": [
            {name: cell for name, cell in zip(COLUMNS, entry.cells, strict=True) if cell} for entry in entries
        ],
        "conflicts": [
            {"code": one.code, "meanings": [one.meaning, other.meaning], "places": [one.place, other.place]}
            for one, other in found
        ],
    }


def as_csv(entries: Sequence[Entry], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(entry.cells for entry in entries)
    return out.getvalue()


def as_markdown(entries: Sequence[Entry]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(map(_cell, entry.cells))} |" for entry in entries]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
