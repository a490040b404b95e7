"""How figures are printed: one line each, name, value, unit, remark; as JSON Lines with `-o json`."""

import json
import sys
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured thing. `remark` says what it is compared with, or what limits it."""

    section: str
    name: str
    value: float
    unit: str
    remark: str = ""


def show(figure: Figure, *, as_json: bool = False) -> None:
    if as_json:
        text = json.dumps(figure._asdict())
    else:
        value = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:,.2f}"
        text = f"  {figure.section}  {figure.name:<44} {value:>12} {figure.unit:<12} {figure.remark}"
    sys.stdout.write(text.rstrip() + "\n")
    sys.stdout.flush()


def percentile(ordered: list[float], share: float) -> float:
    """Of a sorted list; the nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
