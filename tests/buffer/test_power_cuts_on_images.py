"""The power of a whole file system fails, ext4 brings itself in order, and the buffer is opened on what is left: what
was promised before is there, the file is whole, no number is given twice.

The long form: EDGE_AGENT_IMAGE_CUTS=1000. See `reflink_images` for what a cut is. Writes that the file system has
given to a disk which then forgets or tears them are tried in `test_power_cuts`.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.reflink_images import run_with_images

CUTS = os.environ.get("EDGE_AGENT_IMAGE_CUTS", "12")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount a file system")
@pytest.mark.needs("mkfs.xfs", "mkfs.ext4", "mount", "umount", "unshare")
@pytest.mark.torture
@pytest.mark.timeout(0 if "EDGE_AGENT_IMAGE_CUTS" in os.environ else 120)
def test_what_was_committed_survives_a_power_cut_of_a_whole_file_system(tmp_path: Path) -> None:
    out = run_with_images(tmp_path, "tests.buffer.image_cuts", CUTS)
    sys.stdout.write(out)
    assert out.startswith(f"{CUTS} cuts")
