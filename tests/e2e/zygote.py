"""A process that has imported all of the agent and forks one agent for every line it reads.

Each child runs `edge-agent run` from its first line on: arguments, configuration, buffer, devices, broker; only the
imports are paid for once. So ten thousand real agents can be killed in minutes.

Reads `<configuration file>`; says `<pid>` when the child is forked and `ended <wait status>` when it has ended.
"""

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import drivers.modbus.driver
import drivers.modbus.tcp  # noqa: F401 - what a child needs
import edge_agent.cli.app
import edge_agent.cli.run
import edge_agent.runtime  # noqa: F401
from edge_agent.__main__ import main
from edge_agent.cli.loading import read

with suppress(ImportError):
    import uvloop  # noqa: F401


def child(config: str) -> None:
    log = os.open(Path(config).with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["edge-agent", "run", "-c", config]
    main()


def serve() -> None:
    for line in sys.stdin:
        config = line.strip()
        if not gc.get_freeze_count():
            read(Path(config))  # what it imports
            gc.collect()
            gc.freeze()
        pid = os.fork()
        if pid == 0:
            try:
                child(config)
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
            finally:
                os._exit(1)
        print(pid, flush=True)  # noqa: T201 - the answer
        print("ended", os.waitpid(pid, 0)[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
