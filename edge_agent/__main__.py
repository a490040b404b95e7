"""Entry of the console script: checks where our packages come from, then runs the command line.

`config`, `drivers` and `buffer` are plain names: another program installed into the same place can take one of
them. That is found here, before anything is imported from them, and said in one sentence.
"""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

OURS = ("config", "drivers", "buffer")
BAD_CONFIG = 78


def main() -> None:
    """Run the command line; leaves by `SystemExit`."""
    stranger = foreign_package()
    if stranger:
        sys.stderr.write(f"error: {stranger}\n")
        sys.exit(BAD_CONFIG)
    from edge_agent.cli.app import app
    from edge_agent.cli.exits import leave

    leave(partial(app, prog_name="edge-agent"))


def foreign_package() -> str:
    """A sentence about the first of our packages that is missing or not ours; empty when all are."""
    home = Path(__file__).resolve().parent.parent
    for name in OURS:
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
        if found != home / name:
            return (
                f"the package {name!r} of edge-agent is {f'hidden by {found}' if found else 'missing'}: "
                "install edge-agent into an environment of its own (pipx or uv tool install)"
            )
    return ""


if __name__ == "__main__":
    main()
