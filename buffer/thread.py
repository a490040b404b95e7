"""One thread owns one database.

Jobs go in from the event loop in the order of `post`; the thread takes all that are waiting at once and hands
them to `serve`, which settles their futures with `settle`. Settled futures go back to the loop in batches, one
wake-up for each `deliver`. `serve` returns True while it has more work of its own to do in idle time; it is
then called again at once, with whatever jobs have come.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Settled = tuple["asyncio.Future[Any]", Any, BaseException | None]


class DatabaseThread(Generic[Job]):
    """`serve(jobs)` runs in the thread only. `failed` runs in the thread when `serve` raised: a fault of the
    program; it gets the error and must settle every future it still holds. After it nothing is served."""

    def __init__(
        self,
        name: str,
        serve: Callable[[Sequence[Job]], bool],
        failed: Callable[[Sequence[Job], BaseException], None],
    ) -> None:
        self._name = name
        self._serve = serve
        self._failed = failed
        self._jobs: list[Job] = []
        self._woken = False
        self._awake = threading.Condition()
        self._ending = False
        self._error: BaseException | None = None
        self._settled: list[Settled] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; futures are settled in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def post(self, job: Job, *, wake: bool = True) -> None:
        """Queue a job. Without `wake` it is served together with the next one that wakes the thread."""
        with self._awake:
            self._jobs.append(job)
            if wake:
                self._woken = True
                self._awake.notify()

    def end(self) -> None:
        """From inside the thread: serve nothing more after this call of `serve`."""
        self._ending = True

    async def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def settle(
        self, future: "asyncio.Future[Any] | None", value: Any = None, error: BaseException | None = None
    ) -> None:
        """From inside the thread: give a future its result with the next `deliver`."""
        if future is not None:
            self._settled.append((future, value, error))

    def deliver(self, then: Callable[[], None] | None = None) -> None:
        """From inside the thread: hand what is settled to the loop, and call `then` there first."""
        settled, self._settled = self._settled, []
        if settled or then is not None:
            self.call(_finish, settled, then)

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """From inside the thread: call a function in the loop."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: nobody is left to wait for the result, and what was committed stays committed.
            self._ending = True

    def _run(self) -> None:
        more = False
        while not self._ending:
            with self._awake:
                while not self._woken and not more:
                    self._awake.wait()
                jobs: list[Job] = []
                if self._woken:
                    jobs, self._jobs, self._woken = self._jobs, [], False
            if self._error is None:
                try:
                    more = self._serve(jobs)
                except BaseException as error:
                    # Whoever waits must learn of it; the thread stays to refuse what comes later.
                    self._error = error
            if self._error is not None:
                more = False
                self._failed(jobs, self._error)
            self.deliver()


def _finish(settled: Sequence[Settled], then: Callable[[], None] | None) -> None:
    if then is not None:
        then()
    for future, value, error in settled:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
