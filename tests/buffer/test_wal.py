"""A torn end of a write-ahead log is told from one that has lost what was committed."""

import struct

from buffer.wal import lost_commits

PAGE = 4096
FRAME = 24 + PAGE
SALTS = struct.pack(">2I", 7, 8)


def checksum(data: bytes, a: int, b: int) -> tuple[int, int]:
    words = struct.unpack(f">{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return a, b


def log(*transactions: bytes) -> bytes:
    """A log in SQLite's format with a frame for each letter; a capital letter commits."""
    head = struct.pack(">4I", 0x377F0683, 3007000, PAGE, 0) + SALTS
    check = checksum(head, 0, 0)
    parts = [head, struct.pack(">2I", *check)]
    for number, letter in enumerate(b"".join(transactions), 1):
        start, page = struct.pack(">2I", number, 90 if chr(letter).isupper() else 0), bytes([letter]) * PAGE
        check = checksum(page, *checksum(start, *check))
        parts += [start, SALTS, struct.pack(">2I", *check), page]
    return b"".join(parts)


def test_a_whole_log_has_lost_nothing() -> None:
    assert not lost_commits(log(b"aaA", b"bB"), 5)
    assert not lost_commits(b"", 0)
    assert not lost_commits(log(), 0)


def test_a_transaction_that_a_kill_has_ended_was_not_promised() -> None:
    assert not lost_commits(log(b"aaA", b"bbbbb"), 3)


def test_a_commit_half_written_over_what_an_earlier_kill_has_left_was_not_promised() -> None:
    left = log(b"aaA", b"xxxxxxxxX")
    over = log(b"aaA", b"bB")
    torn = over[:-PAGE] + left[len(over) - PAGE :]  # killed between the head of the last frame and its page
    assert not lost_commits(torn, 4)


def test_a_damaged_transaction_with_another_behind_it_was_promised() -> None:
    whole = log(b"aaA", b"bB", b"c", b"C")
    for frame in (3, 4):
        page = 32 + frame * FRAME + 24
        assert lost_commits(whole[:page] + bytes(PAGE) + whole[page + PAGE :], frame)
