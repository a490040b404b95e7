"""Long work says how far it is, on stderr: a bar that is written over on a terminal, otherwise a line now and then.

Short work says nothing: the first word comes after `PATIENCE`. With -q there is none.
"""

import os
import sys
from types import TracebackType

from edge_agent.cli.ui import Ui
from edge_agent.clock import SECOND, SystemClock

PATIENCE = SECOND // 2
"""µs before the bar shows."""
DRAWN = SECOND // 10
"""µs between two drawings of the bar."""
SAID = 10 * SECOND
"""µs between two lines, and before the first one, where there is no terminal."""
_WIDE = 24


class Progress:
    """Use as `with`. `total` is 0 where nobody knows how much there is."""

    def __init__(self, ui: Ui, what: str, total: int = 0) -> None:
        self._shows = not ui.quiet
        self._bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._what = what
        self._total = total
        self._done = 0
        self._clock = SystemClock()
        self._began = self._clock.now().mono
        self._next = self._began + (PATIENCE if self._bar else SAID)
        self._drawn = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the bar away, so that something else can be said."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def step(self, now_at: str = "", count: int = 1) -> None:
        """So many more are done; `now_at` is what is being done."""
        self._done += count
        now = self._clock.now().mono
        if not self._shows or now < self._next:
            return
        text = line(self._what, self._done, self._total, (now - self._began) / SECOND, now_at, bar=self._bar)
        if self._bar:
            sys.stderr.write(f"\r\x1b[K{text}")
            self._next, self._drawn = now + DRAWN, True
        else:
            sys.stderr.write(f"{text}\n")
            self._next = now + SAID
        sys.stderr.flush()


def line(what: str, done: int, total: int, seconds: float, now_at: str, *, bar: bool) -> str:
    """`tags [######------] 12 of 40, 3/s, 9 s left: press-1`."""
    from edge_agent.cli.words import span

    rate = done / seconds if seconds > 0 else 0.0
    parts = [f"{done} of {total}" if total else f"{done}"]
    if rate:
        parts.append(f"{rate:.1f}/s" if rate < 10 else f"{rate:.0f}/s")
    if total and 0 < done < total:
        parts.append(f"{span((total - done) / rate)} left")
    filled = min(_WIDE, _WIDE * done // total) if total else 0
    drawn = f"[{'#' * filled}{'-' * (_WIDE - filled)}] " if bar and total else ""
    return f"{what} {drawn}{', '.join(parts)}{f': {now_at}' if now_at else ''}"[:110]
