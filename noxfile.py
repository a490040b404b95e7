"""The one runner behind `make`: style, types, layers, tests, wheel, lock files. Runs in the environment it is in."""

import logging
import os
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.default_venv_backend = "none"
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@nox.session
def check(session: nox.Session) -> None:
    """Style, types and layers; all are looked at, also when one is not well."""
    commands = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports", "--no-logo"))
    failed = []
    for command in commands:
        try:
            session.run(*command)
        except CommandFailed:
            failed.append(command[0])
    if failed:
        session.error(f"not well: {', '.join(failed)}")


@nox.session
def tests(session: nox.Session) -> None:
    """Everything under tests/, a file at a time on four processes, which wait for servers and clocks more than they
    work, and in the order of folders: no long file is last. The last line of the output is pytest's own."""
    logging.getLogger("nox").setLevel(logging.ERROR)
    spread = ("-n", "4", "--dist", "loadscope", "--no-loadscope-reorder")
    session.run("python", "-m", "pytest", *spread, *session.posargs)


LONG = {
    "EDGE_AGENT_BIT_FLIPS": "2000",
    "EDGE_AGENT_BROKER_KILLS": "100",
    "EDGE_AGENT_CLOCK_JUMPS": "60",
    "EDGE_AGENT_CRASH_POINTS": "2300",
    "EDGE_AGENT_DISK_FULL": "100",
    "EDGE_AGENT_FRAMES": "1000000",
    "EDGE_AGENT_IMAGE_CUTS": "1000",
    "EDGE_AGENT_KILLS": "10000",
    "EDGE_AGENT_MODBUS_READS": "1000000",
    "EDGE_AGENT_MQTT_FRAMES": "100000",
    "EDGE_AGENT_NETWORK_ROUNDS": "200",
    "EDGE_AGENT_POWER_CUTS": "1000",
    "EDGE_AGENT_REBOOTS": "100",
    "EDGE_AGENT_RELOADS": "100",
    "EDGE_AGENT_RING_STORIES": "12000",
    "EDGE_AGENT_SOAK_MINUTES": "30",
    "EDGE_AGENT_TORTURE": "1",
}
"""What makes the tests long, each by a number of its own: damaged bits, killed brokers, jumps of the clock, kills at
a write or sync, full disks, damaged answers of devices, power cuts of whole file systems, kills at any moment, reads
of bad gateways, broken packets, bad networks, power cuts of recorded writes, reboots of a PLC, reloads, stories of a
ring, minutes of a soak. The rest knows one long form. A length that is in the environment holds."""
LONG |= {name: os.environ[name] for name in LONG if name in os.environ}


@nox.session
def torture(session: nox.Session) -> None:
    """The long forms: more kills, more injected faults, longer outages. `-- tests/buffer` for a part of them."""
    chosen = session.posargs or ("tests",)
    session.run("python", "-m", "pytest", "-s", "-m", "torture", *chosen, env=LONG)


@nox.session
def wheel(session: nox.Session) -> None:
    """dist/edge_agent-*.whl, from the locked build tools."""
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", ".")


@nox.session
def lock(session: nox.Session) -> None:
    """The three lock files, with hashes, for every platform and Python that is supported; no registry is named."""
    compile_ = (
        *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
        *("--no-emit-index-url", "--no-header"),
    )
    everything = ("--extra", "fast", "--extra", "serial", "--extra", "test", "--extra", "dev", "--group", "build")
    bounds = ("-c", "requirements.lock", "-c", "requirements-test.lock")
    run_time = ("pyproject.toml", "--extra", "fast")
    session.run(*compile_, *run_time, "-o", "requirements.lock", *session.posargs)
    session.run(
        *compile_, "pyproject.toml", *everything, *bounds[:2], "-o", "requirements-test.lock", *session.posargs
    )
    session.run(*compile_, "--group", "build", *bounds, "-o", "requirements-build.lock", *session.posargs)
