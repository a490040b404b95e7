"""The name of a run of sequence numbers: sortable, and never made twice."""

import secrets
from collections.abc import Callable

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_WIDTH = 8
_RANDOM_WIDTH = 4


def random_digits() -> str:
    """Four base-36 digits from the system's randomness."""
    return "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM_WIDTH))


def new_epoch(now: int, *, after: str | None = None, digits: Callable[[], str] = random_digits) -> str:
    """Base-36 milliseconds of `now` (UTC µs) and four random digits, e.g. `mlu4idc09c7x` (event model §1.3).

    Sorts behind `after`, the epoch before it, also when the clock has gone back.
    """
    millis = max(now // 1000, 0)
    if after is not None:
        millis = max(millis, _millis(after) + 1)
    return _base36(millis).rjust(_TIME_WIDTH, "0") + digits()


def _millis(epoch: str) -> int:
    try:
        return int(epoch[:-_RANDOM_WIDTH], 36)
    except ValueError:
        return -1


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return digits or "0"
