"""A link between two networks of their own on which packets get lost, are late, or crawl: what a relay above TCP
cannot show, since there the kernel has already mended it.

Each end is a process in a network namespace of its own with a TUN device; the packets go from one to the other
through this process. Programs run at an end with its `prefix`. Needs root.
"""

import asyncio
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from tests.programs import find_program

NEAR, FAR = "198.18.0.1", "198.18.0.2"
MTU = 1400
MOST_WAITING = 2.0
"""Seconds of packets that a slow link keeps; what comes more is dropped, as a modem does."""
_END = """
import fcntl, socket, struct, subprocess, sys
address, far, mtu, pipe, ip = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
tun = open("/dev/net/tun", "r+b", buffering=0)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"wan", 0x0001 | 0x1000))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
for words in (f"addr add {address} peer {far} dev wan", f"link set wan mtu {mtu} up", "link set lo up"):
    subprocess.run([ip, *words.split()], check=True)
socket.send_fds(socket.socket(fileno=pipe), [b"."], [tun.fileno()])
sys.stdin.read()
"""


class End(NamedTuple):
    process: "subprocess.Popen[bytes]"
    tun: int

    @property
    def prefix(self) -> list[str]:
        return [find_program("nsenter"), f"--net=/proc/{self.process.pid}/ns/net"]


@dataclass
class BadLink:
    """`loss`: share of the packets that never arrive. `delay`: seconds each way. `rate`: bytes per second each way,
    None for any. `hole`: nothing arrives. All may be changed at any time."""

    near: End
    far: End
    dice: random.Random
    loss: float = 0.0
    delay: float = 0.0
    rate: int | None = None
    hole: bool = False
    dropped: int = 0
    _free: dict[int, float] = field(default_factory=dict)

    def heal(self) -> None:
        self.loss, self.delay, self.rate, self.hole = 0.0, 0.0, None, False

    def carry(self, from_: int, to: int) -> None:
        """Take the packets that wait at one end to the other."""
        loop = asyncio.get_running_loop()
        with suppress(BlockingIOError):
            while True:
                packet = os.read(from_, 1 << 16)
                now = loop.time()
                free = max(now, self._free.get(to, 0.0))
                if self.hole or self.dice.random() < self.loss or free - now > MOST_WAITING:
                    self.dropped += 1
                    continue
                self._free[to] = free + (len(packet) / self.rate if self.rate else 0.0)
                loop.call_at(self._free[to] + self.delay, self._arrive, to, packet)

    def _arrive(self, to: int, packet: bytes) -> None:
        if not self.hole:
            with suppress(OSError):  # the end is over, or its queue is full: lost
                os.write(to, packet)


@asynccontextmanager
async def bad_link(*, seed: int = 1) -> AsyncIterator[BadLink]:
    """Skips the test where there are no namespaces for us: without root, and in most containers."""
    allowed = [find_program("unshare"), "-n", "test", "-r", "/dev/net/tun"]
    done = await asyncio.to_thread(subprocess.run, allowed, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(
            f"network namespaces need root and /dev/net/tun: {done.stderr.strip() or 'there is no such device'}"
        )
    loop = asyncio.get_running_loop()
    near = await asyncio.to_thread(_end, NEAR, FAR)
    try:
        far = await asyncio.to_thread(_end, FAR, NEAR)
        try:
            link = BadLink(near, far, random.Random(seed))
            loop.add_reader(near.tun, link.carry, near.tun, far.tun)
            loop.add_reader(far.tun, link.carry, far.tun, near.tun)
            yield link
        finally:
            loop.remove_reader(near.tun)
            loop.remove_reader(far.tun)
            _close(far)
    finally:
        _close(near)


def _end(address: str, far: str) -> End:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command: Sequence[str] = (
            *(find_program("unshare"), "-n", sys.executable, "-c", _END),
            *(address, far, str(MTU), str(theirs.fileno()), find_program("ip")),
        )
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        ours.settimeout(20)
        _, files, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_blocking(files[0], False)
    return End(process, files[0])


def _close(end: End) -> None:
    end.process.kill()
    end.process.communicate()
    os.close(end.tun)
