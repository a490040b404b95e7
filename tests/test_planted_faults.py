"""The suite is tried itself: small faults of the kind that other products have are planted in a copy of ours, and
the test that is there for each must fail.

The short form plants two and looks whether the others still find their place; `make torture` plants all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.agent_process import ROOT

ALL = "EDGE_AGENT_TORTURE" in os.environ
TWO_TRANSACTIONS: Final = """\
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
"""
LIMIT: Final = 600
"""Seconds for one test, on a machine that has other work."""


class Planted(NamedTuple):
    """`old` stands once in `file` and becomes `new`; `caught_by` is a test of `tests/`."""

    name: str
    file: str
    old: str
    new: str
    caught_by: str
    quick: bool = False


CRASH: Final = (
    "buffer/test_crash_points.py::test_a_process_killed_at_any_write_or_sync_has_lost_nothing_that_was_promised"
)
FAULTS: Final = (
    Planted(
        "the events are committed, then the state",
        "buffer/ledger.py",
        "            self._store_states(states)\n",
        TWO_TRANSACTIONS + "            self._store_states(states)\n",
        CRASH,
    ),
    Planted(
        "the state is committed, then the events",
        "buffer/ledger.py",
        '            if messages:\n                self._many("INSERT INTO message',
        "            self._store_states(states)\n"
        + TWO_TRANSACTIONS
        + '            if messages:\n                self._many("INSERT INTO message',
        CRASH,
    ),
    Planted(
        "what is given up goes, then it is declared",
        "buffer/ledger.py",
        "            for writing, verdict in zip(writings, verdicts, strict=True):\n"
        "                if verdict is not None:\n",
        TWO_TRANSACTIONS
        + "            for writing, verdict in zip(writings, verdicts, strict=True):\n"
        + "                if verdict is not None:\n",
        CRASH,
    ),
    Planted(
        "an append is a queue in memory",
        "buffer/sqlite.py",
        '"asyncio.Future[None]") -> None:\n    await future\n',
        '"asyncio.Future[None]") -> None:\n    await asyncio.sleep(0)\n',
        CRASH,
    ),
    Planted(
        "a commit is not synced",
        "buffer/schema.py",
        '"synchronous = FULL"',
        '"synchronous = NORMAL"',
        "buffer/test_power_cuts.py::test_what_was_committed_survives_a_power_cut_at_any_moment",
    ),
    Planted(
        "the checksum is not looked at",
        "buffer/record.py",
        " if message_crc(position, message, recorded_at) == crc else None",
        "",
        "buffer/test_bit_flips.py::test_a_changed_message_is_a_dead_letter_and_reported_and_the_others_are_sent",
        quick=True,
    ),
    Planted(
        "numbers go on in a database that has lost some",
        "buffer/schema.py",
        "    if last_epoch is None or broken is not None:\n",
        "    if last_epoch is None:\n",
        "buffer/test_bit_flips.py::test_nothing_wrong_is_sent_and_the_start_works_whatever_bit_turned_over",
    ),
    Planted(
        "a message is done when it is sent",
        "edge_agent/delivery/session.py",
        "                confirmation.add_done_callback(partial(self._done, stored))\n",
        "                self._confirmed.append(stored)\n"
        "                confirmation.add_done_callback(partial(self._snapshot_done, stored.message))\n",
        "delivery/test_forwarder.py::test_after_a_cut_everything_from_the_oldest_unconfirmed_is_sent_again_in_order",
    ),
    Planted(
        "the broker's word counts for that of the MOM",
        "edge_agent/delivery/session.py",
        "            if self._mom:\n",
        "            if False:\n",
        "runtime/test_confirmed_by_the_mom.py::test_what_a_killed_broker_had_confirmed_reaches_the_mom_all_the_same",
    ),
    Planted(
        "the state is stored with the heartbeat, not with its events",
        "edge_agent/floor.py",
        "            if outcome.events or outcome.store:\n",
        "            if False:\n",
        "e2e/test_kill_storm.py",
    ),
    Planted(
        "the function code of an answer is not looked at",
        "drivers/modbus/exchange.py",
        "    if pdu[0] != function:\n",
        "    if False:\n",
        "drivers/test_modbus_guards.py::test_an_answer_that_does_not_fit_is_dropped_with_its_connection",
        quick=True,
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_still_finds_its_place(fault: Planted) -> None:
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    file, _, name = fault.caught_by.partition("::")
    assert f"def {name or 'test_'}" in (ROOT / "tests" / file).read_text()


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """The short form of a test in a copy of the product."""
    short = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_AGENT_")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"]
    return subprocess.run(
        [*command, f"tests/{test}"], cwd=folder, env=short, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for name in ("buffer", "config", "drivers", "edge_agent", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    modules = ROOT / "tests" / "peers" / "node_modules"
    if modules.exists():
        (folder / "tests" / "peers" / "node_modules").symlink_to(modules.resolve())
    return folder


@pytest.mark.torture
@pytest.mark.needs("mosquitto", "node", "strace")
@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("fault", [f for f in FAULTS if ALL or f.quick], ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(copy: Path, fault: Planted) -> None:
    file = copy / fault.file
    planted = file.read_text().replace(fault.old, fault.new)
    compile(planted, fault.file, "exec")
    file.write_text(planted)
    caught = run(copy, fault.caught_by)
    assert caught.returncode == pytest.ExitCode.TESTS_FAILED, f"not caught:\n{caught.stdout[-3000:]}"
    says = [line for line in caught.stdout.splitlines() if "Error" in line or line.startswith("E  ")]
    sys.stdout.write(f"{fault.name}: {says[0].strip() if says else caught.stdout[-300:]}\n")


if ALL:  # in the short form the tests themselves run beside this one

    @pytest.mark.torture
    @pytest.mark.needs("mosquitto", "node", "strace")
    @pytest.mark.timeout(2 * LIMIT)
    @pytest.mark.parametrize("test", sorted({fault.caught_by for fault in FAULTS}))
    def test_the_copy_without_a_fault_is_well(copy: Path, test: str) -> None:
        well = run(copy, test)
        assert well.returncode == pytest.ExitCode.OK, well.stdout[-3000:]
