"""A process whose disk is filled by somebody else and freed again, some times; it must go on each time.

Prints the longest time from the disk being free to the append being stored, in seconds.
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox
from tests.waiting import until

SIZES = itertools.cycle([200, 5000, 40_000])


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError:
                continue


async def store_until_waiting(outbox: SqliteOutbox, numbers: Iterator[int]) -> "asyncio.Future[None]":
    for seq in numbers:
        message = Message(
            "press07.p", outbox.epoch, seq, Lane.PRODUCTION, "state.changed", "t", os.urandom(next(SIZES))
        )
        call = asyncio.ensure_future(outbox.append([message], states={"press07": b"%d" % seq}))
        await asyncio.wait({call}, timeout=0.05)
        if not call.done():
            await until(lambda call=call: call.done() or outbox.full)
        if not call.done():
            return call
        call.result()
    raise AssertionError


async def main(folder: Path, times: int) -> None:
    outbox = SqliteOutbox(
        folder / "buffer.db", agent_id="ipc01", max_size=1 << 30, now=lambda: time.time_ns() // 1000
    )
    await outbox.open()
    numbers = itertools.count(1)
    given = itertools.count(1)
    loop = asyncio.get_running_loop()
    longest = 0.0
    for _ in range(times):
        fill(folder / "ballast")
        call = await store_until_waiting(outbox, numbers)
        batch = await outbox.next_batch(10_000, lane=Lane.PRODUCTION)
        assert (await outbox.depth()).rows >= len(batch)
        assert not call.done()
        (folder / "ballast").unlink()
        started = loop.time()
        await call
        longest = max(longest, loop.time() - started)
        await until(lambda: not outbox.full)
        batch = await outbox.next_batch(10_000, lane=Lane.PRODUCTION)
        for stored in batch:
            assert stored.message.seq == next(given)
        await outbox.ack([stored.position for stored in batch])
    await outbox.close()
    sys.stdout.write(f"{longest:.3f}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
