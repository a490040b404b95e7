"""A process whose disk is filled by somebody else and freed again, some times; it must go on each time.

Prints the longest time from the disk being free to the append being stored, in seconds.
"""

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

from buffer.outbox import Lane, Message, OutboxError
from buffer.sqlite import SqliteOutbox
from tests.waiting import until

ANEW = 20
"""Times after which a new database is begun: each time it grows a little, and when it has grown to all that it may
take of this disk, it is full for itself and no room comes back."""
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


def remove_database(folder: Path) -> None:
    for file in folder.glob("buffer.db*"):
        file.unlink()


class Numbers:
    """The next number to store, and the next that must be given."""

    def __init__(self) -> None:
        self.next = 1
        self.due = 1


def store(outbox: SqliteOutbox, seq: int) -> "asyncio.Future[None]":
    body = os.urandom(next(SIZES))
    message = Message("press07.p", outbox.epoch, seq, Lane.PRODUCTION, "state.changed", "t", body)
    return asyncio.ensure_future(outbox.append([message], states={"press07": b"%d" % seq}))


async def store_until_waiting(outbox: SqliteOutbox, numbers: Numbers) -> "asyncio.Future[None]":
    while True:
        call = store(outbox, numbers.next)
        await asyncio.wait({call}, timeout=0.05)
        if not call.done():
            await until(lambda call=call: call.done() or outbox.full)
        if not call.done():
            return call
        call.result()
        numbers.next += 1


async def check(outbox: SqliteOutbox, numbers: Numbers) -> list[int]:
    """Everything stored is given; the positions."""
    batch = await outbox.next_batch(100_000, lane=Lane.PRODUCTION)
    assert [stored.message.seq for stored in batch] == list(range(numbers.due, numbers.due + len(batch)))
    return [stored.position for stored in batch]


async def main(folder: Path, times: int) -> None:
    def make() -> SqliteOutbox:
        path = folder / "buffer.db"
        return SqliteOutbox(path, agent_id="ipc01", max_size=1 << 30, now=lambda: time.time_ns() // 1000)

    outbox = make()
    await outbox.open()
    numbers = Numbers()
    loop = asyncio.get_running_loop()
    longest = 0.0
    for turn in range(times):
        if turn and turn % ANEW == 0:
            await outbox.close()
            remove_database(folder)
            outbox, numbers = make(), Numbers()
            await outbox.open()
        outbox._due("flush")
        await outbox.depth()
        fill(folder / "ballast")
        call = await store_until_waiting(outbox, numbers)
        await check(outbox, numbers)
        if turn % 2:
            await outbox.close()
            assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], OutboxError)
            outbox = make()
            await outbox.open()
            assert outbox.quarantined is None
            assert outbox.broken is None
            await check(outbox, numbers)
            call = await store_until_waiting(outbox, numbers)
        assert not call.done()
        (folder / "ballast").unlink()
        started = loop.time()
        await call
        numbers.next += 1
        longest = max(longest, loop.time() - started)
        await until(lambda outbox=outbox: not outbox.full)
        while positions := await check(outbox, numbers):
            await outbox.ack(positions)
            numbers.due += len(positions)
        assert numbers.due == numbers.next
    await outbox.close()
    sys.stdout.write(f"{longest:.3f}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
