"""Whatever bit turns over in the file or its WAL: nothing wrong is sent, and the start always works."""

import itertools
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from buffer.outbox import Damaged, Lane, Message, OutboxError, SequenceError
from buffer.sqlite import SqliteOutbox

FLIPS = int(os.environ.get("EDGE_AGENT_BIT_FLIPS", "60"))
VERBOSE = "EDGE_AGENT_BIT_FLIPS" in os.environ
STREAMS = {"press07.p": Lane.PRODUCTION, "press07.m": Lane.MEASUREMENT, "$agent.h": Lane.HEALTH}


def make(path: Path, damaged: list[Damaged] | None = None) -> SqliteOutbox:
    ticks = itertools.count(1_772_414_047_250_000)
    return SqliteOutbox(
        path, agent_id="ipc01", now=lambda: next(ticks), on_damaged=None if damaged is None else damaged.append
    )


def message(epoch: str, stream: str, seq: int) -> Message:
    return Message(
        stream, epoch, seq, STREAMS[stream], "state.changed", "ea/v1/evt", f"{stream} {seq} ".encode() * seq
    )


def copy_files(path: Path, folder: Path) -> None:
    folder.mkdir()
    for file in path.parent.glob("buffer.db*"):
        shutil.copy(file, folder)


async def fill(path: Path, copy_to: Path) -> tuple[str, set[Message]]:
    """A database with messages and states; copied while it is open, so that most of it is in the WAL."""
    outbox = make(path)
    await outbox.open()
    sent = set()
    for seq in range(1, 61):
        messages = [message(outbox.epoch, stream, seq) for stream in STREAMS]
        sent.update(messages)
        await outbox.append(messages, states={"press07": b"state of %d" % seq})
    copy_files(path, copy_to)
    await outbox.close()
    return outbox.epoch, sent


async def read_all(outbox: SqliteOutbox) -> list[Message]:
    found: list[Message] = []
    for lane in Lane:
        after = 0
        while batch := await outbox.next_batch(500, lane=lane, after=after):
            after = batch[-1].position
            found += [stored.message for stored in batch]
    return found


def flip(file: Path, choice: random.Random) -> str:
    raw = bytearray(file.read_bytes())
    at, bit = choice.randrange(len(raw)), choice.randrange(8)
    raw[at] ^= 1 << bit
    file.write_bytes(bytes(raw))
    return f"bit {bit} of byte {at} in {file.name}"


async def use(path: Path, sent: set[Message]) -> str:
    """Start on a damaged file as the agent would; how it went."""
    damaged: list[Damaged] = []
    outbox = make(path, damaged)
    await outbox.open()
    try:
        begun_anew = outbox.quarantined is not None or outbox.broken is not None
        got = await read_all(outbox)
        assert set(got) <= sent, "something was given that was never appended"
        state = await outbox.load_state("press07")
        last = 0 if state is None else int(state.rsplit(b" ")[-1])
        assert state is None or outbox.fresh is False
        try:
            await outbox.append([message(outbox.epoch, stream, last + 1) for stream in STREAMS], states={})
        except SequenceError:
            return "refused"
        if begun_anew:
            return "new epoch"
        return "dead letter" if damaged else "unharmed" if len(got) == len(sent) else "lost unseen"
    finally:
        await outbox.close()


@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_BIT_FLIPS" in os.environ else 120)
@pytest.mark.parametrize("where", ["buffer.db", "buffer.db-wal"])
async def test_nothing_wrong_is_sent_and_the_start_works_whatever_bit_turned_over(tmp_path: Path, where: str) -> None:
    source = tmp_path / "buffer.db"
    _, sent = await fill(source, tmp_path / "open")
    choice = random.Random(20260302)
    went: Counter[str] = Counter()
    for index in range(FLIPS // 2):
        home = tmp_path / f"flip{index}"
        if where == "buffer.db":
            home.mkdir()
            shutil.copy(source, home)
        else:
            shutil.copytree(tmp_path / "open", home)
        what = flip(home / where, choice)
        try:
            try:
                how = await use(home / "buffer.db", sent)
                went[how] += 1
                if VERBOSE:
                    print(how, what)  # noqa: T201
            except OutboxError as error:
                if error.code != "S707":
                    raise
                assert await use(home / "buffer.db", sent) == "new epoch"
                went["found damaged while in use"] += 1
        except BaseException as error:
            error.add_note(what)
            raise
        shutil.rmtree(home)
    print(where, dict(went))  # noqa: T201 - the figure of the long form
    assert went.total() == FLIPS // 2
    # A bit in the last transaction of the WAL looks like a torn end.
    assert went["lost unseen"] <= (0 if where == "buffer.db" else FLIPS // 20)


@pytest.mark.parametrize("table", [b"TABLE meta (", b"TABLE pending (", b"TABLE message ("])
async def test_a_changed_word_of_what_describes_the_tables_is_damage(tmp_path: Path, table: bytes) -> None:
    path = tmp_path / "buffer.db"
    _, sent = await fill(path, tmp_path / "open")
    raw = path.read_bytes()
    column = {b"TABLE meta (": b"crc", b"TABLE pending (": b"bytes", b"TABLE message (": b"crc"}[table]
    at = raw.index(column, raw.index(table))
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert await use(path, sent) == "new epoch"


async def test_a_changed_message_is_a_dead_letter_and_reported_and_the_others_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "buffer.db"
    epoch, sent = await fill(path, tmp_path / "open")
    raw = path.read_bytes()
    at = raw.index(b"press07.p 30 press07.p 30")
    path.write_bytes(raw[:at] + b"P" + raw[at + 1 :])
    damaged: list[Damaged] = []
    outbox = make(path, damaged)
    await outbox.open()
    got = await read_all(outbox)
    assert sent - set(got) == {message(epoch, "press07.p", 30)}
    depth = await outbox.depth()
    assert (depth.rows, depth.dead) == (len(sent) - 1, 1)
    await outbox.close()
    assert [(one.stream, one.epoch, one.seq) for one in damaged] == [("press07.p", epoch, 30)]
    assert outbox.broken is None
