"""A process that uses the outbox like the agent and says what it was promised, until strace kills it.

One line for each promise, written after it was given (`stored`, `dead`) or before it is made void (`acking`,
`rejecting`): whatever the moment of the kill, what was said holds. What is given up to make room is declared by a
message in `DECLARED`, stored in the same transaction, whose body names it.

Run as a program it forks such a process for every line `<database> <rounds> <file for what is said> <version>` it
reads, so that the imports are paid for once. A `later` version than `now` has one migration more. The process stops
itself at its start, until the tracer is attached.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time

from sqlite_utils import Database

from buffer import keeper, tables
from buffer.outbox import Lane, Message
from buffer.sqlite import SqliteOutbox

DECLARED = "$agent.h"
STREAMS = {
    "press07.p": Lane.PRODUCTION,
    "saw2.p": Lane.PRODUCTION,
    "press07.m": Lane.MEASUREMENT,
    DECLARED: Lane.HEALTH,
}
MADE = tuple(stream for stream in STREAMS if stream != DECLARED)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def message(epoch: str, stream: str, seq: int) -> Message:
    body = f"{stream}/{epoch}/{seq}/".encode() * (1 + seq % 7 * 20)
    return Message(stream, epoch, seq, STREAMS[stream], "production.counted", f"ea/v1/{stream}", body)


async def store(outbox: SqliteOutbox, stream: str, first: int, count: int) -> None:
    seqs = range(first, first + count)
    state = json.dumps({"last": seqs[-1]}).encode()
    await outbox.append([message(outbox.epoch, stream, seq) for seq in seqs], states={stream: state})
    for seq in seqs:
        say("stored", stream, seq)


async def give_up(outbox: SqliteOutbox, seq: int) -> None:
    """Remove the oldest measurements that wait and store, in the same transaction, which."""
    oldest = await outbox.oldest(Lane.MEASUREMENT, 2_500)
    gone = [[each.span.stream, n] for each in oldest for n in range(each.span.first, each.span.last + 1)]
    body = json.dumps(gone).encode()
    declared = Message(DECLARED, outbox.epoch, seq, STREAMS[DECLARED], "data.loss", "ea/v1/agent", body)
    state = json.dumps({"last": seq}).encode()
    await outbox.append([declared], states={DECLARED: state}, evict=[each.span for each in oldest])
    say("stored", DECLARED, seq)


def one_version_later() -> None:
    """A migration that changes every row and makes an index, as a real one may."""

    @tables.migrations(name="0002_for_this_test")
    def second(db: Database) -> None:
        db.execute("ALTER TABLE message ADD COLUMN size INTEGER")
        db.execute("UPDATE message SET size = length(body)")
        db.execute("ALTER TABLE message DROP COLUMN size")
        db.execute("CREATE INDEX dead_by_stream ON dead (stream)")
        db.execute("DROP INDEX dead_by_stream")


async def main(path: str, rounds: int) -> None:
    keeper.SHRINK_ABOVE, keeper.SHRINK_SLICE = 32_768, 8_192
    outbox = SqliteOutbox(path, agent_id="ipc01", max_size=1 << 20, keep_sent=0, now=lambda: time.time_ns() // 1000)
    await outbox.open()
    say("open", outbox.epoch)
    last = dict.fromkeys(STREAMS, 0)
    for stream in STREAMS:
        saved = await outbox.load_state(stream)
        if saved is not None:
            last[stream] = json.loads(saved)["last"]
    for turn in range(rounds):
        counts = {stream: 1 + (turn + index) % 3 for index, stream in enumerate(MADE)}
        await asyncio.gather(*(store(outbox, stream, last[stream] + 1, count) for stream, count in counts.items()))
        for stream, count in counts.items():
            last[stream] += count
        for lane in (Lane.PRODUCTION, Lane.MEASUREMENT):
            batch = await outbox.next_batch(4, lane=lane)
            for stored in batch[:-1]:
                say("acking", stored.message.stream, stored.message.seq)
            await outbox.ack([stored.position for stored in batch[:-1]])
        if turn % 3 == 2:
            (bad,) = await outbox.next_batch(1, lane=Lane.PRODUCTION)
            say("rejecting", bad.message.stream, bad.message.seq)
            await outbox.reject(bad.position, "no")
            say("dead", bad.message.stream, bad.message.seq)
        if turn % 3 == 1:
            last[DECLARED] += 1
            await give_up(outbox, last[DECLARED])
        if turn % 4 == 3:
            outbox._due("flush")
            outbox._due("tidy")
    await outbox.close()
    say("closed")


def child(path: str, rounds: str, said: str, version: str) -> None:
    if version == "later":
        one_version_later()
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    may_be_traced_by_any, any_process = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(may_be_traced_by_any, any_process, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    asyncio.run(main(path, int(rounds)))


def serve() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(*line.split())
                code = 0
            finally:
                os._exit(code)
        os.waitpid(pid, os.WUNTRACED)
        say("stopped", pid)
        say("ended", os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    serve()
