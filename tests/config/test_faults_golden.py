"""One folder, one broken configuration: `bad.yaml`, and in `expected.txt` all that is said about it.

After a change of wording on purpose: `UPDATE_EXPECTED=1 pytest tests/config/test_faults_golden.py`; read the diff.
"""

import os
import re
from pathlib import Path

import pytest

from config.catalogue import PAGES
from config.errors import ConfigFaults, render
from config.load import load_source
from config.source import decoded
from drivers.registry import Drivers
from edge_agent.machine.expressions import names

CASES = Path(__file__).parent / "cases"


def complaints(folder: Path) -> str:
    try:
        source = decoded("bad.yaml", (folder / "bad.yaml").read_bytes())
        loaded = load_source(source, folder, Drivers().options(), names, "ipc01")
    except ConfigFaults as broken:
        text = str(broken)
    else:
        text = render(loaded.warnings)
    return text.replace(str(folder), "FOLDER") + "\n"


@pytest.mark.parametrize("folder", sorted(CASES.iterdir()), ids=lambda folder: folder.name)
def test_a_broken_configuration_is_explained_like_this(folder: Path) -> None:
    expected = folder / "expected.txt"
    said = complaints(folder)
    if os.environ.get("UPDATE_EXPECTED"):
        expected.write_text(said, "utf-8")
    assert said == expected.read_text("utf-8")
    assert "hunter2" not in said


def test_every_code_of_a_file_has_a_page_and_a_case() -> None:
    said = "".join(path.read_text("utf-8") for path in CASES.glob("*/expected.txt"))
    codes = set(re.findall(r"^\S+:\d+:\d+: (?:error|warning) ([EW]\d{3}): ", said, re.MULTILINE))
    assert codes <= PAGES.keys()
    assert PAGES.keys() - codes == {"E313"}, "E313 needs a running agent's surroundings; see test_secrets.py"
