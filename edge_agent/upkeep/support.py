"""One file for whoever helps: what runs, how it is configured and what is wrong with it, without secrets, values of
tags or keys. The first entry lists what is in it.
"""

import json
import platform
import sqlite3
import zipfile
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from edge_agent.upkeep.hidden import Hidden

_OURS = ("edge-agent", "asyncua", "cryptography", "paho-mqtt", "pydantic", "pymodbus", "pyyaml", "sqlite-utils",
         "typer", "uvloop")  # fmt: skip
HEADER = """\
Support bundle of edge-agent. Every secret of the configuration and the environment is replaced by ***; keys,
passwords, events and values of tags are not in it. Look through it before you send it.
"""


def versions() -> dict[str, str]:
    """Of the program, its libraries and the system."""
    found = {each.metadata["Name"].lower(): each.version for each in distributions() if each.metadata["Name"]}
    return {
        **{name: found[name] for name in _OURS if name in found},
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
    }


def listing(folder: Path) -> str:
    """Names and sizes of the files below a folder: what is there, not what is in it."""
    if not folder.is_dir():
        return f"{folder} does not exist\n"
    rows = [f"{file.stat().st_size:>12}  {file.relative_to(folder)}" for file in sorted(folder.rglob("*"))
            if file.is_file()]  # fmt: skip
    return "\n".join([str(folder), *rows]) + "\n"


def write(target: Path, entries: Mapping[str, str], hidden: Hidden, *, force: bool = False) -> list[str]:
    """Write the bundle; the names of what is in it. Raises FileExistsError, and OSError."""
    clean = {name: hidden.text(text) for name, text in entries.items()}
    listed = "".join(f"{len(text.encode()):>10}  {name}\n" for name, text in clean.items())
    with target.open("wb" if force else "xb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("CONTENTS.txt", f"{HEADER}\n{listed}")
        for name, text in clean.items():
            bundle.writestr(name, text)
    return ["CONTENTS.txt", *clean]


def as_text(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
