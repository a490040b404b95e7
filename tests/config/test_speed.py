"""Checking a file must be quick enough to do it on every save."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys, time
from config.load import load
from drivers.registry import Drivers
from edge_agent.machine.expressions import names
load(sys.argv[1], Drivers().options(), check_expression=names)
heavy = ("asyncua", "pymodbus", "paho", "asyncio", "cryptography", "email.message", "jsonschema")
print(json.dumps({"cpu": time.process_time(), "heavy": [name for name in heavy if name in sys.modules]}))
"""


def test_a_check_takes_less_than_half_a_second_of_cpu_and_loads_no_protocol_library() -> None:
    runs = [measured(ROOT / "config/examples/line.yaml") for _ in range(3)]
    assert [name for name in runs[0]["heavy"] if name in ("asyncua", "pymodbus", "paho", "cryptography")] == []
    assert min(run["cpu"] for run in runs) <= 0.5


def measured(path: Path) -> dict[str, list[str] | float]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    result: dict[str, list[str] | float] = json.loads(run.stdout)
    return result
