"""A benchmark's server as a process of its own, written on another project's library."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_ROOT = Path(__file__).parent
_MODULES = _ROOT.parent / "tests" / "peers" / "node_modules"


class Peer:
    """`ready` is what it printed when it listened."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready

    async def ask(self) -> dict[str, Any]:
        """One line in, one JSON object out."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await _line(self.process)


@asynccontextmanager
async def node(script: str, *arguments: str) -> AsyncIterator[Peer]:
    """Run `peers/<script>` until the block ends."""
    async with _run("node", str(_ROOT / "peers" / script), *arguments) as peer:
        yield peer


@asynccontextmanager
async def python(script: str, *arguments: str) -> AsyncIterator[Peer]:
    """As `node`, in Python."""
    async with _run(sys.executable, str(_ROOT / "peers" / script), *arguments) as peer:
        yield peer


@asynccontextmanager
async def compiled(source: str, *arguments: str) -> AsyncIterator[Peer]:
    """Compile `peers/<source>` and run it until the block ends."""
    with TemporaryDirectory() as folder:
        program = str(Path(folder) / "peer")
        compiler = await asyncio.create_subprocess_exec("cc", "-O2", "-o", program, str(_ROOT / "peers" / source))
        assert await compiler.wait() == 0
        async with _run(program, *arguments) as peer:
            yield peer


@asynccontextmanager
async def _run(*command: str) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_PATH": str(_MODULES)},
    )
    try:
        async with asyncio.timeout(60):
            ready = await _line(process)
        yield Peer(process, ready)
    finally:
        process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if line.startswith(b"{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError("the peer ended before it was ready")
