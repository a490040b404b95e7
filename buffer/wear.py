"""How much a thread has written to the disk: what flash wears by."""

from pathlib import Path

_COUNTERS = Path("/proc/thread-self/io")


def written() -> int | None:
    """Bytes that the calling thread has sent to the disk since it began, None where the system does not count them.

    From Linux; pages that are written again before they were sent count once, what the file system adds does not."""
    try:
        lines = _COUNTERS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)
