"""A machine whose power can be cut: its disk is an image with ext4, and a cut is a copy of that image.

The image is a file on an XFS that shares blocks between files, so that a copy is made at once, of one moment, with
all that ext4 had given to its disk by then and nothing that it had not. Where the copy is mounted, ext4 brings itself
in order as after a power cut. Needs root and loop devices. What uses it is a program in a mount namespace of its own
(`run_with_images`): whatever becomes of the program, its mounts and loop devices go with it.
"""

import fcntl
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.programs import find_program

NO_IMAGES: Final = 77
"""Exit code of a program that could mount none."""
FICLONE: Final = 0x40049409
SIZE: Final = 48 << 20
"""Bytes of the machine's disk."""
ROOM: Final = 2 << 30
"""Bytes of the XFS, of which only those are taken that are used."""


def run_with_images(folder: Path, module: str, *arguments: str) -> str:
    """What `python -m module FOLDER ARGUMENTS…` prints. Where it can mount nothing the test is skipped."""
    alone = [find_program("unshare"), "--mount", sys.executable, "-m", module, str(folder), *arguments]
    done = subprocess.run(alone, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == NO_IMAGES:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, f"{module} ended with {done.returncode}"
    return done.stdout


class Machine:
    """`home`: the root of its file system. Every call blocks, for some milliseconds."""

    def __init__(self, folder: Path) -> None:
        self._xfs = folder / "xfs.img"
        self._disks = folder / "disks"
        self._image = self._disks / "made.img"
        self._numbers = itertools.count()
        self._after = folder / "after"
        self.home = folder / "home"

    def begin(self) -> None:
        """Raises OSError where that cannot be done."""
        _file_of_zeros(self._xfs, ROOM)
        _do("mkfs.xfs", "-q", "-m", "reflink=1", self._xfs)
        _mount(self._xfs, self._disks)
        _file_of_zeros(self._image, SIZE)
        _do("mkfs.ext4", "-q", self._image)
        _mount(self._image, self.home)

    def end(self) -> None:
        for place in (self._after, self.home, self._disks):
            if place.is_mount():
                _do("umount", "--lazy", place)
        self._xfs.unlink(missing_ok=True)

    def cut(self) -> Path:
        """The disk as it would be if the power failed now."""
        copy = self._disks / f"{next(self._numbers)}.img"
        with self._image.open("rb") as source, copy.open("xb") as target:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        return copy

    @contextmanager
    def after(self, copy: Path) -> Iterator[Path]:
        """The root of the file system that is brought up from a copy."""
        _mount(copy, self._after)
        try:
            yield self._after
        finally:
            _do("umount", "--lazy", self._after)

    def go_on_from(self, copy: Path) -> None:
        """The cut was real: from now on that is the machine. Nobody uses its files at this moment."""
        _do("umount", self.home)
        self._image.unlink()
        self._image = copy
        _mount(copy, self.home)


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """One with files in a folder, inside a program of `run_with_images`; ends it where there can be none."""
    made = Machine(folder)
    try:
        try:
            made.begin()
        except OSError as error:
            sys.stdout.write(f"no image of a file system can be made and mounted here: {error}\n")
            sys.exit(NO_IMAGES)
        yield made
    finally:
        made.end()


def _file_of_zeros(file: Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)


def _mount(image: Path, place: Path) -> None:
    place.mkdir(exist_ok=True)
    _do("mount", "-o", "loop", image, place)


def _do(program: str, *arguments: str | Path) -> None:
    done = subprocess.run([find_program(program), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{program}: {done.stderr.strip()}")
