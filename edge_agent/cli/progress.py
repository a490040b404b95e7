"""Long work says how far it is, on stderr: a bar that is written over on a terminal, otherwise a line now and then.

Short work says nothing: the first word comes after `PATIENCE`. With -q there is none.
"""

import os
import sys
from threading import Event, Lock, Thread
from types import TracebackType

from edge_agent.cli.ui import Ui
from edge_agent.clock import SECOND, SystemClock

PATIENCE = SECOND // 2
"""µs before the bar shows."""
DRAWN = SECOND // 10
"""µs between two drawings of the bar."""
TICK = 0.5
"""Seconds between two looks at the time, while nothing is done."""
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
        self._now_at = ""
        self._lock = Lock()
        self._ended = Event()
        self._ticker = Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        if self._shows:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._shows:
            self._ticker.join()
        self.clear()

    def clear(self) -> None:
        """Take the bar away, so that something else can be said."""
        with self._lock:
            if self._drawn:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._drawn = False

    def step(self, now_at: str = "", count: int = 1) -> None:
        """So many more are done; `now_at` is what is being done."""
        self._done += count
        self._now_at = now_at
        if self._shows:
            self._draw()

    def _tick(self) -> None:
        """While nothing is done, time goes on: a device that does not answer is waited for, and that is shown."""
        while not self._ended.wait(TICK):
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            now = self._clock.now().mono
            if now < self._next:
                return
            seconds = (now - self._began) / SECOND
            text = line(self._what, self._done, self._total, seconds, self._now_at, bar=self._bar)
            if self._bar:
                sys.stderr.write(f"\r\x1b[K{text}")
                self._next, self._drawn = now + DRAWN, True
            else:
                sys.stderr.write(f"{text}\n")
                self._next = now + SAID
            sys.stderr.flush()


def line(what: str, done: int, total: int, seconds: float, now_at: str, *, bar: bool) -> str:
    """`tags [######------] 12 of 40, 3/s, 9 s left: press-1`; before the first one how long has been waited."""
    from edge_agent.cli.words import span

    if not done:
        return f"{what}: waiting for {now_at or 'an answer'}, {seconds:.0f} s"[:110]
    rate = done / seconds if seconds > 0 else 0.0
    parts = [f"{done} of {total}" if total else f"{done}"]
    if rate:
        parts.append(f"{rate:.1f}/s" if rate < 10 else f"{rate:.0f}/s")
    if total and 0 < done < total:
        parts.append(f"{span((total - done) / rate)} left")
    filled = min(_WIDE, _WIDE * done // total) if total else 0
    drawn = f"[{'#' * filled}{'-' * (_WIDE - filled)}] " if bar and total else ""
    return f"{what} {drawn}{', '.join(parts)}{f': {now_at}' if now_at else ''}"[:110]
