"""Cycles of a machine: what begins and ends one, and what is noted of each."""

from collections.abc import Mapping
from typing import Literal

from config.kinds import Code, Options, TagRef

Result = Literal["good", "scrap", "rework", "unknown"]


class CycleOptions(Options):
    """From `start` to `end`; with one of them, from one time to the next; with neither, each advance of the counter
    main."""

    start: str | None = None
    """Expression over tags; a cycle begins when it becomes true."""
    end: str | None = None
    """Expression over tags; a cycle ends when it becomes true."""
    result: TagRef | None = None
    """Tag that says whether the piece is good, at the end of the cycle."""
    results: Mapping[Code, Result] = {}
    """What the tag says → good, scrap or rework; built in: true is good, false scrap, and the words themselves."""
    params: tuple[TagRef, ...] = ()
    """Values at the end of the cycle that belong to the piece."""
    program: TagRef | None = None
    """Tag that names the program that ran."""

    @property
    def by_tags(self) -> bool:
        return self.start is not None or self.end is not None
