"""Where a demo keeps its files, and where it is spoken to while it runs."""

import os
import tempfile
from pathlib import Path


def default_folder() -> Path:
    """A place of this user's own for one demo at a time."""
    who = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"edge-agent-demo-{who}"


def socket_of(folder: Path) -> Path:
    """The local socket of the demo that runs in the folder."""
    return folder / "demo.sock"
