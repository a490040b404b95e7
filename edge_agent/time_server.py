"""Whether a time server keeps this PC's clock."""

import ctypes
import platform

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


def is_synchronised() -> bool | None:
    """What the kernel says; None where it cannot be asked."""
    if platform.system() != "Linux":
        return None
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state: int = adjtimex(ctypes.create_string_buffer(512))  # struct timex with modes = 0 only reads
    return None if state < 0 else state != _TIME_ERROR
