"""An agent on a small disk that somebody else fills and frees again, some times, while its broker is away: it goes on
collecting and storing, and in the end every number has come or was declared.

Prints how long it took, at most, from the disk being free until the next event was stored, in seconds.
"""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

from tests.agent_process import AgentProcess
from tests.buffer.disk_full_child import fill
from tests.schema_check import check_message
from tests.servers_mqtt import Received, Sink, mosquitto
from tests.waiting import free_port, until

STORED_BEFORE = 600
STORED_WHILE_FULL = 100
"""Events that are stored before the disk is freed; fewer if what fills the disk takes the ballast's room too."""
_CONFIG = """\
version: 1
agent: {{id: ipc01}}
site: {{enterprise: acme, site: sz1, area: hall}}
mqtt: {{url: "mqtt://127.0.0.1:{port}"}}
http: false
buffer: {{path: buffer.db, max_size: 64MiB}}
machines:
"""
_MACHINE = """\
  press-{number}:
    line: line1
    device:
      driver: simulated
      scan: 10ms
      tags: {{status: {{kind: cycle, values: [2, 8], every: 40ms}}}}
    state: {{from: status, map: {{2: running, 8: fault}}, debounce: {{default: 0s}}}}
"""


async def stored(process: AgentProcess, more: int, *, or_full: bool = False) -> None:
    """Return when so many more events are stored, or there is no room for them."""
    status = await process.until(lambda _: True, 60)
    goal = status["buffer"]["stored"] + more
    await process.until(
        lambda status: status["buffer"]["stored"] >= goal or (or_full and status["buffer"]["full"]), 60
    )


def missing(messages: list[Received]) -> dict[str, list[int]]:
    """Numbers that neither came nor were declared, by stream."""
    numbers: dict[str, set[int]] = defaultdict(set)
    declared: dict[str, set[int]] = defaultdict(set)
    for message in messages:
        if "/evt/" not in message.topic:
            continue
        event = check_message(message.topic, message.payload)
        numbers[event["source"].rpartition(":")[2]].add(int(event["sequence"]))
        if event["type"].endswith("data.loss.v1"):
            data = event["data"]
            declared[data["lost_stream"]] |= set(range(data["seq_from"], data["seq_to"] + 1))
    holes = {stream: sorted(set(range(1, max(got) + 1)) - got - declared[stream]) for stream, got in numbers.items()}
    return {stream: hole for stream, hole in holes.items() if hole}


async def main(small: Path, beside: Path, times: int) -> None:
    """`small` is the small disk, `beside` a folder on another."""
    port = free_port()
    config = small / "edge-agent.yaml"
    config.write_text(_CONFIG.format(port=port) + "".join(_MACHINE.format(number=n) for n in range(1, 4)))
    loop = asyncio.get_running_loop()
    longest = 0.0
    process = AgentProcess(config)
    process.log = beside / "agent.log"
    await process.start()
    try:
        pid = process.pid
        await stored(process, STORED_BEFORE)
        for _ in range(times):
            fill(small / "filler")
            await stored(process, STORED_WHILE_FULL, or_full=True)
            (small / "filler").unlink()
            freed = loop.time()
            await stored(process, 1)
            longest = max(longest, loop.time() - freed)
        assert process.running
        assert process.pid == pid
        async with mosquitto(beside, port=port, started=False) as broker:
            await broker.start()
            async with Sink(port) as sink:
                await process.until(lambda status: status["buffer"]["rows"] < 500, 120)
                assert await process.terminate() == 0
                holes: dict[str, list[int]] = {}

                def complete() -> bool:
                    holes.clear()
                    holes.update(missing(list(sink.messages)))
                    return not holes

                await until(complete, 30, f"every number: {holes}")
    finally:
        await process.kill()
    sys.stdout.write(f"{longest:.3f}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
