"""`python -m benchmarks [--seconds 20] [--away 60] [--rows 1000000] [--only abcdefgsu] [-o json]`: all figures."""

import argparse
import asyncio

from benchmarks.backlog import backlog, wear
from benchmarks.commands import commands
from benchmarks.fieldbus import modbus, opcua
from benchmarks.machine_commit import machine_commit
from benchmarks.opcua_rate import opcua_rate
from benchmarks.outage import outage
from benchmarks.plant import plant
from benchmarks.report import show


async def run(seconds: float, away: float, rows: int, only: str, as_json: bool) -> None:
    sections = {
        "a": lambda: machine_commit(seconds / 4),
        "b": lambda: modbus(seconds),
        "c": lambda: opcua(seconds),
        "d": lambda: outage(away, rows),
        "e": lambda: plant(seconds * 3),
        "f": wear,
        "g": lambda: backlog(rows, seconds / 4),
        "s": commands,
        "u": lambda: opcua_rate(seconds),
    }
    for name in only:
        async for figure in sections[name]():
            show(figure, as_json=as_json)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="measured span of each section")
    parser.add_argument("--away", type=float, default=60, help="seconds that the broker is away in (d)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="events waiting in (d) and (g), 1.2 GB a million")
    parser.add_argument("--only", default="abcdefgsu", help="sections to run, e.g. b")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.seconds, arguments.away, arguments.rows, arguments.only, arguments.output == "json"))


if __name__ == "__main__":
    main()
