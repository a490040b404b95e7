"""What an effect gives back."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Done(NamedTuple):
    """`result` goes into the answer; `undo` is what a reversal needs, as JSON."""

    result: Mapping[str, Any]
    undo: str | None = None
