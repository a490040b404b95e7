"""The agent as a real process: started as a user starts it, watched through its local socket, killed for real."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge_agent.control.client import ControlClient, NoAnswer, NotRunning
from edge_agent.control.place import socket_path

ROOT = Path(__file__).parent.parent


class AgentProcess:
    """`edge-agent run` on one configuration file. Its stderr goes to `<config>.log`."""

    def __init__(self, config: Path, *, prefix: Sequence[str] = ()) -> None:
        self.config = config
        self.log = config.with_suffix(".log")
        self._prefix = list(prefix)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix,
                sys.executable,
                "-m",
                "edge_agent",
                "run",
                "-v",
                "-c",
                str(self.config),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if ready:
            await self.until(lambda status: True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """kill -9, as a power switch would."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        await self.wait()

    async def terminate(self, limit: float = 10.0) -> int:
        """SIGTERM; the exit code."""
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
        return await self.wait(limit)

    def pause(self) -> None:
        """It stands still until `resume`; connections stay."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def wait(self, limit: float = 20.0) -> int:
        assert self._process is not None
        async with asyncio.timeout(limit):
            return await self._process.wait()

    async def status(self) -> dict[str, Any] | None:
        """The answer to `status` over the local socket; None while the agent does not answer."""
        client = ControlClient(socket_path(self.config.parent / "buffer.db"))
        try:
            answer: dict[str, Any] = await asyncio.to_thread(client.ask, "status")
        except (NotRunning, NoAnswer):
            return None
        return answer

    async def until(self, condition: Any, limit: float = 20.0) -> dict[str, Any]:
        """Wait until a status fulfils the condition; on time-out the log is part of the failure."""
        try:
            async with asyncio.timeout(limit):
                while True:
                    status = await self.status()
                    if status is not None and condition(status):
                        return status
                    if not self.running:
                        raise AssertionError(f"the agent ended by itself:\n{self.tail()}")
                    await asyncio.sleep(0.02)  # noqa: TID251 - another process is polled, nothing here can be awaited
        except TimeoutError:
            raise AssertionError(f"not reached; status {json.dumps(await self.status())}\n{self.tail()}") from None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@asynccontextmanager
async def agent(config: Path, *, prefix: Sequence[str] = (), ready: bool = True) -> AsyncIterator[AgentProcess]:
    """A started agent that is killed at the end if it still runs."""
    process = AgentProcess(config, prefix=prefix)
    await process.start(ready=ready)
    try:
        yield process
    finally:
        await process.kill()
